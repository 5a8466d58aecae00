"""What a look at a run says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from multi_fetch.errors import NotFoundError
from multi_fetch.limits import MAX_DATA_BYTES, MAX_SIZED_JOBS
from multi_fetch.worker.progress import Look, look_at
from multi_fetch.worker.serve import Settings
from multi_fetch.worker.window import Window
from tests.worker.harness import answers, running
from tests.worker.memory_remote import MemoryRemote
from tests.worker.test_window import a_job, a_window

if TYPE_CHECKING:
    from collections.abc import Callable

LARGE = bytes(3 * MAX_DATA_BYTES)


class Eye:
    """An observer that keeps the means to look."""

    def __init__(self) -> None:
        self.look: Callable[[], Look] | None = None
        self.last: Look | None = None

    async def watch(self, look: Callable[[], Look]) -> None:
        self.look = look
        try:
            await trio.sleep_forever()
        finally:
            self.last = look()


async def test_nothing_was_asked_for_yet() -> None:
    seen = look_at(a_window())
    assert (seen.requests, seen.done, seen.bytes, seen.running) == (0, 0, 0, ())
    assert (seen.remaining_bytes, seen.is_input_over) == (0, False)


async def test_what_runs_is_told_with_what_is_known_of_it() -> None:
    window = a_window(streams=2)
    for job in (a_job(1, "a", "size:100"), a_job(2, "b"), a_job(3, "c", "size:7", "range:2-")):
        await window.admit(job)
        await window.take()
    one, two, three = look_at(window).running
    assert (one.id, one.object, one.size, one.sent_bytes) == (1, "a", 100, 0)
    assert (two.size, three.size) == (None, 5)


async def test_the_rest_is_known_where_every_size_is() -> None:
    window = a_window()
    await window.admit(a_job(1, "a", "size:100"))
    await window.admit(a_job(2, "b", "content:none"))
    assert look_at(window).remaining_bytes == 100
    await window.admit(a_job(3, "c"))
    assert look_at(window).remaining_bytes is None


async def test_a_long_queue_is_not_summed_up() -> None:
    window = Window(
        MAX_SIZED_JOBS + 1, jobs=1, streams=1, is_ordered=False, on_start=lambda _: None
    )
    for number in range(1, MAX_SIZED_JOBS + 1):
        await window.admit(a_job(number, "same", "size:1"))
    assert look_at(window).remaining_bytes == MAX_SIZED_JOBS
    await window.admit(a_job(MAX_SIZED_JOBS + 1, "same", "size:1"))
    assert look_at(window).remaining_bytes is None


async def test_a_flight_counts_once_and_is_gone_when_it_has_landed() -> None:
    window = a_window()
    for number in (1, 2):
        await window.admit(a_job(number, "same"))
    flight = await window.take()
    assert flight is not None
    assert [each.id for each in look_at(window).running] == [1]
    window.land(flight)
    window.close(flight.members[0], None)
    window.close(flight.members[0], NotFoundError("no"))
    seen = look_at(window)
    assert (seen.running, seen.succeeded, seen.failed, seen.done) == ((), 1, 1, 2)


async def test_a_run_is_seen_while_it_lasts_and_at_its_end() -> None:
    remote, eye = MemoryRemote(), Eye()
    remote.add(LARGE, "large")
    async with running(remote, Settings(software="test", observer=eye)) as run:
        run.reader.feed(b"large\nlarge\nnope\n")
        run.writer.flow = trio.Event()
        await trio.testing.wait_all_tasks_blocked()
        assert eye.look is not None
        seen = eye.look()
        assert (seen.requests, seen.is_input_over, len(seen.running)) == (3, False, 1)
        assert seen.running[0].size == len(LARGE)
        run.writer.flow.set()
        run.reader.feed_eof()
    assert eye.last is not None
    assert (eye.last.succeeded, eye.last.failed, eye.last.bytes) == (2, 1, 2 * len(LARGE))
    assert (eye.last.running, eye.last.remaining_bytes, eye.last.is_input_over) == ((), 0, True)


async def test_a_part_of_an_object_has_the_parts_size() -> None:
    remote, eye = MemoryRemote(), Eye()
    remote.add(LARGE, "large")
    async with running(remote, Settings(software="test", observer=eye)) as run:
        run.reader.feed(b"large range:10-\n")
        run.writer.flow = trio.Event()
        await trio.testing.wait_all_tasks_blocked()
        assert eye.look is not None
        assert [each.size for each in eye.look().running] == [len(LARGE) - 10]
        run.writer.flow.set()
        run.reader.feed_eof()


async def test_a_run_that_nobody_watches_answers_the_same() -> None:
    remote = MemoryRemote()
    remote.add(LARGE, "large")
    settings = Settings(software="test", observer=Eye())
    assert await answers(remote, b"large\nnope\n") == await answers(
        remote, b"large\nnope\n", settings
    )
