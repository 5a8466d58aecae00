"""``--output``: where fetch-object writes to, stdout or a file.

A file has its name only once all of it is there and verified: until then it is a hidden one beside
it. What is no regular file (a FIFO, /dev/null, a terminal) is written to as it is.
"""

from __future__ import annotations

import os
import stat
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from multi_fetch.worker.pipes import ThreadWriter, open_writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from multi_fetch.worker.pipes import Writer

STDOUT: Final = 1

# What stands for stdout on a command line.
DASH: Final = "-"


class FileWriter(ThreadWriter):
    """Writes a file of which nobody knows until it is whole."""

    async def begin_anew(self) -> None:
        """Throws away what was written."""
        await trio.to_thread.run_sync(self._empty, limiter=self._limiter)

    def _empty(self) -> None:
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)


@asynccontextmanager
async def open_output(path: str) -> AsyncIterator[Writer]:
    """A writer to a file, or to stdout.

    A file that was there stays as it is until the block is left without an exception; then the new
    one takes its place. Where the path is a symbolic link, that is where it points to.

    Raises:
        OSError: the file cannot be made or written; its ``filename`` is the path.
    """
    if path == DASH:
        with open_writer(STDOUT) as writer:
            yield writer
    elif _is_special(path):
        fd = os.open(path, os.O_WRONLY | os.O_NOCTTY)
        try:
            yield ThreadWriter(fd, path)
        finally:
            os.close(fd)
    else:
        async with _new_file(path) as writer:
            yield writer


@asynccontextmanager
async def _new_file(path: str) -> AsyncIterator[Writer]:
    fd, part, named = _open_part(path)
    try:
        try:
            yield FileWriter(fd, path)
            await trio.to_thread.run_sync(os.fsync, fd)
        finally:
            os.close(fd)
        _rename(part, named, path)
    except BaseException:
        with suppress(FileNotFoundError):
            part.unlink()
        raise


def _open_part(path: str) -> tuple[int, Path, Path]:
    """A file open for writing, its path, and what it will be called."""
    named = Path(os.path.realpath(path))
    part = named.with_name(f".{os.urandom(8).hex()}.part")
    try:
        return os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), part, named
    except OSError as error:
        error.filename = path
        raise


def _rename(part: Path, named: Path, path: str) -> None:
    try:
        part.replace(named)
    except OSError as error:
        error.filename, error.filename2 = path, None
        raise


def _is_special(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - as the system follows the path
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
