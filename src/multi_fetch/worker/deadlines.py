"""The deadlines of single requests, watched by one task.

A deadline begins when the job does; while a job waits for its turn, it stands still.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

import trio

from multi_fetch.errors import DeadlineExceededError

if TYPE_CHECKING:
    from collections.abc import Callable

    from multi_fetch.errors import MultiFetchError
    from multi_fetch.worker.job import Job

# Deadlines of jobs that have ended are kept up to this many, or as many as there are of open ones.
MIN_SWEEP: Final = 1_024


class Deadlines:
    """Stops each job whose time is over."""

    def __init__(self) -> None:
        # The id breaks ties: jobs cannot be compared.
        self._times: list[tuple[float, int, Job]] = []
        self._sweep_at = MIN_SWEEP
        self._news = trio.Event()

    def arm(self, job: Job) -> None:
        """Starts a job's time, if it has a deadline."""
        if job.request is not None and job.request.deadline_seconds is not None:
            self._arm(job, job.request.deadline_seconds)

    def pause(self, job: Job) -> float | None:
        """Stops the clock of a job; returns the seconds that it had left."""
        if job.deadline is None:
            return None
        left = job.deadline - trio.current_time()
        job.deadline = None
        return left

    def resume(self, job: Job, left: float | None) -> None:
        """Lets the clock of a job go on."""
        if left is not None:
            self._arm(job, left)

    async def watch(self, stop: Callable[[Job, MultiFetchError], None]) -> None:
        """Calls ``stop`` with each job whose time is over, for as long as it runs."""
        while True:
            self._news = trio.Event()
            with trio.move_on_at(self._times[0][0] if self._times else float("inf")):
                await self._news.wait()
            while self._times and self._times[0][0] <= trio.current_time():
                time, _, job = heapq.heappop(self._times)
                if job.deadline == time and not job.is_closed:
                    assert job.request is not None
                    seconds = job.request.deadline_seconds
                    stop(
                        job,
                        DeadlineExceededError(
                            f"not done within its deadline of {seconds:g} s: give it more time"
                        ),
                    )

    def _arm(self, job: Job, seconds: float) -> None:
        job.deadline = trio.current_time() + seconds
        if len(self._times) >= self._sweep_at:
            self._sweep()
        heapq.heappush(self._times, (job.deadline, job.id, job))
        self._news.set()

    def _sweep(self) -> None:
        """Strikes what has ended long before its time; else a long run would keep it all."""
        self._times = [
            (time, number, job)
            for time, number, job in self._times
            if job.deadline == time and not job.is_closed
        ]
        heapq.heapify(self._times)
        self._sweep_at = max(MIN_SWEEP, 2 * len(self._times))
