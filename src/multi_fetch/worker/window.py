"""The open requests: those that have been read and have had no terminal frame.

There are never more than the window's size; whoever reads requests waits here. With ``--ordered``
this is also the queue of turns: the oldest open job alone may send.
"""

from __future__ import annotations

import trio
from msgspec import Struct

from multi_fetch.errors import MultiFetchError
from multi_fetch.protocol.request import Request

# What says that the remote itself could not be used, whatever was asked of it.
REMOTE_CODES = frozenset({"unavailable", "unauthorized", "denied"})


class Job(Struct, eq=False, kw_only=True):
    """One request on its way.

    Attributes:
        id: the request's line number.
        request: what is asked for; None where the line could not be read.
        failure: why it ends without an answer: the line was bad, or it was stopped.
        scope: what a running job can be cancelled by.
        sent_bytes: content put out so far.
        is_streaming: whether its content takes the outlet's slow lane, as all that follows must.
        turn: set once it may send; None where nobody waits for turns.
    """

    id: int
    request: Request | None
    failure: MultiFetchError | None = None
    scope: trio.CancelScope | None = None
    sent_bytes: int = 0
    is_streaming: bool = False
    turn: trio.Event | None = None

    def stop(self, reason: MultiFetchError) -> None:
        """Ends it with an error, whether it waits or runs."""
        if self.failure is None:
            self.failure = reason
            if self.scope is not None:
                self.scope.cancel()

    async def wait_turn(self) -> None:
        """Returns once the job may send."""
        if self.turn is not None:
            await self.turn.wait()


class Tally(Struct):
    """What became of the requests so far."""

    requests: int = 0
    succeeded: int = 0
    failed: int = 0
    bytes: int = 0
    is_remote_usable: bool = False

    @property
    def exit_status(self) -> int:
        """As protocol.md says: 0 all succeeded, 1 some failed, 3 the remote was of no use."""
        if not self.failed:
            return 0
        return 1 if self.is_remote_usable else 3


class Window:
    """Admits jobs up to a number, and lets go of them at their terminal frame.

    Args:
        size: how many jobs may be open.
        is_ordered: whether they take turns in the order of their admission.
    """

    def __init__(self, size: int, *, is_ordered: bool) -> None:
        self.tally = Tally()
        self._size = size
        self._is_ordered = is_ordered
        self._open: dict[int, Job] = {}
        self._room = trio.Event()

    async def admit(self, job: Job) -> None:
        """Waits until there is room, then counts the job as open."""
        while len(self._open) >= self._size:
            self._room = trio.Event()
            await self._room.wait()
        self.tally.requests += 1
        if self._is_ordered:
            job.turn = trio.Event()
            if not self._open:
                job.turn.set()
        self._open[job.id] = job

    def close(self, job: Job, error: MultiFetchError | None) -> None:
        """Counts the job as done: its terminal frame was put out."""
        del self._open[job.id]
        self.tally.bytes += job.sent_bytes
        if error is None:
            self.tally.succeeded += 1
        else:
            self.tally.failed += 1
        if error is None or error.code not in REMOTE_CODES:
            self.tally.is_remote_usable = True
        self._room.set()
        if self._is_ordered and self._open:
            oldest = next(iter(self._open.values()))
            assert oldest.turn is not None
            oldest.turn.set()

    def open_jobs(self) -> list[Job]:
        """All open jobs, the oldest first."""
        return list(self._open.values())
