"""The flags for trouble: what they stand for, and what they refuse."""

from __future__ import annotations

import argparse
import math

import pytest

from multi_fetch.ceiling import Ceiling
from multi_fetch.cli.ceiling import add_max_size_flag
from multi_fetch.cli.patience import add_patience_flags, patience
from multi_fetch.limits import MAX_RETRIES
from multi_fetch.remotes import Patience


def read(*words: str) -> Patience:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_patience_flags(parser)
    add_max_size_flag(parser)
    return patience(parser.parse_args(words))


def test_without_flags_the_patience_is_the_librarys() -> None:
    assert read() == Patience()


def test_each_flag_sets_its_bound() -> None:
    found = read("--retries", "7", "--retry-max-wait", "1m30s", "--stall-timeout", "250ms")
    assert found == Patience(retries=7, max_wait_seconds=90, stall_seconds=0.25)
    assert read("--max-size", "9") == Patience(ceiling=Ceiling(told=9, untold=9))


def test_a_time_of_zero_is_no_limit_and_zero_retries_are_none() -> None:
    found = read("--retries", "0", "--retry-max-wait", "0", "--stall-timeout", "0s")
    assert found == Patience(retries=0, max_wait_seconds=math.inf, stall_seconds=math.inf)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--retries", "-1"),
        ("--retries", "x"),
        ("--retries", "٣"),
        ("--retries", str(MAX_RETRIES + 1)),
        ("--retries", "9" * 5_000),
        ("--retry-max-wait", "1"),
        ("--retry-max-wait", "soon"),
        ("--stall-timeout", "-1s"),
    ],
)
def test_what_is_no_number_or_duration_is_refused(flag: str, value: str) -> None:
    with pytest.raises(argparse.ArgumentError):
        read(f"{flag}={value}")
