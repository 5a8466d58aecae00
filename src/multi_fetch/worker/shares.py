"""Which job is next where lines name their registry: a silent one must not hold up the others.

A request that waits for a registry keeps a task busy until its patience is over, and nothing else
can be done with that. So what is kept from taking too many is a party: all requests to one
registry, or to one layout. While others wait,

- a party has at most half of the tasks, and one at a time until it has answered, and again once a
  request to it came to nothing (unavailable, stopped, out of time) whose own content had flowed, or
  while none of it flowed;
- all that have not answered have at most half of the tasks together, but two, and those from which
  nothing came a quarter; so half is left to those that answer, and a silent one alone keeps no new
  ones from being asked.

Where nobody waits who may have more, a task is not left idle: one that answers may have all. Those
that do not keep to the last rule also then, for others may come; until the input is over, or the
window is full, and none but silent ones are left. One party alone knows no rule. What a party may
not have yet is set aside, and keeps its place before what came later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from multi_fetch.limits import MAX_KNOWN_PARTIES
from multi_fetch.oci.reference import Reference
from multi_fetch.worker.job import Party, Standing
from multi_fetch.worker.window import Queue, precedes

if TYPE_CHECKING:
    from multi_fetch.worker.job import Flight, Job


# In the order in which they are looked at; what was found, and the older line, goes first anyway.
STANDINGS: Final = tuple(Standing)


class Shares(Queue):
    """All jobs that wait, and how many tasks each party has.

    Args:
        jobs: how many flights may run at the same time.
    """

    def __init__(self, jobs: int) -> None:
        super().__init__()
        half, quarter = max(1, jobs // 2), max(1, jobs // 4)
        self._most_each = {Standing.ANSWERS: half, Standing.NEW: 1, Standing.SILENT: 1}
        self._most_unanswered, self._most_silent = max(2, half), quarter
        self._parties: dict[str, Party] = {}
        self._running = dict.fromkeys(Standing, 0)
        self._sweep_at = MAX_KNOWN_PARTIES
        # What was passed over.
        self._aside: dict[Standing, dict[Party, Queue]] = {each: {} for each in Standing}

    def put(self, job: Job) -> None:
        """Lets a job wait, as one of its party."""
        if job.request is not None:
            name = _party_name(job.request.locator)
            party = self._parties.get(name)
            if party is None:
                self._sweep()
                party = self._parties[name] = Party()
            job.party = party
            party.waiting += 1
        super().put(job)

    def strike(self, job: Job) -> None:
        """Forgets a job, if it waits."""
        super().strike(job)
        party = job.party
        if party is None:
            return
        party.waiting -= 1
        aside = self._aside[party.standing].get(party)
        if aside is not None:
            aside.strike(job)
            if not aside:
                del self._aside[party.standing][party]

    def first(self, *, may_be_large: bool) -> Job | None:
        """The job whose time has come; None also where those that wait have their share."""
        if len(self._parties) <= 1:
            return super().first(may_be_large=may_be_large)
        best = self._first_within(may_be_large=may_be_large)
        for standing in STANDINGS:
            if best is None:
                best = self._first_beyond(standing, may_be_large=may_be_large)
        return best

    def depart(self, flight: Flight, party: Party) -> None:
        """Counts a flight among its party's."""
        flight.party = party
        party.running += 1
        self._running[party.standing] += 1

    def answered(self, flight: Flight) -> None:
        """Says that content has begun to come."""
        party = flight.party
        assert party is not None, "it has departed"
        party.flowing += not flight.is_flowing
        flight.is_flowing = True
        self._move(party, Standing.ANSWERS)

    def land(self, flight: Flight) -> None:
        """Counts a flight no more, and takes note of what came of it."""
        party = flight.party
        assert party is not None, "it has departed"
        party.flowing -= flight.is_flowing
        # One whose own content flowed, and that failed all the same, had dripped or broken off.
        is_silent = flight.is_in_vain and (flight.is_flowing or not party.flowing)
        self._move(party, Standing.SILENT if is_silent else Standing.ANSWERS)
        party.running -= 1
        self._running[party.standing] -= 1

    def _first_within(self, *, may_be_large: bool) -> Job | None:
        """The first job of those whose party has less than its share."""
        best = self._pass_over(may_be_large=may_be_large)
        for standing in STANDINGS:
            if not self._may_begin(standing):
                continue
            for party, aside in self._aside[standing].items():
                if party.running >= self._most_each[standing]:
                    continue
                job = aside.first(may_be_large=may_be_large)
                if job is not None:
                    best = job if best is None or precedes(job, best) else best
                    break
        return best

    def _pass_over(self, *, may_be_large: bool) -> Job | None:
        """The first job in line that may go; those before it are set aside."""
        while (job := super().first(may_be_large=may_be_large)) is not None:
            party = job.party
            if party is None:
                return job
            standing = party.standing
            if party.running < self._most_each[standing] and self._may_begin(standing):
                return job
            super().strike(job)
            self._aside[standing].setdefault(party, Queue()).put(job)
        return None

    def _first_beyond(self, standing: Standing, *, may_be_large: bool) -> Job | None:
        """A job of a party that has its share, where nobody else waits."""
        is_all_silent = (
            self.is_shut and not self._running[Standing.ANSWERS] and not self._running[Standing.NEW]
        )
        if not (is_all_silent or self._has_room(standing)):
            return None
        for aside in self._aside[standing].values():
            job = aside.first(may_be_large=may_be_large)
            if job is not None:
                return job
        return None

    def _may_begin(self, standing: Standing) -> bool:
        """The same for one that has less than its share: at the end each is asked, if none answers.

        Not while the window is full: that it is with a long list, before the first answer has come.
        """
        is_last = self.is_ending and not self._running[Standing.ANSWERS]
        return self._has_room(standing) or (is_last and standing is Standing.NEW)

    def _has_room(self, standing: Standing) -> bool:
        """Whether all parties of a standing together may have one more."""
        if standing is Standing.ANSWERS:
            return True
        silent = self._running[Standing.SILENT]
        if standing is Standing.SILENT and silent >= self._most_silent:
            return False
        return silent + self._running[Standing.NEW] < self._most_unanswered

    def _move(self, party: Party, standing: Standing) -> None:
        before = party.standing
        if before is standing:
            return
        party.standing = standing
        self._running[before] -= party.running
        self._running[standing] += party.running
        if party in self._aside[before]:
            self._aside[standing][party] = self._aside[before].pop(party)

    def _sweep(self) -> None:
        """Forgets those of which nothing is open, if there are many; else a long run keeps all."""
        if len(self._parties) < self._sweep_at:
            return
        self._parties = {
            name: party for name, party in self._parties.items() if party.running or party.waiting
        }
        self._sweep_at = max(MAX_KNOWN_PARTIES, 2 * len(self._parties))


def _party_name(locator: str) -> str:
    ref = Reference(locator)
    return locator if ref.scheme else ref.hostname
