"""A report as a Markdown page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.report import MEGABYTE, ratios

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bench.report import Report, Row, Verdict

INTRODUCTION = (
    "Medians; CPU is user and system time of the client and its children. Ratios compare with the"
    " first row, for each byte."
)
HEADER = (
    "client", "objects", "wall s (min-max)", "objects/s", "MB/s", "CPU us/object", "CPU s/GB",
    "peak MB", "wall", "CPU",
)  # fmt: skip
MARKS = {"goal": "goal met", "floor": "floor met", "no": "**not met**", "": "-"}


def page(report: Report, plots: Sequence[str]) -> str:
    kind = " (a quick run: it shows that the bench works, and proves nothing)"
    lines = [
        f"# Bench{kind if report.is_quick else ''}",
        "",
        f"{report.when}, commit {report.commit}, {report.rounds} rounds. {report.machine}.",
        "",
        INTRODUCTION,
        "",
        "## What it must reach",
        "",
        *targets(report.verdicts),
        "",
        *(f"![{name}]({name})" for name in plots),
        "",
        "## All measurements",
        *experiments(report.rows),
        "",
        "## Versions",
        "",
        *(f"- {name}: {text}" for name, text in report.versions.items()),
        *(f"- {name}: {text}" for name, text in report.missing.items()),
    ]
    return "\n".join(lines) + "\n"


def targets(verdicts: Iterable[Verdict]) -> Iterator[str]:
    yield "| work | against | floor | goal | measured | |"
    yield "|---|---|---|---|---|---|"
    for each in verdicts:
        cells = (each.work, each.against, each.floor, each.goal, each.measured, MARKS[each.met])
        yield f"| {' | '.join(cells)} |"


def experiments(rows: Iterable[Row]) -> Iterator[str]:
    first: Row | None = None
    for row in rows:
        if first is None or row.experiment != first.experiment:
            first = row
            yield from ("", f"### {row.experiment}", "")
            yield f"| {' | '.join(HEADER)} |"
            yield "|---" * len(HEADER) + "|"
        yield _line(row, first)


def _line(row: Row, first: Row) -> str:
    wall, cpu = ratios(row, first)
    cells = (
        row.client,
        str(row.objects),
        f"{row.wall_seconds:.3f} ({min(row.walls):.3f}-{max(row.walls):.3f})",
        f"{row.objects_a_second:.0f}",
        f"{row.bytes_a_second / MEGABYTE:.0f}",
        f"{row.cpu_for_an_object * 1e6:.0f}",
        f"{row.cpu_seconds / row.total_bytes * 1e9:.2f}",
        f"{row.peak_rss_bytes / MEGABYTE:.1f}",
        f"{wall:.2f}x",
        f"{cpu:.2f}x",
    )
    return f"| {' | '.join(cells)} |"
