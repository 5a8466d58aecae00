"""What a thread does for a task, and what the task waits for."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest
import trio

from multi_fetch.errands import NO_THREAD, Errand, ErrandThread, needing_a_thread


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "errands"]


async def test_who_waits_goes_on_once_it_is_done_and_not_before() -> None:
    gate = threading.Event()
    thread = ErrandThread("errands")
    errand = Errand(lambda: gate.wait(10))
    thread.give(errand.run)
    with trio.move_on_after(0.01) as scope:
        await errand.wait()
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(errand.wait)
        await trio.testing.wait_all_tasks_blocked()
        gate.set()
    await errand.wait()
    thread.end()


async def test_all_is_done_in_its_order_also_what_nobody_waits_for() -> None:
    done: list[int] = []
    thread = ErrandThread("errands")
    for number in range(1000):
        thread.give(Errand(partial(done.append, number)).run)
    thread.end()
    assert done == list(range(1000))


async def test_what_is_done_at_once_needs_no_thread() -> None:
    errand = Errand(threads)
    errand.run()
    await errand.wait()
    ErrandThread("errands").end()
    assert threads() == []


async def test_the_thread_begins_with_the_first_work_and_ends_when_it_is_told_to() -> None:
    thread = ErrandThread("errands")
    assert threads() == []
    thread.give(threads)
    assert threads() == ["errands"]
    thread.end()
    assert threads() == []


async def test_who_ends_it_need_not_wait_for_work_that_hangs() -> None:
    gate = threading.Event()
    thread = ErrandThread("errands")
    thread.give(lambda: gate.wait(10))
    began = time.monotonic()
    thread.end(0.01)
    assert time.monotonic() - began < 5
    gate.set()
    thread.end()


def test_work_that_ends_after_its_run_wakes_nobody() -> None:
    """A task that was cancelled has left a waker, and its run is over."""
    gate = threading.Event()
    thread = ErrandThread("errands")

    async def leave() -> None:
        errand = Errand(lambda: gate.wait(10))
        thread.give(errand.run)
        with trio.move_on_after(0.01):
            await errand.wait()

    trio.run(leave)
    gate.set()
    thread.end()
    assert threads() == []


def test_where_the_system_gives_no_thread_it_is_done_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError(NO_THREAD)

    done: list[int] = []
    thread = ErrandThread("errands")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        thread.give(partial(done.append, 1))
        assert done == [1]
        with pytest.raises(OSError, match="no more threads"), needing_a_thread():
            threading.Thread(target=list).start()
    with pytest.raises(RuntimeError, match="another"), needing_a_thread():
        raise RuntimeError("another")
    thread.give(partial(done.append, 2))
    thread.end()
    assert done == [1, 2]
