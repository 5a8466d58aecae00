"""What a thread opens for a task, and closes again if the task is gone by then."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from multi_fetch.layout.loan import Threads

T = TypeVar("T")


class Handing(Generic[T]):
    """One result on its way from a thread to a task.

    Args:
        work: makes it.
        undo: takes it back, if nobody is there to have it.
    """

    def __init__(self, work: Callable[[], T], undo: Callable[[T], None]) -> None:
        self._work = work
        self._undo = undo
        self._lock = Lock()
        self._is_over = False
        self._made: list[T] = []

    async def take(self, threads: Threads) -> T:
        """Has it made, and gives it."""
        try:
            return await threads.run(self._make)
        except BaseException:
            with self._lock:
                self._is_over = True
                made, self._made = self._made, []
            for each in made:
                self._undo(each)
            raise

    def _make(self) -> T:
        result = self._work()
        with self._lock:
            if not self._is_over:
                self._made.append(result)
                return result
        self._undo(result)
        return result
