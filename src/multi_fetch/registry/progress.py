"""Whether a body comes at all: so many bytes for so much waiting. No I/O.

A body that is silent for the stall timeout has stalled, and so has one that drips: a byte now and
then would be waited for without end, and enough such bodies hold every job. Only time in which
nothing was there to be read counts, so a slow consumer is not taken for a slow server. Precedents:
curl's ``--speed-limit`` with ``--speed-time``, git's ``http.lowSpeedLimit``.
"""

from __future__ import annotations

from multi_fetch.limits import LEAST_PROGRESS_BYTES


class Progress:
    """What has come since the last time that it was enough, and for how long it was waited for.

    Args:
        seconds: of waiting that must bring LEAST_PROGRESS_BYTES; infinite for no such bound.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waited = 0.0
        self._received = 0

    @property
    def left_seconds(self) -> float:
        """How long may be waited still; 0 where that was too long already."""
        return max(self._seconds - self._waited, 0.0)

    def add(self, *, waited: float = 0.0, received: int = 0) -> None:
        """Takes note of seconds that were waited, and of bytes that came."""
        self._waited += waited
        self._received += received
        if self._received >= LEAST_PROGRESS_BYTES:
            self._waited, self._received = 0.0, 0

    def __str__(self) -> str:
        """What there was instead, for messages: ``no byte in 30 s``."""
        came = f"only {self._received} bytes" if self._received else "no byte"
        return f"{came} in {self._seconds:g} s"
