"""TLS over a socket: whole, with its own end, and with no more in one call than is said."""

from __future__ import annotations

import fcntl
import socket
import ssl
import struct
import termios
import weakref
from contextlib import asynccontextmanager, suppress
from errno import ENOBUFS
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from multi_fetch.limits import (
    DEFAULT_JOBS,
    MAX_HANDSHAKE_BYTES,
    MAX_JOBS,
    MAX_READS,
    MAX_TLS_UNSENT_BYTES,
    RECEIVE_BYTES,
)
from multi_fetch.registry.buffers import own_bytes_for
from multi_fetch.registry.connection import Connection
from multi_fetch.registry.secure import RECEIVED_AT_ONCE, SecureSocket
from tests.registry.tls_server import NAME, Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

AUTHORITY = Authority()

# More than a pair of sockets takes without a reader.
MUCH = bytes(range(256)) * 16 * 1024


@asynccontextmanager
async def pair(
    context: ssl.SSLContext | None = None,
    *,
    own_bytes: int = RECEIVE_BYTES,
    most_handshake: int = MAX_HANDSHAKE_BYTES,
) -> AsyncIterator[tuple[SecureSocket, socket.socket, trio.SSLStream[trio.SocketStream]]]:
    """The end that is tried, its socket, and the server's end, which has not shaken hands."""
    own, other = socket.socketpair()
    own.setblocking(False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(other))
    server = trio.SSLStream(stream, AUTHORITY.certified(NAME), server_side=True)
    secure = SecureSocket(
        own,
        context or AUTHORITY.trusting(),
        NAME,
        own_bytes=own_bytes,
        most_handshake=most_handshake,
    )
    try:
        yield secure, own, server
    finally:
        secure.close()
        await trio.aclose_forcefully(server)


async def shake(secure: SecureSocket, server: trio.SSLStream[trio.SocketStream]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(secure.handshake)
        nursery.start_soon(server.do_handshake)


async def test_one_that_is_closed_keeps_nothing_of_openssls() -> None:
    """The traceback of an error may keep it in turn, until circles are looked for."""
    async with pair() as (secure, _, server):
        await shake(secure, server)
        kept = weakref.ref(secure._opened())
        secure.close()
        assert kept() is None
        with pytest.raises(OSError, match="closed here"):
            secure.recv_into(bytearray(1))


async def received(secure: SecureSocket, count: int) -> bytes:
    content, buffer = b"", bytearray(20_000)
    while len(content) < count:
        try:
            got = secure.recv_into(buffer)
        except (BlockingIOError, ssl.SSLWantReadError):
            await trio.lowlevel.wait_readable(secure)
            continue
        if not got:
            break
        content += buffer[:got]
    return content


async def test_content_goes_both_ways_and_waits_for_room() -> None:
    async with pair() as (secure, _, server):
        await shake(secure, server)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_all, MUCH)
            assert await received(secure, len(MUCH)) == MUCH

        async def send() -> None:
            while True:
                try:
                    assert secure.send(MUCH) == len(MUCH)
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(secure)
                else:
                    return

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            content = b""
            while len(content) < len(MUCH):
                content += await server.receive_some()
        assert content == MUCH


@pytest.mark.parametrize(("jobs", "most"), [(DEFAULT_JOBS, RECEIVED_AT_ONCE), (MAX_JOBS, 16_384)])
async def test_one_call_receives_once_however_much_is_there(jobs: int, most: int) -> None:
    async with pair(own_bytes=own_bytes_for(jobs)) as (secure, own, server):
        await shake(secure, server)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_all, MUCH)
            await wait_all_tasks_blocked()
            before = waiting(own)
            assert before > 2 * most
            while waiting(own) == before:
                with suppress(ssl.SSLWantReadError):  # it was a part of a record
                    assert secure.recv_into(bytearray(20_000))
            assert waiting(own) >= before - most
            nursery.cancel_scope.cancel()


def waiting(sock: socket.socket) -> int:
    """Bytes that a socket has received and nobody has taken."""
    (count,) = struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))
    return int(count)


async def test_an_end_of_tls_is_told_from_one_of_the_connection() -> None:
    for is_cut in (True, False):
        async with pair() as (secure, _, server):
            await shake(secure, server)
            await server.send_all(b"all")
            assert await received(secure, 3) == b"all"
            if is_cut:
                await server.transport_stream.send_eof()
                with pytest.raises(ssl.SSLEOFError):
                    await received(secure, 1)
                continue
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.unwrap)
                assert await received(secure, 1) == b""
                nursery.cancel_scope.cancel()


async def test_a_handshake_has_a_bound() -> None:
    """What certificates say takes many times their size, for as long as the connection is open."""
    async with pair(most_handshake=500) as (secure, _, server), trio.open_nursery() as nursery:

        async def shake_in_vain() -> None:
            with pytest.raises(OSError, match="the handshake exceeds 500 bytes"):
                await secure.handshake()
            nursery.cancel_scope.cancel()

        nursery.start_soon(shake_in_vain)
        nursery.start_soon(server.do_handshake)


async def test_a_server_is_told_why_it_is_not_trusted() -> None:
    async with pair(Authority().trusting()) as (secure, _, server), trio.open_nursery() as nursery:

        async def refused() -> None:
            with pytest.raises(trio.BrokenResourceError) as caught:
                await server.do_handshake()
            assert "UNKNOWN_CA" in str(caught.value.__cause__).upper().replace(" ", "_")

        nursery.start_soon(refused)
        with pytest.raises(ssl.SSLCertVerificationError):
            await secure.handshake()


async def test_what_nobody_takes_is_not_kept_without_end() -> None:
    """As answers to a server that calls for them and never reads."""
    async with pair() as (secure, _, server):
        await shake(secure, server)
        with pytest.raises(BlockingIOError):
            secure.send(bytes(64 * MAX_TLS_UNSENT_BYTES))
        await server.send_all(b"more")
        with pytest.raises(OSError, match="nobody takes") as caught:
            await received(secure, 1)
        assert caught.value.errno == ENOBUFS


async def test_an_answer_in_crumbs_is_not_awaited_without_a_turn_for_others() -> None:
    async with pair() as (secure, _, server):
        await shake(secure, server)
        connection = Connection(secure, stall_seconds=30)
        assert connection.start(b"GET / HTTP/1.1\r\n\r\n")
        for _ in range(MAX_READS + 1):
            await server.send_all(b"H")
        assert connection.arrived() is None
