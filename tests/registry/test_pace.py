"""A host that answered 429: how it is held back, who goes first, and how it gets free again."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from multi_fetch.limits import MAX_PACED_HOSTS
from multi_fetch.registry.pace import Pace, Paces
from multi_fetch.registry.url import Origin
from multi_fetch.remotes import Patience

PATIENCE = Patience(retries=8, first_wait_seconds=1.0, max_wait_seconds=60.0)


def refuse(pace: Pace, *, retry_after: float = 0.0, sent_at: float | None = None) -> None:
    pace.slow_down(
        sent_at=trio.current_time() if sent_at is None else sent_at,
        retry_after=retry_after,
        patience=PATIENCE,
    )


async def test_a_refusal_halves_and_answers_add_until_all_is_well(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pace = Pace(8)
    refuse(pace)
    assert pace.limit == 4
    for _ in range(16):
        pace.speed_up()
    assert 4.8 < pace.limit < 5
    answers = 0
    while not pace.is_free:
        pace.speed_up()
        answers += 1
        await trio.sleep(0.1)
    assert answers < 120
    assert pace.limit == 8


async def test_refusals_of_requests_of_one_time_count_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pace = Pace(16)
    sent_at = trio.current_time()
    await trio.sleep(1)
    for _ in range(10):
        refuse(pace, sent_at=sent_at)
    assert pace.limit == 8
    await trio.sleep(1)
    refuse(pace)
    assert pace.limit == 4


async def test_one_request_at_a_time_is_the_least(autojump_clock: trio.testing.MockClock) -> None:
    pace = Pace(2)
    for _ in range(5):
        refuse(pace)
    assert pace.limit == 1
    with trio.fail_after(100):
        await pace.wait_turn()


async def test_no_more_than_the_limit_run_at_once_first_come_first_served(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pace = Pace(4)
    refuse(pace)
    order: list[int] = []
    running = peak = 0

    async def one(number: int) -> None:
        nonlocal running, peak
        await pace.wait_turn()
        order.append(number)
        running += 1
        peak = max(peak, running)
        await trio.sleep(1)
        running -= 1
        pace.done()

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(one, number)
            await trio.testing.wait_all_tasks_blocked()
    assert peak == 2
    assert order == list(range(10))


async def test_retry_after_holds_everyone_back(autojump_clock: trio.testing.MockClock) -> None:
    pace = Pace(8)
    begun = trio.current_time()
    refuse(pace, retry_after=5.0)
    waited: list[float] = []

    async def one() -> None:
        await pace.wait_turn()
        waited.append(trio.current_time() - begun)
        pace.done()

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(one)
    assert waited == [5.0] * 4


async def test_pauses_double_while_there_are_refusals_alone_and_end_with_the_patience(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pace = Pace(8)
    waits = []
    for _ in range(PATIENCE.retries + 2):
        refuse(pace)
        begun = trio.current_time()
        await pace.wait_again()
        pace.done()
        waits.append(trio.current_time() - begun)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 0, 0]
    assert pace.refusals == PATIENCE.retries + 2
    pace.speed_up()
    assert pace.refusals == 0


async def test_gaps_come_where_one_at_a_time_is_too_many(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pace = Pace(2)
    gaps = []
    for _ in range(4):
        refuse(pace)
        gaps.append(pace.gap_seconds)
    assert gaps == [0, 1, 2, 4]


async def test_answers_shorten_the_gaps_and_only_then_raise_the_limit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pace = Pace(2)
    for _ in range(3):
        refuse(pace)
    assert pace.gap_seconds == 2
    gaps = []
    while pace.gap_seconds:
        assert pace.limit == 1
        await pace.wait_turn()
        begun = trio.current_time()
        pace.done()
        pace.speed_up()
        await pace.wait_turn()
        pace.done()
        gaps.append(trio.current_time() - begun)
    assert gaps == sorted(gaps, reverse=True)
    assert len(gaps) < 40
    assert pace.limit > 1


async def test_who_was_refused_goes_before_those_that_are_new(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pace = Pace(1)
    refuse(pace)
    order: list[str] = []

    async def one(name: str, *, is_new: bool) -> None:
        await (pace.wait_turn() if is_new else pace.wait_again())
        order.append(name)
        await trio.sleep(1)
        pace.done()

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(lambda name: one(name, is_new=True), f"new {number}")
            await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(lambda: one("refused", is_new=False))
    assert order == ["new 0", "refused", "new 1", "new 2"]


@pytest.mark.parametrize("holds_back", ["limit", "pause"])
async def test_who_is_cancelled_while_waiting_takes_no_place(
    autojump_clock: trio.testing.MockClock, holds_back: str
) -> None:
    pace = Pace(1)
    if holds_back == "limit":
        await pace.wait_turn()
    else:
        refuse(pace, retry_after=50)
    for _ in range(3):
        with trio.move_on_after(1) as scope:
            await pace.wait_turn()
        assert scope.cancelled_caught
    if holds_back == "limit":
        pace.done()
    with trio.fail_after(60):
        await pace.wait_turn()


def host(name: str, port: int = 443) -> Origin:
    return Origin("https", name, port)


async def test_a_host_without_refusals_has_no_pace_and_one_that_recovered_none_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    paces = Paces(2)
    assert not paces
    pace = paces.get_or_start(host("a", 443))
    refuse(pace)
    assert paces.of(host("a", 443)) is pace
    assert paces.of(host("a", 80)) is None
    await trio.sleep(2)
    for _ in range(10):
        paces.speed_up(host("a", 443))
        paces.speed_up(host("b", 443))
    assert not paces


async def test_only_so_many_hosts_are_held_back() -> None:
    paces = Paces(2)
    for number in range(MAX_PACED_HOSTS + 10):
        refuse(paces.get_or_start(host(f"{number}")))
    assert paces.of(host("0")) is None
    assert paces.of(host(f"{MAX_PACED_HOSTS + 9}")) is not None
