"""How far a run has come, for who shows it to people.

Nothing is told as it happens: whoever watches looks, as often as they like, at what the engine
keeps for itself in any case. So a run that nobody watches pays nothing, and one that somebody
does pays by the look and not by the chunk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from multi_fetch.limits import MAX_SIZED_JOBS

if TYPE_CHECKING:
    from collections.abc import Callable

    from multi_fetch.worker.window import Window


class Running(msgspec.Struct, frozen=True):
    """An object that is being fetched.

    Attributes:
        id: of the request, as its frames have it.
        object: as it was asked for.
        size: bytes of content that will be sent; None while that is not known.
        sent_bytes: of them, so far.
    """

    id: int
    object: str
    size: int | None
    sent_bytes: int


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """A run at one moment.

    Attributes:
        requests: read so far, with what was found below them.
        succeeded: of them.
        failed: of them.
        bytes: of content sent so far.
        running: what is fetched now, as many as there are jobs at most.
        remaining_bytes: of all that is open; None where the size of some of it is not known.
        is_input_over: whether no more requests will be read.
    """

    requests: int
    succeeded: int
    failed: int
    bytes: int
    running: tuple[Running, ...]
    remaining_bytes: int | None
    is_input_over: bool

    @property
    def done(self) -> int:
        """Requests that have had their last frame."""
        return self.succeeded + self.failed


class Observer(Protocol):
    """Who watches a run."""

    async def watch(self, look: Callable[[], Look]) -> None:
        """Looks for as long as the run lasts; is cancelled at its end, and looks once more."""


def look_at(window: Window) -> Look:
    """The run whose open requests these are."""
    running = tuple(
        Running(
            job.id, job.request.object, job.wanted_bytes(), max(job.sent_bytes, job.filed_bytes)
        )
        for flight in window.flights
        for job in flight.members[:1]
        if job.request is not None
    )
    tally = window.tally
    return Look(
        requests=tally.requests,
        succeeded=tally.succeeded,
        failed=tally.failed,
        bytes=tally.bytes + sum(each.sent_bytes for each in running),
        running=running,
        remaining_bytes=_remaining_bytes(window),
        is_input_over=window.is_ending,
    )


def _remaining_bytes(window: Window) -> int | None:
    if window.open_count > MAX_SIZED_JOBS:
        return None
    remaining = 0
    for job in window.open_jobs():
        wanted = job.wanted_bytes()
        if wanted is None:
            return None
        remaining += max(0, wanted - max(job.sent_bytes, job.filed_bytes))
    return remaining
