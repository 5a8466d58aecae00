"""Buffers that are used again too early show here: they are small, jobs are many, all is hashed.

The worker runs in this process, over real sockets and a real pipe, with every buffer and bound cut
to a few KiB. Its server sends bodies in all the ways that HTTP has, some through TLS, some broken
off at first. What comes out is decoded and hashed by the parent of tests/parent.py.

``STRESS_ROUNDS=100 pytest tests/test_stress.py`` runs it a hundred times in a row.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest
import trio

from multi_fetch.limits import MAX_DATA_BYTES
from multi_fetch.oci.reference import Reference
from multi_fetch.registry import direct, open_registry
from multi_fetch.remotes import Patience
from multi_fetch.worker.pipes import open_writer
from multi_fetch.worker.serve import Settings, serve
from tests.parent import asked_by, read_stream
from tests.registry.sockets import Requests, reset
from tests.registry.tls_server import NAME, Authority, tls_server
from tests.worker.harness import MemoryReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ROUNDS: Final = int(os.environ.get("STRESS_ROUNDS", "1"))
JOBS: Final = 64
# In bytes; wherever a module has one of these, it has this. A data frame keeps its size, which is
# the protocol's: an object that fits into one comes in one.
SMALL: Final = {
    "RECEIVE_BYTES": 2_048,
    "LARGE_BYTES": 5_000,
    "MAX_PENDING_BYTES": 4_096,
    "PIPE_BYTES": 4_096,
}
SIZES: Final = (
    [0, 1, 1_900, 2_047, 2_048, 2_049]
    + [400, 1_200, 2_500, 4_000] * 60
    + [20_000, 50_000] * 15
    + [MAX_DATA_BYTES - 1, MAX_DATA_BYTES, MAX_DATA_BYTES + 1, 600_000, 700_000, 1_500_000]
)
WAYS: Final = ("length", "length", "chunked", "end", "broken", "tls", "tls", "tls chunked")
PATIENCE: Final = Patience(retries=8, first_wait_seconds=0.001)


@dataclass
class Store:
    """What there is, and how each object is sent.

    Attributes:
        blobs: content by digest.
        ways: how each is sent.
        broken: those that were broken off already.
        tls: where the server under TLS is.
    """

    random: random.Random
    blobs: dict[str, bytes] = field(default_factory=dict)
    ways: dict[str, str] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    tls: str = ""

    def fill(self) -> None:
        sizes = list(SIZES)
        self.random.shuffle(sizes)
        for size in sizes:
            content = self.random.randbytes(size)
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            self.blobs[digest] = content
            self.ways[digest] = self.random.choice(WAYS)

    def lines(self) -> bytes:
        """A request for each, some with its size, some twice."""
        digests = [*self.blobs, *self.random.sample(sorted(self.blobs), 20)]
        self.random.shuffle(digests)
        lines = []
        for digest in digests:
            size = f" size:{len(self.blobs[digest])}" if self.random.random() < 0.5 else ""
            lines.append(f"{digest} mediatype:application/octet-stream{size}\n")
        return "".join(lines).encode()

    def wire(self, head: bytes, *, is_secure: bool) -> tuple[bytes, str]:
        """An answer's bytes, and how it ends: ``open``, ``closed`` or ``reset``."""
        digest = head.split(b" ", 2)[1].decode().rpartition("/")[2]
        content, way = self.blobs[digest], self.ways[digest]
        if way.startswith("tls") and not is_secure:
            to = f"{self.tls}/{digest}"
            return (
                b"HTTP/1.1 307 X\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n" % to.encode(),
                "open",
            )
        if "chunked" in way:
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            return head + self.chunks(content), "open"
        if way == "end":
            return b"HTTP/1.1 200 OK\r\n\r\n" + content, "closed"
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content
        if way == "broken" and digest not in self.broken:
            self.broken.add(digest)
            return whole[: self.random.randrange(len(whole))], self.random.choice(
                ["closed", "reset"]
            )
        return whole, "open"

    def chunks(self, content: bytes) -> bytes:
        wire, at = bytearray(), 0
        while at < len(content):
            piece = content[at : at + self.random.choice([1, 7, 900, 5_000])]
            at += len(piece)
            wire += b"%x\r\n%s\r\n" % (len(piece), piece)
        return bytes(wire + b"0\r\n\r\n")

    def pieces(self, wire: bytes) -> list[bytes]:
        cuts, at = [], 0
        while at < len(wire):
            size = self.random.choice([700, 2_048, 10_000, 100_000])
            cuts.append(wire[at : at + size])
            at += size
        return cuts


async def answer_all(store: Store, stream: trio.SocketStream) -> None:
    """Answers one connection's requests over plain HTTP."""
    requests = Requests(stream)
    while (head := await requests.next_head()) is not None:
        wire, ending = store.wire(head, is_secure=False)
        for piece in store.pieces(wire):
            await stream.send_all(piece)
        if ending == "reset":
            reset(stream)
        if ending != "open":
            return


@asynccontextmanager
async def served(store: Store, authority: Authority) -> AsyncIterator[int]:
    """The store over plain HTTP, and over TLS; the former's port."""

    async def plain(stream: trio.SocketStream) -> None:
        # A client that needs no more of an answer may close it.
        with suppress(trio.BrokenResourceError):
            await answer_all(store, stream)

    async def secure(stream: trio.SSLStream[trio.SocketStream], head: bytes) -> bool:
        wire, _ = store.wire(head, is_secure=True)
        for piece in store.pieces(wire):
            await stream.send_all(piece)
        return True

    async with (
        tls_server(authority.certified(NAME), secure) as server,
        trio.open_nursery() as nursery,
    ):
        store.tls = f"https://{NAME}:{server.port}"
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, plain, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def drain(fd: int, seed: int) -> bytes:
    """All that comes out of a pipe, in reads of all sizes."""
    sizes, received = random.Random(seed), bytearray()
    while data := os.read(fd, sizes.choice([1, 100, 5_000, 70_000])):
        received += data
    return bytes(received)


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("multi_fetch."):
            for limit, size in SMALL.items():
                if hasattr(module, limit):
                    monkeypatch.setattr(module, limit, size)
    # Each request tries the direct lane, and many are left by it.
    monkeypatch.setattr(direct, "CAUTION", 0)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_every_byte_arrives_with_small_buffers_and_many_jobs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: Authority, seed: int
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", authority.root_in(tmp_path))
    shrink(monkeypatch)
    store = Store(random.Random(seed))
    store.fill()
    lines, stream, status = store.lines(), b"", -1
    out, into = os.pipe()

    async def collect() -> None:
        nonlocal stream
        stream = await trio.to_thread.run_sync(drain, out, seed)

    async with served(store, authority) as port, trio.open_nursery() as nursery:
        nursery.start_soon(collect)
        reader, ref = MemoryReader(), Reference(f"127.0.0.1:{port}/stress")
        reader.feed(lines)
        reader.feed_eof()
        settings = Settings(software="stress", jobs=JOBS)
        try:
            with open_writer(into) as writer:
                async with open_registry(ref, jobs=JOBS, patience=PATIENCE) as remote:
                    status = await serve(remote, ref.locator, reader, writer, settings)
        finally:
            os.close(into)  # or who drains it never comes to an end
    os.close(out)

    asked = asked_by(lines)
    session = read_stream(stream, asked=asked)
    assert status == 0
    assert not session.worker_errors
    for number, request in asked.items():
        answer = session.answers[number]
        assert not answer.error, answer.error
        assert answer.is_verified
        assert bytes(answer.content) == store.blobs[request.object]
    assert store.broken
