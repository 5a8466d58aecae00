"""The commands there are, and their parsers: for completion, manual pages and tests.

The words behind ``multi-fetch`` are commands of their own. A repository of such a name is reached
by its whole name: ``docker.io/library/doctor``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multi_fetch.cli.help import CommandParser

# Each module has make_parser() and main(argv).
COMMANDS: Final[Mapping[str, str]] = {
    "multi-fetch": "multi_fetch.cli.multi_fetch",
    "multi-fetch doctor": "multi_fetch.cli.doctor",
    "multi-fetch completion": "multi_fetch.cli.completion",
    "fetch-object": "multi_fetch.cli.fetch_object",
    "multi-fetch-unpack": "multi_fetch.cli.unpack",
    "multi-fetch-store": "multi_fetch.cli.store_command",
}


def parser_of(command: str) -> CommandParser:
    """The parser of a command; imports all that the command imports."""
    parser: CommandParser = importlib.import_module(COMMANDS[command]).make_parser()
    return parser


def words_behind(command: str) -> list[str]:
    """The words that make another command of this one: ``completion`` behind ``multi-fetch``."""
    return [name.removeprefix(f"{command} ") for name in COMMANDS if name.startswith(f"{command} ")]
