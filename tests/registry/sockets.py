"""Two ends of one connection, on real sockets: the project's, and one that a test speaks for."""

from __future__ import annotations

import socket
import struct
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio
from trio.testing import wait_all_tasks_blocked

from multi_fetch.registry.answer import Asked
from multi_fetch.registry.connection import Connection
from multi_fetch.registry.url import parse_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from multi_fetch.registry.head import Head

ASKED: Final = Asked("GET", parse_url("http://registry.example/v2/"))
REQUEST: Final = b"GET /v2/ HTTP/1.1\r\nHost: registry.example\r\n\r\n"

# struct linger of socket(7): on, 0 seconds. A close then sends RST in place of FIN.
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

# Long enough for a busy machine, where no stall is expected.
PATIENT_SECONDS: Final = 30.0


@asynccontextmanager
async def connected(
    *, stall_seconds: float = PATIENT_SECONDS
) -> AsyncIterator[tuple[Connection, trio.SocketStream]]:
    """A connection, and the server's end of it."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    sock = socket.socket()
    sock.connect(listener.socket.getsockname())
    sock.setblocking(False)
    connection = Connection(sock, stall_seconds=stall_seconds)
    try:
        async with listener, await listener.accept() as server:
            yield connection, server
    finally:
        connection.close()


async def send_pieces(server: trio.SocketStream, pieces: Sequence[bytes]) -> None:
    """Sends an answer: each piece only when the client has taken the one before, and waits."""
    await receive_head(server)
    for piece in pieces:
        await wait_all_tasks_blocked()
        if piece:
            await server.send_all(piece)


async def receive_head(server: trio.SocketStream) -> bytes:
    """A request's head."""
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        data = await server.receive_some()
        assert data, "the client hung up before it asked"
        received += data
    return received


class Requests:
    """What comes over one connection, of a client that sends a head at a time, or several."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._received = b""

    async def next_head(self) -> bytes | None:
        """The head of the next request, without the empty line; None if none comes any more."""
        while b"\r\n\r\n" not in self._received:
            data = await self._stream.receive_some()
            if not data:
                return None
            self._received += data
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        return head


async def ask(connection: Connection, *, has_body: bool = True) -> tuple[Head, bytes]:
    """Sends a request; the head, and the whole body."""
    head = await connection.exchange(REQUEST, ASKED, has_body=has_body)
    return head, await read_body(connection, head)


async def read_body(connection: Connection, head: Head) -> bytes:
    body = bytearray()
    async with aclosing(connection.body(head)) as chunks:
        async for chunk in chunks:
            body += chunk
    return bytes(body)


async def converse(
    *pieces: bytes, has_body: bool = True, is_closed: bool = False
) -> tuple[Head, bytes, bool]:
    """One request and its answer, sent in pieces.

    Args:
        pieces: of the answer.
        has_body: whether the request is a GET.
        is_closed: whether the server closes the connection behind it.

    Returns:
        The head, the body, and whether the connection may be used again.
    """
    async with connected() as (connection, server), trio.open_nursery() as nursery:

        async def answer() -> None:
            await send_pieces(server, pieces)
            if is_closed:
                await wait_all_tasks_blocked()
                await server.send_eof()

        nursery.start_soon(answer)
        head, body = await ask(connection, has_body=has_body)
        nursery.cancel_scope.cancel()  # what stands behind the answer, if it has not been sent
    return head, body, connection.may_persist


def reset(server: trio.SocketStream) -> None:
    """Ends a connection by RST."""
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    server.socket.close()
