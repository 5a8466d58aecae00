"""What the requests of a run hold in memory, all together: so much, and then they wait.

What is held as a whole (a small object, a manifest, a page of a listing) is counted where it comes,
by the task that it comes to. Beyond the budget a task waits before it receives more, until others
have passed on what they hold. One always goes on, the one that has held something for the longest
time, and so does whoever all others wait for; so no two wait for each other. Half of the budget is
the tasks' own, in equal parts: else a registry that drips some manifests, of which it sent nearly
all at once, would hold up all others' small objects.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Self

import trio

from multi_fetch.limits import MAX_HELD_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from multi_fetch.oci.digest import Chunk


class Budget:
    """What may be held together.

    Args:
        most: bytes, beside those that are somebody's own.
        own: bytes that each share may hold, whatever others do.

    Attributes:
        held: bytes that are held; more than may be only by what came at once.
    """

    def __init__(self, most: int = MAX_HELD_BYTES, own: int = 0) -> None:
        self.held = 0
        self._most = most
        self._own = own
        self._beyond = 0  # of what is held, what is nobody's own
        # Those that hold something or wait to, in the order in which they began to.
        self._holders: dict[Share, None] = {}
        self._change = trio.Event()
        self._waiting = 0

    @classmethod
    def among(cls, tasks: int) -> Budget:
        """The usual one, for so many tasks."""
        half = MAX_HELD_BYTES // 2
        return cls(half, half // tasks)

    @contextmanager
    def share(self, is_awaited: Callable[[], bool]) -> Iterator[Share]:
        """A task's part of it, for ``hold`` in this task and those that it starts.

        Args:
            is_awaited: whether the task is one that all others may be waiting for.
        """
        share = Share(self, is_awaited)
        token = _SHARE.set(share)
        try:
            yield share
        finally:
            _SHARE.reset(token)
            share.let_go()

    def look_again(self) -> None:
        """Says that others may have room, or be those that all others wait for."""
        if self._waiting:
            self._change.set()

    def add(self, share: Share, count: int) -> None:
        """Counts what a share holds more."""
        if not share.held:
            self._holders[share] = None
        self._change_by(share, count)

    def take(self, share: Share, count: int) -> None:
        """Counts what a share holds less."""
        self._change_by(share, -count)
        if not share.held:
            del self._holders[share]
        self.look_again()

    def has_room(self, share: Share, count: int = 1) -> bool:
        """Whether a share that has its place in the order may hold so many bytes more."""
        if share.held + count <= self._own:
            return True
        more = self._beyond_own(share.held + count) - self._beyond_own(share.held)
        if self._beyond + more <= self._most:
            return True
        return next(iter(self._holders), share) is share or share.is_awaited()

    def _beyond_own(self, count: int) -> int:
        return max(0, count - self._own)

    def _change_by(self, share: Share, count: int) -> None:
        before, share.held = share.held, share.held + count
        self.held += count
        if before > self._own or share.held > self._own:
            self._beyond += self._beyond_own(share.held) - self._beyond_own(before)

    async def wait_room(self, share: Share, count: int = 1) -> None:
        """Waits until a share may hold so many bytes more."""
        self._waiting += 1
        try:
            while not self.has_room(share, count):
                if self._change.is_set():
                    self._change = trio.Event()
                await self._change.wait()
        finally:
            self._waiting -= 1

    async def reserve(self, share: Share, count: int) -> None:
        """Waits until a share may hold so many bytes more, and counts them."""
        self._holders.setdefault(share)
        try:
            if not self.has_room(share, count):
                await self.wait_room(share, count)
            self.add(share, count)
        finally:
            if not share.held:
                self._holders.pop(share, None)
                self.look_again()


class Share:
    """What one task holds.

    Args:
        budget: that it is a part of.
        is_awaited: whether the task is one that all others may be waiting for.

    Attributes:
        held: bytes.
        budget: that it is a part of.
        is_awaited: whether the task is one that all others may be waiting for.
    """

    def __init__(self, budget: Budget, is_awaited: Callable[[], bool]) -> None:
        self.held = 0
        self.is_awaited = is_awaited
        self.budget = budget

    def let_go(self, count: int | None = None) -> None:
        """Counts so many bytes less; or none any more."""
        gone = self.held if count is None else min(count, self.held)
        if gone:
            self.budget.take(self, gone)


class Counted:
    """Chunks of content that is put together: each counts as held once it has come.

    Args:
        chunks: of one object.
    """

    def __init__(self, chunks: AsyncIterator[Chunk]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        chunk = await anext(self._chunks)
        await hold(len(chunk))
        return chunk


_SHARE: ContextVar[Share | None] = ContextVar("_SHARE", default=None)


async def hold(count: int) -> None:
    """Counts bytes that have come as held by this task; returns when the next may come.

    Outside of a run nobody counts.
    """
    share = _SHARE.get()
    if share is not None and count:
        budget = share.budget
        budget.add(share, count)
        if not budget.has_room(share):
            await budget.wait_room(share)


async def reserve(count: int) -> None:
    """The same for bytes that will come at once; returns when they may."""
    share = _SHARE.get()
    if share is not None and count:
        await share.budget.reserve(share, count)


@contextmanager
def uncounted() -> Iterator[None]:
    """What comes within is nobody's, and waits for no room: others wait for this task to be done.

    It is for what has a bound of its own.
    """
    token = _SHARE.set(None)
    try:
        yield
    finally:
        _SHARE.reset(token)


@contextmanager
def scratch() -> Iterator[None]:
    """For a block behind which nothing is left of what came in it.

    Who then waits for another task must hold nothing: that one may be waiting for room.
    """
    share = _SHARE.get()
    before = 0 if share is None else share.held
    try:
        yield
    finally:
        if share is not None:
            share.let_go(max(0, share.held - before))


def let_go(count: int | None = None) -> None:
    """Says that this task holds so many bytes less, or nothing, before its object is done."""
    share = _SHARE.get()
    if share is not None:
        share.let_go(count)
