"""Speeds and forecasts, and how people read them."""

from __future__ import annotations

import pytest

from multi_fetch.cli.progress_pace import Pace, amount, clock
from tests.cli.looks import MIB, a_look


def a_pace(*bytes_each_second: int, done: int = 0) -> Pace:
    pace = Pace(100.0)
    total = 0
    for number, count in enumerate(bytes_each_second, 1):
        total += count
        pace.add(100.0 + number, a_look(received=total, succeeded=done * number, failed=0))
    return pace


def test_the_speed_is_that_of_the_last_seconds() -> None:
    pace = a_pace(*[10 * MIB] * 20, *[MIB] * 10)
    assert pace.bytes_per_second == MIB
    assert pace.average_bytes_per_second == 210 * MIB / 30
    assert pace.seconds == 30


def test_before_anything_was_seen_there_is_no_speed() -> None:
    pace = Pace(5.0)
    assert (pace.seconds, pace.bytes_per_second, pace.average_bytes_per_second) == (0, 0, 0)
    assert pace.seconds_left(a_look()) is None


def test_what_is_left_is_counted_in_bytes_where_all_sizes_are_known() -> None:
    assert a_pace(MIB, MIB, MIB).seconds_left(a_look(remaining=30 * MIB)) == 30


def test_else_it_is_counted_in_objects() -> None:
    pace = a_pace(MIB, MIB, MIB, done=10)
    look = a_look(requests=130, succeeded=30, failed=0, remaining=None)
    assert pace.seconds_left(look) == 10


def test_nobody_knows_while_nothing_moves_and_nothing_is_left_at_the_end() -> None:
    pace = a_pace(0, 0, 0)
    assert pace.seconds_left(a_look(remaining=1)) is None
    assert pace.seconds_left(a_look(remaining=0)) == 0
    assert a_pace(MIB).seconds_left(a_look(remaining=MIB)) is None


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999.6, "1000 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (999 * 1024, "999 KiB"),
        (1000 * 1024, "1.0 MiB"),
        (100 * MIB, "100 MiB"),
        (1.5 * 1024**3, "1.5 GiB"),
        (5_000_000 * 1024**4, "4883 PiB"),
    ],
)
def test_an_amount_has_few_digits_and_a_unit(count: float, text: str) -> None:
    assert amount(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (7.4, "0:07"),
        (59.6, "1:00"),
        (750, "12:30"),
        (11_100, "3:05:00"),
        (1e6, "11 days"),
    ],
)
def test_a_time_is_read_as_on_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
