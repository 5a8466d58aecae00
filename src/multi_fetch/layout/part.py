"""A part of an open file, and how the system's errors are said. All here blocks: it is for threads.

The errors are those that a request can end with: what is not there, what may not be read, and what
may come right later.
"""

from __future__ import annotations

import os
import stat
import traceback
from contextlib import ExitStack, contextmanager
from errno import EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ENXIO, EPERM
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from multi_fetch.advice import COPY_AGAIN, TRY_LATER
from multi_fetch.errors import (
    DeniedError,
    MultiFetchError,
    NotFoundError,
    RegistryError,
    TooLargeError,
    UnavailableError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# What tells that a file is another, or was changed: device, inode, size, modification in ns.
Stamp: TypeAlias = tuple[int, int, int, int]

# Never waits for who writes to a FIFO, and never makes a terminal the process's own.
OPEN_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

ABSENT: Final = frozenset({ENOENT, ENOTDIR, ENAMETOOLONG})
REFUSED: Final = frozenset({EACCES, EPERM, ELOOP})


class Part:
    """Bytes of a regular file, which this closes.

    Args:
        fd: the open file.
        stamp: of the whole file.
        first: the offset, in the file, of the first byte.
        size: how many bytes there should be; of a file that was cut there are fewer.
    """

    def __init__(self, fd: int, stamp: Stamp, *, first: int, size: int) -> None:
        self._fd = fd
        self._first = first
        self.stamp = stamp
        self.size = size

    def fileno(self) -> int:
        """The open file, for what only the system knows of it."""
        return self._fd

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fills the buffer from an offset on, as far as one read goes; returns how far, 0 at end.

        Raises:
            OSError: the system cannot read it.
        """
        count = max(0, min(len(buffer), self.size - offset))
        return os.preadv(self._fd, [buffer[:count]], self._first + offset)

    def read(self, count: int, offset: int = 0) -> bytes:
        """So many bytes from an offset on, or those that there are.

        Raises:
            OSError: the system cannot read it.
        """
        end = min(self.size, offset + count)
        pieces: list[bytes] = []
        while offset < end:
            piece = os.pread(self._fd, end - offset, self._first + offset)
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def cut(self, first: int, size: int) -> Part:
        """A part of this part, which has the file from now on."""
        part = Part(self._fd, self.stamp, first=self._first + first, size=size)
        self._fd = -1
        return part

    def close(self) -> None:
        """Closes the file, once."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Refusal:
    """Why a file was refused, which took long to find out: it is not looked through again.

    Its lock is that of whoever reads the file.
    """

    def __init__(self) -> None:
        self._stamp: Stamp | None = None
        self._error: MultiFetchError | None = None

    @contextmanager
    def of(self, stamp: Stamp) -> Iterator[None]:
        """For a block that looks through the file; it is not entered where it would be in vain.

        Raises:
            RegistryError, TooLargeError, UnsupportedError: it is, as this file was refused before.
        """
        if self._error is not None and self._stamp == stamp:
            raise type(self._error)(self._error.message)
        try:
            yield
        except (RegistryError, TooLargeError, UnsupportedError) as error:
            self._stamp, self._error = stamp, type(error)(error.message)
            traceback.clear_frames(error.__traceback__)  # which keep all that was read
            raise


class Source(Protocol):
    """Where a layout's files are.

    Attributes:
        name: the remote's own, for messages: ``oci:/srv/mirror``.
    """

    name: str

    def open(self, name: str) -> Part:
        """A file of the layout, by its name in there: ``blobs/sha256/...``.

        Raises:
            NotFoundError: there is none.
            DeniedError: it may not be read, or lies outside the layout.
            UnavailableError: there is no such layout, or the system cannot open it.
            RegistryError: it is no regular file.
        """


def part_of(fd: int, name: str) -> Part:
    """The whole of an open file, which is closed if it is none.

    Raises:
        RegistryError: it is no regular file.
        OSError: the system knows nothing of it.
    """
    with ExitStack() as on_error:
        on_error.callback(os.close, fd)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise RegistryError(f"{name} is no regular file{COPY_AGAIN}")
        on_error.pop_all()
    stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return Part(fd, stamp, first=0, size=status.st_size)


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Says the system's errors with a file or folder as errors of a request.

    Raises:
        NotFoundError: it is not there.
        DeniedError: it may not be read, or its symbolic links lead in a circle.
        RegistryError: it is a socket, or a device that is not there.
        UnavailableError: all else, as a broken disk or too many open files.
    """
    try:
        yield
    except OSError as error:
        if error.errno in ABSENT:
            raise NotFoundError(f"there is no {name}{COPY_AGAIN}") from error
        if error.errno in REFUSED:
            raise DeniedError(
                f"{name} may not be read: {error.strerror}: check its mode"
            ) from error
        if error.errno == ENXIO:
            raise RegistryError(f"{name} is no regular file{COPY_AGAIN}") from error
        raise UnavailableError(f"{name} cannot be read: {error.strerror}{TRY_LATER}") from error
