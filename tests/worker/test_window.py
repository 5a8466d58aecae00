"""Which jobs are open, which is next, and what the run comes to."""

from __future__ import annotations

from typing import ClassVar

import pytest
import trio

from multi_fetch.errors import MultiFetchError, NotFoundError, UnavailableError
from multi_fetch.limits import MAX_BEGUN_IDS, MAX_DATA_BYTES, MAX_JOBS
from multi_fetch.protocol.request import parse_request
from multi_fetch.worker.job import Job, Tally
from multi_fetch.worker.window import Window

LARGE_HINT = f"size:{MAX_DATA_BYTES + 1}"


def a_window(
    size: int = 100, *, jobs: int = 100, streams: int = 1, is_ordered: bool = False
) -> Window:
    started: list[Job] = []
    return Window(size, jobs=jobs, streams=streams, is_ordered=is_ordered, on_start=started.append)


def a_job(number: int, text: str = "", *hints: str, parent: Job | None = None) -> Job:
    return Job(id=number, request=parse_request(text or f"tag{number}", list(hints)), parent=parent)


async def taken(window: Window) -> list[int]:
    """The jobs of the next flight."""
    with trio.fail_after(1):
        flight = await window.take()
    assert flight is not None
    return [job.id for job in flight.members]


async def test_jobs_are_taken_in_the_order_of_their_lines() -> None:
    window = a_window()
    for number in (1, 2, 3):
        await window.admit(a_job(number))
    assert [await taken(window) for _ in range(3)] == [[1], [2], [3]]


async def test_those_who_ask_for_the_same_are_taken_together() -> None:
    window = a_window()
    for number, text in enumerate(["same", "other", "same", "same"], start=1):
        await window.admit(a_job(number, text))
    assert [await taken(window) for _ in range(2)] == [[1, 3, 4], [2]]


@pytest.mark.parametrize("jobs", [16, MAX_JOBS])
async def test_all_flights_together_have_no_more_members_than_may_begin_at_once(jobs: int) -> None:
    window = a_window(10_000, jobs=jobs)
    most = MAX_BEGUN_IDS // jobs
    for number in range(1, 2 * most + 1):
        await window.admit(a_job(number, "same"))
    first = await window.take()
    assert first is not None
    await window.admit(a_job(2 * most + 1, "same"))
    assert [job.id for job in first.members] == list(range(1, most + 1))
    assert await taken(window) == list(range(most + 1, 2 * most + 1))
    third = await window.take()
    assert third is not None
    await window.admit(a_job(2 * most + 2, "same"))
    assert [job.id for job in third.members] == [2 * most + 1, 2 * most + 2]


async def test_nobody_joins_a_flight_that_is_sealed() -> None:
    window = a_window()
    await window.admit(a_job(1, "same"))
    flight = await window.take()
    assert flight is not None
    await window.admit(a_job(2, "same"))
    assert [job.id for job in flight.members] == [1, 2]
    window.seal(flight)
    await window.admit(a_job(3, "same"))
    assert await taken(window) == [3]


async def test_small_objects_overtake_large_ones_beyond_the_streams() -> None:
    window = a_window(streams=1)
    await window.admit(a_job(1, "a", LARGE_HINT))
    await window.admit(a_job(2, "b", LARGE_HINT))
    await window.admit(a_job(3, "c"))
    assert [await taken(window) for _ in range(2)] == [[1], [3]]
    with trio.move_on_after(0.01) as waiting:
        await window.take()
    assert waiting.cancelled_caught


async def test_what_was_found_comes_before_what_was_read() -> None:
    window = a_window()
    parent = a_job(1)
    await window.admit(parent)
    await window.take()
    await window.admit(a_job(2))
    window.add_children(parent, [a_job(-1, parent=parent), a_job(-2, parent=parent)])
    assert [await taken(window) for _ in range(3)] == [[-1], [-2], [2]]


async def test_ordered_turns_come_one_after_the_other() -> None:
    window = a_window(is_ordered=True)
    jobs = [a_job(number) for number in (1, 2, 3)]
    for job in jobs:
        await window.admit(job)
        await window.take()
    for job in jobs:
        assert [each.id for each in jobs if each.turn is not None and each.turn.is_set()][-1] == (
            job.id
        )
        window.close(job, None)


async def test_take_ends_when_the_last_job_is_closed() -> None:
    window = a_window()
    job = a_job(1)
    await window.admit(job)
    await window.take()
    window.end()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(window.take)
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        window.close(job, None)
    assert await window.take() is None


@pytest.mark.parametrize(
    ("errors", "status"),
    [
        ([], 0),
        ([None, None], 0),
        ([None, UnavailableError("no route")], 1),
        ([NotFoundError("gone"), UnavailableError("no route")], 1),
        ([UnavailableError("no route")], 3),
    ],
)
async def test_the_tally_gives_the_exit_status(
    errors: list[MultiFetchError | None], status: int
) -> None:
    window = a_window()
    for number, error in enumerate(errors, start=1):
        job = a_job(number)
        await window.admit(job)
        await window.take()
        job.sent_bytes = 10
        window.close(job, error)
    failed = sum(error is not None for error in errors)
    assert window.tally == Tally(
        requests=len(errors),
        succeeded=len(errors) - failed,
        failed=failed,
        bytes=10 * len(errors),
        is_remote_usable=window.tally.is_remote_usable,
    )
    assert window.tally.exit_status == status


async def test_no_more_flights_run_than_there_are_jobs() -> None:
    window = a_window(jobs=2)
    for number in (1, 2, 3):
        await window.admit(a_job(number))
    first, second = window.take_now(), window.take_now()
    assert first is not None
    assert second is not None
    assert window.take_now() is None
    window.close(first.members[0], None)
    window.land(first)
    assert await taken(window) == [3]


async def test_a_flight_that_is_left_is_taken_next_and_counts_as_running() -> None:
    window = a_window(jobs=1)
    await window.admit(a_job(1))
    await window.admit(a_job(2))
    flight = window.take_now()
    assert flight is not None
    window.leave(flight)
    assert window.take_now() is None
    assert await window.take() is flight


async def test_a_flight_that_is_left_and_abandoned_makes_room() -> None:
    window = a_window(jobs=1)
    await window.admit(a_job(1))
    await window.admit(a_job(2))
    flight = window.take_now()
    assert flight is not None
    window.leave(flight)
    window.close(flight.members[0], NotFoundError("it was cancelled"))
    window.abandon(flight)
    assert await taken(window) == [2]


async def test_who_waits_for_room_is_woken_for_several_requests_at_once() -> None:
    """If there are enough without them: here an eighth of the window is empty then."""
    window = a_window(32, jobs=1)
    for number in range(1, 33):
        assert window.admit_now(a_job(number))
    assert not window.admit_now(a_job(33))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(window.admit, a_job(33))
        await trio.testing.wait_all_tasks_blocked()
        counts = []
        for _ in range(4):
            flight = window.take_now()
            assert flight is not None
            window.close(flight.members[0], None)
            window.land(flight)
            await trio.testing.wait_all_tasks_blocked()
            counts.append(window.open_count)
    assert counts == [31, 30, 29, 28 + 1]


async def test_what_is_below_an_id_is_known_until_the_last_of_it_is_closed() -> None:
    window = a_window()
    root, other = a_job(1), a_job(2)
    for job in (root, other):
        await window.admit(job)
    child = a_job(-1, parent=root)
    leaf = a_job(-2, parent=child)
    window.add_children(root, [child])
    window.close(root, None)
    window.add_children(child, [leaf])
    window.close(child, None)
    ids = (1, -1, -2, 2)
    assert [window.found.has_more_below(each) for each in ids] == [True, True, False, False]
    window.close(leaf, None)
    assert not any(window.found.has_more_below(each) for each in ids)


async def test_who_asks_again_what_is_below_an_id_is_told_of_what_was_found_since() -> None:
    """A tree may be cancelled over and over, and all that is open be looked through each time."""
    window = a_window(is_ordered=True)
    root = a_job(1)
    await window.admit(root)
    window.add_children(root, [a_job(-1, parent=root)])
    assert [window.found.has_more_below(1) for _ in range(2)] == [True, False]
    window.add_children(root, [a_job(-2, parent=root)])
    assert [window.found.has_more_below(1) for _ in range(2)] == [True, False]


class ComparedJob(Job, eq=False):
    """Counts how often it is compared with another."""

    compared: ClassVar[int] = 0

    def __eq__(self, other: object) -> bool:
        ComparedJob.compared += 1
        return self is other

    def __hash__(self) -> int:
        return self.id


async def test_a_job_leaves_those_that_wait_for_the_same_without_a_search() -> None:
    """Or thousands of cancels take minutes."""
    window = a_window(1_000)
    request = parse_request("same", [])
    jobs = [ComparedJob(id=number, request=request) for number in range(1_000)]
    for job in jobs:
        await window.admit(job)
    ComparedJob.compared = 0
    for job in reversed(jobs[1:]):
        window.close(job, NotFoundError("it was cancelled"))
    assert ComparedJob.compared < 1_000
    assert await taken(window) == [0]
