"""Which progress is shown, to whom."""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import pty
from typing import TYPE_CHECKING, TextIO

import pytest
import trio

from multi_fetch.cli.logs import StderrLog
from multi_fetch.cli.progress import HINT, MODES, Mode, Watch, add_progress_flag, observer
from multi_fetch.cli.progress_bars import Bars
from multi_fetch.cli.progress_lines import JsonLines, PlainLines
from tests.cli.looks import a_look

if TYPE_CHECKING:
    from collections.abc import Iterator

    from multi_fetch.cli.progress_pace import Pace
    from multi_fetch.worker.progress import Look


@pytest.fixture
def terminal() -> Iterator[TextIO]:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream:
        yield stream
    os.close(ours)


def view_of(mode: Mode, stream: TextIO) -> object:
    watch = observer(mode, "title", StderrLog(stream))
    return None if watch is None else vars(watch)["_view"].__class__


@pytest.fixture(autouse=True)
def _a_capable_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")


def test_the_flag_has_four_words() -> None:
    parser = argparse.ArgumentParser()
    add_progress_flag(parser)
    assert parser.parse_args([]).progress == "auto"
    for mode in MODES:
        assert parser.parse_args(["--progress", mode]).progress == mode


@pytest.mark.parametrize(
    ("mode", "view"),
    [("auto", None), ("never", None), ("always", PlainLines), ("json", JsonLines)],
)
def test_without_a_terminal_there_are_lines_at_most(mode: Mode, view: object) -> None:
    assert view_of(mode, io.StringIO()) is view


@pytest.mark.parametrize(
    ("mode", "view"), [("auto", Bars), ("never", None), ("always", Bars), ("json", JsonLines)]
)
def test_on_a_terminal_there_are_bars(mode: Mode, view: object, terminal: TextIO) -> None:
    assert view_of(mode, terminal) is view


@pytest.mark.parametrize("name", ["dumb", "", "unknown", "DUMB"])
@pytest.mark.parametrize(("mode", "view"), [("auto", None), ("always", PlainLines)])
def test_a_dumb_terminal_has_no_bars(
    name: str, mode: Mode, view: object, terminal: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", name)
    assert view_of(mode, terminal) is view


def test_bars_are_not_drawn_where_stdout_is_on_a_terminal(
    terminal: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "isatty", lambda fd: fd == 1)
    assert view_of("auto", terminal) is None


def test_without_rich_auto_is_silent_and_always_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    stream = Screen()
    assert view_of("auto", stream) is None
    assert stream.getvalue() == ""
    assert view_of("always", stream) is PlainLines
    assert stream.getvalue() == HINT


class Kept:
    """A view that keeps what it was shown."""

    interval_seconds = 1.0

    def __init__(self) -> None:
        self.shown: list[tuple[float, int]] = []
        self.last: tuple[float, int] | None = None

    def show(self, look: Look, pace: Pace) -> None:
        self.shown.append((pace.seconds, look.bytes))

    def finish(self, look: Look, pace: Pace) -> None:
        self.last = pace.seconds, look.bytes


async def test_a_run_is_looked_at_now_and_then_and_at_its_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    view = Kept()
    with trio.move_on_after(4.5):
        await Watch(view, delay_seconds=1).watch(lambda: a_look(received=7))
    assert view.shown == [(2, 7), (3, 7), (4, 7)]
    assert view.last == (4.5, 7)


async def test_a_run_that_is_over_before_the_delay_is_not_shown(
    autojump_clock: trio.testing.MockClock,
) -> None:
    view = Kept()
    with trio.move_on_after(0.5):
        await Watch(view, delay_seconds=1).watch(a_look)
    assert (view.shown, view.last) == ([], None)


async def test_a_stderr_that_has_gone_ends_the_watch_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Gone(Kept):
        def show(self, look: Look, pace: Pace) -> None:
            raise BrokenPipeError

    with trio.fail_after(2):
        await Watch(Gone()).watch(a_look)
