"""Files in threads: the event loop never waits for a disk, and a task never for one that hangs.

A task that is cancelled leaves its thread behind, which ends when the system lets it. So a file is
closed by whoever is last with it, the task or the thread.
"""

from __future__ import annotations

from errno import EAGAIN, EBADF
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from multi_fetch.advice import TRY_LATER
from multi_fetch.budget import let_go, reserve
from multi_fetch.errands import needing_a_thread
from multi_fetch.errors import UnavailableError
from multi_fetch.layout.part import translated
from multi_fetch.limits import MAX_DATA_BYTES, MAX_READ_THREADS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from multi_fetch.layout.contents import Found
    from multi_fetch.layout.part import Part
    from multi_fetch.oci.digest import Chunk

T = TypeVar("T")

# What one thread reads at once. Measured from memory, where the hops to the thread show most:
# 128 KiB come at 1 GiB/s, a data frame at 3.5; from there on hashing is what takes the time.
CHUNK_BYTES: Final = MAX_DATA_BYTES

UNWANTED: Final = "nobody waits for it any more"


class Threads:
    """A bound on the threads of one remote."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(MAX_READ_THREADS)

    async def run(self, work: Callable[[], T]) -> T:
        """Does what blocks in a thread, which is left behind if this is cancelled.

        Raises:
            OSError: the system gives no thread.
        """
        with needing_a_thread():
            return await trio.to_thread.run_sync(
                work, abandon_on_cancel=True, limiter=self._limiter
            )


class Loan:
    """What is found in a layout, for as long as a task needs it.

    Args:
        threads: where it is read.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._lock = Lock()
        self._part: Part | None = None
        self._is_busy = False
        self._is_over = False

    async def take(self, find: Callable[[], Found], most_bytes: int = 0) -> Found:
        """Finds something, once.

        Args:
            find: does so, in a thread.
            most_bytes: of content that it may give.
        """

        def keep() -> Found:
            found = find()
            self._part = found.part
            return found

        await reserve(most_bytes)
        count = 0
        try:
            found = await self._run(keep)
            count = 0 if found.content is None else len(found.content)
        finally:
            let_go(max(0, most_bytes - count))
        return found

    def require_interest(self) -> None:
        """Ends what takes long in the thread, once nobody waits for it.

        Raises:
            OSError: nobody does.
        """
        if self._is_over:
            raise OSError(EBADF, UNWANTED)

    async def chunks(self, found: Found, first: int, end: int) -> AsyncGenerator[Chunk, None]:
        """The bytes of what was found from ``first`` to before ``end``, or those that there are.

        Raises:
            UnavailableError: the system cannot read them.
        """
        if found.content is not None:
            if first < end:
                yield found.content[first:end]
            return
        await reserve(CHUNK_BYTES)
        buffer = memoryview(bytearray(CHUNK_BYTES))
        while first < end:
            read = partial(self._read, found, buffer[: end - first], first)
            count = await self._run(read)
            if not count:
                return  # the file was cut, which whoever verifies finds out
            yield buffer[:count]
            first += count

    def give_back(self) -> None:
        """Ends it: at once, or when the thread is done that was left behind with it."""
        with self._lock:
            self._is_over = True
            if not self._is_busy:
                self._close()

    def _read(self, found: Found, buffer: memoryview, offset: int) -> int:
        with translated(found.descriptor.digest):
            return found.part.read_into(buffer, offset)

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await self._threads.run(partial(self._hold, work))
        except OSError as error:
            if error.errno != EAGAIN:  # there is a thread, and this is its
                raise
            raise UnavailableError(f"a file cannot be read: {error.strerror}{TRY_LATER}") from error

    def _hold(self, work: Callable[[], T]) -> T:
        """Does something with the file, in a thread."""
        with self._lock:
            if self._is_over:
                raise OSError(EBADF, UNWANTED)
            self._is_busy = True
        try:
            return work()
        finally:
            with self._lock:
                self._is_busy = False
                if self._is_over:
                    self._close()

    def _close(self) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None
