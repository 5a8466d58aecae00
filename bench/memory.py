"""The worker's peak memory while its parent reads slowly, or not at all: ``-m bench.memory``.

The blobs are sparse files of zeros, each one byte longer than the one before, so that no two
requests ask for the same; the project's loopback registry serves them. Linux alone tells a
process's own peak, in /proc.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.process import running_registry

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# "1 MB/s", in reads of this size.
READ_BYTES: Final = 50_000
BYTES_A_SECOND: Final = 1_000_000


@dataclass(frozen=True)
class Case:
    """One run.

    Attributes:
        count: how many blobs are asked for.
        size: of the smallest; each further one has a byte more.
        flags: the worker's.
        is_read: whether the parent reads, BYTES_A_SECOND, or not at all.
    """

    name: str
    count: int
    size: int
    flags: tuple[str, ...]
    is_read: bool = True


CASES: Final = (
    Case("16 x 1 GiB, 1 MB/s", 16, GIB, ()),
    Case("16 x 1 GiB, 1 MB/s, --ordered", 16, GIB, ("--ordered",)),
    Case("64 x 1 GiB, 1 MB/s, --jobs 64", 64, GIB, ("--jobs", "64")),
    Case("2,000 x 400 KiB, not read", 2_000, 400 * KIB, (), is_read=False),
    Case("2,000 x 400 KiB, not read, --jobs 64", 2_000, 400 * KIB, ("--jobs", "64"), is_read=False),
)


def add_zeros(folder: Path, count: int, size: int) -> list[str]:
    """Puts sparse blobs into a layout; their digests."""
    hasher, block = hashlib.sha256(), bytes(64 * KIB)
    for _ in range(size // len(block)):
        hasher.update(block)
    hasher.update(bytes(size % len(block)))
    place = folder / "blobs" / "sha256"
    place.mkdir(parents=True, exist_ok=True)
    digests = []
    for extra in range(count):
        with (place / hasher.hexdigest()).open("wb") as file:
            file.truncate(size + extra)
        digests.append(f"sha256:{hasher.hexdigest()}")
        hasher.update(b"\0")
    return digests


def peak_bytes(case: Case, remote: str, digests: list[str], seconds: float) -> int:
    """Runs the worker for so long, or until it ends; its peak resident memory."""
    lines = "".join(f"{digest} mediatype:application/octet-stream\n" for digest in digests)
    command = [str(Path(sys.executable).with_name("multi-fetch")), *case.flags]
    with tempfile.TemporaryFile() as stdin:
        stdin.write(lines.encode())
        stdin.seek(0)
        with subprocess.Popen(
            [*command, "--window", "4096", remote], stdin=stdin, stdout=subprocess.PIPE, bufsize=0
        ) as worker:
            assert worker.stdout is not None
            read_slowly(worker.stdout if case.is_read else None, seconds)
            peak = peak_so_far(worker.pid)
            worker.kill()
    return peak


def read_slowly(stdout: IO[bytes] | None, seconds: float) -> None:
    """Reads at BYTES_A_SECOND for so long; without a stream, waits."""
    began = time.monotonic()
    received = 0
    while (passed := time.monotonic() - began) < seconds:
        if stdout is not None and received <= passed * BYTES_A_SECOND:
            received += len(stdout.read(READ_BYTES))
        else:
            time.sleep(READ_BYTES / BYTES_A_SECOND)


def peak_so_far(pid: int) -> int:
    """VmHWM of proc(5), in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * KIB
    raise OSError(f"process {pid} tells no VmHWM")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.memory", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for each case (default 60)")
    seconds: float = parser.parse_args().seconds
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            layout = LayoutBuilder(folder).finish().folder
            digests = add_zeros(layout, case.count, case.size)
            with running_registry(layout) as address:
                peak = peak_bytes(case, f"{address}/bench/zeros", digests, seconds)
        print(f"{case.name:<40} {peak / MIB:6.1f} MiB", flush=True)


if __name__ == "__main__":
    main()
