"""The clients: what is started, and what each reads from its stdin."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from bench.content import REPOSITORY
from bench.image_proxy import ImageProxyClient
from bench.measure import COUNT, DISCARD, BenchError, Sample, run_piped

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.content import Blob, Workload

# multi-fetch's default, and so curl's here; the proxy's driver has a number of its own.
TRANSFERS: Final = 16
NAMES: Final = ("multi-fetch", "curl", "skopeo")


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
    """A client that reads a list on stdin and writes the content to stdout."""

    name: str
    argv: tuple[str, ...]
    line: Callable[[Blob], str]
    directory: Path

    @property
    def command(self) -> str:
        return self.argv[0]

    def check(self, workload: Workload) -> None:
        _, counted = run_piped(self.argv, self._list(workload), COUNT)
        count, total = int(counted), workload.total_bytes
        if count < total:
            raise BenchError(
                f"{self.name} wrote {count} bytes, fewer than the {total} of the blobs"
            )

    def run(self, workload: Workload) -> Sample:
        sample, _ = run_piped(self.argv, self._list(workload), DISCARD)
        return sample

    def _list(self, workload: Workload) -> Path:
        path = self.directory / f"{self.name}.{workload.name}"
        if not path.exists():
            path.write_text("".join(f"{self.line(blob)}\n" for blob in workload.blobs))
        return path


def all_clients(address: str, directory: Path) -> list[Client]:
    """Every client for the registry at an address; their lists are written to the directory."""
    multi_fetch = Path(sys.executable).with_name("multi-fetch")
    curl = ("curl", "--disable", "--silent", "--show-error", "--fail", "--noproxy", "*")
    return [
        PipedClient(
            "multi-fetch",
            (str(multi_fetch), f"{address}/{REPOSITORY}"),
            lambda blob: f"{blob.digest} mediatype:application/octet-stream size:{blob.size}",
            directory,
        ),
        PipedClient(
            "curl",
            (*curl, "--parallel", "--parallel-max", str(TRANSFERS), "--config", "-"),
            lambda blob: f'url = "http://{address}/v2/{REPOSITORY}/blobs/{blob.digest}"',
            directory,
        ),
        ImageProxyClient(address),
    ]


def reason_missing(client: Client) -> str | None:
    """Why a client cannot run here, or None."""
    if shutil.which(client.command) is None:
        return f"{client.command} is not installed"
    return None


def version(client: Client) -> str:
    """The first line that a client says of itself."""
    told = subprocess.run([client.command, "--version"], capture_output=True, text=True, check=True)
    return told.stdout.partition("\n")[0]
