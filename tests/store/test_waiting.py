"""How long one waits for another."""

from __future__ import annotations

import trio

from multi_fetch.durations import STORE_STALL_SECONDS
from multi_fetch.store.ingest import Busy
from multi_fetch.store.waiting import LEAST_GROWTH_BYTES, Waiting


async def test_waiting_ends_when_nothing_comes_and_not_before(
    autojump_clock: trio.abc.Clock,
) -> None:
    waiting, size = Waiting(), 0
    began = trio.current_time()
    while trio.current_time() - began < 10 * STORE_STALL_SECONDS:
        size += LEAST_GROWTH_BYTES
        await waiting.wait(Busy(size))
        assert not waiting.is_over
    began = trio.current_time()
    while not waiting.is_over:
        await waiting.wait(Busy(size))
    assert STORE_STALL_SECONDS <= trio.current_time() - began + 1 < STORE_STALL_SECONDS + 2


async def test_who_drips_is_waited_for_as_briefly_as_who_gives_nothing(
    autojump_clock: trio.abc.Clock,
) -> None:
    """It may be another registry, which would hold up all others' requests for the same."""
    waiting, size = Waiting(), 0
    began = trio.current_time()
    while not waiting.is_over and trio.current_time() - began < 10 * STORE_STALL_SECONDS:
        size += 1024
        await waiting.wait(Busy(size))
    assert trio.current_time() - began < STORE_STALL_SECONDS + 2


async def test_another_that_begins_anew_gets_its_time(autojump_clock: trio.abc.Clock) -> None:
    waiting = Waiting()
    for size in (5 * LEAST_GROWTH_BYTES, 0):
        began = trio.current_time()
        while trio.current_time() - began < STORE_STALL_SECONDS - 1:
            await waiting.wait(Busy(size))
            assert not waiting.is_over


async def test_what_is_done_and_yet_not_found_is_waited_for_once(
    autojump_clock: trio.abc.Clock,
) -> None:
    waiting = Waiting()
    await waiting.wait(Busy(-1))
    assert not waiting.is_over
    await waiting.wait(Busy(-1))
    assert waiting.is_over
