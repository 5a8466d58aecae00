"""Content that the worker left in a file: ``--answers paths``. It is read where it is wanted."""

from __future__ import annotations

import os
import stat
from errno import EINVAL
from pathlib import Path
from typing import Final

import msgspec

from multi_fetch.limits import MAX_DATA_BYTES

OPEN_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class FilePart(msgspec.Struct, frozen=True):
    """A part of a file, for whoever reads content that way all the same.

    Attributes:
        path: of the file.
        offset: of the first byte.
        size: bytes that there are from there on.
    """

    path: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """The part. It waits for the disk.

        Raises:
            OSError: it cannot be read, is no regular file, or is not there any more.
        """
        # Nobody waits for who writes to a FIFO that a worker names.
        with os.fdopen(os.open(self.path, OPEN_FLAGS), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(EINVAL, "it is no regular file", str(self.path))
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) != self.size:
            raise OSError(f"{self.path} has become shorter than it was")
        return content


class FiledContent:
    """A file as pieces, each once.

    Args:
        path: of the file, which has the content and nothing else.
        size: of the content, in bytes.
    """

    def __init__(self, path: str, size: int) -> None:
        self.path = Path(path)
        self._size = size
        self._offset = 0

    @property
    def has_more(self) -> bool:
        """Whether there is another piece."""
        return self._offset < self._size

    def take(self) -> FilePart:
        """The next piece; there must be one."""
        part = FilePart(self.path, self._offset, min(MAX_DATA_BYTES, self._size - self._offset))
        self._offset += part.size
        return part
