"""The results of a bench, as a table and as JSON."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

import msgspec

from bench.measure import Sample

if TYPE_CHECKING:
    from collections.abc import Iterable

MEGABYTE: Final = 1_000_000
HEADER: Final = (
    f"{'':12} {'wall s (min-max)':>22} {'objects/s':>10} {'MB/s':>7} {'CPU s':>7}"
    f" {'us/object':>10} {'RSS MB':>7} {'wall':>7} {'CPU':>7}"
)


class Row(msgspec.Struct, frozen=True):
    """All runs of one client on one workload."""

    workload: str
    client: str
    objects: int
    total_bytes: int
    samples: list[Sample]

    @property
    def wall_seconds(self) -> float:
        return statistics.median(sample.wall_seconds for sample in self.samples)

    @property
    def cpu_seconds(self) -> float:
        return statistics.median(sample.cpu_seconds for sample in self.samples)

    @property
    def peak_rss_bytes(self) -> int:
        return max(sample.peak_rss_bytes for sample in self.samples)


class Report(msgspec.Struct, frozen=True):
    """A whole bench.

    Attributes:
        when: the start, in ISO 8601.
        machine: what it ran on, in words.
        versions: of each client that ran.
        missing: the reason for each that did not.
    """

    when: str
    machine: str
    rounds: int
    versions: dict[str, str]
    missing: dict[str, str]
    rows: list[Row]


def table(rows: Iterable[Row]) -> str:
    """The rows of one workload; the last two columns are ratios to the first row."""
    rows = list(rows)
    return "\n".join([HEADER, *(_line(row, rows[0]) for row in rows)])


def _line(row: Row, first: Row) -> str:
    walls = [sample.wall_seconds for sample in row.samples]
    wall, cpu = row.wall_seconds, row.cpu_seconds
    spread = f"{wall:.3f} ({min(walls):.3f}-{max(walls):.3f})"
    return (
        f"{row.client:12} {spread:>22} {row.objects / wall:10.0f}"
        f" {row.total_bytes / wall / MEGABYTE:7.0f} {cpu:7.3f} {cpu / row.objects * 1e6:10.0f}"
        f" {row.peak_rss_bytes / MEGABYTE:7.1f} {wall / first.wall_seconds:6.2f}x"
        f" {cpu / first.cpu_seconds:6.2f}x"
    )
