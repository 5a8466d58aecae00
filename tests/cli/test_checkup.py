"""One step of a checkup: what becomes of it, and how it is told."""

from __future__ import annotations

import pytest
import trio

from multi_fetch.cli.checkup import STEP_SECONDS, Checkup, Finding, Verdict
from multi_fetch.errors import NotFoundError


@pytest.fixture
def found() -> list[Finding]:
    return []


@pytest.fixture
def checkup(found: list[Finding]) -> Checkup:
    return Checkup(found.append, "https://registry.example")


async def test_a_step_that_is_taken_gives_its_result_and_no_finding(
    checkup: Checkup, found: list[Finding]
) -> None:
    async def work() -> int:
        return 7

    assert await checkup.take("step", work) == 7
    assert found == []


async def test_a_step_that_fails_is_a_finding(checkup: Checkup, found: list[Finding]) -> None:
    async def work() -> int:
        raise NotFoundError("nothing there", status=404)

    assert await checkup.take("step", work) is None
    (only,) = found
    assert (only.verdict, only.said, only.code) == (Verdict.FAIL, "nothing there", "not-found")
    assert only.advice
    assert only.host == "https://registry.example"


async def test_a_step_that_hangs_has_its_time(
    checkup: Checkup, found: list[Finding], autojump_clock: trio.testing.MockClock
) -> None:
    began = trio.current_time()
    assert await checkup.take("step", trio.sleep_forever) is None  # type: ignore[func-returns-value] # it never does
    assert trio.current_time() - began == STEP_SECONDS
    assert found[0].code == "timeout"


def test_what_others_wrote_does_no_harm_to_a_terminal(
    checkup: Checkup, found: list[Finding]
) -> None:
    checkup.ok("step", "red \x1b[31m and\nmore" + "x" * 5_000)
    assert "\x1b" not in found[0].said
    assert "\n" not in found[0].said
    assert len(found[0].said) < 1_100


def test_lines_are_in_columns_with_the_advice_below() -> None:
    fail = Finding(step="tls", verdict=Verdict.FAIL, said="no", advice="do this")
    assert fail.lines() == "fail  tls         no\n                  -> do this\n"
    assert Finding(step="api", verdict=Verdict.OK, said="yes").lines() == "ok    api         yes\n"
