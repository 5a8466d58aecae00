"""What is shared is opened once, kept while it may be wanted, and closed in the end."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from multi_fetch.durations import CLOSE_SECONDS
from multi_fetch.leases import Leases

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class House:
    """Opens rooms, and remembers it.

    Attributes:
        opened: the keys, in order; ``closed`` likewise.
        gate: opening waits for it.
        failures: raised by the next openings.
        slow: how long closing takes.
    """

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.gate = trio.Event()
        self.gate.set()
        self.failures: list[Exception] = []
        self.slow = 0.0

    @asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[str]:
        self.opened.append(key)
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop()
        yield key.upper()
        await trio.sleep(self.slow)
        self.closed.append(key)


@pytest.fixture
def house() -> House:
    return House()


async def use(leases: Leases[str, str], key: str) -> None:
    async with leases.lend(key) as value:
        assert value == key.upper()


async def test_what_is_used_again_is_the_same(house: House) -> None:
    async with Leases(house.open, idle=2) as leases:
        for _ in range(3):
            async with leases.lend("a"), leases.lend("a"):
                await use(leases, "b")
        assert not house.closed
    assert house.opened == ["a", "b"]
    assert sorted(house.closed) == ["a", "b"]


async def test_of_those_that_nobody_uses_the_oldest_goes_first(house: House) -> None:
    async with Leases(house.open, idle=2) as leases:
        async with leases.lend("used"):
            for key in ("a", "b", "a", "c"):
                await use(leases, key)
            assert house.closed == ["b"]
            await use(leases, "b")
            assert house.closed == ["b", "a"]
        assert house.closed == ["b", "a", "c"]
    assert house.opened == ["used", "a", "b", "c", "b"]


async def test_those_who_come_while_it_is_opened_wait_for_it(house: House) -> None:
    house.gate = trio.Event()
    async with Leases(house.open, idle=2) as leases, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(use, leases, "a")
        await trio.testing.wait_all_tasks_blocked()
        house.gate.set()
    assert house.opened == house.closed == ["a"]


async def test_what_cannot_be_opened_is_tried_again_by_the_next(house: House) -> None:
    house.failures.append(OSError("no"))
    async with Leases(house.open, idle=2) as leases:
        with pytest.raises(OSError, match="no"):
            await use(leases, "a")
        await use(leases, "a")
    assert house.opened == ["a", "a"]
    assert house.closed == ["a"]


async def test_who_gives_up_while_it_is_opened_leaves_it_to_the_others(house: House) -> None:
    house.gate = trio.Event()
    async with Leases(house.open, idle=2) as leases, trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            scope.cancel()
            await use(leases, "a")
        assert scope.cancelled_caught
        nursery.start_soon(use, leases, "a")
        await trio.testing.wait_all_tasks_blocked()
        house.gate.set()
    assert house.closed == ["a"]


async def test_what_is_cancelled_is_closed_all_the_same(
    house: House, autojump_clock: trio.testing.MockClock
) -> None:
    house.slow = CLOSE_SECONDS / 2
    with trio.CancelScope() as scope:
        async with Leases(house.open, idle=0) as leases, leases.lend("a"):
            scope.cancel()
    assert house.closed == ["a"]


async def test_closing_takes_no_longer_than_it_may(
    house: House, autojump_clock: trio.testing.MockClock
) -> None:
    house.slow = 1_000
    started = trio.current_time()
    async with Leases(house.open, idle=0) as leases:
        await use(leases, "a")
    assert trio.current_time() - started == pytest.approx(CLOSE_SECONDS)
