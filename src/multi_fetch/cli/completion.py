"""``multi-fetch completion bash|zsh|fish``: a script that completes every command in a shell.

The script is made of the parsers themselves, so it knows every flag that --help-all has.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple

from multi_fetch.cli.commands import COMMANDS, parser_of, words_behind
from multi_fetch.cli.help import CommandParser, Shown, Texts
from multi_fetch.printing import print_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

SHELLS: Final = ("bash", "zsh", "fish")

ABOUT: Final = """\
Print a script that completes the flags of all commands in a shell, and their
values. A shell knows it once its start-up file has one of these lines:

  ~/.bashrc                   eval "$(multi-fetch completion bash)"
  ~/.zshrc, behind compinit   eval "$(multi-fetch completion zsh)"
  ~/.config/fish/config.fish  multi-fetch completion fish | source
"""

AS_FILES: Final = """
A shell starts faster with the script in a file: write it to
~/.local/share/bash-completion/completions/multi-fetch, to _multi-fetch in a
folder of zsh's $fpath, or to ~/.config/fish/completions/multi-fetch.fish.
"""

TEXTS: Final = Texts(
    usage=f"multi-fetch completion {'|'.join(SHELLS)}",
    about=ABOUT,
    description=ABOUT + AS_FILES,
    epilog="exit status:\n  0 it was printed, 2 usage\n",
    example='example:\n  eval "$(multi-fetch completion bash)"\n',
)


class Value(Enum):
    """What stands behind a flag, or at a place."""

    NONE = auto()
    TEXT = auto()
    CHOICE = auto()
    FILE = auto()
    FOLDER = auto()
    REMOTE = auto()


# What a metavar says of the value.
METAVARS: Final = {"PATH": Value.FILE, "DIR": Value.FOLDER, "remote": Value.REMOTE}


class Slot(NamedTuple):
    """A flag, or a positional, as a shell needs to know it.

    Attributes:
        names: of the flag; none for a positional.
        title: what its value is called.
        words: what it is for, on one line.
        value: what may be written.
        choices: for Value.CHOICE.
    """

    names: tuple[str, ...]
    title: str
    words: str
    value: Value
    choices: tuple[str, ...] = ()


class Command(NamedTuple):
    """One command line.

    Attributes:
        name: ``multi-fetch``, ``multi-fetch doctor``.
        slots: its flags, then its positionals, in their order.
        inner: the words that make another command of it.
    """

    name: str
    slots: tuple[Slot, ...]
    inner: tuple[str, ...]

    @property
    def flags(self) -> list[Slot]:
        """What has a name."""
        return [slot for slot in self.slots if slot.names]

    @property
    def positionals(self) -> list[Slot]:
        """What has none."""
        return [slot for slot in self.slots if not slot.names]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a script; returns the exit status."""
    from multi_fetch.cli import completion_scripts

    shell = make_parser().parse_args(argv).shell
    write = {
        "bash": completion_scripts.bash,
        "zsh": completion_scripts.zsh,
        "fish": completion_scripts.fish,
    }[shell]
    return print_text("multi-fetch completion", write([describe(name) for name in COMMANDS]))


def make_parser() -> CommandParser:
    """The command line."""
    parser = CommandParser("multi-fetch completion", TEXTS)
    parser.add_argument("shell", choices=SHELLS, help="for which shell")
    return parser


def describe(name: str) -> Command:
    """A command, from its parser."""
    parser = parser_of(name)
    flags = [_slot(action) for action in parser.flags()]
    positionals = [_slot(action) for action in parser.positionals()]
    return Command(name, (*flags, *positionals), tuple(words_behind(name)))


def _slot(action: argparse.Action) -> Slot:
    words = action.help.brief if isinstance(action.help, Shown) else action.help or ""
    words = words % {"default": action.default} if "%(" in words else words
    words = words.partition(";")[0].partition(" (default")[0]
    names, title = tuple(action.option_strings), str(action.metavar or action.dest)
    if action.choices is not None:
        return Slot(names, title, words, Value.CHOICE, tuple(map(str, action.choices)))
    if names and action.nargs == 0:
        return Slot(names, title, words, Value.NONE)
    return Slot(names, title, words, METAVARS.get(title, Value.TEXT))
