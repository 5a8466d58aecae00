"""Progress as bars on a terminal, with rich: one line for the run, a bar for it, some for objects.

rich makes the lines; where they stand is decided here, because log lines go above them and a
terminal changes its size. Lines are never as wide as the terminal, so none of them wraps, and
what was drawn is wiped by going up as many rows as it takes at the present width.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions, Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from multi_fetch.cli.progress_lines import largest, parts, summary
from multi_fetch.cli.progress_pace import amount
from multi_fetch.limits import MAX_TOLD_RUNNING
from multi_fetch.oci.digest import DIGEST

if TYPE_CHECKING:
    from typing import TextIO

    from rich.console import RenderableType

    from multi_fetch.cli.logs import StderrLog
    from multi_fetch.cli.progress_pace import Pace
    from multi_fetch.worker.progress import Look, Running

# Four pictures a second look like motion, and cost little.
BARS_SECONDS: Final = 0.25

# Below these widths and heights there is room for less.
LEAST_COLUMNS: Final = 24
SIZES_COLUMNS: Final = 40
BAR_COLUMNS: Final = 56
MAX_BAR_COLUMNS: Final = 32
# Of a picture, beside the objects: the run, its bar, "and more", and the line of the cursor.
OTHER_LINES: Final = 4

# ECMA-48: what rich writes to have colours.
COLOURS = re.compile(r"\x1b\[[0-9;]*m")

SHOWN_DIGITS: Final = 12


class Bars:
    """A picture that is drawn again and again; see ``progress.View``.

    Args:
        title: of the run.
        log: whose lines are written above it.
    """

    interval_seconds = BARS_SECONDS

    def __init__(self, title: str, log: StderrLog) -> None:
        self._title = title
        self._log = log
        self._screen = Screen(log.stream)
        self._console = Console(file=log.stream, force_terminal=True, highlight=False)
        self._shown: list[int] = []
        self._seen: set[int] = set()
        log.screen = self._screen

    def show(self, look: Look, pace: Pace) -> None:
        """Draws the picture, where somebody sees it."""
        stream = self._log.stream
        if not is_in_front(stream):
            return
        size = os.get_terminal_size(stream.fileno())
        # One column less, so that the cursor never stands where a terminal would wrap.
        self._console.size = ConsoleDimensions(max(1, size.columns - 1), size.lines)
        with self._console.capture() as captured:
            self._console.print(self._picture(look, pace, size), no_wrap=True, overflow="ellipsis")
        with self._log.held():
            self._log.put(self._screen.draw(captured.get().splitlines()))

    def finish(self, look: Look, pace: Pace) -> None:
        """Leaves one line in place of the picture, if there was one."""
        with self._log.held():
            self._log.screen = None
            if self._screen.was_drawn:
                self._log.put(f"{self._screen.wipe()}{self._title}: {summary(look, pace)}\n")

    def _picture(self, look: Look, pace: Pace, size: os.terminal_size) -> Group:
        columns = size.columns - 1
        lines: list[RenderableType] = [_headline(self._title, parts(look, pace), columns)]
        if columns >= LEAST_COLUMNS:
            if size.lines > OTHER_LINES:
                lines.append(_whole(look, columns))
            rows = self._choose(look, min(MAX_TOLD_RUNNING, size.lines - OTHER_LINES))
            if rows:
                lines.append(_table(rows, columns))
            more = len(look.running) - len(rows)
            if rows and more > 0:
                lines.append(Text(f"and {more:,} more", style="dim"))
        return Group(*lines)

    def _choose(self, look: Look, room: int) -> list[Running]:
        """Those to show: who was shown stays while it runs; what has only begun may pass by."""
        running = {each.id: each for each in look.running}
        kept = [shown for shown in self._shown if shown in running]
        new = [each.id for each in largest(look) if each.id in self._seen and each.id not in kept]
        self._shown = [*kept, *new][: max(0, room)]
        self._seen = set(running)
        return [running[shown] for shown in self._shown]


class Screen:
    """The last rows of a terminal, where something stands that goes on changing.

    Args:
        stream: the terminal.

    Attributes:
        was_drawn: whether anything stands there.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: list[str] = []
        self.was_drawn = False

    def draw(self, lines: list[str]) -> str:
        """What to write so that these lines stand in the place of those before."""
        up = self._up()
        self._lines, self.was_drawn = lines, True
        return f"{up}{self._text()}\x1b[J"

    def above(self, text: str) -> str:
        """What to write so that these lines stand above; see ``logs.Screen``."""
        return f"{self.wipe()}{text}{self._text()}"

    def wipe(self) -> str:
        """What to write so that nothing stands there (ECMA-48, ED)."""
        return f"{self._up()}\x1b[J" if self._lines else ""

    def _text(self) -> str:
        # Each wipes what was longer in its row (ECMA-48, EL).
        return "".join(f"{line}\x1b[K\n" for line in self._lines)

    def _up(self) -> str:
        """To the first of the rows that the lines take, at the present width (ECMA-48, CUU)."""
        columns = max(1, os.get_terminal_size(self._stream.fileno()).columns)
        widths = (cell_len(COLOURS.sub("", line)) for line in self._lines)
        rows = sum(max(1, -(-width // columns)) for width in widths)
        return f"\r\x1b[{rows}A" if rows else "\r"


def is_in_front(stream: TextIO) -> bool:
    """Whether the terminal is this job's, and not that of who put it into the background."""
    try:
        return os.tcgetpgrp(stream.fileno()) == os.getpgrp()
    except OSError:  # not the terminal that jobs are controlled from
        return True


def _headline(title: str, said: list[str], columns: int) -> Text:
    """As many parts as fit, and the title if it does too."""
    kept = said[:1]
    for part in said[1:]:
        if len("  ".join([*kept, part])) <= columns:
            kept.append(part)
    text = "  ".join(kept)
    if len(title) + 2 + len(text) <= columns:
        return Text.assemble((title, "bold"), "  ", text)
    return Text(text)


def _whole(look: Look, columns: int) -> Table:
    """The bar of the run, in a table, since a bar by itself does not end its line."""
    if look.remaining_bytes is None:
        total, completed = look.requests, look.done
    else:
        total, completed = look.bytes + look.remaining_bytes, look.bytes
    table = Table.grid()
    table.add_row(_bar(total, completed, width=columns))
    return table


def _bar(total: int, completed: int, *, width: int | None = None) -> ProgressBar:
    return ProgressBar(
        total=max(1, total),
        completed=min(completed, total),
        width=width,
        style="bright_black",
        complete_style="green",
        finished_style="green",
    )


def _table(rows: list[Running], columns: int) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    has_bars = columns >= BAR_COLUMNS
    if has_bars:
        table.add_column(width=min(MAX_BAR_COLUMNS, columns // 3))
    table.add_column(no_wrap=True, justify="right")
    for each in rows:
        size = each.size
        bar: RenderableType = ""
        told = amount(each.sent_bytes)
        if size is not None:
            bar = _bar(size, each.sent_bytes)
            told += f" of {amount(size)}"
            if columns < SIZES_COLUMNS:
                told = f"{100 * each.sent_bytes // max(1, size)}%"
        cells = [Text(_short(each.object)), bar, Text(told)]
        table.add_row(*(cells if has_bars else [cells[0], cells[2]]))
    return table


def _short(name: str) -> str:
    """An object as people tell it from others: a digest's first digits are enough."""
    before, at, digest = name.rpartition("@")
    found = DIGEST.fullmatch(digest)
    if found is None:
        return name
    algorithm, _, encoded = digest.partition(":")
    return f"{before}{at if before else ''}{algorithm}:{encoded[:SHOWN_DIGITS]}"
