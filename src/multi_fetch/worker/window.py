"""The open requests: those that have been read and have had no terminal frame.

There are never more of them than the window's size, not counting what the worker finds below
them; whoever reads requests waits here. Jobs that wait are taken oldest first, but

- what was found below an object comes before what was read later, and the last found first: so a
  tree is walked depth first, and never much of it waits;
- of large objects, known by their size, only so many run that a part of the tasks stays free for
  small ones: a parent goes on planning while layers flow;
- jobs that ask for the same thing at the same time are taken together, as one flight.

Where lines name their registry, a silent one is kept from taking all the tasks (``shares``).
With ``--ordered`` jobs are taken in the order of their turns and share nothing: a turn may come
so late that holding content for it would know no bound.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

import trio

from multi_fetch.budget import Budget
from multi_fetch.limits import MAX_BEGUN_IDS, MAX_DATA_BYTES
from multi_fetch.worker.job import Alike, Flight, Found, Job, Key, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from multi_fetch.errors import MultiFetchError
    from multi_fetch.worker.shares import Shares


class Queue:
    """Jobs that wait, in the order in which they are taken."""

    def __init__(self) -> None:
        # By id: those that are stopped while they wait leave from the middle.
        self._small: OrderedDict[int, Job] = OrderedDict()
        self._large: OrderedDict[int, Job] = OrderedDict()
        self.is_ending = self.is_shut = False  # the input is over; or the window is full

    def __bool__(self) -> bool:
        return bool(self._small or self._large)

    def put(self, job: Job) -> None:
        """Lets a job wait: before all others, if it was found, and else behind them."""
        queue = self._large if job.is_large else self._small
        queue[job.id] = job
        if job.parent is not None:
            queue.move_to_end(job.id, last=False)

    def strike(self, job: Job) -> None:
        """Forgets a job, if it waits."""
        (self._large if job.is_large else self._small).pop(job.id, None)

    def first(self, *, may_be_large: bool) -> Job | None:
        """The job whose time has come."""
        small = next(iter(self._small.values()), None)
        if not may_be_large:
            return small
        large = next(iter(self._large.values()), None)
        if small is None or large is None:
            return small or large
        return large if precedes(large, small) else small


class Window:
    """Admits jobs, hands them out as flights, and lets go of them at their terminal frame.

    Args:
        size: how many requests may be open.
        jobs: how many flights may run at the same time.
        streams: how many large objects may run at the same time.
        is_ordered: whether jobs take turns in the order of their requests.
        on_start: called with each job when it begins to run.
        shares: of what lines name, where they name their registry and nothing is ordered.

    Attributes:
        tally: what became of the requests so far.
        is_ending: whether no more will be admitted.
        flights: those that run, in the order in which they departed.
        found: what is open and was found.
        budget: of what flights hold of contents.
    """

    def __init__(  # noqa: PLR0913 - what it needs are parts of one worker
        self,
        size: int,
        *,
        jobs: int,
        streams: int,
        is_ordered: bool,
        on_start: Callable[[Job], None],
        shares: Shares | None = None,
    ) -> None:
        self.tally = Tally()
        self.is_ordered = is_ordered
        self.is_ending = False
        self.found = Found()
        self.budget = Budget.among(jobs)
        self.flights: dict[Flight, None] = {}
        self._size = size
        self._jobs = jobs
        # Who waits for room is woken for several requests at once, if there are enough without.
        self._room_at = size - max(1, min(size // 8, size - 4 * jobs))
        self._streams = streams
        # A parent may refuse a worker that begins more ids at once (protocol.md).
        self._most_members = max(1, MAX_BEGUN_IDS // jobs)
        self._on_start = on_start
        self._open: dict[int, Job] = {}
        self._roots = 0
        self._shares = shares
        self._queue = Queue() if shares is None else shares
        self._alike = Alike()
        self._joinable: dict[Key, Flight] = {}
        self._large_running = 0
        self._left: deque[Flight] = deque()
        self._turns: deque[Job] = deque()
        self._room = trio.Event()
        self._takers = trio.lowlevel.ParkingLot()
        # Why all that is open ends, and all that is found from now on.
        self.stopped: MultiFetchError | None = None

    @property
    def open_count(self) -> int:
        """How many jobs are open."""
        return len(self._open)

    def open_jobs(self) -> list[Job]:
        """All open jobs."""
        return list(self._open.values())

    def open_job(self, request_id: int) -> Job | None:
        """The open job of an id."""
        return self._open.get(request_id)

    async def admit(self, job: Job) -> None:
        """Waits until there is room, then counts the job as open and lets it wait to be taken."""
        while not self.admit_now(job):
            self._room, self._queue.is_shut = trio.Event(), True
            self._takers.unpark()
            await self._room.wait()

    def admit_now(self, job: Job) -> bool:
        """The same, where there is room."""
        if self._roots >= self._size:
            return False
        self._roots, self._queue.is_shut = self._roots + 1, False
        self._open_one(job)
        if self.is_ordered:
            self._turns.append(job)
            self._grant_turn()
        self._join_or_wait(job)
        return True

    def add_children(self, parent: Job, children: Sequence[Job]) -> None:
        """Opens what was found in a job's content, to be taken before all that waits."""
        for job in reversed(children):
            self.found.add(job)
            self._open_one(job)
            if self.is_ordered:
                # Behind the parent, which has the turn.
                self._turns.insert(1, job)
            self._join_or_wait(job)

    def end(self) -> None:
        """Says that no more will be admitted: ``take`` returns None when the last job is closed."""
        self.is_ending = self._queue.is_ending = self._queue.is_shut = True
        self._takers.unpark()
        self._wake_all_at_end()

    async def take(self) -> Flight | None:
        """The next flight, with all jobs aboard that wait for the same; None at the end."""
        while True:
            if self._left:
                return self._left.popleft()
            flight = self.take_now()
            if flight is not None:
                if self._shares is not None:
                    self._takers.unpark()  # there may be more to take
                return flight
            if self.is_ending and not self._open:
                return None
            await self._takers.park()

    def take_now(self) -> Flight | None:
        """The next flight that none has run yet, if there is one and room for it."""
        if len(self.flights) >= self._jobs:
            return None
        job = self._queue.first(may_be_large=self._large_running < self._streams)
        return None if job is None else self._depart(job)

    def leave(self, flight: Flight) -> None:
        """Gives a flight that has departed to who takes next; it goes on counting as running."""
        self._left.append(flight)
        self._takers.unpark()

    def seal(self, flight: Flight) -> None:
        """Lets nobody join any more: content is about to be passed on."""
        self._shut(flight)
        if flight.party is not None and self._shares is not None:
            self._shares.answered(flight)
            self._takers.unpark()

    def land(self, flight: Flight) -> None:
        """Says that a flight has run. Whoever says so takes the next, or calls ``wake``."""
        self._shut(flight)
        del self.flights[flight]
        if flight.party is not None and self._shares is not None:
            self._shares.land(flight)
        if flight.is_large:
            self._large_running -= 1
            self._takers.unpark()

    def wake(self) -> None:
        """Lets another take the next flight."""
        self._takers.unpark()

    def abandon(self, flight: Flight) -> None:
        """Ends a flight that nobody waits for any more."""
        self._shut(flight)
        flight.is_in_vain = not flight.is_flowing
        if flight.scope is not None:
            flight.scope.cancel()
        elif flight in self._left:
            self._left.remove(flight)
            self.land(flight)
            self.wake()

    def close(self, job: Job, error: MultiFetchError | None) -> None:
        """Counts the job as done: its terminal frame was put out."""
        job.is_closed = True
        del self._open[job.id]
        if job.flight is None:
            self._forget(job)
        else:
            job.flight.members.remove(job)
        if job.parent is None:
            self._roots -= 1
            if self._roots <= self._room_at:
                self._room.set()
        else:
            self.found.remove(job)
        self.tally.count(job, error)
        if self.is_ordered:
            self._turns.remove(job)
            self._grant_turn()
        self._wake_all_at_end()

    def _open_one(self, job: Job) -> None:
        self.tally.requests += 1
        self._open[job.id] = job
        if not self.is_ordered:
            job.is_plain = _is_plain(job)
            job.key, job.is_large = job.share_key(), _is_large(job)
        if self.stopped is not None:
            job.failure = self.stopped
        if self.is_ordered:
            job.turn = trio.Event()

    def _join_or_wait(self, job: Job) -> None:
        key = job.key
        flight = None if key is None else self._joinable.get(key)
        if flight is not None:
            self._board(flight, job)
            return
        if key is not None:
            self._alike.add(key, job)
        self._queue.put(job)
        if len(self.flights) < self._jobs:
            self._takers.unpark()

    def _forget(self, job: Job) -> None:
        """Strikes a job that never ran."""
        self._queue.strike(job)
        if job.key is not None:
            self._alike.take(job.key, job, most=0)

    def _depart(self, job: Job) -> Flight:
        key = job.key
        flight = Flight(members=[], key=key, is_large=job.is_large)
        if key is None:
            self._board(flight, job)
        else:
            self._joinable[key] = flight
            for each in self._alike.take(key, job, self._most_members - 1):
                self._board(flight, each)
        self.flights[flight] = None
        if flight.is_large:
            self._large_running += 1
        if job.party is not None and self._shares is not None:
            self._shares.depart(flight, job.party)
        return flight

    def _shut(self, flight: Flight) -> None:
        if flight.key is not None:
            del self._joinable[flight.key]
            flight.key = None

    def _board(self, flight: Flight, job: Job) -> None:
        job.flight = flight
        self._queue.strike(job)
        flight.members.append(job)
        if len(flight.members) >= self._most_members:
            self._shut(flight)
        self._on_start(job)

    def _grant_turn(self) -> None:
        if self._turns:
            turn = self._turns[0].turn
            assert turn is not None
            turn.set()
            self.budget.look_again()

    def _wake_all_at_end(self) -> None:
        if self.is_ending and not self._open:
            self._takers.unpark_all()


def _is_large(job: Job) -> bool:
    size = job.wanted_bytes()
    return size is not None and size > MAX_DATA_BYTES


def _is_plain(job: Job) -> bool:
    if job.request is None or not job.request.is_plain():
        return False
    return job.described is None or (job.embedded is None and not job.urls)


def precedes(one: Job, other: Job) -> bool:
    """Whether a job is taken before another: what was found, then what was read first."""
    if (one.parent is None) != (other.parent is None):
        return one.parent is not None
    return one.parent is None and one.id < other.id
