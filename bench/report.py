"""The results of a bench as values, and as lines of text."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

import msgspec

from bench.measure import Sample

if TYPE_CHECKING:
    from collections.abc import Iterable

MEGABYTE: Final = 1_000_000
HEADER: Final = (
    f"{'':23} {'wall s (min-max)':>22} {'objects/s':>10} {'MB/s':>7} {'CPU s':>7}"
    f" {'us/object':>10} {'RSS MB':>7} {'wall':>8} {'CPU':>8}"
)


class Row(msgspec.Struct, frozen=True):
    """All runs of one client in one experiment."""

    experiment: str
    client: str
    objects: int
    total_bytes: int
    samples: list[Sample]

    @property
    def walls(self) -> list[float]:
        return [sample.wall_seconds for sample in self.samples]

    @property
    def wall_seconds(self) -> float:
        return statistics.median(self.walls)

    @property
    def cpu_seconds(self) -> float:
        return statistics.median(sample.cpu_seconds for sample in self.samples)

    @property
    def peak_rss_bytes(self) -> int:
        return max(sample.peak_rss_bytes for sample in self.samples)

    @property
    def objects_a_second(self) -> float:
        return self.objects / self.wall_seconds

    @property
    def bytes_a_second(self) -> float:
        return self.total_bytes / self.wall_seconds

    @property
    def cpu_for_an_object(self) -> float:
        """In seconds."""
        return self.cpu_seconds / self.objects


class Verdict(msgspec.Struct, frozen=True):
    """One target, and what became of it.

    Attributes:
        work: what is done.
        against: whom or what.
        floor: what must be reached, in words.
        goal: what to go for, in words.
        measured: in words; the reason, where nothing was.
        met: ``goal``, ``floor``, ``no``, or empty where nothing was measured.
    """

    work: str
    against: str
    floor: str
    goal: str
    measured: str
    met: str


class Report(msgspec.Struct, frozen=True):
    """A whole bench.

    Attributes:
        when: the start, in ISO 8601.
        machine: what it ran on, in words.
        commit: of this project; with a plus where the tree had changes.
        rounds: that were chosen.
        is_quick: whether it was a short one, whose figures prove nothing.
        versions: of each client that ran.
        missing: the reason for each that did not.
    """

    when: str
    machine: str
    commit: str
    rounds: int
    is_quick: bool
    versions: dict[str, str]
    missing: dict[str, str]
    verdicts: list[Verdict]
    rows: list[Row]


def table(rows: Iterable[Row]) -> str:
    """The rows of one experiment, for a terminal; the last two columns compare with the first.

    Both are for each object, as not every client was given all of them.
    """
    rows = list(rows)
    return "\n".join([HEADER, *(_line(row, rows[0]) for row in rows)])


def _line(row: Row, first: Row) -> str:
    spread = f"{row.wall_seconds:.3f} ({min(row.walls):.3f}-{max(row.walls):.3f})"
    wall, cpu = ratios(row, first)
    return (
        f"{row.client:23} {spread:>22} {row.objects_a_second:10.0f}"
        f" {row.bytes_a_second / MEGABYTE:7.0f} {row.cpu_seconds:7.3f}"
        f" {row.cpu_for_an_object * 1e6:10.0f} {row.peak_rss_bytes / MEGABYTE:7.1f}"
        f" {wall:7.2f}x {cpu:7.2f}x"
    )


def ratios(row: Row, first: Row) -> tuple[float, float]:
    """Wall time and CPU time for each byte, beside the first row's."""
    share = first.total_bytes / row.total_bytes
    return (
        share * row.wall_seconds / first.wall_seconds,
        share * row.cpu_seconds / first.cpu_seconds,
    )
