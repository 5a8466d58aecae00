"""What several tasks share: opened when first wanted, closed some time after its last use.

What nobody uses is kept, up to a number of them; then the one is closed that was used longest ago.
They are opened and closed in different tasks, so what opens them must hold no nursery and no
cancel scope open.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import trio

from multi_fetch.durations import CLOSE_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

K = TypeVar("K")
V = TypeVar("V")


class _Place(Generic[V]):
    """Where one of them is, once it is open."""

    def __init__(self) -> None:
        self.opening = trio.Lock()
        self.users = 0
        self.opened: tuple[V, AbstractAsyncContextManager[V]] | None = None


class Leases(Generic[K, V]):
    """A context, at whose end all are closed.

    Args:
        open_one: opens what belongs to a key.
        idle: how many are kept that nobody uses.
    """

    def __init__(
        self, open_one: Callable[[K], AbstractAsyncContextManager[V]], *, idle: int
    ) -> None:
        self._open_one = open_one
        self._most_idle = idle
        self._places: dict[K, _Place[V]] = {}
        # Those without users, the one that was used longest ago first.
        self._idle: dict[K, None] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for key in list(self._places):
            await self._close(key)

    @asynccontextmanager
    async def lend(self, key: K) -> AsyncIterator[V]:
        """What belongs to a key, for the time of the block.

        Raises:
            Exception: as opening does; whoever comes next tries again.
        """
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = _Place()
        place.users += 1
        self._idle.pop(key, None)
        try:
            if place.opened is None:
                await self._open(key, place)
            assert place.opened is not None
            yield place.opened[0]
        finally:
            place.users -= 1
            await self._leave(key, place)

    async def _open(self, key: K, place: _Place[V]) -> None:
        async with place.opening:
            if place.opened is None:
                context = self._open_one(key)
                place.opened = await context.__aenter__(), context

    async def _leave(self, key: K, place: _Place[V]) -> None:
        if place.users:
            return
        if place.opened is None:
            del self._places[key]
            return
        self._idle[key] = None
        if len(self._idle) > self._most_idle:
            await self._close(next(iter(self._idle)))

    async def _close(self, key: K) -> None:
        place = self._places.pop(key)
        self._idle.pop(key, None)
        if place.opened is not None:
            # also where the task is cancelled: nobody else will do it
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await place.opened[1].__aexit__(None, None, None)
