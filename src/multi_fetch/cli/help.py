"""A command's parser, with help in two sizes: --help is one screen, --help-all is everything.

Every flag is in --help-all, in the argument group that it was added to. One whose help is a
``Shown`` is in --help too, on a line of its own. A screen has 24 lines of 80 columns: a test
holds that each command's --help fits.

A flag's metavar tells shells how to complete its value: ``PATH`` is a file and ``DIR`` a folder.
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from multi_fetch import __version__
from multi_fetch.printing import print_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import NoReturn

SCREEN_LINES: Final = 24
SCREEN_COLUMNS: Final = 80

# Of difflib's ratio, for a slip in a flag: --orderd and --numbre are above it.
LIKENESS: Final = 0.75

# As argparse says it.
STRAY_WORDS: Final = "unrecognized arguments: "
EXPECTED: Final = ": expected "

# What begins with a dash and is a number, as argparse has it.
NUMBER = re.compile(r"-(\d+|\d*\.\d+)", re.ASCII)

# Where the words begin, in --help.
WORDS_COLUMN: Final = 24


class Shown(str):
    """The help of a flag that many users want to know of: ``help=Shown("...")``.

    Attributes:
        brief: the same in words that fit one line of --help, where it is longer than that.
    """

    __slots__ = ("brief",)

    brief: str

    def __new__(cls, words: str, *, brief: str = "") -> Self:
        """A text like any other, and what is said of it in --help."""
        made = super().__new__(cls, words)
        made.brief = brief or words
        return made


class Texts(NamedTuple):
    """What a command says of itself; at most 80 columns.

    Attributes:
        usage: its forms, a line each; the later ones are indented by 7.
        about: what --help says above the common flags.
        description: what --help-all says above all flags.
        epilog: what it says below them.
        example: the last lines of both.
        stray: what to do with a word for which there is no place.
    """

    usage: str
    about: str
    description: str
    epilog: str
    example: str
    stray: str = ""


class CommandParser(argparse.ArgumentParser):
    """The command line of one command. Flags are not abbreviated.

    Attributes:
        texts: what it says of itself.
    """

    def __init__(self, prog: str, texts: Texts) -> None:
        super().__init__(
            prog=prog,
            usage=texts.usage,
            description=texts.description,
            epilog=f"{texts.epilog}\n{texts.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        self.texts = texts
        self._words: tuple[str, ...] = ()
        self.add_argument(
            "-h",
            "--help",
            action=Print,
            const=CommandParser.format_brief,
            help="the common flags, and an example",
        )
        self.add_argument(
            "--help-all",
            action=Print,
            const=CommandParser.format_help,
            help=Shown(
                "all flags, what is read from the environment, and exit statuses",
                brief="all there is: flags, hints, variables, exit statuses",
            ),
        )
        self.add_argument(
            "--version",
            action=Print,
            const=lambda _: f"{software()}\n",
            help="say which version this is",
        )

    def format_brief(self) -> str:
        """The text of --help."""
        usage, about, example = self.texts.usage, self.texts.about, self.texts.example
        flags = "\n".join(self._common_lines())
        return f"usage: {usage}\n\n{about}\n{flags}\n\n{example}"

    def parse_known_args(  # type: ignore[override] # argparse's overloads, of which this is all
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse does, and remembers the words, in case that something is wrong with them."""
        self._words = tuple(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Ends the process with status 2, and says what is wrong and where help is."""
        # Where a value is missing, what stands in its place may look like a flag.
        if EXPECTED not in message and (unknown := self._unknown_flag()):
            message = f"{STRAY_WORDS}{unknown}{self._about_flag(unknown)}"
        elif message.startswith(STRAY_WORDS) and self.texts.stray:
            message += f"; {self.texts.stray}"
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: error: {message} ({self.prog} --help shows how it is used)\n")

    def _unknown_flag(self) -> str:
        """The first flag that there is not, which argparse may take for less than its value.

        It may be another tool's, as ``--creds=<user>:<password>`` is, ``--password <password>`` or
        ``-p<password>``: so nothing is told of what stands behind it.
        """
        known = self._known_flags()
        for word in self._words:
            if word == "--":
                break
            if not word.startswith("-") or word == "-" or NUMBER.fullmatch(word):
                continue  # argparse takes it for a value
            flag = word.partition("=")[0] if word.startswith("--") else word[:2]
            if " " not in flag and flag not in known:
                return flag
        return ""

    def _about_flag(self, unknown: str) -> str:
        """What may be meant by a flag that there is not."""
        from difflib import get_close_matches  # late: it is wanted for a mistake alone

        known = self._known_flags() if unknown.startswith("--") else []
        begun = [name for name in known if name.startswith(unknown)]
        meant = begun or get_close_matches(unknown, known, 1, LIKENESS)
        return f"; did you mean {meant[0]}?" if meant else ""

    def _known_flags(self) -> list[str]:
        return [name for flag in self.flags() for name in flag.option_strings]

    def flags(self) -> Iterator[argparse.Action]:
        """All that is no positional, as they are grouped."""
        for _, flags in self.groups():
            yield from flags

    def groups(self) -> Iterator[tuple[str, list[argparse.Action]]]:
        """The groups of flags, each with its title."""
        for group in self._action_groups:
            actions = group._group_actions  # noqa: SLF001 - argparse shows its groups in no other way
            if flags := [each for each in actions if each.option_strings]:
                yield group.title or "", flags

    def positionals(self) -> Iterator[argparse.Action]:
        """All that is no flag, in the order in which it is written."""
        yield from self._get_positional_actions()

    def _common_lines(self) -> Iterator[str]:
        for flag in sorted(self.flags(), key=lambda flag: flag.dest == "help_all"):
            if not isinstance(flag.help, Shown):
                continue
            name = flag.option_strings[-1]
            if flag.nargs != 0:
                name += f" {flag.metavar or flag.dest.upper()}"
            words = flag.help.brief % {"default": flag.default}
            yield f"  {name:<{WORDS_COLUMN - 3}} {words}"


class Print(argparse.Action):
    """The action of --help, --help-all and --version: argparse's own take no failure for one.

    Args:
        option_strings: as argparse gives them.
        dest: the same.
        const: makes the text.
        help: what is said of the flag.
    """

    def __init__(
        self,
        option_strings: Sequence[str],
        dest: str,
        const: Callable[[CommandParser], str],
        help: str,  # noqa: A002 - argparse's name
    ) -> None:
        super().__init__(option_strings, dest, 0, const, argparse.SUPPRESS, help=help)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Prints it, and ends the process."""
        assert isinstance(parser, CommandParser)
        parser.exit(print_text(parser.prog, self.const(parser)))


def software() -> str:
    """Name and version, as hello and --version say them."""
    return f"multi-fetch {__version__}"
