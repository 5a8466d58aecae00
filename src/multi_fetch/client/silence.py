"""How long a worker that owes something may say nothing, counted in looks.

A look that comes late counts as one: while this process itself stands still (it was stopped, the
machine slept, a disk was slow), the worker may have written what nobody could read.
"""

from __future__ import annotations

from typing import Final

from multi_fetch.errors import DeadlineExceededError

# How often a client looks after its worker.
WATCH_SECONDS: Final = 0.5


class Silence:
    """Judges whether a worker has been silent for too long.

    Args:
        limit_seconds: how long it may be; None for ever.
    """

    def __init__(self, limit_seconds: float | None) -> None:
        self._limit_seconds = limit_seconds
        self._looks = 0

    @property
    def is_limited(self) -> bool:
        """Whether there is anything to look for."""
        return self._limit_seconds is not None

    def heard(self) -> None:
        """Says that the worker has written something."""
        self._looks = 0

    def look(self, *, is_owed: bool) -> DeadlineExceededError | None:
        """The error for a worker that was silent for too long; to be asked each WATCH_SECONDS.

        Args:
            is_owed: whether it has anything to say.
        """
        if self._limit_seconds is None or not is_owed:
            self._looks = 0
            return None
        self._looks += 1
        # Between the last byte and the first look is an unknown part of a step.
        if (self._looks - 1) * WATCH_SECONDS < self._limit_seconds:
            return None
        return DeadlineExceededError(
            f"it said nothing for {self._limit_seconds:g} s (idle_timeout) while it owed an answer"
        )
