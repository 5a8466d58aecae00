"""multi-fetch beside its peers, on servers of its own: ``make bench``, ``make bench-quick``.

A static nginx shows what the clients cost; docker-registry, where it is installed, what that is
worth on a real one. The results go to bench/results: a page with the targets, JSON, plots.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from bench import nginx
from bench.clients import peers, reason_missing, version
from bench.content import Storage
from bench.experiments import Plan
from bench.markdown import page
from bench.measure import BenchError
from bench.report import Report, Row, table
from bench.targets import verdicts
from tests.integration.docker_registry import COMMAND, docker_registry, is_installed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.experiments import Experiment

RESULTS: Final = Path(__file__).with_name("results")
LIBRARIES: Final = ("trio", "httpx", "httptools", "msgspec")


class Options(argparse.Namespace):
    """The command line."""

    rounds: int
    quick: bool
    only: list[str]


def parse_options(argv: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, help="timed runs of each (default 5, quick 2)")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller objects")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="these experiments: small, mid, large, start, tls, far, ranges; or a name's begin,"
        " as in memory, growth, docker-registry",
    )
    options = parser.parse_args(argv, namespace=Options())
    options.rounds = options.rounds or (2 if options.quick else 5)
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return options


def experiments(options: Options, directory: Path, missing: dict[str, str]) -> Iterator[Experiment]:
    """Those that were chosen and can be done, one after the other, with all that they need."""
    with ExitStack() as stack:
        web = stack.enter_context(nginx.nginx(directory))
        registry, root = None, directory / "storage"
        if is_installed():
            running = stack.enter_context(docker_registry(directory))
            registry, root = running.address, running.storage
        else:
            missing["docker-registry"] = f"{COMMAND} is not installed"
        if web.tls_address is None:
            missing["tls"] = "this machine has a loopback address alone"
        storage = Storage(root, web.root)
        storage.add_image()
        plan = Plan(web, registry, storage, directory, stack, is_quick=options.quick)
        for name, make in plan.experiments().items():
            is_chosen = not options.only or any(map(name.startswith, options.only))
            if is_chosen and name not in missing:
                yield make()


def bench(options: Options, directory: Path) -> Report:
    when = datetime.now(UTC).isoformat(timespec="seconds")
    print(machine(), flush=True)
    missing: dict[str, str] = {}
    rows: list[Row] = []
    for experiment in experiments(options, directory, missing):
        measured = experiment.run(options.rounds)
        missing |= experiment.skipped
        print(f"\n{experiment.name}\n{table(measured)}", flush=True)
        rows += measured
    return Report(
        when,
        machine(),
        commit(),
        options.rounds,
        options.quick,
        versions(directory),
        missing,
        verdicts(rows, missing),
        rows,
    )


def machine() -> str:
    model = platform.processor()
    told = Path("/proc/cpuinfo")
    if told.exists():
        named = [line for line in told.read_text().splitlines() if line.startswith("model name")]
        model = named[0].partition(": ")[2] if named else model
    return (
        f"{os.cpu_count()} CPUs ({model}), {platform.system()} {platform.release()},"
        f" Python {platform.python_version()}"
    )


def commit() -> str:
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"],
        cwd=RESULTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or "unknown"


def versions(directory: Path) -> dict[str, str]:
    told = {c.name: version(c) for c in peers("", directory) if reason_missing(c) is None}
    return told | {name: metadata.version(name) for name in LIBRARIES}


def write(report: Report) -> Path:
    folder = RESULTS / "quick" if report.is_quick else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    plots: list[str] = []
    if importlib.util.find_spec("matplotlib") is None:
        print("no plots: matplotlib is not installed")
    else:
        from bench.plots import draw

        plots = draw(report, folder)
    (folder / "results.json").write_bytes(
        msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"
    )
    path = folder / "README.md"
    path.write_text(page(report, plots))
    return path


def main(argv: Sequence[str]) -> int:
    options = parse_options(argv)
    if not nginx.is_installed():
        print(f"{nginx.COMMAND} is not installed (Debian: apt-get install nginx-light)")
        return 1
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        try:
            report = bench(options, Path(directory))
        except BenchError as error:
            print(f"the bench stopped: {error}", file=sys.stderr)
            return 1
    print()
    for each in report.verdicts:
        words = f"{each.work}, against {each.against}" if each.against else each.work
        aims = f"floor {each.floor}, go for {each.goal}"
        print(f"{each.met or '-':5} {words}: {each.measured} ({aims})")

    if options.only:
        print("\nnothing is written: these are not all experiments")
    else:
        print(f"\nwritten: {write(report)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
