"""A direct lane over objects in memory: the contract of ``lanes.DirectLane``, really implemented.

What becomes of each request is told beforehand, so that tests decide what goes which way.
"""

from __future__ import annotations

from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING

import trio

from multi_fetch.limits import MAX_DIRECT_BYTES
from multi_fetch.oci.media_types import OCTET_STREAM
from tests.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from multi_fetch.oci.digest import Digest
    from tests.worker.memory_remote import MemoryRemote


class MemorySent:
    """One request; see ``lanes.Sent``."""

    def __init__(self, digest: Digest, media_type: str) -> None:
        self.digest = digest
        self.media_type = media_type
        self.content: bytes | None = None


class MemoryDirectLane:
    """See ``lanes.DirectLane``; it asks for itself.

    Args:
        remote: whose objects it gives, and which counts what runs.
        ways: what becomes of each request, over and over: it is ``taken``, ``left`` or ``refused``.

    Attributes:
        gate: answers are held back until it is set.
        asked: what was asked for, in order.
        sent: what is on its way.
    """

    def __init__(self, remote: MemoryRemote, ways: Sequence[str] = ("taken",)) -> None:
        self.gate = trio.Event()
        self.gate.set()
        self.asked: list[Digest] = []
        self.sent: dict[MemorySent, str] = {}
        self._remote = remote
        self._ways = cycle(ways)
        self._news = trio.Event()

    def asker(self) -> MemoryDirectLane:
        return self

    def ask(
        self, digest: Digest, media_types: Sequence[str], size: int | None
    ) -> MemorySent | None:
        way = next(self._ways)
        if way == "refused":
            return None
        self.asked.append(digest)
        sent = MemorySent(digest, [*media_types, OCTET_STREAM][0])
        content = self._remote.lies.get(digest, self._remote.objects.get(digest))
        fits = content is not None and len(content) <= MAX_DIRECT_BYTES
        is_as_asked = content is not None and size in {None, len(content)}
        if way == "taken" and fits and is_as_asked and not self._remote.types[digest]:
            sent.content = content
        self.sent[sent] = way
        self._remote.running += 1
        self._remote.peak = max(self._remote.peak, self._remote.running)
        self._news.set()
        return sent

    async def wait(self) -> list[MemorySent]:
        while True:
            while not self.sent:
                self._news = trio.Event()
                await self._news.wait()
            await trio.lowlevel.checkpoint()
            await self.gate.wait()
            if isinstance(self._remote, World):
                await self._remote.pause()
            if self.sent:
                return list(self.sent)[:3]

    def take(self, sent: MemorySent) -> None:
        assert sent.content is not None
        self._done(sent)

    def leave(self, sent: MemorySent) -> None:
        self._done(sent)

    def drop(self, sent: MemorySent) -> None:
        self._done(sent)

    def close(self) -> None:
        """Ends what is still on its way, as closing a connection does."""
        for sent in list(self.sent):
            self.drop(sent)

    def _done(self, sent: MemorySent) -> None:
        del self.sent[sent]
        self._remote.running -= 1


class DirectWorld(World):
    """The world with a direct lane.

    Attributes:
        ways: of the lane.
    """

    ways: Sequence[str] = ("taken",)

    @contextmanager
    def direct_lane(self) -> Iterator[MemoryDirectLane]:
        lane = MemoryDirectLane(self, self.ways)
        try:
            yield lane
        finally:
            lane.close()
