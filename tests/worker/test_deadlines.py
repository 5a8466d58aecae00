from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from multi_fetch.protocol.request import Request
from multi_fetch.worker.deadlines import MIN_SWEEP, Deadlines
from multi_fetch.worker.job import Job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from multi_fetch.errors import MultiFetchError


def job(number: int, seconds: float | None) -> Job:
    return Job(id=number, request=Request(object="a", deadline_seconds=seconds))


@asynccontextmanager
async def watched(deadlines: Deadlines) -> AsyncIterator[list[tuple[int, float, str]]]:
    """What is stopped: its id, when, and with which code."""
    stopped: list[tuple[int, float, str]] = []

    def stop(one: Job, reason: MultiFetchError) -> None:
        stopped.append((one.id, trio.current_time(), reason.code))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(deadlines.watch, stop)
        yield stopped
        nursery.cancel_scope.cancel()


async def test_each_job_is_stopped_at_its_own_time(autojump_clock: MockClock) -> None:
    deadlines = Deadlines()
    async with watched(deadlines) as stopped:
        deadlines.arm(job(1, 10))
        await trio.sleep(1)
        # Earlier than what is waited for already.
        deadlines.arm(job(2, 3))
        deadlines.arm(job(3, None))
        await trio.sleep(100)
    assert stopped == [(2, 4, "timeout"), (1, 10, "timeout")]


async def test_what_has_ended_is_not_stopped(autojump_clock: MockClock) -> None:
    deadlines, ended = Deadlines(), job(1, 10)
    async with watched(deadlines) as stopped:
        deadlines.arm(ended)
        await trio.sleep(5)
        ended.is_closed = True
        await trio.sleep(100)
    assert stopped == []


async def test_a_paused_clock_stands_still(autojump_clock: MockClock) -> None:
    deadlines, one = Deadlines(), job(1, 10)
    async with watched(deadlines) as stopped:
        deadlines.arm(one)
        await trio.sleep(4)
        left = deadlines.pause(one)
        await trio.sleep(1_000)
        deadlines.resume(one, left)
        await trio.sleep(100)
    assert stopped == [(1, 4 + 1_000 + 6, "timeout")]


async def test_a_job_without_a_deadline_has_no_clock_to_pause() -> None:
    deadlines, one = Deadlines(), job(1, None)
    deadlines.arm(one)
    left = deadlines.pause(one)
    deadlines.resume(one, left)
    assert (left, one.deadline) == (None, None)


async def test_a_long_run_keeps_no_deadlines_of_what_has_ended() -> None:
    deadlines, open_one = Deadlines(), job(1, 3_600)
    deadlines.arm(open_one)
    for number in range(2, 10 * MIN_SWEEP):
        ended = job(number, 3_600)
        deadlines.arm(ended)
        ended.is_closed = True
    assert len(deadlines._times) <= MIN_SWEEP + 1
    assert any(each is open_one for _, _, each in deadlines._times)
