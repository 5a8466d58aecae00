"""Work that a thread does for a task while that goes on, one piece behind the other.

What an errand uses, a chunk's memory above all, is the thread's until it is done; so a task waits
for that before it lets the memory change. A task that is cancelled does not wait.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from errno import EAGAIN
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What Python says where the system gives no thread; it has no class of its own.
NO_THREAD: Final = "can't start new thread"


class Errand:
    """A piece of work on its way through a thread, or through it already.

    Args:
        work: does it; it raises nothing.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._token = trio.lowlevel.current_trio_token()
        self._waker: trio.Event | None = None
        self._is_done = False

    def run(self) -> None:
        """Does it, in any thread; wakes whoever waits."""
        self._work()
        # First done, then a look at the waker; in ``wait`` it is the other way round.
        self._is_done = True
        if self._waker is not None:
            try:
                self._token.run_sync_soon(self._waker.set)
            except trio.RunFinishedError:
                return

    async def wait(self) -> None:
        """Returns once it is done."""
        if self._is_done:
            return
        self._waker = trio.Event()
        if not self._is_done:
            await self._waker.wait()


@contextmanager
def needing_a_thread() -> Iterator[None]:
    """Says as the system's error that it gives no thread, for which Python has no class.

    Raises:
        OSError: it gives none.
    """
    try:
        yield
    except RuntimeError as error:
        if str(error) != NO_THREAD:
            raise
        raise OSError(EAGAIN, "the system gives no more threads") from error


class ErrandThread:
    """A thread that starts with the first work it is given, and does one after the other.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        # Bounded by the tasks that give work, and wait for what they gave.
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def give(self, work: Callable[[], object]) -> None:
        """Has something done, once all is done that was given before.

        Where the system gives no thread, it is done when this returns.
        """
        if self._thread is None:
            # A daemon: a signal that ends the process at once does not wait for it.
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system has none to spare now: then it is done here
                work()
                return
            self._thread = thread
        self._queue.put(work)

    def end(self, seconds: float | None = None) -> None:
        """Ends the thread when all is done that was given.

        Args:
            seconds: how long that is waited for; None for as long as it takes.
        """
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(seconds)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
