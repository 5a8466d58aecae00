"""What all hold together is bounded, and somebody always goes on."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from multi_fetch.budget import Budget, Counted, hold, let_go, reserve, scratch, uncounted
from multi_fetch.limits import MAX_HELD_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

MOST = 100


def never() -> bool:
    return False


class Table:
    """Tasks that hold something each, until they are told to end.

    Attributes:
        served: the names of those that hold all that they wanted.
        done: by name: lets one go.
    """

    def __init__(self, budget: Budget, nursery: trio.Nursery) -> None:
        self.served: list[str] = []
        self.done: dict[str, trio.Event] = {}
        self._budget = budget
        self._nursery = nursery

    async def seat(
        self, name: str, *counts: int, is_awaited: Callable[[], bool] = never
    ) -> list[str]:
        """Begins a task; who is served once nothing moves any more."""
        self.done[name] = trio.Event()
        self._nursery.start_soon(self._hold, name, counts, is_awaited)
        return await self.settle()

    async def settle(self) -> list[str]:
        await wait_all_tasks_blocked()
        return self.served

    async def _hold(
        self, name: str, counts: tuple[int, ...], is_awaited: Callable[[], bool]
    ) -> None:
        with self._budget.share(is_awaited):
            for count in counts:
                await hold(count)
            self.served.append(name)
            await self.done[name].wait()


@pytest.fixture
def budget() -> Budget:
    return Budget(MOST)


async def test_who_comes_beyond_the_budget_waits_until_another_has_let_go(budget: Budget) -> None:
    async with trio.open_nursery() as nursery:
        table = Table(budget, nursery)
        assert await table.seat("first", MOST) == ["first"]
        assert await table.seat("second", 1) == ["first"]
        table.done["first"].set()
        assert await table.settle() == ["first", "second"]
        assert budget.held == 1
        nursery.cancel_scope.cancel()
    assert budget.held == 0


async def test_who_has_held_something_for_the_longest_time_goes_on(budget: Budget) -> None:
    async with trio.open_nursery() as nursery:
        table = Table(budget, nursery)
        # all of them want more, and none has all that it wants
        await table.seat("young", 60, 60)
        await table.seat("old", 60, 60)
        assert table.served == ["young"]  # it was first
        table.done["young"].set()
        assert await table.settle() == ["young", "old"]
        nursery.cancel_scope.cancel()


async def test_what_is_ones_own_is_there_whatever_others_hold() -> None:
    """One who never lets go, a registry that drips, does not hold up those who hold little."""
    budget = Budget(MOST, own=10)
    async with trio.open_nursery() as nursery:
        table = Table(budget, nursery)
        await table.seat("greedy", MOST + 10)
        await table.seat("another", 20, 20)
        assert await table.seat("modest", 4, 5) == ["greedy", "modest"]
        table.done["greedy"].set()
        assert await table.settle() == ["greedy", "modest", "another"]
        nursery.cancel_scope.cancel()
    with budget.share(never) as share:  # nothing of it is counted any more
        assert budget.held == 0
        assert budget.has_room(share, MOST + 10)


@pytest.mark.parametrize("tasks", [2, 16, 256])
async def test_the_usual_one_is_no_more_for_many_tasks_than_for_few(tasks: int) -> None:
    budget, half = Budget.among(tasks), MAX_HELD_BYTES // 2
    own = half // tasks
    with budget.share(never) as first, budget.share(never) as second:
        budget.add(first, half + own)
        assert budget.has_room(second, own)
        assert not budget.has_room(second, own + 1)


async def test_whom_all_others_wait_for_goes_on(budget: Budget) -> None:
    turns: list[str] = []
    async with trio.open_nursery() as nursery:
        table = Table(budget, nursery)
        await table.seat("later", MOST)
        await table.seat("now", MOST, MOST, is_awaited=lambda: "now" in turns)
        assert table.served == ["later"]
        turns.append("now")
        budget.look_again()
        assert await table.settle() == ["later", "now"]
        nursery.cancel_scope.cancel()


async def test_what_is_let_go_early_is_counted_no_more(budget: Budget) -> None:
    with budget.share(never) as share:
        await hold(70)
        let_go(30)
        assert (share.held, budget.held) == (40, 40)
        let_go(90)  # never below nothing
        assert budget.held == 0


async def test_who_gives_up_waiting_is_counted_no_more(budget: Budget) -> None:
    with budget.share(never):
        await hold(MOST)
        async with trio.open_nursery() as nursery:
            table = Table(budget, nursery)
            await table.seat("other", MOST)
            assert budget.held == 2 * MOST
            nursery.cancel_scope.cancel()
        assert budget.held == MOST


async def test_what_others_wait_for_needs_no_room(budget: Budget) -> None:
    async with trio.open_nursery() as nursery:
        await Table(budget, nursery).seat("other", MOST)
        with budget.share(never) as share:
            with uncounted():
                await hold(MOST)
            assert (share.held, budget.held) == (0, MOST)
        nursery.cancel_scope.cancel()


async def test_what_is_reserved_has_room_before_it_is_counted(budget: Budget) -> None:
    async with trio.open_nursery() as nursery:
        table = Table(budget, nursery)
        await table.seat("first", 60)

        async def reserve_some(name: str, count: int) -> None:
            with budget.share(never):
                await reserve(count)
                table.served.append(name)
                await trio.sleep_forever()

        nursery.start_soon(reserve_some, "much", 50)
        assert await table.settle() == ["first"]
        assert budget.held == 60
        nursery.start_soon(reserve_some, "little", 40)
        assert await table.settle() == ["first", "little"]
        table.done["first"].set()
        assert await table.settle() == ["first", "little", "much"]
        nursery.cancel_scope.cancel()


async def test_whoever_reserves_in_vain_first_leaves_the_place_to_the_next(budget: Budget) -> None:
    async with trio.open_nursery() as nursery:
        table = Table(budget, nursery)
        await table.seat("first", 60)
        scopes: dict[str, trio.CancelScope] = {}

        async def reserve_some(name: str, count: int) -> None:
            with trio.CancelScope() as scopes[name], budget.share(never):
                await reserve(count)
                table.served.append(name)
                await trio.sleep_forever()

        for name in ("large", "larger"):
            nursery.start_soon(reserve_some, name, 2 * MOST)
            await table.settle()
        nursery.start_soon(reserve_some, "small", 20)
        assert await table.settle() == ["first", "small"]
        scopes["large"].cancel()
        table.done["first"].set()
        assert await table.settle() == ["first", "small", "larger"]
        assert budget.held == 20 + 2 * MOST
        scopes["larger"].cancel()
        assert await table.settle() == ["first", "small", "larger"]
        assert budget.held == 20
        nursery.cancel_scope.cancel()


async def test_more_than_there_is_may_be_reserved_where_nobody_holds_anything(
    budget: Budget,
) -> None:
    with budget.share(never) as share:
        await reserve(2 * MOST)
        assert share.held == 2 * MOST
    await reserve(2 * MOST)


async def test_behind_a_block_nothing_is_counted_of_what_came_in_it(budget: Budget) -> None:
    with budget.share(never):
        await hold(10)
        with suppress(ValueError), scratch():
            await hold(30)
            raise ValueError
        assert budget.held == 10
        with scratch():
            let_go(10)
        assert budget.held == 0
    with scratch():
        await hold(1)


async def test_who_has_let_go_of_all_has_lost_its_place(budget: Budget) -> None:
    with budget.share(never) as share:
        await hold(0)  # an empty page holds nothing, and has no place either
        await hold(1)
        share.let_go()
        async with trio.open_nursery() as nursery:
            table = Table(budget, nursery)
            assert await table.seat("other", MOST, 1) == ["other"]
            with trio.move_on_after(0.01):
                await hold(1)
                pytest.fail("the other is first by now")
            nursery.cancel_scope.cancel()


async def test_chunks_count_as_they_come(budget: Budget) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"some"
        yield b"more"

    with budget.share(never):
        seen = [(chunk, budget.held) async for chunk in Counted(chunks())]
    assert seen == [(b"some", 4), (b"more", 8)]


async def test_outside_of_a_run_nobody_counts() -> None:
    await hold(10**12)
    let_go(10**12)
