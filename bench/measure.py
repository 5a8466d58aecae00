"""One run of a client: its wall time, its CPU time and its peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DISCARD: Final = "cat >/dev/null"
COUNT: Final = "wc -c"
LAUNCH: Final = (sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py")))

# getrusage(2): ru_maxrss is in KiB on Linux, in bytes on macOS.
RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024


class BenchError(Exception):
    """A client failed, or did not deliver what was asked."""


@dataclass(frozen=True)
class Sample:
    """What one run took.

    Attributes:
        wall_seconds: from the client's start to the end of it and of its reader, or to what was
            waited for.
        cpu_seconds: user and system, of the client and the children that it waited for.
        peak_rss_bytes: of the client.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_rss_bytes: int


class Running:
    """A client that was started through launch.py."""

    def __init__(self, argv: Sequence[str], report: IO[bytes], stderr: IO[bytes]) -> None:
        self._argv = argv
        self._report = report
        self._stderr = stderr

    def finish(
        self, reader: subprocess.Popen[bytes] | None = None, *, ended: float | None = None
    ) -> tuple[Sample, bytes]:
        """Waits for the client, then for the reader of its stdout.

        Args:
            reader: of stdout.
            ended: when what is measured had come (time.monotonic); None for the end of all.

        Returns:
            The sample, and what the reader wrote.

        Raises:
            BenchError: the client's exit status is not 0; the message ends with its stderr.
        """
        fields = self._report.read().split()
        written = b"" if reader is None else reader.communicate()[0]
        ended = ended or time.monotonic()
        if fields[1:2] != [b"0"]:
            status = fields[1].decode() if fields else "unknown: it was not started"
            self._stderr.seek(0)
            words = self._stderr.read()[-2000:].decode(errors="replace")
            raise BenchError(f"{' '.join(self._argv)}: exit status {status}\n{words}")
        started, _, cpu_seconds, peak = fields
        return Sample(ended - float(started), float(cpu_seconds), int(peak) * RSS_UNIT), written


@contextmanager
def running(
    argv: Sequence[str],
    *,
    stdin: int,
    stdout: int | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """A client, started; at the end it must have a reason to end by itself."""
    read_end, write_end = os.pipe()
    with (
        os.fdopen(read_end, "rb") as report,
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(
            [*LAUNCH, str(write_end), *argv],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
            pass_fds=[write_end],
        ),
    ):
        os.close(write_end)
        yield Running(argv, report, stderr)


def run_piped(
    argv: Sequence[str], stdin: Path, reader: str, env: Mapping[str, str] | None = None
) -> tuple[Sample, bytes]:
    """Runs a client with a file as stdin and a pipe as stdout.

    Returns:
        The sample, and what the reader (a shell's command) wrote.

    Raises:
        BenchError: the client failed.
    """
    read_end, write_end = os.pipe()
    with (
        stdin.open("rb") as lines,
        subprocess.Popen(reader, shell=True, stdin=read_end, stdout=subprocess.PIPE) as drain,
    ):
        os.close(read_end)
        with running(argv, stdin=lines.fileno(), stdout=write_end, env=env) as client:
            os.close(write_end)
            return client.finish(drain)
