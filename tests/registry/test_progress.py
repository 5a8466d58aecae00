"""How much must come for how much waiting."""

from __future__ import annotations

import math

from multi_fetch.limits import LEAST_PROGRESS_BYTES
from multi_fetch.registry.progress import Progress


def test_waits_add_up_until_enough_has_come_and_then_begin_anew() -> None:
    progress = Progress(30.0)
    progress.add(waited=29.0, received=LEAST_PROGRESS_BYTES - 1)
    assert progress.left_seconds == 1.0
    progress.add(waited=0.5)
    assert progress.left_seconds == 0.5
    progress.add(received=1)
    assert progress.left_seconds == 30.0
    progress.add(waited=20.0)
    assert progress.left_seconds == 10.0


def test_what_takes_too_long_has_no_time_left_and_says_what_came() -> None:
    progress = Progress(1.5)
    progress.add(waited=1.0)
    assert (progress.left_seconds, str(progress)) == (0.5, "no byte in 1.5 s")
    progress.add(waited=9.0, received=2)
    assert (progress.left_seconds, str(progress)) == (0.0, "only 2 bytes in 1.5 s")


def test_enough_at_the_end_of_a_long_wait_is_enough() -> None:
    progress = Progress(1.0)
    progress.add(waited=5.0, received=LEAST_PROGRESS_BYTES)
    assert progress.left_seconds == 1.0


def test_without_a_bound_there_is_always_time() -> None:
    progress = Progress(math.inf)
    progress.add(waited=1e9)
    assert progress.left_seconds == math.inf
