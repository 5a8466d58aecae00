"""Plots of a report, as SVG; they need matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from bench.report import MEGABYTE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.report import Report, Row

SIZES: Final = ("small", "mid", "large")
OURS: Final = "#1f77b4"
PEERS: Final = "#b0b0b0"


def draw(report: Report, folder: Path) -> list[str]:
    """Writes what can be drawn; the names of the files."""
    rows = [row for row in report.rows if row.client != "sha256"]
    drawn = [
        _bars(rows, "throughput.svg", "MB/s, more is better", _throughput, folder),
        _bars(rows, "cpu.svg", "CPU us for each object, less is better", _cpu, folder),
        _growth(rows, folder),
    ]
    return [name for name in drawn if name]


def _throughput(row: Row) -> float:
    return row.bytes_a_second / MEGABYTE


def _cpu(row: Row) -> float:
    return row.cpu_for_an_object * 1e6


def _bars(
    rows: Sequence[Row], name: str, label: str, value: Callable[[Row], float], folder: Path
) -> str:
    sizes = [size for size in SIZES if any(row.experiment == size for row in rows)]
    if not sizes:
        return ""
    figure = Figure(figsize=(4 * len(sizes), 3.2), layout="constrained")
    for axes, size in zip(figure.subplots(1, len(sizes), squeeze=False)[0], sizes, strict=True):
        chosen = [row for row in rows if row.experiment == size]
        chosen.sort(key=value)
        names = [row.client for row in chosen]
        colours = [OURS if name == "multi-fetch" else PEERS for name in names]
        bars = axes.barh(names, [value(row) for row in chosen], color=colours)
        axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=7)
        kib = chosen[0].total_bytes // chosen[0].objects // 1024
        axes.set_title(f"{kib} KiB", fontsize=9)
        axes.set_xlabel(label, fontsize=8)
        axes.margins(x=0.15)
        axes.tick_params(labelsize=7)
    _save(figure, folder / name)
    return name


def _growth(rows: Sequence[Row], folder: Path) -> str:
    grown = [row for row in rows if row.experiment.startswith("growth ")]
    grown.sort(key=lambda row: row.objects)
    if len(grown) < 2:
        return ""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    time, memory = figure.subplots(1, 2)
    objects = [row.objects for row in grown]
    time.plot(objects, [row.wall_seconds for row in grown], "o-", color=OURS)
    time.set_ylabel("seconds", fontsize=8)
    memory.plot(objects, [row.peak_rss_bytes / MEGABYTE for row in grown], "o-", color=OURS)
    memory.set_ylabel("peak memory, MB", fontsize=8)
    for axes in (time, memory):
        axes.set_xlabel("objects of 4 KiB", fontsize=8)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=7)
    _save(figure, folder / "growth.svg")
    return "growth.svg"


def _save(figure: Figure, path: Path) -> None:
    # without a date, so that the same figures are the same file
    FigureCanvasSVG(figure).print_svg(str(path), metadata={"Date": None})
