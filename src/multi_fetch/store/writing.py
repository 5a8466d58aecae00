"""A thread that writes chunks while they are sent, one behind the other for all objects.

A chunk's memory is its task's until it is written. A task that is cancelled does not wait for
that: then the last chunk counts as not written.
"""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

import trio

from multi_fetch.durations import SHUTDOWN_GRACE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from multi_fetch.oci.digest import Chunk
    from multi_fetch.store.ingest import Ingest

log = logging.getLogger(__name__)


class Writing:
    """A chunk on its way into a file, or there already."""

    def __init__(self, ingest: Ingest, chunk: Chunk, token: trio.lowlevel.TrioToken) -> None:
        self._ingest = ingest
        self._chunk = chunk
        self._token = token
        self._waker: trio.Event | None = None
        self._is_done = False

    def run(self) -> None:
        """Writes it; wakes whoever waits."""
        self._ingest.write(self._chunk)
        # First done, then a look at the waker; in ``wait`` it is the other way round.
        self._is_done = True
        if self._waker is not None:
            try:
                self._token.run_sync_soon(self._waker.set)
            except trio.RunFinishedError:
                return

    async def wait(self) -> None:
        """Returns once the chunk is written, or has failed: then its memory may change."""
        if self._is_done:
            return
        self._waker = trio.Event()
        if not self._is_done:
            await self._waker.wait()


class WriteThread:
    """Writes for as long as it is entered; the thread starts with the first chunk."""

    def __init__(self) -> None:
        # Bounded by the tasks: each has one chunk in it, or one end.
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
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
            # No longer: a disk that hangs holds up no end.
            self._thread.join(SHUTDOWN_GRACE_SECONDS)

    def begin(self, ingest: Ingest, chunk: Chunk) -> Writing:
        """Begins to write a chunk; those of one ingest are to be waited for in turn."""
        writing = Writing(ingest, chunk, trio.lowlevel.current_trio_token())
        self._put(writing.run)
        return writing

    def end(self, ingest: Ingest, *, is_wrong: bool) -> None:
        """Lets go of an ingest that will not be committed, once its last chunk is written.

        Args:
            ingest: what was begun.
            is_wrong: whether its content is known to be wrong.
        """
        # What is written by now: from here on, the memory of the last chunk may change.
        length = ingest.length

        def leave() -> None:
            try:
                if is_wrong:
                    ingest.discard()
                else:
                    ingest.leave(length)
            except OSError as error:
                log.debug("a rest stays in the store", extra={"error": str(error)})

        self._put(leave)

    def _put(self, work: Callable[[], None]) -> None:
        if self._thread is None:
            # A daemon: a signal that ends the process at once does not wait for it.
            self._thread = threading.Thread(target=self._work, name="store", daemon=True)
            self._thread.start()
        self._queue.put(work)

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
