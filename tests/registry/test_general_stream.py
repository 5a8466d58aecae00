"""The general lane's sockets: pieces that fit the memory, and heads that end."""

from __future__ import annotations

import array
import fcntl
import gc
import ssl
import termios
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import httpcore
import pytest
import trio

from multi_fetch.errors import RegistryError, UnavailableError
from multi_fetch.limits import (
    DEFAULT_JOBS,
    GENERAL_EXTRA_MEMORY,
    MAX_GENERAL_PIECE_BYTES,
    MAX_HANDSHAKE_BYTES,
    MAX_JOBS,
    RECEIVE_MEMORY,
)
from multi_fetch.registry.general_lane import GeneralLane
from multi_fetch.registry.general_stream import Backend, Room, Stream
from multi_fetch.registry.retry import is_passing
from multi_fetch.registry.url import parse_url
from tests.registry.sockets import PATIENT_SECONDS
from tests.registry.tls_server import NAME, Authority, tls_server

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.registry.conftest import StartServer

# What httpcore asks a socket for.
HTTPCORE_BYTES: Final = 64 * 1024
OK: Final = b"HTTP/1.1 200 OK\r\n\r\n"
HINTS: Final = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"


class Pieces(httpcore.AsyncNetworkStream):
    """A connection on which these pieces come.

    Attributes:
        asked: for how many bytes, each time.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self.asked: list[int] = []

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        await trio.lowlevel.checkpoint()
        self.asked.append(max_bytes)
        return next(self._pieces)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def received(pieces: Iterable[bytes], *, most_head_bytes: int) -> bytes:
    """What is received of an answer."""
    stream = Stream(Pieces(pieces), Room(DEFAULT_JOBS), most_head_bytes)
    await stream.write(b"GET / HTTP/1.1\r\n\r\n")
    data = b""
    while piece := await stream.read(HTTPCORE_BYTES):
        data += piece
    return data


class Endless(Pieces):
    """A connection on which always comes what was asked for, unless that is too much."""

    def __init__(self, most: int = MAX_GENERAL_PIECE_BYTES) -> None:
        super().__init__(())
        self._most = most

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        await trio.lowlevel.checkpoint()
        self.asked.append(max_bytes)
        return bytes(min(max_bytes, self._most))


@pytest.mark.parametrize("jobs", [1, DEFAULT_JOBS, 64, MAX_JOBS])
async def test_what_all_jobs_receive_at_once_has_a_bound(jobs: int) -> None:
    room = Room(jobs)
    streams = [Stream(Endless(), room, HTTPCORE_BYTES) for _ in range(jobs)]
    for _ in range(3):
        pieces = [len(await stream.read(HTTPCORE_BYTES)) for stream in streams]
        assert sum(pieces) <= RECEIVE_MEMORY // 2 + GENERAL_EXTRA_MEMORY


async def test_they_have_it_too_while_they_all_wait() -> None:
    room = Room(MAX_JOBS)
    inner = [Endless() for _ in range(MAX_JOBS)]
    streams = [Stream(each, room, HTTPCORE_BYTES) for each in inner]
    for stream in streams:
        await stream.read(HTTPCORE_BYTES)
    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(stream.read, HTTPCORE_BYTES)
    asked = sum(each.asked[-1] for each in inner)
    assert asked <= RECEIVE_MEMORY // 2 + GENERAL_EXTRA_MEMORY


@pytest.mark.parametrize("jobs", [1, DEFAULT_JOBS, 64, MAX_JOBS])
async def test_one_body_comes_in_large_pieces_however_many_there_might_be(
    start_server: StartServer, jobs: int
) -> None:
    body = bytes(4_000_000)

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n" + body)
        return True

    server = await start_server(reply)
    lane = GeneralLane(jobs=jobs, stall_seconds=PATIENT_SECONDS)
    answer = await lane.send("GET", parse_url(f"http://127.0.0.1:{server.port}/"), {})
    sizes = [len(chunk) async for chunk in answer.chunks()]
    await answer.aclose()
    await lane.aclose()
    assert sum(sizes) == len(body)
    assert HTTPCORE_BYTES < max(sizes) <= MAX_GENERAL_PIECE_BYTES


async def test_what_one_was_lent_is_for_others_once_it_is_of_no_use_there() -> None:
    async def read_much(stream: Stream, times: int) -> int:
        return max([len(await stream.read(HTTPCORE_BYTES)) for _ in range(times)])

    async def end_the_body(stream: Stream) -> None:
        stream._stream = Endless(most=100)
        await stream.read(HTTPCORE_BYTES)

    async def ask_again(stream: Stream) -> None:
        await stream.write(b"GET / HTTP/1.1\r\n\r\n")

    for leave in (end_the_body, ask_again, Stream.aclose):
        room = Room(MAX_JOBS)
        for _ in range(MAX_JOBS):
            stream = Stream(Endless(), room, HTTPCORE_BYTES)
            assert await read_much(stream, 3) == MAX_GENERAL_PIECE_BYTES
            await leave(stream)


async def test_what_a_proxys_long_answer_was_lent_is_for_others_while_there_is_tls() -> None:
    authority = Authority()
    context = authority.certified(NAME)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def serve(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await trio.SSLStream(stream, context, server_side=True).do_handshake()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        port = listeners[0].socket.getsockname()[1]
        room = Room(MAX_JOBS)
        stream = Stream(Endless(), room, HTTPCORE_BYTES)
        for _ in range(2):
            await stream.read(HTTPCORE_BYTES)
        assert room._extra < GENERAL_EXTRA_MEMORY
        stream._stream = await httpcore.TrioBackend().connect_tcp("127.0.0.1", port)
        through = await stream.start_tls(authority.trusting(), NAME)
        await through.aclose()
        nursery.cancel_scope.cancel()
    assert room._extra == GENERAL_EXTRA_MEMORY


async def test_no_more_is_asked_for_where_less_comes() -> None:
    inner = Endless(most=16 * 1024)  # as TLS has it
    stream = Stream(inner, Room(DEFAULT_JOBS), HTTPCORE_BYTES)
    for _ in range(3):
        await stream.read(HTTPCORE_BYTES)
    assert inner.asked == [HTTPCORE_BYTES] * 3


async def test_a_head_that_does_not_end_is_refused_before_others_would_be_short_of_memory(
    start_server: StartServer,
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        while True:
            await stream.send_all(b"a" * 4_096)

    server = await start_server(reply)
    lane = GeneralLane(jobs=MAX_JOBS, stall_seconds=PATIENT_SECONDS)
    most = RECEIVE_MEMORY // MAX_JOBS
    with pytest.raises(RegistryError, match=f"breaks HTTP: its head exceeds {most} bytes"):
        await lane.send("GET", parse_url(f"http://127.0.0.1:{server.port}/"), {})
    await lane.aclose()


@pytest.mark.parametrize("before", [b"", HINTS, HINTS * 3])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
async def test_a_head_that_fits_comes_however_it_is_cut(before: bytes, size: int) -> None:
    wire = before + OK + b"a body without end" * 20
    pieces = [wire[at : at + size] for at in range(0, len(wire), size)]
    assert await received([*pieces, b""], most_head_bytes=len(HINTS)) == wire


@pytest.mark.parametrize("before", [b"", HINTS, HINTS * 3])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
async def test_one_byte_more_is_refused_however_it_is_cut(before: bytes, size: int) -> None:
    head = b"HTTP/1.1 200 OK\r\nServer: example, of 1.0 and 2.0\r\n\r\n"
    assert len(head) > len(HINTS)
    wire = before + head + b"a body without end" * 20
    pieces = [wire[at : at + size] for at in range(0, len(wire), size)]
    with pytest.raises(httpcore.RemoteProtocolError, match="head exceeds"):
        await received([*pieces, b""], most_head_bytes=len(head) - 1)


async def test_each_request_has_a_head_of_its_own() -> None:
    stream = Stream(Pieces([OK + b"b" * 100, OK + b"b" * 100]), Room(DEFAULT_JOBS), len(OK))
    for _ in range(2):
        await stream.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await stream.read(HTTPCORE_BYTES) == OK + b"b" * 100


async def test_a_long_handshake_is_refused_where_many_others_may_have_one_too() -> None:
    """Here certificates of 15 KiB: OpenSSL keeps eleven times that for each connection."""
    authority = Authority()
    names = [f"a-name-of-some-more-{number}.example" for number in range(400)]

    async def reply(stream: trio.SSLStream[trio.SocketStream], _: bytes) -> bool:
        await stream.send_all(OK)
        return True

    async with tls_server(authority.certified(NAME, *names), reply) as server:
        stream = await Backend(MAX_JOBS).connect_tcp("127.0.0.1", server.port)
        with pytest.raises(httpcore.ConnectError, match="handshake exceeds") as caught:
            await stream.start_tls(authority.trusting(), NAME)
        caught.value.__cause__ = None  # as httpcore's pool has it
        error = UnavailableError("no connection")
        error.__cause__ = caught.value
        assert not is_passing(error)
        stream = await Backend(DEFAULT_JOBS).connect_tcp("127.0.0.1", server.port)
        secure = await stream.start_tls(authority.trusting(), NAME)
        for _ in range(2 * MAX_HANDSHAKE_BYTES // len(OK)):
            await secure.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await secure.read(HTTPCORE_BYTES) == OK
        await secure.aclose()


async def test_a_proxys_handshake_and_the_one_through_it_have_one_bound() -> None:
    """Both are kept while the connection is open; each would fit alone."""
    authority = Authority()
    context = authority.certified(NAME)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def serve(stream: trio.SocketStream) -> None:
        outer = trio.SSLStream(stream, context, server_side=True)
        async with outer:
            await outer.do_handshake()
            with suppress(trio.BrokenResourceError):
                await trio.SSLStream(outer, context, server_side=True).do_handshake()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        port = listeners[0].socket.getsockname()[1]
        tcp = await httpcore.TrioBackend().connect_tcp("127.0.0.1", port)
        stream = Stream(tcp, Room(DEFAULT_JOBS), HTTPCORE_BYTES, most_handshake=1_500)
        through = await stream.start_tls(authority.trusting(), NAME)
        with pytest.raises(httpcore.ConnectError, match="handshake exceeds"):
            await through.start_tls(authority.trusting(), NAME)
        nursery.cancel_scope.cancel()


async def test_what_is_received_at_once_under_tls_has_a_bound_for_all_jobs() -> None:
    """It is kept for as long as the connection is: through a proxy there are two of them."""
    is_sent = trio.Event()

    async def reply(stream: trio.SSLStream[trio.SocketStream], _: bytes) -> bool:
        await stream.send_all(bytes(60_000))
        is_sent.set()
        return True

    def waiting_bytes(stream: Stream) -> int:
        count = array.array("i", [0])
        fcntl.ioctl(stream.get_extra_info("socket").fileno(), termios.FIONREAD, count)
        return count[0]

    authority = Authority()
    async with tls_server(authority.certified(NAME), reply) as server:
        stream = await Backend(MAX_JOBS).connect_tcp("127.0.0.1", server.port)
        secure = await stream.start_tls(authority.trusting(), NAME)
        await secure.write(b"GET / HTTP/1.1\r\n\r\n")
        await is_sent.wait()
        before = waiting_bytes(secure)
        await secure.read(1)
        received = before - waiting_bytes(secure)
        await secure.aclose()
    # A record is a little longer than a piece, and wants two.
    assert 0 < received <= 2 * (RECEIVE_MEMORY // 4 // MAX_JOBS)


async def test_a_connection_that_is_closed_leaves_nothing_to_the_collector() -> None:
    """Which does not know how much OpenSSL keeps in there."""
    authority = Authority()
    stay = trio.Event()

    async def reply(_: trio.SSLStream[trio.SocketStream], __: bytes) -> bool:
        await stay.wait()
        return False

    async with tls_server(authority.certified(NAME), reply) as server:
        stream = await Backend(DEFAULT_JOBS).connect_tcp("127.0.0.1", server.port)
        secure = await stream.start_tls(authority.trusting(), NAME)
        tls = weakref.ref(secure.get_extra_info("ssl_object"))
        gc.disable()
        try:
            await secure.aclose()
            del secure
            assert tls() is None
        finally:
            gc.enable()


async def test_a_handshake_that_fails_leaves_nothing_to_the_collector() -> None:
    """Through a proxy, 160 a second took 2 MiB a second, until circles were looked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"no TLS at all")

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        port = listeners[0].socket.getsockname()[1]
        gc.collect()
        gc.disable()
        try:
            stream = await Backend(DEFAULT_JOBS).connect_tcp("127.0.0.1", port)
            with pytest.raises(httpcore.ConnectError):
                await stream.start_tls(context, NAME)
            del stream
            left = [each for each in gc.get_objects() if isinstance(each, ssl.SSLObject)]
        finally:
            gc.enable()
        assert not left
        nursery.cancel_scope.cancel()
