"""How a host does, in whose place another can be asked."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from multi_fetch.durations import MIRROR_REST_SECONDS, RETRY_WARNING_SECONDS
from multi_fetch.errors import DeniedError, MultiFetchError, RegistryError, UnavailableError
from multi_fetch.limits import MAX_FOREIGN_HOSTS, MAX_MIRROR_FAILURES
from multi_fetch.registry.standing import Standing, Standings


async def test_a_short_rest_does_not_end_a_long_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    standing = Standing()
    standing.rest(100)
    standing.rest()
    await trio.sleep(99)
    assert standing.is_resting
    await trio.sleep(1)
    assert not standing.is_resting


async def test_who_never_rested_has_no_trial() -> None:
    standing = Standing()
    standing.take_turn()
    assert not standing.is_resting


async def test_the_first_after_a_rest_has_the_others_wait_as_long_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    standing = Standing()
    standing.rest()
    await trio.sleep(MIRROR_REST_SECONDS)
    standing.take_turn()
    await trio.sleep(MIRROR_REST_SECONDS - 1)
    assert standing.is_resting
    await trio.sleep(1)
    assert not standing.is_resting


@pytest.mark.parametrize("failures", range(MAX_MIRROR_FAILURES + 2))
async def test_failures_in_a_row_are_what_counts(failures: int) -> None:
    standing = Standing()
    for _ in range(failures):
        standing.fails()
    assert standing.is_resting is (failures >= MAX_MIRROR_FAILURES)
    standing.works()
    assert not standing.is_resting
    for _ in range(MAX_MIRROR_FAILURES - 1):
        standing.fails()
    assert not standing.is_resting


async def test_the_begin_of_an_answer_ends_the_rest_of_the_dead_alone() -> None:
    dead, wrong = Standing(), Standing()
    dead.rest()
    for _ in range(MAX_MIRROR_FAILURES):
        wrong.fails()
    dead.answers()
    wrong.answers()
    assert not dead.is_resting
    assert wrong.is_resting  # until an object has come, whole and right
    wrong.works()
    assert not wrong.is_resting


async def test_what_is_warned_of_is_warned_of_once_a_minute(
    autojump_clock: trio.testing.MockClock,
) -> None:
    standing = Standing()
    kinds: list[MultiFetchError] = [
        UnavailableError("no connection"),
        UnavailableError("500", status=500),
        UnavailableError("503", status=503),
        DeniedError("403", status=403),
        RegistryError("odd"),
    ]
    assert all(standing.may_warn(each) for each in kinds)
    assert not any(standing.may_warn(each) for each in kinds)
    await trio.sleep(RETRY_WARNING_SECONDS - 1)
    assert not any(standing.may_warn(each) for each in kinds)
    await trio.sleep(1)
    assert all(standing.may_warn(each) for each in kinds)
    assert not any(standing.may_warn(each) for each in kinds)


def test_hosts_that_others_name_are_told_apart_by_their_origin_and_the_last_used_are_kept() -> None:
    standings = Standings()
    first = standings.of("https://a.example/1")
    assert standings.of("https://A.example:443/2?x") is first
    others = ["http://a.example/1", "https://a.example:1/", "https://b.example/", "no URL"]
    assert all(standings.of(each) is not first for each in others)
    assert standings.of("https://a.example/3") is first
    for number in range(MAX_FOREIGN_HOSTS - 1):
        standings.of(f"https://n{number}.example/")
    assert standings.of("https://a.example/3") is first
    for number in range(MAX_FOREIGN_HOSTS):
        standings.of(f"https://n{number}.example/")
    assert standings.of("https://a.example/3") is not first
