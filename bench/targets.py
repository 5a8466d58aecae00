"""What the project means to reach, each beside what was measured in the same run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.experiments import far_ideal_seconds
from bench.report import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bench.report import Row

    Rows = Mapping[tuple[str, str], Row]

OURS: Final = "multi-fetch"
MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class Target:
    """A figure, and what it should be.

    Attributes:
        work: what is done.
        against: whom or what.
        floor: what must be reached.
        goal: what to go for.
        figure: from what was measured; raises KeyError where that is not there.
        is_upper: whether less is better.
        unit: behind the figure.
    """

    work: str
    against: str
    floor: float
    goal: float
    figure: Callable[[Rows], float]
    is_upper: bool = True
    unit: str = "x"

    def judge(self, rows: Rows, missing: Mapping[str, str]) -> Verdict:
        sign = "<= " if self.is_upper else ">= "
        floor, goal = (f"{sign}{value:g}{self.unit}" for value in (self.floor, self.goal))
        try:
            value = self.figure(rows)
        except KeyError as error:
            experiment, client = error.args[0]
            reason = missing.get(client) or missing.get(experiment) or "not measured"
            return Verdict(self.work, self.against, floor, goal, reason, "")
        met = next(
            (name for name, bound in (("goal", self.goal), ("floor", self.floor))
             if (value <= bound if self.is_upper else value >= bound)),
            "no",
        )  # fmt: skip
        return Verdict(self.work, self.against, floor, goal, f"{value:.2f}{self.unit}", met)


def cpu(experiment: str, peer: str) -> Callable[[Rows], float]:
    return lambda rows: (
        rows[experiment, OURS].cpu_for_an_object / rows[experiment, peer].cpu_for_an_object
    )


def speed(experiment: str, peer: str, own: str = OURS) -> Callable[[Rows], float]:
    """How many times as fast."""
    return lambda rows: rows[experiment, own].bytes_a_second / rows[experiment, peer].bytes_a_second


def time(experiment: str, peer: str, own: str = OURS) -> Callable[[Rows], float]:
    return lambda rows: rows[experiment, own].wall_seconds / rows[experiment, peer].wall_seconds


def peak(rows: Rows) -> float:
    sizes = ("small", "mid", "large")
    return max(rows[f"memory {size}", OURS].peak_rss_bytes for size in sizes) / MIB


def far(rows: Rows) -> float:
    row = rows["far", OURS]
    return row.wall_seconds / far_ideal_seconds(row.objects)


def grown(rows: Rows) -> list[Row]:
    """From the fewest objects to the most."""
    found = [row for (experiment, _), row in rows.items() if experiment.startswith("growth ")]
    if len(found) < 2:
        raise KeyError(("growth", OURS))
    return sorted(found, key=lambda row: row.objects)


def time_growth(rows: Rows) -> float:
    """By how much the last objects cost more than those before; the start counts for nothing."""
    first, *rest = grown(rows)
    last, before = rest[-1], rest[-2] if len(rest) > 1 else first
    start = rows["start", "until hello"].wall_seconds
    if before is first:
        earlier = (first.wall_seconds - start) / first.objects
    else:
        earlier = (before.wall_seconds - first.wall_seconds) / (before.objects - first.objects)
    later = (last.wall_seconds - before.wall_seconds) / (last.objects - before.objects)
    return later / earlier


def memory_growth(rows: Rows) -> float:
    first, *_, last = grown(rows)
    return last.peak_rss_bytes / first.peak_rss_bytes


def crane_like(rows: Rows) -> float:
    peer = "xargs crane" if ("small", "xargs crane") in rows else "xargs curl"
    return rows["small", OURS].objects_a_second / rows["small", peer].objects_a_second


TARGETS: Final = (
    Target("5,000 x 4 KiB: CPU per object", "curl --parallel", 3.0, 2.0, cpu("small", "curl")),
    Target("5,000 x 4 KiB: objects a second", "skopeo's image proxy, 4 pipes", 10, 15,
           speed("small", "skopeo"), is_upper=False),
    Target("5,000 x 4 KiB: objects a second", "one process an object (crane, or curl), 4 at a time",
           28, 45, crane_like, is_upper=False),
    Target("400 x 1 MiB: throughput", "skopeo's image proxy, 4 pipes", 2.0, 2.6,
           speed("mid", "skopeo"), is_upper=False),
    Target("8 x 256 MiB: time", "curl --parallel", 1.0, 0.85, time("large", "curl")),
    Target("8 x 256 MiB: throughput", "one core's sha256", 0.55, 0.62, speed("large", "sha256"),
           is_upper=False),
    Target("256 MiB over TLS: throughput", "naive httpx over TLS", 2.0, 2.5,
           speed("tls", "naive httpx"), is_upper=False),
    Target("peak memory, any object size, --jobs 32", "", 64, 48, peak, unit=" MiB"),
    Target("start to the hello frame", 'python -c "import trio, httpx, msgspec"', 1.15, 1.0,
           time("start", "imports", "until hello")),
    Target("start to the end of one small object", "the same", 1.3, 1.1,
           time("start", "imports", "until an end")),
    Target("2,000 x 4 KiB, 40 ms away, --jobs 64: time", "rounds x latency", 1.25, 1.1, far),
    Target("64 MiB, 10 MB/s for each connection, --ranges 4", "--ranges 1", 3.2, 3.7,
           speed("ranges", "--ranges 1", "--ranges 4"), is_upper=False),
    Target("5,000 to 200,000 x 4 KiB: time of a further object", "one before", 1.1, 1.0,
           time_growth),
    Target("5,000 to 200,000 x 4 KiB: peak memory", "that of 5,000", 1.1, 1.0, memory_growth),
    Target("1,000 x 4 KiB over httpx: time", "naive httpx", 1.0, 0.9,
           time("over httpx", "naive httpx", "multi-fetch over httpx")),
)  # fmt: skip


def verdicts(rows: Iterable[Row], missing: Mapping[str, str]) -> list[Verdict]:
    by_name = {(row.experiment, row.client): row for row in rows}
    return [target.judge(by_name, missing) for target in TARGETS]
