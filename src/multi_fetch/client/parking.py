"""Where content waits for a reader that has not come for it yet.

All answers of a worker share one pipe, so what is not read has to be put somewhere or it stops
the others. It is put in memory up to two bounds, one for each answer and one for all together,
and beyond them in one temporary file, which has no name and is cut into blocks that are given
out again. So memory is bounded, the number of open files is, and the file is never larger than
what was waiting at one time.

Nothing here takes a lock. ``Parking`` and ``Content`` belong to whoever holds the session. An
``Extent`` may be read and dropped in any thread: it only gives its blocks back to a deque.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from multi_fetch.limits import CLIENT_ANSWER_BYTES, CLIENT_MEMORY_BYTES, PARKING_BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence


class BlockFile:
    """A temporary file in blocks; it is closed when nothing refers to it any more.

    Args:
        folder: where it lies; None for tempfile's choice.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, folder: str | None) -> None:
        # Held for the object's life, so a with block has no place here.
        self._file = tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115
        self.free: deque[int] = deque()
        self.blocks = 0

    def __del__(self) -> None:
        # It is missing if the file could not be made.
        if hasattr(self, "_file"):
            self._file.close()

    def write(self, chunk: bytes) -> Extent:
        """Keeps a chunk.

        Raises:
            OSError: it cannot be written; the disk may be full.
        """
        extent = Extent(self, self._allocate(-(-len(chunk) // PARKING_BLOCK_BYTES)), len(chunk))
        rest = memoryview(chunk)
        for block in extent.blocks:
            self._write_block(block, rest[:PARKING_BLOCK_BYTES])
            rest = rest[PARKING_BLOCK_BYTES:]
        return extent

    def read(self, blocks: Sequence[int], size: int) -> bytes:
        """The ``size`` bytes that begin in the first of these blocks.

        Raises:
            OSError: they cannot be read.
        """
        fd = self._file.fileno()
        found = b"".join(
            os.pread(fd, PARKING_BLOCK_BYTES, block * PARKING_BLOCK_BYTES) for block in blocks[:-1]
        )
        left = size - len(found)
        found += os.pread(fd, left, blocks[-1] * PARKING_BLOCK_BYTES)
        if len(found) != size:
            raise OSError(f"the temporary file gave {len(found)} of {size} bytes back")
        return found

    def _allocate(self, count: int) -> list[int]:
        blocks: list[int] = []
        for _ in range(count):
            if self.free:
                blocks.append(self.free.popleft())
            else:
                blocks.append(self.blocks)
                self.blocks += 1
        return blocks

    def _write_block(self, block: int, content: memoryview) -> None:
        position = block * PARKING_BLOCK_BYTES
        while content:
            written = os.pwrite(self._file.fileno(), content, position)
            content, position = content[written:], position + written


class Extent:
    """A chunk in the file. Its blocks are free again when nothing refers to it any more."""

    __slots__ = ("_file", "blocks", "size")

    def __init__(self, file: BlockFile, blocks: list[int], size: int) -> None:
        self._file = file
        self.blocks = blocks
        self.size = size

    def __del__(self) -> None:
        self._file.free.extend(self.blocks)

    def read(self) -> bytes:
        """The chunk. It may wait for the disk.

        Raises:
            OSError: it cannot be read.
        """
        return self._file.read(self.blocks, self.size)


Piece: TypeAlias = bytes | Extent


class Parking:
    """The bounds, and the file behind them.

    Args:
        memory_bytes: of content in memory, over all answers.
        folder: for the temporary file; None for tempfile's choice ($TMPDIR, then /tmp).
    """

    def __init__(
        self, *, memory_bytes: int = CLIENT_MEMORY_BYTES, folder: str | None = None
    ) -> None:
        self._memory_bytes = memory_bytes
        self._folder = folder
        self._file: BlockFile | None = None
        self._used = 0
        # What contents gave back that nobody refers to any more. A finalizer may run anywhere,
        # so it does no more than append here.
        self.given_back: deque[int] = deque()

    @property
    def used_bytes(self) -> int:
        """Content that is held in memory now."""
        while self.given_back:
            self._used -= self.given_back.popleft()
        return self._used

    @property
    def file_bytes(self) -> int:
        """How large the temporary file is; 0 before it is needed."""
        return self._file.blocks * PARKING_BLOCK_BYTES if self._file else 0

    def has_room(self, content: Content, size: int) -> bool:
        """Whether a chunk of this size may stay in memory."""
        return (
            content.memory_bytes + size <= CLIENT_ANSWER_BYTES
            and self.used_bytes + size <= self._memory_bytes
        )

    def keep(self, content: Content, chunk: bytes) -> None:
        """Adds a chunk to a content, from memory or from the file. It may wait for the disk.

        Raises:
            OSError: as ``park`` does.
        """
        content.add(chunk if self.has_room(content, len(chunk)) else self.park(chunk))

    def park(self, chunk: bytes) -> Extent:
        """Writes a chunk to the file; one caller at a time. It may wait for the disk.

        Raises:
            OSError: there is no file, or no room in it.
        """
        if self._file is None:
            self._file = BlockFile(self._folder)
        return self._file.write(chunk)

    def hold(self, size: int) -> None:
        """Counts bytes that stay in memory."""
        self._used += size

    def close(self) -> None:
        """Lets go of the file; it goes with the last extent that somebody still has."""
        self._file = None


class Content:
    """What has come of one answer and was not taken yet, in order."""

    __slots__ = ("_is_dropped", "_parking", "_pieces", "memory_bytes")

    def __init__(self, parking: Parking) -> None:
        self._parking = parking
        self._pieces: deque[Piece] = deque()
        self._is_dropped = False
        self.memory_bytes = 0

    def __len__(self) -> int:
        return len(self._pieces)

    def __del__(self) -> None:
        self._parking.given_back.append(self.memory_bytes)

    def add(self, piece: Piece) -> None:
        """Puts a piece behind the others; after ``drop`` it is let go of at once."""
        if self._is_dropped:
            return
        self._pieces.append(piece)
        if isinstance(piece, bytes):
            self.memory_bytes += len(piece)
            self._parking.hold(len(piece))

    def take(self) -> Piece:
        """Takes the first piece; there must be one."""
        piece = self._pieces.popleft()
        if isinstance(piece, bytes):
            self.memory_bytes -= len(piece)
            self._parking.hold(-len(piece))
        return piece

    def drop(self) -> None:
        """Lets go of all that is here and of all that comes."""
        self._is_dropped = True
        self._pieces.clear()
        self._parking.hold(-self.memory_bytes)
        self.memory_bytes = 0
