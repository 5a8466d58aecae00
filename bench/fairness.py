"""How large and small objects share one stream: ``python -m bench.fairness``.

A parent reads at a limited rate while some large blobs flow, and asks for small objects one after
the other, each when it has the one before: the latency of each is measured from its line to its
``end``. A large blob that has ended is asked for again, so that as many flow all the time. The
same is measured with the small ones alone and with the large ones alone.

What a small object waits for, at the least, is what stands in the pipe before it: the pipe's size
divided by the rate.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Final

from bench.content import KIB, MIB, REPOSITORY, Shape, Storage
from multi_fetch.limits import PIPE_BYTES
from multi_fetch.protocol.frames import Bye, Data, End, Error
from multi_fetch.protocol.framing import END_OF_STREAM, NEED_DATA, FrameDecoder
from tests.integration.docker_registry import docker_registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.content import Blob

MULTI_FETCH: Final = str(Path(sys.executable).with_name("multi-fetch"))
READ_BYTES: Final = 64 * KIB
MB: Final = 1_000_000
# What comes before the stream is steady is not measured.
SETTLE_SECONDS: Final = 1.0


class Options(argparse.Namespace):
    """The command line."""

    large: int
    small: int
    rate: float
    jobs: int
    seconds: float


@dataclass
class Measured:
    """One run: seconds for each small object, bytes for each large one, and in how long."""

    latencies: list[float] = field(default_factory=list)
    large_bytes: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """MB/s of the large objects together."""
        return sum(self.large_bytes.values()) / self.seconds / MB


class Parent:
    """Reads at its rate, and writes a line whenever something has ended."""

    def __init__(self, process: subprocess.Popen[bytes], bytes_per_second: float) -> None:
        self._process = process
        self._bytes_per_second = bytes_per_second
        self._line = 0
        self._decoder = FrameDecoder()
        self._began = time.monotonic()
        self._read = 0

    def ask(self, blob: Blob) -> int:
        """Writes the line for a blob; returns its id."""
        hints = f"mediatype:application/octet-stream size:{blob.size}"
        return self.write(f"{blob.digest} {hints}\n")

    def write(self, line: str) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())
        self._line += 1
        return self._line

    def frames(self) -> list[object]:
        """What the next read brings; waits first, if that came too early for the rate."""
        assert self._process.stdout is not None
        due = self._began + self._read / self._bytes_per_second
        time.sleep(max(0.0, due - time.monotonic()))
        data = os.read(self._process.stdout.fileno(), READ_BYTES)
        # What was not read in the past may not be caught up on.
        self._began = max(self._began, time.monotonic() - self._read / self._bytes_per_second)
        self._read += len(data)
        self._decoder.feed(data)
        found: list[object] = []
        while (frame := self._decoder.next_frame()) is not NEED_DATA:
            assert frame is not END_OF_STREAM
            found.append(frame)
        return found


def measure(
    address: str, options: Options, large: Sequence[Blob], small: Sequence[Blob]
) -> Measured:
    """Lets the large blobs flow until all small ones have come, or for as long as was chosen."""
    command = [MULTI_FETCH, f"--jobs={options.jobs}", f"{address}/{REPOSITORY}"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # in the end it tells of all that was cancelled
        bufsize=0,
    ) as process:
        parent = Parent(process, options.rate * MB)
        while not parent.frames():  # until hello: starting is not what is measured
            pass
        measured = _run(parent, options, large, small)
        process.terminate()
        while not any(isinstance(frame, Bye) for frame in parent.frames()):
            pass
    return measured


def _run(
    parent: Parent, options: Options, large: Sequence[Blob], small: Sequence[Blob]
) -> Measured:
    slots = {parent.ask(blob): number for number, blob in enumerate(large)}
    measured, rest = Measured(), list(small)
    asked_id, asked_at = 0, 0.0
    began = time.monotonic()
    settled = began + (SETTLE_SECONDS if large else 0)
    while rest or asked_id or (not small and time.monotonic() < settled + options.seconds):
        if rest and not asked_id and time.monotonic() >= settled:
            asked_at = time.monotonic()
            asked_id = parent.ask(rest.pop())
        for frame in parent.frames():
            if isinstance(frame, Error):
                raise SystemExit(f"request {frame.id}: {frame.message}")
            if isinstance(frame, Data) and frame.id in slots and time.monotonic() >= settled:
                measured.large_bytes[slots[frame.id]] += len(frame.content)
            elif isinstance(frame, End) and frame.id in slots:
                slot = slots.pop(frame.id)
                slots[parent.ask(large[slot])] = slot
            elif isinstance(frame, End):
                measured.latencies.append(time.monotonic() - asked_at)
                asked_id = 0
    measured.seconds = time.monotonic() - settled
    return measured


def told_latencies(measured: Measured) -> str:
    cuts = quantiles(measured.latencies, n=100)
    most = max(measured.latencies)
    return ", ".join(
        f"{name} {1_000 * value:.1f} ms"
        for name, value in (("p50", cuts[49]), ("p90", cuts[89]), ("p99", cuts[98]), ("max", most))
    )


def told_shares(measured: Measured) -> str:
    each = measured.large_bytes.values()
    mean = sum(each) / len(each)
    return (
        f"{measured.rate:.1f} MB/s together; the least share is {min(each) / mean:.2f} of the"
        f" mean, the greatest {max(each) / mean:.2f}"
    )


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench.fairness", description=__doc__)
    parser.add_argument("--large", type=int, default=8, help="blobs that flow (default 8)")
    parser.add_argument("--small", type=int, default=500, help="objects in turn (default 500)")
    parser.add_argument("--rate", type=float, default=50, help="MB/s of the parent (default 50)")
    parser.add_argument("--jobs", type=int, default=16, help="of the worker (default 16)")
    parser.add_argument("--seconds", type=float, default=10, help="of large ones alone")
    options = parser.parse_args(argv, namespace=Options())
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        docker_registry(Path(directory)) as registry,
    ):
        store = Storage(registry.storage)
        large = store.add_workload(Shape("large", options.large, 32 * MIB)).blobs
        small = store.add_workload(Shape("small", options.small, 4 * KIB)).blobs
        floor = 1_000 * PIPE_BYTES / options.rate / MB
        print(f"the parent reads {options.rate:g} MB/s: a full pipe takes {floor:.1f} ms of that")
        alone = measure(registry.address, options, (), small)
        print(f"{options.small} small alone:    {told_latencies(alone)}")
        among = measure(registry.address, options, large, small)
        print(f"... among {options.large} large: {told_latencies(among)}")
        print(f"{options.large} large with small: {told_shares(among)}")
        only = measure(registry.address, options, large, ())
        print(f"{options.large} large alone:      {told_shares(only)}")
        three = measure(registry.address, options, large[:3], ())
        print(f"3 large alone:      {told_shares(three)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
