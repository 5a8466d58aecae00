"""--max-size: how much content an object may have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from multi_fetch.ceiling import DEFAULT_CEILING, NO_CEILING, Ceiling
from multi_fetch.cli.numbers import size
from multi_fetch.limits import MAX_UNTOLD_BYTES

if TYPE_CHECKING:
    import argparse

UNTOLD_GIB: Final = MAX_UNTOLD_BYTES // 1024**3


def add_max_size_flag(flags: argparse._ActionsContainer) -> None:
    """--max-size."""
    flags.add_argument(
        "--max-size",
        type=size,
        metavar="SIZE",
        help="the most content that an object may have, as in 10GB or 512MiB; 0 is no limit"
        f" (default: {UNTOLD_GIB}GiB where nobody has told the size, and else no limit)",
    )


def ceiling(arguments: argparse.Namespace) -> Ceiling:
    """What the flag says."""
    most: int | None = arguments.max_size
    if most is None:
        return DEFAULT_CEILING
    return Ceiling(told=most, untold=most) if most else NO_CEILING
