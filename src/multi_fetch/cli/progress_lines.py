"""Progress as lines: JSON for programs, words where a terminal can have no bars, or a log is kept.

A JSON line is told from a log's by its first key, ``progress``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.cli.progress_pace import amount, clock
from multi_fetch.limits import MAX_TOLD_RUNNING
from multi_fetch.worker.progress import Running

if TYPE_CHECKING:
    from multi_fetch.cli.logs import StderrLog
    from multi_fetch.cli.progress_pace import Pace
    from multi_fetch.worker.progress import Look

JSON_SECONDS: Final = 1.0
PLAIN_SECONDS: Final = 5.0


class Told(msgspec.Struct, kw_only=True):
    """What stands behind ``progress`` in a JSON line; docs/reference.md has the meanings."""

    seconds: float
    requests: int
    succeeded: int
    failed: int
    bytes: int
    bytes_per_second: int
    in_flight: int
    remaining_bytes: int | None
    eta_seconds: float | None
    is_input_over: bool
    is_done: bool
    largest: list[Running]


class JsonLines:
    """A JSON object a line, each second and at the end; see ``progress.View``."""

    interval_seconds = JSON_SECONDS

    def __init__(self, log: StderrLog) -> None:
        self._log = log

    def show(self, look: Look, pace: Pace) -> None:
        """A line, unless nobody reads them."""
        self._write(look, pace, is_done=False)

    def finish(self, look: Look, pace: Pace) -> None:
        """The last line."""
        self._write(look, pace, is_done=True)

    def _write(self, look: Look, pace: Pace, *, is_done: bool) -> None:
        eta_seconds = 0.0 if is_done else pace.seconds_left(look)
        told = Told(
            seconds=round(pace.seconds, 3),
            requests=look.requests,
            succeeded=look.succeeded,
            failed=look.failed,
            bytes=look.bytes,
            bytes_per_second=round(pace.bytes_per_second),
            in_flight=len(look.running),
            remaining_bytes=look.remaining_bytes,
            eta_seconds=None if eta_seconds is None else round(eta_seconds, 1),
            is_input_over=look.is_input_over,
            is_done=is_done,
            largest=largest(look)[:MAX_TOLD_RUNNING],
        )
        text = msgspec.json.encode({"progress": told}, enc_hook=str)  # an object may be a Digest
        self._log.put(text.decode() + "\n")


class PlainLines:
    """A line of words every few seconds and at the end; see ``progress.View``."""

    interval_seconds = PLAIN_SECONDS

    def __init__(self, log: StderrLog) -> None:
        self._log = log

    def show(self, look: Look, pace: Pace) -> None:
        """A line, unless nobody reads them."""
        self._log.put(f"progress: {', '.join(parts(look, pace))}\n")

    def finish(self, look: Look, pace: Pace) -> None:
        """The sum of it."""
        self._log.put(f"progress: {summary(look, pace)}\n")


def parts(look: Look, pace: Pace) -> list[str]:
    """What is said of a run in one line, the most important first."""
    more = "" if look.is_input_over else "+"
    said = [f"{look.done:,} of {look.requests:,}{more} done"]
    if look.failed:
        said.append(f"{look.failed:,} failed")
    said += [f"{amount(pace.bytes_per_second)}/s", f"{len(look.running):,} in flight"]
    seconds = pace.seconds_left(look)
    if seconds is not None and look.done < look.requests:
        said.append(f"{clock(seconds)}{more} left")
    return [*said, amount(look.bytes)]


def summary(look: Look, pace: Pace) -> str:
    """What is said at the end."""
    failed = f", {look.failed:,} failed" if look.failed else ""
    undone = look.requests - look.done
    left = f", {undone:,} not done" if undone else ""
    return (
        f"{look.succeeded:,} of {look.requests:,} done{failed}{left}, {amount(look.bytes)}"
        f" in {clock(pace.seconds)} ({amount(pace.average_bytes_per_second)}/s)"
    )


def largest(look: Look) -> list[Running]:
    """What is in flight, that with most left to send first; what nobody knows the size of, last."""
    return sorted(look.running, key=lambda each: (each.sent_bytes - (each.size or 0), each.id))
