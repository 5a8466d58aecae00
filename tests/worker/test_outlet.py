"""The sole writer: its two lanes, its bound, its end."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from multi_fetch.limits import MAX_PENDING_BYTES
from multi_fetch.worker.outlet import Outlet
from tests.worker.harness import MemoryWriter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from multi_fetch.oci.digest import Chunk


@asynccontextmanager
async def running(*, is_ordered: bool = False) -> AsyncIterator[tuple[Outlet, MemoryWriter]]:
    """An outlet that runs, over a writer that is stopped; on leaving it writes to the end."""
    writer = MemoryWriter()
    writer.flow = trio.Event()
    outlet = Outlet(writer, is_ordered=is_ordered)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outlet.run)
        # The first write takes what is there and waits; what comes then waits in the lanes.
        outlet.put(b"first ")
        await trio.testing.wait_all_tasks_blocked()
        yield outlet, writer
        writer.flow.set()
        outlet.close()
        await outlet.wait_done()


async def test_what_is_put_is_written_without_being_asked_for() -> None:
    async with running() as (outlet, writer):
        writer.flow.set()
        await trio.testing.wait_all_tasks_blocked()
        assert writer.written == b"first "
        outlet.put(b"a", b"b")
        await trio.testing.wait_all_tasks_blocked()
        assert writer.written == b"first ab"


async def test_the_fast_lane_overtakes_the_slow_one_which_keeps_its_order() -> None:
    async with running() as (outlet, writer):
        outlet.put(b"slow1 ", is_slow=True)
        outlet.put(b"fast1 ")
        outlet.put(b"slow2 ", is_slow=True)
        outlet.put(b"fast2 ")
    assert writer.written == b"first fast1 fast2 slow1 slow2 "


async def test_ordered_frames_are_written_as_they_were_put() -> None:
    async with running(is_ordered=True) as (outlet, writer):
        outlet.put(b"slow1 ", is_slow=True)
        outlet.put(b"fast1 ")
        outlet.put(b"slow2 ", is_slow=True)
    assert writer.written == b"first slow1 fast1 slow2 "


async def test_a_slow_put_returns_once_it_is_written() -> None:
    async with running() as (outlet, writer), trio.open_nursery() as nursery:
        large: list[Chunk] = [b"large"]
        nursery.start_soon(outlet.put_slowly, large)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        writer.flow.set()
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 0
    assert writer.written == b"first large"


async def test_a_slow_put_that_is_cancelled_is_written_all_the_same() -> None:
    async with running() as (outlet, writer):
        with trio.move_on_after(0):
            await outlet.put_slowly([b"large"])
    assert writer.written == b"first large"


async def test_there_is_room_below_the_bound_only() -> None:
    async with running() as (outlet, writer):
        await outlet.wait_room()
        outlet.put(bytes(MAX_PENDING_BYTES))
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.01):
            await outlet.wait_room()
        writer.flow.set()
        await outlet.wait_room()


async def test_all_who_wait_for_room_hear_of_it() -> None:
    async with running() as (outlet, writer), trio.open_nursery() as nursery:
        outlet.put(bytes(MAX_PENDING_BYTES))
        for _ in range(3):
            nursery.start_soon(outlet.wait_room)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 3
        writer.flow.set()


async def test_a_reader_that_goes_ends_it() -> None:
    with pytest.RaisesGroup(BrokenPipeError):
        async with running() as (_, writer):
            writer.closed.set()
            writer.flow.set()
            await trio.sleep_forever()


async def test_what_is_expected_takes_room_until_it_is_written() -> None:
    async with running() as (outlet, writer):
        writer.flow.set()
        outlet.expect(MAX_PENDING_BYTES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outlet.wait_room)
            await trio.testing.wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 1
            outlet.put_expected(MAX_PENDING_BYTES, b"less than that")
        assert writer.written == b"first less than that"
        await outlet.wait_room()
