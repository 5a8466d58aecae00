"""``--progress``: whether a run is shown on stderr while it lasts, and how.

What there is to show comes from an ``Observer``'s looks at the engine (worker/progress.py). rich is
imported only where bars are drawn.
"""

from __future__ import annotations

import importlib.util
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

import trio

from multi_fetch.cli.help import Shown
from multi_fetch.cli.progress_pace import Pace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from multi_fetch.cli.logs import StderrLog
    from multi_fetch.worker.progress import Look, Observer

Mode: TypeAlias = Literal["auto", "always", "never", "json"]
MODES: Final[tuple[Mode, ...]] = ("auto", "always", "never", "json")

# A run that is over sooner is not shown, by auto: bars that flash tell nobody anything.
AUTO_DELAY_SECONDS: Final = 1.0

# Terminals that know no way back to an earlier line.
DUMB: Final = frozenset({"", "dumb", "unknown"})

STDOUT: Final = 1

HINT: Final = "progress: as lines; for bars: pip install 'multi-fetch[progress]'\n"


class View(Protocol):
    """One way to show a run.

    Attributes:
        interval_seconds: between two looks.
    """

    interval_seconds: float

    def show(self, look: Look, pace: Pace) -> None:
        """Shows a run that goes on. Does not wait for a stderr that is full."""

    def finish(self, look: Look, pace: Pace) -> None:
        """Shows a run that has ended."""


class Watch:
    """An Observer that shows what it sees.

    Args:
        view: how.
        delay_seconds: before the first look.
    """

    def __init__(self, view: View, *, delay_seconds: float = 0) -> None:
        self._view = view
        self._delay_seconds = delay_seconds

    async def watch(self, look: Callable[[], Look]) -> None:
        """Shows the run until cancelled, and its end; see ``Observer``."""
        pace = Pace(trio.current_time())
        with suppress(OSError, ValueError):  # a stderr that has gone is nobody's to be told of
            await trio.sleep(self._delay_seconds)
            try:
                while True:
                    await trio.sleep(self._view.interval_seconds)
                    self._see(look(), pace, self._view.show)
            finally:
                self._see(look(), pace, self._view.finish)

    def _see(self, seen: Look, pace: Pace, show: Callable[[Look, Pace], None]) -> None:
        pace.add(trio.current_time(), seen)
        show(seen, pace)


def add_progress_flag(flags: argparse._ActionsContainer) -> None:
    """--progress."""
    flags.add_argument(
        "--progress",
        choices=MODES,
        default="auto",
        metavar="WHEN",
        help=Shown(
            "show on stderr how far the run has come: auto, bars where stderr is a terminal, stdout"
            " is none and the extra 'progress' is installed; always, lines where there cannot be"
            " bars; json, a JSON object a line each second; never (default: %(default)s)",
            brief="auto (bars, on a terminal), always, never, json (%(default)s)",
        ),
    )


def observer(mode: Mode, title: str, log: StderrLog) -> Observer | None:
    """Who watches a run, or None for nobody.

    Args:
        mode: of --progress.
        title: of the run.
        log: what else is written to stderr.
    """
    stream = log.stream
    if mode == "never":
        return None
    if mode == "json":
        from multi_fetch.cli.progress_lines import JsonLines

        return Watch(JsonLines(log))
    may_have_bars = stream.isatty() and os.environ.get("TERM", "").lower() not in DUMB
    has_bars = may_have_bars and importlib.util.find_spec("rich") is not None
    if mode == "auto":
        return _bars(title, log, AUTO_DELAY_SECONDS) if has_bars and not os.isatty(STDOUT) else None
    if may_have_bars and not has_bars:
        log.put(HINT)
    return _bars(title, log, 0) if has_bars else _lines(log)


def _bars(title: str, log: StderrLog, delay_seconds: float) -> Watch:
    from multi_fetch.cli.progress_bars import Bars

    return Watch(Bars(title, log), delay_seconds=delay_seconds)


def _lines(log: StderrLog) -> Watch:
    from multi_fetch.cli.progress_lines import PlainLines

    return Watch(PlainLines(log))
