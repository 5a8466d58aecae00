"""Flags that are numbers."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# SI and IEC 80000-13: kB is 1,000 bytes and KiB 1,024.
SIZE = re.compile(r"(?P<number>[0-9]{1,15}(?:\.[0-9]{1,3})?)(?P<unit>[kKMGT]?i?B)?", re.ASCII)
UNITS: Final = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}


def whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    """A type of flag: a number within bounds."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and lowest <= int(text[:20]) <= highest):
            raise argparse.ArgumentTypeError(
                f"{text[:40]!r} is not a number from {lowest} to {highest}"
            )
        return int(text)

    return number


def size(text: str) -> int:
    """A type of flag: a number of bytes, with or without a unit."""
    match = SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no size: as in 10GB, 512MiB, 1000")
    unit = match["unit"] or "B"
    step = 1024 if "i" in unit else 1000
    whole, _, part = match["number"].partition(".")
    thousandths = int(whole + part.ljust(3, "0"))
    power = UNITS[unit.removesuffix("B").removesuffix("i")]
    found = thousandths * int(step**power) // 1000
    if thousandths and not found:  # it would mean something else than it says
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is less than a byte")
    return found
