"""Manual pages, made of the commands' parsers: ``make man`` writes them to docs/man.

They have what --help-all has, in the form of man(7). Text comes out as it is written there: what is
indented keeps its lines, all else is filled.
"""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final

from multi_fetch.cli.commands import COMMANDS, parser_of
from multi_fetch.cli.help import software

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from multi_fetch.cli.help import CommandParser

FOLDER: Final = Path(__file__).parent / "man"
# mandoc -T lint asks for lines that are no longer.
COLUMNS: Final = 79

# A heading of an epilog, and what stands below it.
SECTION: Final = re.compile(r"^(\w[\w ]*):\n((?:(?:  .*)?\n)+)", re.MULTILINE)


def main() -> None:
    """Writes all pages, and takes away those of commands that are no more."""
    pages = {file_of(name): page(name) for name in COMMANDS}
    for old in FOLDER.glob("*.1"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        (FOLDER / name).write_text(text, "utf-8")


def file_of(command: str) -> str:
    """The name of a command's page."""
    return f"{_title(command)}.1"


def page(command: str) -> str:
    """A command's page."""
    parser = parser_of(command)
    usage, about, description, epilog, example, _ = parser.texts
    summary = " ".join(about.partition(".")[0].split())
    lines = [
        f'.TH {_title(command).upper()} 1 "" "{software()}" "User Commands"',
        ".SH NAME",
        *_filled(f"{_title(command)} - {summary[0].lower()}{summary[1:]}"),
        ".SH SYNOPSIS",
        *_as_it_is(textwrap.dedent(" " * 7 + usage)),
        ".SH DESCRIPTION",
        *_prose(description),
        ".SH OPTIONS",
        *_options(parser),
    ]
    for heading, body in SECTION.findall(epilog + "\n"):
        lines += [f".SH {heading.upper()}", *_body(heading, body)]
    lines += [".SH EXAMPLES", *_as_it_is(textwrap.dedent(example.partition("\n")[2]))]
    others = (_title(name) for name in COMMANDS if name != command)
    lines += [".SH SEE ALSO", ",\n".join(f".BR {_text(name)} (1)" for name in others)]
    return "\n".join(lines) + "\n"


def _title(command: str) -> str:
    return command.replace(" ", "-")


def _options(parser: CommandParser) -> Iterator[str]:
    positionals = list(parser.positionals())
    if positionals:
        yield ".SS Arguments"
        for action in positionals:
            yield from _option(action, rf"\fI{_text(str(action.metavar or action.dest))}\fR")
    for title, actions in parser.groups():
        yield f".SS {_text(title[0].upper() + title[1:])}"
        for action in actions:
            value = "" if action.nargs == 0 else rf" \fI{_text(str(action.metavar))}\fR"
            names = ", ".join(rf"\fB{_text(name)}\fR" for name in action.option_strings)
            yield from _option(action, names + value)


def _option(action: argparse.Action, name: str) -> Iterator[str]:
    yield ".TP"
    yield name
    yield from _filled((action.help or "") % {**vars(action), "prog": ""})


def _body(heading: str, body: str) -> Iterator[str]:
    text = textwrap.dedent(body)
    return _as_it_is(text) if heading == "environment" else _filled(text)


def _prose(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(re.split(r"\n\n+", text.strip("\n"))):
        if number:
            yield ".PP"
        if re.search(r"^ ", paragraph, re.MULTILINE):
            yield from _as_it_is(paragraph)
        else:
            yield from _filled(paragraph)


def _filled(text: str) -> Iterator[str]:
    words = " ".join(text.split())
    lines = textwrap.wrap(words, COLUMNS - 10, break_long_words=False, break_on_hyphens=False)
    yield from map(_text, lines)


def _as_it_is(text: str) -> Iterator[str]:
    yield ".nf"
    yield from (_text(line) for line in text.strip("\n").splitlines())
    yield ".fi"


def _text(text: str) -> str:
    """A line that man(7) takes for text: its own characters escaped, and no request in front."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    # What a user has set is no part of a page.
    os.environ.clear()
    main()
