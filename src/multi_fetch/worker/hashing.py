"""A thread that hashes large chunks while they are written.

hashlib lets go of the interpreter's lock, so a second core can hash what the first one receives
and writes. For a small chunk the way to the thread and back costs more than the hash.

Of several large objects one is received while another is hashed. Of one that streams alone the next
chunk would have to wait for the hash, as both use the same memory: so it is hashed in a copy, which
costs a tenth of the hash and saves, measured, a fifth of the time. With several it saves nothing.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from multi_fetch.errands import Errand, ErrandThread
from multi_fetch.limits import MAX_DATA_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from multi_fetch.oci.digest import Chunk
    from multi_fetch.verify import Judge

# Measured: below this, hashing in line takes less time than handing over.
LEAST_BYTES: Final = 48 * 1024


class HashThread:
    """Hashes for as long as it is entered; the thread starts with the first large chunk.

    Args:
        least_bytes: of a chunk that goes to the thread; a smaller one is hashed in line.
    """

    def __init__(self, least_bytes: int = LEAST_BYTES) -> None:
        self._least_bytes = least_bytes
        self._thread = ErrandThread("hash")
        self._followed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.end()

    def begin(self, judge: Judge, chunk: Chunk) -> Errand:
        """Counts a chunk and begins to hash it; chunks of one judge are to be waited for in turn.

        Raises:
            SizeMismatchError: there are more bytes than there should be.
        """
        judge.count(chunk)
        hashing = Errand(partial(judge.hash, chunk))
        if len(chunk) < self._least_bytes:
            hashing.run()
        else:
            self._thread.give(hashing.run)
        return hashing

    @contextmanager
    def follow(self, judge: Judge) -> Iterator[Following]:
        """Hashes what streams of one object, until the block ends."""
        self._followed += 1
        try:
            yield Following(self, judge)
        finally:
            self._followed -= 1

    def is_worth_a_copy(self, chunk: Chunk) -> bool:
        """Whether the next chunk can be received meanwhile, and nothing else would be."""
        return self._followed == 1 and self._least_bytes <= len(chunk) <= MAX_DATA_BYTES


class Following:
    """The chunks of one object, hashed one behind the other; see ``HashThread.follow``."""

    def __init__(self, thread: HashThread, judge: Judge) -> None:
        self._thread = thread
        self._judge = judge
        self._memory = bytearray()
        self._last: Errand | None = None
        self._is_own = True

    async def begin(self, chunk: Chunk) -> None:
        """Counts a chunk, and begins to hash it once the one before is hashed.

        Raises:
            SizeMismatchError: there are more bytes than there should be.
        """
        await self.finish()
        self._is_own = isinstance(chunk, bytes)  # which nobody changes
        if not self._is_own and self._thread.is_worth_a_copy(chunk):
            chunk, self._is_own = self._copied(chunk), True
        self._last = self._thread.begin(self._judge, chunk)

    async def settle(self) -> None:
        """Returns once the chunk's memory may change."""
        if not self._is_own:
            await self.finish()

    async def finish(self) -> None:
        """Returns once all that was begun is hashed."""
        if self._last is not None:
            await self._last.wait()

    def _copied(self, chunk: Chunk) -> memoryview:
        if len(self._memory) < len(chunk):
            self._memory = bytearray(len(chunk))
        copy = memoryview(self._memory)[: len(chunk)]
        copy[:] = chunk
        return copy
