"""What a thread makes for a task has an owner at any time."""

from __future__ import annotations

import threading

import pytest
import trio

from multi_fetch.layout.loan import Threads
from multi_fetch.store.thread import Handing


async def test_a_task_gets_what_the_thread_made_or_its_error() -> None:
    undone: list[int] = []
    assert await Handing(lambda: 7, undone.append).take(Threads()) == 7

    def fail() -> int:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await Handing(fail, undone.append).take(Threads())
    assert undone == []


async def test_what_nobody_waits_for_is_undone_by_the_thread() -> None:
    reached, gate, undone = threading.Event(), threading.Event(), threading.Event()

    def make() -> int:
        reached.set()
        gate.wait(10)
        return 7

    async with trio.open_nursery() as nursery:
        handing = Handing(make, lambda _: undone.set())
        nursery.start_soon(handing.take, Threads())
        assert await trio.to_thread.run_sync(reached.wait, 10)
        nursery.cancel_scope.cancel()
    assert not undone.is_set()
    gate.set()
    assert await trio.to_thread.run_sync(undone.wait, 10)


async def test_what_came_in_the_moment_of_a_cancellation_is_undone_by_the_task() -> None:
    undone: list[int] = []
    made = threading.Event()

    class Late(Threads):
        async def run(self, work):  # type: ignore[no-untyped-def]  # the signature is Threads'
            result = await super().run(work)
            made.set()
            await trio.sleep_forever()
            return result

    async with trio.open_nursery() as nursery:
        nursery.start_soon(Handing(lambda: 7, undone.append).take, Late())
        assert await trio.to_thread.run_sync(made.wait, 10)
        nursery.cancel_scope.cancel()
    assert undone == [7]
