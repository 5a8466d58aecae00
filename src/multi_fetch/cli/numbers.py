"""Flags that are numbers."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    """A type of flag: a number within bounds."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and lowest <= int(text[:20]) <= highest):
            raise argparse.ArgumentTypeError(
                f"{text[:40]!r} is not a number from {lowest} to {highest}"
            )
        return int(text)

    return number
