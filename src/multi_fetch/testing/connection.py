"""One connection: requests in through h11, answers out with their faults.

What an answer claims to be is h11's to frame. An answer whose Content-Length is a lie, or that is
broken off, is written past h11, and the connection then ends: there is no next request on it.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import h11
import trio

from multi_fetch.testing.messages import (
    BEFORE_HEAD,
    Answer,
    Request,
    Stop,
    body_chunks,
    body_size,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RECEIVE_BYTES: Final = 64 * 1024
SEND_BYTES: Final = 256 * 1024

# struct linger of socket(7): on, 0 seconds. A close then sends RST in place of FIN.
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


async def serve_connection(stream: trio.SocketStream, respond: Callable[[Request], Answer]) -> None:
    """Answers requests until either side ends the connection; closes the stream."""
    async with stream:
        try:
            await _serve_requests(stream, respond)
        except trio.BrokenResourceError:
            # The client has gone in the middle of an answer: its right, and no fault of ours.
            return


async def _serve_requests(stream: trio.SocketStream, respond: Callable[[Request], Answer]) -> None:
    connection = h11.Connection(h11.SERVER)
    while True:
        try:
            request = await _receive_request(stream, connection)
        except h11.RemoteProtocolError as error:
            refusal = h11.Response(
                status_code=error.error_status_hint, headers=[("Content-Length", "0")]
            )
            await stream.send_all(connection.send(refusal) or b"")
            return
        if request is None:
            return
        if not await _send(stream, connection, request, respond(request)):
            return
        if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
            return
        connection.start_next_cycle()


async def _receive_request(stream: trio.SocketStream, connection: h11.Connection) -> Request | None:
    """The next request, its body thrown away; None if the client has closed."""
    request: Request | None = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(RECEIVE_BYTES))
        elif isinstance(event, h11.Request):
            request = _read_head(event)
        elif isinstance(event, h11.EndOfMessage):
            return request
        elif isinstance(event, h11.ConnectionClosed):
            return None


def _read_head(event: h11.Request) -> Request:
    path, _, query = event.target.decode("ascii").partition("?")
    headers = tuple(
        (name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers
    )
    return Request(event.method.decode("ascii"), unquote(path), query, headers)


async def _send(
    stream: trio.SocketStream, connection: h11.Connection, request: Request, answer: Answer
) -> bool:
    """Sends an answer as its delivery says; whether the connection can go on."""
    delivery = answer.delivery
    await trio.sleep(delivery.delay_seconds)
    if delivery.stop_at == BEFORE_HEAD:
        await _stop(stream, delivery.stop)
        return False
    head = h11.Response(status_code=answer.status, headers=list(answer.headers))
    unsent = connection.send(head) or b""
    claimed = answer.header("Content-Length")
    is_framed = not claimed or int(claimed) == body_size(answer.body)
    if request.method == "HEAD":
        is_framed = True
    else:
        for piece in _pieces(answer):
            await trio.sleep(delivery.drip_seconds)
            framed = connection.send(h11.Data(piece)) if is_framed else piece
            await stream.send_all(unsent + (framed or b""))
            unsent = b""
    if delivery.stop_at is not None or not is_framed:
        await stream.send_all(unsent)
        await _stop(stream, delivery.stop)
        return False
    await stream.send_all(unsent + (connection.send(h11.EndOfMessage()) or b""))
    return not delivery.is_closed_after


def _pieces(answer: Answer) -> Iterator[bytes]:
    delivery = answer.delivery
    left = body_size(answer.body) if delivery.stop_at is None else delivery.stop_at
    for chunk in body_chunks(answer.body, delivery.drip_bytes or SEND_BYTES):
        if not left:
            return
        yield chunk[:left]
        left -= len(chunk[:left])


async def _stop(stream: trio.SocketStream, stop: Stop) -> None:
    if stop is Stop.RESET:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    elif stop is Stop.STALL:
        while await stream.receive_some(RECEIVE_BYTES):
            pass
