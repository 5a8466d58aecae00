"""Content that the worker left in a file: ``--answers paths``. It is read where it is wanted.

That the file had it is the worker's word, of some time ago. So whoever reads it here has it hashed
on the way, against what ``begin`` said: a file that was altered ends like content that was.
"""

from __future__ import annotations

import os
import stat
import traceback
from errno import EINVAL
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

from multi_fetch.errors import MultiFetchError, SizeMismatchError
from multi_fetch.limits import MAX_DATA_BYTES
from multi_fetch.verify import Verifier

if TYPE_CHECKING:
    from multi_fetch.oci.descriptor import Descriptor

OPEN_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class FiledContent:
    """A file as pieces, each once and in order, whoever reads them.

    Args:
        path: of the file, which shall have the content and nothing else.
        size: that it shall have, in bytes.
        descriptor: what ``begin`` said of the content.

    Attributes:
        path: the same.
        failure: why no more can be read, or None.
        is_over: whether all was read, and was right.
    """

    def __init__(self, path: str, size: int, descriptor: Descriptor) -> None:
        self.path = Path(path)
        self.failure: OSError | MultiFetchError | None = None
        self._size = size
        self._descriptor = descriptor
        self._verifier: Verifier | None = None
        self.is_over = False
        self._lock = Lock()

    def read(self) -> bytes:
        """The next piece; nothing where another was faster with the last. It waits for the disk.

        The last one is given only if all is right.

        Raises:
            SizeMismatchError, DigestMismatchError: the file was altered.
            UnsupportedError: its digest cannot be computed here.
            OSError: it cannot be read, is no regular file, or is not there any more.
        """
        with self._lock:
            if self.failure is not None:
                raise self.failure
            if self.is_over:
                return b""
            try:
                return self._read()
            except (MultiFetchError, OSError) as error:
                self.failure = error
                traceback.clear_frames(error.__traceback__)  # else it keeps the last piece
                raise

    def _read(self) -> bytes:
        if self._verifier is None:
            promised = self._descriptor.size
            size = self._size if promised is None else promised
            self._verifier = Verifier(self._descriptor.digest, size)
        content = self._read_at(self._verifier.received)
        self._verifier.update(content)
        if self._verifier.received == self._size:
            self._verifier.finish()
            self.is_over = True
        return content

    def _read_at(self, offset: int) -> bytes:
        # Nobody waits for who writes to a FIFO that a worker names.
        with os.fdopen(os.open(self.path, OPEN_FLAGS), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(EINVAL, "it is no regular file", str(self.path))
            if status.st_size != self._size:
                raise SizeMismatchError(want=self._size, got=status.st_size)
            file.seek(offset)
            size = min(MAX_DATA_BYTES, self._size - offset)
            content = file.read(size)
        if len(content) != size:  # it was cut in this moment
            raise SizeMismatchError(want=self._size, got=offset + len(content))
        return content
