"""Where request lines come from: stdin, or the file of --from-file."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from errno import EISDIR
from typing import TYPE_CHECKING, Final

from multi_fetch.cli.arguments import complain
from multi_fetch.worker.pipes import STDIN_NAME

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

STDIN: Final = 0
STDERR: Final = 2

# As a value of --from-file.
STDIN_FILE: Final = "-"

OPEN_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY


def add_from_file_flag(flags: argparse._ActionsContainer) -> None:
    """--from-file."""
    flags.add_argument(
        "--from-file",
        default=STDIN_FILE,
        metavar="PATH",
        help="a file or FIFO to read the lines from; - is stdin (default: %(default)s)",
    )


def name_of(path: str) -> str:
    """What the stream is called in messages."""
    return STDIN_NAME if path == STDIN_FILE else path


def invite(fd: int, stderr: int = STDERR) -> None:
    """Tells somebody who types at a terminal, and sees stderr there, that lines are waited for."""
    if os.isatty(fd) and os.isatty(stderr):
        complain("multi-fetch", "type a request a line, as in 'latest'; Ctrl-D ends them")


@contextmanager
def opened(path: str) -> Iterator[int]:
    """The descriptor to read from; of a FIFO once somebody writes to it.

    Raises:
        OSError: the file cannot be opened, or is a folder.
    """
    if path == STDIN_FILE:
        yield STDIN
        return
    fd = os.open(path, OPEN_FLAGS)
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR), path)
        yield fd
    finally:
        os.close(fd)
