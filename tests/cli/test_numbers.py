"""Flags that are numbers."""

from __future__ import annotations

import argparse

import pytest

from multi_fetch.cli.numbers import whole_number


@pytest.mark.parametrize("text", ["1", "16", "1024"])
def test_a_whole_number_is_within_its_bounds(text: str) -> None:
    assert whole_number(1, 1024)(text) == int(text)


@pytest.mark.parametrize("text", ["0", "1025", "-1", "+1", "1.0", "", "one", "\u0661", "9" * 5_000])
def test_another_number_is_refused_with_the_bounds(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="from 1 to 1024"):
        whole_number(1, 1024)(text)
