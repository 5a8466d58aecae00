"""A server on a real socket that answers what a test tells it to, byte for byte."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest
import trio
import trio.testing

from multi_fetch.oci.reference import Reference
from multi_fetch.registry.exchange import Exchange
from multi_fetch.registry.fast_lane import FastLane
from multi_fetch.registry.hosts import Host, default_host
from multi_fetch.registry.httpx_lane import HttpxLane
from multi_fetch.registry.session import Session
from multi_fetch.registry.tls import Trust
from multi_fetch.registry.transport import Transport
from multi_fetch.registry.url import parse_url
from multi_fetch.remotes import Patience
from tests.registry.sockets import Requests

if TYPE_CHECKING:
    import httpx

    from multi_fetch.registry.credentials import Credential
    from multi_fetch.registry.url import Origin

# Each request is sent once.
ONCE = Patience(retries=0)

# Retries follow at once.
QUICK = Patience(retries=3, first_wait_seconds=0.001, stall_seconds=30.0)

# Takes a request's head; sends the answer itself, and says whether the connection stays open.
Reply: TypeAlias = Callable[[trio.SocketStream, str], Awaitable[bool]]


class RawServer:
    """HTTP on loopback, as raw as a test wants it.

    Attributes:
        heads: of all requests so far.
        connections: how many there were.
        open_connections: how many there are.
    """

    def __init__(self, reply: Reply) -> None:
        self.heads: list[str] = []
        self.connections = 0
        self.open_connections = 0
        self.port = 0
        self._reply = reply

    @property
    def repository(self) -> Reference:
        """A repository here."""
        return Reference(f"127.0.0.1:{self.port}/a")

    @property
    def origin(self) -> Origin:
        """Where it is."""
        return parse_url(f"http://127.0.0.1:{self.port}/").origin

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serves one connection, for as long as the client holds it."""
        self.connections += 1
        self.open_connections += 1
        try:
            with suppress(trio.BrokenResourceError):
                await self._converse(stream)
        finally:
            self.open_connections -= 1

    async def _converse(self, stream: trio.SocketStream) -> None:
        requests = Requests(stream)
        while (head := await requests.next_head()) is not None:
            self.heads.append(head.decode())
            if not await self._reply(stream, self.heads[-1]):
                return


StartServer: TypeAlias = Callable[[Reply], Awaitable[RawServer]]


@pytest.fixture
async def start_server() -> AsyncIterator[StartServer]:
    async with trio.open_nursery() as nursery:

        async def start(reply: Reply) -> RawServer:
            server = RawServer(reply)
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            server.port = listeners[0].socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, server.serve, listeners)
            return server

        yield start
        nursery.cancel_scope.cancel()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Bound and not listening: it refuses, and nobody else can take it meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def jumping_clock() -> trio.testing.MockClock:
    """It moves only while nothing else does: no machine is so busy that it looks like a stall."""
    return trio.testing.MockClock(autojump_threshold=0.01)


opened_lanes: list[FastLane] = []


@pytest.fixture(autouse=True)
def _close_lanes() -> Iterator[None]:
    yield
    while opened_lanes:
        opened_lanes.pop().close()


@pytest.fixture(params=["fast", "general"])
def lane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test over either lane; what is mocked takes the general one in both."""
    name = str(request.param)
    if name == "general":
        monkeypatch.setattr(FastLane, "is_open", lambda _: False)
    return name


def new_session(
    client: httpx.AsyncClient,
    host: Host | str = "registry.example",
    credential: Credential | None = None,
    patience: Patience = ONCE,
) -> Session:
    """A session for the repository ``a``."""
    general = HttpxLane(client, stall_seconds=patience.stall_seconds)
    fast = None
    if isinstance(client._transport, Transport):
        fast = FastLane(Trust().context, jobs=4, stall_seconds=patience.stall_seconds)
        opened_lanes.append(fast)
    exchange = Exchange(general, jobs=4, patience=patience, fast=fast)
    return Session(exchange, default_host(host) if isinstance(host, str) else host, credential, "a")


def raw_answer(status: str, body: bytes = b"", **headers: str) -> bytes:
    """An answer's bytes; ``Content_Length`` and the like may be overridden."""
    named = {"Content-Length": str(len(body))}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in named.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


# Takes a shell script; gives the folder on PATH in which it is ``docker-credential-test``.
Install: TypeAlias = Callable[[str], Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def write(script: str) -> Path:
        program = folder / "docker-credential-test"
        program.unlink(missing_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return folder

    return write
