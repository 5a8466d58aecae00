"""Flags that are numbers."""

from __future__ import annotations

import argparse

import pytest

from multi_fetch.cli.numbers import size, whole_number


@pytest.mark.parametrize("text", ["1", "16", "1024"])
def test_a_whole_number_is_within_its_bounds(text: str) -> None:
    assert whole_number(1, 1024)(text) == int(text)


@pytest.mark.parametrize("text", ["0", "1025", "-1", "+1", "1.0", "", "one", "\u0661", "9" * 5_000])
def test_another_number_is_refused_with_the_bounds(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="from 1 to 1024"):
        whole_number(1, 1024)(text)


def test_sizes_have_units_of_a_thousand_and_of_1024() -> None:
    sizes = {"0": 0, "1000": 1000, "10GB": 10**10, "1.5KiB": 1536, "2kB": 2000, "1TiB": 2**40}
    sizes |= {"2.3kB": 2300, "0.001kB": 1, "0.000": 0, "1.999": 1, "1.10MB": 1_100_000}
    assert {text: size(text) for text in sizes} == sizes
    for text in ("10G", "-1", "1e9", "GB", "1,5GB", "\u0661", "", "1 GB", "9" * 5_000):
        with pytest.raises(argparse.ArgumentTypeError, match="no size"):
            size(text)


@pytest.mark.parametrize("text", ["0.5", "0.001B"])
def test_a_part_of_a_byte_is_not_taken_for_nothing(text: str) -> None:
    """Of which a flag may say that it is no limit."""
    with pytest.raises(argparse.ArgumentTypeError, match="less than a byte"):
        size(text)
