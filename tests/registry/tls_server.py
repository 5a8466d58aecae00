"""A server under TLS, with a certificate of an authority that a test may trust."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio
import trustme

from multi_fetch.registry.tls import new_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from datetime import datetime
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
        received = b""
        while True:
            while b"\r\n\r\n" not in received:
                data = await secure.receive_some()
                if not data:
                    return
                received += data
            head, _, received = received.partition(b"\r\n\r\n")
            server.heads.append(bytes(head))
            if not await reply(secure, bytes(head)):
                return

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server.port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield server
        nursery.cancel_scope.cancel()
