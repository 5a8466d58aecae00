"""multi-fetch beside its peers, on a docker-registry of its own: ``make bench``.

Each workload is a set of blobs that a client fetches in one run. The rounds are interleaved: every
client once, then every client again, each round beginning with another one, so that a slow minute
of the machine hits all alike. Before the first round each client runs once untimed, which warms
the page cache and shows that it delivers all bytes.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from bench.clients import NAMES, Client, all_clients, reason_missing, version
from bench.content import FULL, QUICK, Storage, Workload
from bench.measure import BenchError, Sample
from bench.report import Report, Row, table
from tests.integration.docker_registry import COMMAND, docker_registry, is_installed

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS: Final = Path(__file__).with_name("results")


class Options(argparse.Namespace):
    """The command line."""

    rounds: int
    quick: bool
    only: list[str]


def parse_options(argv: Sequence[str]) -> Options:
    names = [*NAMES, *(shape.name for shape in FULL)]
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each (default 3)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the objects")
    parser.add_argument(
        "--only", nargs="+", default=[], choices=names, help="these clients, these workloads"
    )
    options = parser.parse_args(argv, namespace=Options())
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return options


def chosen(names: Sequence[str], only: Sequence[str]) -> set[str]:
    """The names that ``--only`` gives; all, where it gives none of this kind."""
    return set(names) & set(only) or set(names)


def fill(storage: Path, options: Options) -> list[Workload]:
    shapes = QUICK if options.quick else FULL
    wanted = chosen([shape.name for shape in shapes], options.only)
    store = Storage(storage)
    store.add_image()
    return [store.add_workload(shape) for shape in shapes if shape.name in wanted]


def measure(workload: Workload, clients: Sequence[Client], rounds: int) -> list[Row]:
    for client in clients:
        client.check(workload)
    samples: dict[str, list[Sample]] = {client.name: [] for client in clients}
    for number in range(rounds):
        first = number % len(clients)
        for client in (*clients[first:], *clients[:first]):
            samples[client.name].append(client.run(workload))
    objects, total = len(workload.blobs), workload.total_bytes
    return [Row(workload.name, name, objects, total, taken) for name, taken in samples.items()]


def bench(options: Options, directory: Path) -> Report:
    when = datetime.now(UTC).isoformat(timespec="seconds")
    machine = f"{os.cpu_count()} CPUs, {platform.platform()}, Python {platform.python_version()}"
    print(f"{machine}\nfilling the registry ...", flush=True)
    with docker_registry(directory) as registry:
        workloads = fill(registry.storage, options)
        wanted = chosen(NAMES, options.only)
        clients = [c for c in all_clients(registry.address, directory) if c.name in wanted]
        missing = {c.name: reason for c in clients if (reason := reason_missing(c)) is not None}
        clients = [client for client in clients if client.name not in missing]
        versions = {client.name: version(client) for client in clients}
        for name, text in {**versions, **missing}.items():
            print(f"{name}: {text}")
        if not clients:
            raise BenchError("there is no client to measure")
        rows = []
        for workload in workloads:
            measured = measure(workload, clients, options.rounds)
            size = workload.blobs[0].size // 1024
            print(f"\n{workload.name}: {len(workload.blobs)} blobs of {size} KiB")
            print(table(measured), flush=True)
            rows += measured
    return Report(when, machine, options.rounds, versions, missing, rows)


def main(argv: Sequence[str]) -> int:
    options = parse_options(argv)
    if not is_installed():
        print(f"{COMMAND} is not installed (Debian: apt-get install docker-registry)")
        return 1
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        try:
            report = bench(options, Path(directory))
        except BenchError as error:
            print(f"the bench stopped: {error}", file=sys.stderr)
            return 1
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{report.when.replace(':', '')}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    print(f"\nwritten: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
