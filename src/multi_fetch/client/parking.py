"""Where content waits for a reader that has not come for it yet.

All answers of a worker share one pipe, so what is not read has to be put somewhere or it stops
the others. It is put in memory up to two bounds, one for each answer and one for all together,
and beyond them in one temporary file, which has no name and is cut into blocks that are given
out again. So memory is bounded, the number of open files is, and the file is never larger than
what was waiting at one time.

Many small pieces of one content are put together, so that what is kept of each beside its bytes
does not grow with their number.

Nothing here takes a lock. ``Parking`` and ``Content`` belong to whoever holds the session. An
``Extent`` may be read, written and dropped in any thread: it only gives its blocks back to a deque.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from multi_fetch.limits import (
    CLIENT_ANSWER_BYTES,
    CLIENT_FEW_PIECES,
    CLIENT_MEMORY_BYTES,
    PARKING_BLOCK_BYTES,
)

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

    def write(self, block: int, position: int, content: memoryview) -> None:
        """Writes into one block, from a position in it.

        Raises:
            OSError: it cannot be written; the disk may be full.
        """
        position += block * PARKING_BLOCK_BYTES
        while content:
            written = os.pwrite(self._file.fileno(), content, position)
            content, position = content[written:], position + written

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

    def allocate(self, count: int) -> list[int]:
        """Blocks that nobody has."""
        blocks: list[int] = []
        for _ in range(count):
            if self.free:
                blocks.append(self.free.popleft())
            else:
                blocks.append(self.blocks)
                self.blocks += 1
        return blocks


class Extent:
    """Content in the file. Its blocks are free again when nothing refers to it any more."""

    __slots__ = ("_blocks", "_file", "size")

    def __init__(self, file: BlockFile, size: int) -> None:
        self._file = file
        self._blocks = file.allocate(-(-size // PARKING_BLOCK_BYTES))
        self.size = 0

    def __del__(self) -> None:
        self._file.free.extend(self._blocks)

    @property
    def room_bytes(self) -> int:
        """What can be written behind the rest."""
        return len(self._blocks) * PARKING_BLOCK_BYTES - self.size

    def write(self, chunk: bytes) -> None:
        """Adds a chunk, for which there must be room. It may wait for the disk.

        Raises:
            OSError: it cannot be written; the disk may be full.
        """
        rest = memoryview(chunk)
        while rest:
            index, position = divmod(self.size, PARKING_BLOCK_BYTES)
            part = rest[: PARKING_BLOCK_BYTES - position]
            self._file.write(self._blocks[index], position, part)
            self.size += len(part)
            rest = rest[len(part) :]

    def read(self) -> bytes:
        """The chunk. It may wait for the disk.

        Raises:
            OSError: it cannot be read.
        """
        return self._file.read(self._blocks, self.size)


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
            not content.is_reopened_for(size)
            and content.memory_bytes + size <= CLIENT_ANSWER_BYTES
            and self.has_memory(size)
        )

    def has_memory(self, size: int) -> bool:
        """Whether the bound of all answers has room for so much."""
        return self.used_bytes + size <= self._memory_bytes

    def keep(self, content: Content, chunk: bytes) -> None:
        """Adds a chunk to a content, from memory or from the file. It may wait for the disk.

        Raises:
            OSError: there is no file, or no room in it.
        """
        if self.has_room(content, len(chunk)):
            content.add(chunk)
            return
        extent = self.reserve(content, len(chunk))
        extent.write(chunk)
        content.add(extent)

    def reserve(self, content: Content, size: int) -> Extent:
        """A place in the file for the next chunk of a content, to be written and then added.

        Raises:
            OSError: there is no file.
        """
        if last := content.reopen(size):
            return last
        if self._file is None:
            self._file = BlockFile(self._folder)
        return Extent(self._file, size)

    def hold(self, size: int) -> None:
        """Counts bytes that stay in memory."""
        self._used += size

    def close(self) -> None:
        """Lets go of the file; it goes with the last extent that somebody still has."""
        self._file = None


class Content:
    """What has come of one answer and was not taken yet, in order."""

    __slots__ = ("_beside_bytes", "_is_dropped", "_parking", "_pieces", "memory_bytes")

    def __init__(self, parking: Parking) -> None:
        self._parking = parking
        # Most have none at most times, and an empty deque takes 600 bytes.
        self._pieces: deque[Piece] | None = None
        self._is_dropped = False
        self._beside_bytes = 0
        self.memory_bytes = 0

    def __len__(self) -> int:
        return len(self._pieces) if self._pieces else 0

    def __del__(self) -> None:
        self._parking.given_back.append(self.memory_bytes + self._beside_bytes)

    def hold_beside(self, size: int) -> bool:
        """Counts what is kept beside the content, for as long; False if there is no room for it."""
        if not self._parking.has_memory(size):
            return False
        self._beside_bytes += size
        self._parking.hold(size)
        return True

    def add(self, piece: Piece) -> None:
        """Puts a piece behind the others; after ``drop`` it is let go of at once."""
        if self._is_dropped:
            return
        if self._pieces is None:
            self._pieces = deque()
        if isinstance(piece, bytes):
            self.memory_bytes += len(piece)
            self._parking.hold(len(piece))
            last = self._pieces[-1] if len(self._pieces) >= CLIENT_FEW_PIECES else None
            if isinstance(last, bytes) and len(last) + len(piece) <= PARKING_BLOCK_BYTES:
                self._pieces[-1] = last + piece
                return
        self._pieces.append(piece)

    def is_reopened_for(self, size: int) -> bool:
        """Whether the last of many pieces is in the file and has room for so much more."""
        if self._pieces is None or len(self._pieces) < CLIENT_FEW_PIECES:
            return False
        last = self._pieces[-1]
        return isinstance(last, Extent) and last.room_bytes >= size

    def reopen(self, size: int) -> Extent | None:
        """Takes that piece back, so that nobody reads it while it is written."""
        if self._pieces is None or not self.is_reopened_for(size):
            return None
        last = self._pieces.pop()
        assert isinstance(last, Extent)
        return last

    def take(self) -> Piece:
        """Takes the first piece; there must be one."""
        assert self._pieces is not None
        piece = self._pieces.popleft()
        if not self._pieces:
            self._pieces = None
        if isinstance(piece, bytes):
            self.memory_bytes -= len(piece)
            self._parking.hold(-len(piece))
        return piece

    def drop(self) -> None:
        """Lets go of all that is here and of all that comes."""
        self._is_dropped = True
        self._pieces = None
        self._parking.hold(-self.memory_bytes)
        self.memory_bytes = 0
