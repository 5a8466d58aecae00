"""What a local store costs and brings: ``python -m bench.store [--quick] [--folder DIR]``.

The worker fetches from an nginx of its own, with frames to a reader that throws them away: without
a store, into an empty one, and out of a full one; and with the names of files in place of content.
Times are the worker's CPU and the wall's.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.content import FULL, QUICK, REPOSITORY, Storage
from bench.nginx import nginx
from multi_fetch.store.folder import RECORDS_FOLDER

if TYPE_CHECKING:
    from bench.content import Workload

WORKER: Final = str(Path(sys.executable).with_name("multi-fetch"))
ROUNDS: Final = 3


class Way(NamedTuple):
    """One way to fetch; whether the store is full before, and has records of what was verified."""

    name: str
    flags: tuple[str, ...]
    is_warm: bool
    has_records: bool = True


WAYS: Final = (
    Way("no store", (), is_warm=False),
    Way("store, empty", ("--store", "{store}"), is_warm=False),
    Way("store, full", ("--store", "{store}"), is_warm=True),
    Way("store, full, checked", ("--store", "{store}", "--verify-store"), is_warm=True),
    Way("paths, empty", ("--store", "{store}", "--answers", "paths"), is_warm=False),
    Way("paths, full", ("--store", "{store}", "--answers", "paths"), is_warm=True),
    Way(
        "paths, full, unknown",
        ("--store", "{store}", "--answers", "paths"),
        is_warm=True,
        has_records=False,
    ),
)


def run(address: str, workload: Workload, flags: list[str]) -> tuple[float, float]:
    """One run; gives seconds of CPU, the worker's alone, and of wall."""
    lines = "".join(f"{blob.digest} size:{blob.size}\n" for blob in workload.blobs)
    before, began = _cpu_seconds(), time.monotonic()
    worker = subprocess.Popen(
        [WORKER, *flags, f"{address}/{REPOSITORY}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    if os.fork() == 0:  # a writer that no reader waits for
        worker.stdin.write(lines.encode())
        worker.stdin.flush()
        os._exit(0)
    worker.stdin.close()
    while os.read(worker.stdout.fileno(), 1 << 20):
        pass
    status = worker.wait()
    wall = time.monotonic() - began
    os.wait()
    if status:
        raise SystemExit(f"the worker ended with {status}")
    return _cpu_seconds() - before, wall


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(address: str, workload: Workload, folder: Path, rounds: int) -> None:
    """Prints a row for each way: the best of the rounds, which are interleaved."""
    best: dict[str, tuple[float, float]] = {}
    for _ in range(rounds):
        for way in WAYS:
            store = folder / "store"
            if not way.is_warm:
                shutil.rmtree(store, ignore_errors=True)
                os.sync()
            if not way.has_records:
                shutil.rmtree(store / RECORDS_FOLDER, ignore_errors=True)
            flags = [flag.format(store=store) for flag in way.flags]
            found = run(address, workload, flags)
            best[way.name] = min(best.get(way.name, found), found)
    total = workload.total_bytes / 1e6
    print(f"\n{workload.name}: {len(workload.blobs)} objects, {total:.0f} MB")
    for name, (cpu, wall) in best.items():
        per_object = cpu / len(workload.blobs) * 1e3
        print(f"  {name:22} cpu {cpu:6.2f} s ({per_object:7.2f} ms an object)  wall {wall:6.2f} s")


def main() -> None:
    """Measures all workloads."""
    parser = argparse.ArgumentParser(prog="python -m bench.store")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", help="where the store is, and all else")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        with nginx(folder) as web:
            storage = Storage(folder / "registry", web.root)
            for shape in QUICK if arguments.quick else FULL:
                measure(web.address, storage.add_static(shape), folder, ROUNDS)


if __name__ == "__main__":
    main()
