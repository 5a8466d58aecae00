"""A server under TLS, with a certificate of an authority that a test may trust."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio
import trustme

from multi_fetch.registry.tls import new_context
from tests.registry.conftest import raw_answer
from tests.registry.sockets import Requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from datetime import datetime
    from pathlib import Path
    from typing import TypeAlias

    # Takes a connection and a request's head; sends the answer, and says whether to go on.
    Reply: TypeAlias = Callable[["trio.SSLStream[trio.SocketStream]", bytes], Awaitable[bool]]

NAME = "localhost"


@dataclass
class Authority:
    """A certificate authority, and contexts of those who trust it or are certified by it."""

    ca: trustme.CA = field(default_factory=trustme.CA)

    def trusting(self) -> ssl.SSLContext:
        """The worker's own, which trusts this authority too."""
        context = new_context()
        self.ca.configure_trust(context)
        return context

    def certified(self, *names: str, not_after: datetime | None = None) -> ssl.SSLContext:
        """A server's, for these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names, not_after=not_after).configure_cert(context)
        return context

    def root_in(self, folder: Path) -> str:
        """A file in this folder with what is to be trusted."""
        path = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(path)
        return str(path)

    def client_in(self, folder: Path) -> str:
        """A file in this folder with a certificate to show, and its key."""
        path = folder / "client.pem"
        issued = self.ca.issue_cert("client@example.org")
        issued.private_key_and_cert_chain_pem.write_to_path(path)
        return str(path)


@dataclass
class TlsServer:
    """What runs.

    Attributes:
        port: on 127.0.0.1.
        connections: that were accepted.
        heads: of all requests.
    """

    port: int = 0
    connections: int = 0
    heads: list[bytes] = field(default_factory=list)


def answering(body: bytes) -> Reply:
    """Answers each request so."""

    async def reply(stream: trio.SSLStream[trio.SocketStream], head: bytes) -> bool:
        await stream.send_all(raw_answer("200 OK", body))
        return True

    return reply


@asynccontextmanager
async def tls_server(context: ssl.SSLContext, reply: Reply) -> AsyncIterator[TlsServer]:
    """Answers requests until the block ends; a handshake that fails ends its connection."""
    server = TlsServer()

    async def serve(stream: trio.SocketStream) -> None:
        server.connections += 1
        secure = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        try:
            await secure.do_handshake()
            await converse(secure)
        except trio.BrokenResourceError:
            return
        finally:
            await trio.aclose_forcefully(secure)

    async def converse(secure: trio.SSLStream[trio.SocketStream]) -> None:
        requests = Requests(secure)
        while (head := await requests.next_head()) is not None:
            server.heads.append(head)
            if not await reply(secure, head):
                return

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server.port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield server
        nursery.cancel_scope.cancel()
