"""What is measured: which clients on which blobs, and how many of them.

All clients of an experiment take turns: every one once, then every one again, each round beginning
with another one, so that a slow minute of the machine hits all alike. Before the first round each
runs once untimed, which warms the page cache and shows that it delivers all bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.clients import (
    Client,
    ImportsClient,
    Sha256Client,
    UntilClient,
    curl,
    general,
    multi_fetch,
    multi_fetch_line,
    naive,
    peers,
    reason_missing,
)
from bench.content import FULL, KIB, MIB, QUICK, REPOSITORY, Shape
from bench.far import far_away
from bench.report import Row
from multi_fetch.protocol.frames import End, Hello

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from bench.content import Storage, Workload
    from bench.measure import Sample
    from bench.nginx import Web

DELAY_SECONDS: Final = 0.04
FAR_OBJECTS: Final = 2_000
FAR_JOBS: Final = 64
NARROW_BYTES_A_SECOND: Final = 10e6
MEMORY_JOBS: Final = 32
GROWTH: Final = (5_000, 50_000, 200_000)
QUICK_GROWTH: Final = (1_000, 10_000)

# Objects for clients whose time for each object is long, so that a round stays short; rates are
# compared. Of each workload, the most.
FEWER: Final[Mapping[str, Mapping[str, int]]] = {
    "skopeo": {"small": 1_000, "mid": 200, "large": 4},
    "xargs curl": {"small": 300, "mid": 400},
    "xargs crane": {"small": 200, "mid": 200},
    "xargs oras": {"small": 200, "mid": 200},
    "naive httpx": {"small": 1_000, "mid": 200, "large": 2},
    "python-dxf": {"small": 1_000, "mid": 200, "large": 2},
    "oras-py": {"small": 500, "mid": 200, "large": 2},
    "multi-fetch over httpx": {"small": 1_000, "mid": 200, "large": 2},
}


@dataclass
class Experiment:
    """Clients that take turns on one workload.

    Attributes:
        name: of it, in the results.
        clients: the first is what the others are compared with.
        workload: what they fetch.
        rounds: beside the chosen number, a factor: short runs are repeated more often.
        skipped: clients that cannot run, with the reason.
    """

    name: str
    clients: Sequence[Client]
    workload: Workload
    rounds: int = 1
    skipped: dict[str, str] = field(default_factory=dict)

    def run(self, rounds: int) -> list[Row]:
        able = []
        for client in self.clients:
            reason = reason_missing(client)
            if reason is None:
                able.append(client)
            else:
                self.skipped[client.name] = reason
        shares = {client.name: self._share(client) for client in able}
        for client in able:
            client.check(shares[client.name])
        samples: dict[str, list[Sample]] = {client.name: [] for client in able}
        for number in range(rounds * self.rounds):
            first = number % len(able)
            for client in (*able[first:], *able[:first]):
                samples[client.name].append(client.run(shares[client.name]))
        return [
            Row(self.name, name, len(share.blobs), share.total_bytes, samples[name])
            for name, share in shares.items()
        ]

    def _share(self, client: Client) -> Workload:
        most = FEWER.get(client.name, {}).get(self.workload.name)
        return self.workload.first(most)


class Plan:
    """All experiments by name, each made when it is its turn: only then are its blobs written.

    Args:
        web: the static server.
        registry: docker-registry's address; None where it is not installed.
        storage: of both.
        directory: for lists.
        stack: what experiments need beside the servers stays open in it.
        is_quick: whether fewer and smaller objects do.
    """

    def __init__(  # noqa: PLR0913 - what an experiment is made of
        self,
        web: Web,
        registry: str | None,
        storage: Storage,
        directory: Path,
        stack: ExitStack,
        *,
        is_quick: bool,
    ) -> None:
        self._web = web
        self._registry = registry
        self._storage = storage
        self._directory = directory
        self._stack = stack
        self._is_quick = is_quick
        self._shapes = {shape.name: shape for shape in (QUICK if is_quick else FULL)}
        self._workloads: dict[str, Workload] = {}

    def experiments(self) -> dict[str, Callable[[], Experiment]]:
        found: dict[str, Callable[[], Experiment]] = {}
        for size in self._shapes:
            found[size] = partial(self._beside_peers, size)
        found |= {"over httpx": self._over_httpx, "start": self._start, "tls": self._tls}
        for size in self._shapes:
            found[f"memory {size}"] = partial(self._memory, size)
        found |= {"far": self._far, "ranges": self._ranges}
        for count in QUICK_GROWTH if self._is_quick else GROWTH:
            found[f"growth {count}"] = partial(self._growth, count)
        for size in self._shapes if self._registry is not None else ():
            found[f"docker-registry {size}"] = partial(self._on_a_real_one, size)
        return found

    def _workload(self, size: str) -> Workload:
        if size not in self._workloads:
            self._workloads[size] = self._storage.add_workload(self._shapes[size])
        return self._workloads[size]

    def _beside_peers(self, size: str) -> Experiment:
        clients = peers(self._web.address, self._directory)
        if size == "large":
            clients.append(Sha256Client())
        return Experiment(size, clients, self._workload(size))

    def _over_httpx(self) -> Experiment:
        address = self._web.address
        url = f"http://{address}/v2/{REPOSITORY}"
        clients: list[Client] = [general(address, self._directory), naive(url, self._directory)]
        return Experiment("over httpx", clients, self._workload("small"))

    def _start(self) -> Experiment:
        argv = multi_fetch(self._web.address, self._directory).argv
        clients: list[Client] = [
            ImportsClient(),
            UntilClient("until hello", argv, multi_fetch_line, Hello),
            UntilClient("until an end", argv, multi_fetch_line, End),
        ]
        return Experiment("start", clients, self._workload("small").first(1), rounds=4)

    def _tls(self) -> Experiment:
        assert self._web.tls_address is not None, "asked before"
        url = f"https://{self._web.tls_address}/v2/{REPOSITORY}"
        env = {"SSL_CERT_FILE": str(self._web.roots)}
        clients: list[Client] = [
            multi_fetch(self._web.tls_address, self._directory, env=env),
            curl(url, self._directory, "--cacert", str(self._web.roots)),
            naive(url, self._directory, env),
        ]
        return Experiment("tls", clients, self._workload("large").first(1))

    def _memory(self, size: str) -> Experiment:
        client = multi_fetch(self._web.address, self._directory, "--jobs", str(MEMORY_JOBS))
        return Experiment(f"memory {size}", [client], self._workload(size))

    def _far(self) -> Experiment:
        far = self._stack.enter_context(far_away(self._web.address, delay=DELAY_SECONDS))
        client = multi_fetch(far, self._directory, "--jobs", str(FAR_JOBS))
        return Experiment("far", [client], self._workload("small").first(FAR_OBJECTS))

    def _ranges(self) -> Experiment:
        narrow = far_away(self._web.address, rate=NARROW_BYTES_A_SECOND)
        address = self._stack.enter_context(narrow)
        shape = Shape("narrow", 1, (16 if self._is_quick else 64) * MIB)
        clients = [
            multi_fetch(address, self._directory, "--ranges", str(count), name=f"--ranges {count}")
            for count in (1, 4)
        ]
        return Experiment("ranges", clients, self._storage.add_static(shape))

    def _growth(self, count: int) -> Experiment:
        name = f"growth {count}"
        grown = self._storage.add_static(Shape(name, count, 4 * KIB))
        return Experiment(name, [multi_fetch(self._web.address, self._directory)], grown)

    def _on_a_real_one(self, size: str) -> Experiment:
        """docker-registry takes 2 ms of CPU for each request: fewer objects show as much."""
        assert self._registry is not None, "asked before"
        workload = self._workload(size)
        some = workload.first(max(1, min(1_000, len(workload.blobs) // 2)))
        return Experiment(f"docker-registry {size}", peers(self._registry, self._directory), some)


def far_ideal_seconds(objects: int) -> float:
    """No less than this: a round trip for each, so many at a time."""
    return math.ceil(objects / FAR_JOBS) * DELAY_SECONDS
