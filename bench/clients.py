"""The clients: what is started, and what each reads from its stdin."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from bench.content import MIB, REPOSITORY
from bench.image_proxy import ImageProxyClient
from bench.measure import COUNT, DISCARD, BenchError, Sample, run_piped, running
from multi_fetch.protocol.framing import NEED_DATA, FrameDecoder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.content import Blob, Workload
    from multi_fetch.protocol.frames import Frame

# multi-fetch's default, and so that of all who can choose; the proxy's driver has its own number.
TRANSFERS: Final = 16
PROCESSES: Final = 4
BENCH: Final = Path(__file__).parent
MULTI_FETCH: Final = str(Path(sys.executable).with_name("multi-fetch"))
CURL: Final = ("curl", "--disable", "--silent", "--show-error", "--fail", "--noproxy", "*")
XARGS: Final = ("xargs", f"-P{PROCESSES}", "-n1")

Line: TypeAlias = Callable[["Blob"], str]


class Client(Protocol):
    """Something that fetches all blobs of a workload in one run."""

    @property
    def name(self) -> str: ...

    @property
    def command(self) -> str:
        """What must be installed: a name to find on the PATH, or a path."""

    def check(self, workload: Workload) -> None:
        """An untimed run. Raises BenchError where fewer bytes come than were asked for."""

    def run(self, workload: Workload) -> Sample: ...


@dataclass(frozen=True)
class PipedClient:
    """A client that reads a list on stdin and writes the content to stdout.

    Attributes:
        name: in the results.
        argv: what is started.
        line: a blob's line of stdin.
        directory: for the lists.
        env: beside this process's own.
        needs: a module or a command without which it cannot run; empty for argv's first.
    """

    name: str
    argv: tuple[str, ...]
    line: Line
    directory: Path
    env: Mapping[str, str] = field(default_factory=dict)
    needs: str = ""

    @property
    def command(self) -> str:
        return self.needs or self.argv[0]

    def check(self, workload: Workload) -> None:
        _, counted = self._run(workload, COUNT)
        count, total = int(counted), workload.total_bytes
        if count < total:
            raise BenchError(
                f"{self.name} wrote {count} bytes, fewer than the {total} of the blobs"
            )

    def run(self, workload: Workload) -> Sample:
        sample, _ = self._run(workload, DISCARD)
        return sample

    def _run(self, workload: Workload, reader: str) -> tuple[Sample, bytes]:
        path = self.directory / f"{self.name}.{workload.name}.{len(workload.blobs)}"
        path.write_text("".join(f"{self.line(blob)}\n" for blob in workload.blobs))
        return run_piped(self.argv, path, reader, os.environ | self.env)


@dataclass(frozen=True)
class UntilClient:
    """multi-fetch, from its start until a kind of frame is here; then its stdin ends."""

    name: str
    argv: tuple[str, ...]
    line: Line
    kind: type[Frame]

    @property
    def command(self) -> str:
        return self.argv[0]

    def check(self, workload: Workload) -> None:
        self.run(workload)

    def run(self, workload: Workload) -> Sample:
        stdin_read, stdin_write = os.pipe()
        stdout_read, stdout_write = os.pipe()
        os.write(stdin_write, f"{self.line(workload.blobs[0])}\n".encode())
        with running(self.argv, stdin=stdin_read, stdout=stdout_write) as client:
            os.close(stdin_read)
            os.close(stdout_write)
            ended = self._wait(stdout_read)
            os.close(stdin_write)
            while os.read(stdout_read, MIB):
                pass
            os.close(stdout_read)
            sample, _ = client.finish(ended=ended)
        return sample

    def _wait(self, fd: int) -> float:
        decoder = FrameDecoder()
        while data := os.read(fd, MIB):
            decoder.feed(data)
            while (frame := decoder.next_frame()) is not NEED_DATA:
                if isinstance(frame, self.kind):
                    return time.monotonic()
        raise BenchError(f"{self.name} ended without {self.kind.__name__}")


@dataclass(frozen=True)
class ImportsClient:
    """An interpreter that imports what any such client would, and ends."""

    name: str = "imports"
    command: str = sys.executable

    def check(self, workload: Workload) -> None:
        self.run(workload)

    def run(self, workload: Workload) -> Sample:
        argv = (self.command, "-c", "import trio, httpx, msgspec")
        sample, _ = run_piped(argv, Path(os.devnull), DISCARD)
        return sample


@dataclass(frozen=True)
class Sha256Client:
    """No client: as many bytes as the workload has, hashed from memory by one core."""

    name: str = "sha256"
    command: str = sys.executable

    def check(self, workload: Workload) -> None:
        """There is nothing that could be missing."""

    def run(self, workload: Workload) -> Sample:
        block = os.urandom(MIB)
        started, cpu = time.monotonic(), time.process_time()
        hasher = hashlib.sha256()
        for _ in range(workload.total_bytes // MIB):
            hasher.update(block)
        return Sample(time.monotonic() - started, time.process_time() - cpu, 0)


def multi_fetch_line(blob: Blob) -> str:
    return f"{blob.digest} mediatype:application/octet-stream size:{blob.size}"


def digest_line(blob: Blob) -> str:
    return blob.digest


def multi_fetch(
    address: str,
    directory: Path,
    *flags: str,
    name: str = "multi-fetch",
    env: Mapping[str, str] | None = None,
) -> PipedClient:
    argv = (MULTI_FETCH, *flags, f"{address}/{REPOSITORY}")
    return PipedClient(name, argv, multi_fetch_line, directory, env or {})


def general(address: str, directory: Path) -> PipedClient:
    argv = (sys.executable, "-m", "bench.general", f"{address}/{REPOSITORY}")
    return PipedClient("multi-fetch over httpx", argv, multi_fetch_line, directory)


def naive(url: str, directory: Path, env: Mapping[str, str] | None = None) -> PipedClient:
    argv = (sys.executable, str(BENCH / "naive.py"), f"--jobs={TRANSFERS}", f"{url}/blobs")
    return PipedClient("naive httpx", argv, digest_line, directory, env or {})


def curl(url: str, directory: Path, *flags: str) -> PipedClient:
    parallel = ("--parallel", "--parallel-max", str(TRANSFERS), "--config", "-")
    argv = (*CURL, *flags, *parallel)
    return PipedClient("curl", argv, lambda blob: f'url = "{url}/blobs/{blob.digest}"', directory)


def peers(address: str, directory: Path) -> list[Client]:
    """Every client for the plain registry at an address; this project comes first."""
    url = f"http://{address}/v2/{REPOSITORY}"
    crane = (*XARGS, "crane", "blob", "--insecure")
    oras = (*XARGS, "oras", "blob", "fetch", "--plain-http", "--output", "-")
    script = (sys.executable, str(BENCH / "python_peers.py"))

    def named(blob: Blob) -> str:
        return f"{address}/{REPOSITORY}@{blob.digest}"

    def python(library: str, module: str) -> PipedClient:
        argv = (*script, module, address, REPOSITORY)
        return PipedClient(library, argv, digest_line, directory, needs=f"module {module}")

    return [
        multi_fetch(address, directory),
        curl(url, directory),
        ImageProxyClient(address),
        PipedClient(
            "xargs curl", (*XARGS, *CURL), lambda blob: f"{url}/blobs/{blob.digest}", directory
        ),
        naive(url, directory),
        python("python-dxf", "dxf"),
        python("oras-py", "oras"),
        PipedClient("xargs crane", crane, named, directory, needs="crane"),
        PipedClient("xargs oras", oras, named, directory, needs="oras"),
    ]


def reason_missing(client: Client) -> str | None:
    """Why a client cannot run here, or None."""
    module = module_of(client)
    is_there = importlib.util.find_spec(module) if module else shutil.which(client.command)
    return None if is_there else f"{client.command} is not installed"


def module_of(client: Client) -> str:
    """The Python module that it needs; empty for a command."""
    kind, _, name = client.command.partition(" ")
    return name if kind == "module" else ""


VERSION_FLAGS: Final = {"crane": "version", "oras": "version"}
# The distribution of each module, where the name differs.
DISTRIBUTIONS: Final = {"dxf": "python-dxf"}


def version(client: Client) -> str:
    """The first line that a client says of itself."""
    if module := module_of(client):
        name = DISTRIBUTIONS.get(module, module)
        return f"{name} {metadata.version(name)}"
    flag = VERSION_FLAGS.get(client.command, "--version")
    told = subprocess.run([client.command, flag], capture_output=True, text=True, check=True)
    return told.stdout.partition("\n")[0]
