"""How fast a run is, and how long it will take; and amounts as people read them. No I/O."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from multi_fetch.worker.progress import Look

# What counts as now: shorter would jump with each object, longer would hide a connection that died.
RECENT_SECONDS: Final = 10.0

# Before this much has been seen, a forecast is a guess.
LEAST_SECONDS: Final = 2.0

UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB")


class Pace:
    """The looks of the last seconds.

    Args:
        now: when the run began, in seconds on any clock.
    """

    def __init__(self, now: float) -> None:
        self._began = now
        self._seen: deque[tuple[float, int, int]] = deque([(now, 0, 0)])

    def add(self, now: float, look: Look) -> None:
        """Takes the newest look."""
        self._seen.append((now, look.bytes, look.done))
        while len(self._seen) > 2 and self._seen[1][0] <= now - RECENT_SECONDS:
            self._seen.popleft()

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return self._seen[-1][0] - self._began

    @property
    def bytes_per_second(self) -> float:
        """Of late."""
        seconds, count, _ = self._recent()
        return count / seconds if seconds else 0.0

    @property
    def average_bytes_per_second(self) -> float:
        """Since the run began."""
        return self._seen[-1][1] / self.seconds if self.seconds else 0.0

    def seconds_left(self, look: Look) -> float | None:
        """How long what is known of the run will still take; None where nobody can say.

        By bytes, where the size of all that is open is known; else by objects.
        """
        seconds, count, done = self._recent()
        if self.seconds < LEAST_SECONDS:
            return None
        if look.remaining_bytes is not None:
            left, speed = look.remaining_bytes, count / seconds
        else:
            left, speed = look.requests - look.done, done / seconds
        if not left:
            return 0.0
        return left / speed if speed else None

    def _recent(self) -> tuple[float, int, int]:
        """Seconds, bytes, and objects that were done in them."""
        (began, first_bytes, first_done), (now, last_bytes, last_done) = (
            self._seen[0],
            self._seen[-1],
        )
        return now - began, last_bytes - first_bytes, last_done - first_done


def amount(count: float) -> str:
    """Bytes: ``999 B``, ``1.5 MiB``, ``120 GiB``."""
    if count < 1024:
        return f"{count:.0f} B"
    power = 1
    while count >= 1000 * 1024**power and power < len(UNITS):
        power += 1
    count /= 1024**power
    return f"{count:.{1 if count < 99.95 else 0}f} {UNITS[power - 1]}"


def clock(seconds: float) -> str:
    """A time: ``0:07``, ``12:30``, ``3:05:00``; whole days beyond 100 hours."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours > 99:
        return f"{hours // 24} days"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
