"""A thread that hashes large chunks while they are written.

hashlib lets go of the interpreter's lock, so a second core can hash what the first one receives
and writes. For a small chunk the way to the thread and back costs more than the hash.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from multi_fetch.oci.digest import Chunk
    from multi_fetch.verify import Judge

# Measured: below this, hashing in line takes less time than handing over.
LEAST_BYTES: Final = 48 * 1024


class Hashing:
    """A chunk on its way through the thread, or through it already."""

    def __init__(self, judge: Judge, chunk: Chunk) -> None:
        self._judge = judge
        self._chunk = chunk
        self._is_done = False
        self._waker: trio.Event | None = None

    def run(self, token: trio.lowlevel.TrioToken | None) -> None:
        """Hashes the chunk; wakes whoever waits, in the trio run of the token."""
        self._judge.hash(self._chunk)
        # First done, then a look at the waker; in ``wait`` it is the other way round.
        self._is_done = True
        if self._waker is not None and token is not None:
            try:
                token.run_sync_soon(self._waker.set)
            except trio.RunFinishedError:
                return

    async def wait(self) -> None:
        """Returns once the chunk is hashed: then its memory may change."""
        if self._is_done:
            return
        self._waker = trio.Event()
        if not self._is_done:
            await self._waker.wait()


class HashThread:
    """Hashes for as long as it is entered; the thread starts with the first large chunk.

    Args:
        least_bytes: of a chunk that goes to the thread; a smaller one is hashed in line.
    """

    def __init__(self, least_bytes: int = LEAST_BYTES) -> None:
        self._least_bytes = least_bytes
        self._queue: SimpleQueue[Hashing | None] = SimpleQueue()
        self._token: trio.lowlevel.TrioToken | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()

    def begin(self, judge: Judge, chunk: Chunk) -> Hashing:
        """Counts a chunk and begins to hash it; chunks of one judge are to be waited for in turn.

        Raises:
            SizeMismatchError: there are more bytes than there should be.
        """
        judge.count(chunk)
        hashing = Hashing(judge, chunk)
        if len(chunk) < self._least_bytes:
            hashing.run(None)
            return hashing
        if self._thread is None:
            self._token = trio.lowlevel.current_trio_token()
            # A daemon: a signal that ends the process at once does not wait for it.
            self._thread = threading.Thread(target=self._work, name="hash", daemon=True)
            self._thread.start()
        self._queue.put(hashing)
        return hashing

    def _work(self) -> None:
        while (hashing := self._queue.get()) is not None:
            hashing.run(self._token)
