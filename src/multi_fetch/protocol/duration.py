"""Go's durations, ``1m30s``: the form of ``--timeout`` and of the ``deadline:`` hint."""

from __future__ import annotations

import re
from typing import Final

from multi_fetch.errors import InvalidRequestError

# Go, time.ParseDuration, without a sign: (digits ["." digits] unit)+
PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
SECONDS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}


def parse_duration(text: str) -> float:
    """Reads a duration such as ``300ms``, ``1.5h`` or ``2h45m``; ``0`` needs no unit.

    Returns:
        Seconds, never negative.

    Raises:
        InvalidRequestError: the text is no duration.
    """
    if text == "0":
        return 0.0
    seconds, position = 0.0, 0
    while match := PART.match(text, position):
        seconds += float(match[1]) * SECONDS[match[2]]
        position = match.end()
    if not text or position != len(text) or seconds == float("inf"):
        raise InvalidRequestError(
            f"{text[:80]!r} is not a duration: write numbers with units, as in 30s, 1m30s or 1.5h"
        )
    return seconds
