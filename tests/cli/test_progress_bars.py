"""Bars on a terminal: what is on its screen after every escape code."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import re
import select
import struct
import termios
from typing import TYPE_CHECKING

import pyte
import pytest

from multi_fetch.cli.logs import StderrLog, TextFormatter
from multi_fetch.cli.progress_bars import Bars
from multi_fetch.cli.progress_pace import Pace
from tests.cli.looks import MIB, a_look, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from multi_fetch.worker.progress import Look

TITLE = "registry.test/app"


class Terminal:
    """A terminal with bars in it, and a log above."""

    def __init__(self, columns: int, lines: int) -> None:
        self._ours, theirs = pty.openpty()
        self._theirs = theirs
        self.screen = pyte.Screen(columns, lines)
        self._feed = pyte.ByteStream(self.screen)
        self.raw = b""
        self.resize(columns, lines)
        self.log = StderrLog(os.fdopen(theirs, "w", closefd=False))
        self.log.setFormatter(TextFormatter())
        self.bars = Bars(TITLE, self.log)
        self._pace = Pace(0.0)
        self._now = 0.0

    def resize(self, columns: int, lines: int) -> None:
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, size)
        self.screen.resize(lines, columns)

    def show(self, look: Look) -> list[str]:
        self._now += 1
        self._pace.add(self._now, look)
        self.bars.show(look, self._pace)
        return self.lines()

    def finish(self, look: Look) -> list[str]:
        self.bars.finish(look, self._pace)
        return self.lines()

    def write(self, message: str) -> None:
        record = logging.makeLogRecord({"msg": message, "levelname": "ERROR"})
        self.log.handle(record)

    def lines(self) -> list[str]:
        """What is on the screen, without the empty end of it."""
        while select.select([self._ours], [], [], 0.05)[0]:
            text = os.read(self._ours, 65536)
            self.raw += text
            self._feed.feed(text)
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip("\n").split("\n")

    def close(self) -> None:
        self.log.close()
        self.log.stream.close()
        os.close(self._theirs)
        os.close(self._ours)


@pytest.fixture
def terminal(request: pytest.FixtureRequest) -> Iterator[Terminal]:
    there = Terminal(*getattr(request, "param", (80, 24)))
    yield there
    there.close()


FULL = a_look(flying=running(500))


def shown_twice(terminal: Terminal, look: Look = FULL) -> list[str]:
    """What has only begun at the first picture is in the second."""
    terminal.show(look)
    return terminal.show(look)


def test_five_hundred_objects_fit_a_screen(terminal: Terminal) -> None:
    first, bar, *rows, more = shown_twice(terminal)
    assert first.startswith("1,203 of 4,000 done  3 failed  ")
    assert "500 in flight" in first
    assert set(bar) <= set("━╸╺")
    assert len(rows) == 10
    assert rows[0].startswith("sha256:000000000000 ")
    assert all(row.endswith("1.0 MiB of 10.0 MiB") for row in rows)
    assert more == "and 490 more"


SIZES = [(200, 60), (80, 24), (56, 12), (40, 24), (30, 8), (24, 5), (10, 3), (1, 1)]


@pytest.mark.parametrize("terminal", SIZES, indirect=True)
def test_no_line_wraps_and_none_scrolls_away_in_any_terminal(terminal: Terminal) -> None:
    columns, lines = terminal.screen.columns, terminal.screen.lines
    shown = shown_twice(terminal)
    again = terminal.show(FULL)
    assert len(again) == len(shown) <= max(1, lines - 1)
    if columns >= 24:
        assert "1,203 of 4,000 done" in again[0]
        assert sum("done" in line for line in again) == 1


def test_log_lines_go_above_the_bars_and_tear_nothing(terminal: Terminal) -> None:
    before = shown_twice(terminal)
    terminal.write("something happened")
    between = terminal.lines()
    assert "something happened" in between[0]
    assert between[1:] == before
    terminal.write("again")
    after = terminal.show(FULL)
    assert "again" in after[1]
    assert after[3:] == before[1:]


def test_who_is_shown_stays_until_it_is_done(terminal: Terminal) -> None:
    shown_twice(terminal, a_look(flying=running(12)))
    (last, *rest) = reversed(running(12))
    further = tuple(reversed([last, *(each for each in rest)]))
    rows = terminal.show(a_look(flying=(*further, *running(1, size=99 * MIB))))
    assert len(rows) == 2 + 10 + 1


def test_what_passes_between_two_pictures_has_no_row(terminal: Terminal) -> None:
    assert len(terminal.show(FULL)) == 2


def test_fewer_lines_leave_nothing_of_the_longer_picture(terminal: Terminal) -> None:
    assert len(shown_twice(terminal)) == 13
    assert len(terminal.show(a_look(flying=running(1)))) == 3


@pytest.mark.parametrize(("columns", "lines"), [(40, 24), (120, 40), (80, 6)])
def test_a_terminal_may_change_its_size(terminal: Terminal, columns: int, lines: int) -> None:
    shown_twice(terminal)
    terminal.resize(columns, lines)
    shown = terminal.show(FULL)
    assert sum("1,203 of 4,000 done" in line for line in shown[-13:]) == 1
    assert shown[-1].startswith("and ")
    assert terminal.show(FULL)[-1] == shown[-1]


def test_at_the_end_one_line_is_left(terminal: Terminal) -> None:
    shown_twice(terminal)
    terminal.write("something happened")
    log, last = terminal.finish(a_look(requests=1203, flying=()))
    assert "something happened" in log
    assert last.startswith(f"{TITLE}: 1,200 of 1,203 done, 3 failed, 512 MiB in 0:02 (")
    terminal.write("behind it")
    assert "behind it" in terminal.lines()[2]


def test_bars_that_never_were_leave_nothing(terminal: Terminal) -> None:
    assert terminal.finish(FULL) == [""]
    assert terminal.raw == b""


def test_without_a_size_there_is_no_bar_but_what_came(terminal: Terminal) -> None:
    look = a_look(flying=running(1, size=None), remaining=None)
    row = shown_twice(terminal, look)[2]
    assert "━" not in row
    assert row.endswith(" 1.0 MiB")


def test_colours_are_left_out_where_nobody_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for variable, has_colours in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", variable)
        there = Terminal(80, 24)
        shown_twice(there)
        assert (re.search(rb"\x1b\[[39][0-7]", there.raw) is not None) is has_colours
        there.close()
