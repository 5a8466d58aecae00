"""One connection: whatever way an answer is cut, it is the same answer, and its end is known."""

from __future__ import annotations

import ssl
import time
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import httptools
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from multi_fetch.errors import (
    DeadlineExceededError,
    RegistryError,
    UnavailableError,
)
from multi_fetch.limits import LEAST_PROGRESS_BYTES, MAX_HEAD_BYTES, RECEIVE_BYTES
from multi_fetch.registry import connection as connection_module
from multi_fetch.registry.chunked import ChunkedBody
from tests.registry.sockets import (
    ASKED,
    REQUEST,
    ask,
    connected,
    converse,
    read_body,
    receive_head,
    reset,
    send_pieces,
)
from tests.turns import Turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from multi_fetch.registry.connection import Connection
    from multi_fetch.registry.secure import Channel

OK: Final = b"HTTP/1.1 200 OK\r\n"
CHUNKED: Final = OK + b"Transfer-Encoding: chunked\r\n\r\n"
# Long enough that the other side's part is done, short enough to be waited for.
STALL_SECONDS: Final = 0.05


@dataclass(frozen=True)
class Case:
    """An answer and what it is.

    Attributes:
        name: of the case.
        wire: its bytes.
        body: what they hold.
        may_persist: whether another request may follow on the connection.
        has_body: whether the request was a GET.
        is_closed: whether the server closes behind it.
        status: of the answer.
    """

    name: str
    wire: bytes
    body: bytes = b""
    may_persist: bool = True
    has_body: bool = True
    is_closed: bool = False
    status: int = 200


CASES: Final = (
    Case("a length", OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
    Case("a length of 0", OK + b"Content-Length: 0\r\n\r\n"),
    Case("a body of line ends", OK + b"Content-Length: 8\r\n\r\n\r\n\r\n\r\n\r\n", b"\r\n" * 4),
    Case("chunks", CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hello"),
    Case("no chunk but the last", CHUNKED + b"0\r\n\r\n"),
    Case("extensions", CHUNKED + b'3;a\r\nhel\r\n02;a="b;c"\r\nlo\r\n0;z\r\n\r\n', b"hello"),
    Case("trailers", CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX: 2\r\n\r\n", b"hello"),
    Case("sizes in both cases",
         CHUNKED + b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
    Case("the connection's end", OK + b"\r\nhello", b"hello", may_persist=False, is_closed=True),
    Case("the end, and nothing before it", OK + b"\r\n", may_persist=False, is_closed=True),
    Case("HEAD", OK + b"Content-Length: 5\r\n\r\n", has_body=False),
    Case("HEAD of chunks", CHUNKED, has_body=False),
    Case("HEAD without a length", OK + b"\r\n", has_body=False),
    Case("204", b"HTTP/1.1 204 No Content\r\n\r\n", status=204),
    Case("304 with the length of what was not sent",
         b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", status=304),
    Case("1xx before it",
         b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
         + OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
    Case("a status without words", b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nab", b"ab"),
    Case("a status of tomorrow", b"HTTP/1.1 599 What\r\nContent-Length: 0\r\n\r\n", status=599),
    Case("close", OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nab", b"ab",
         may_persist=False),
    Case("close among others, chunked",
         OK + b"Connection: foo, CLOSE\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
         b"ab", may_persist=False),
    Case("HTTP/1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", b"ab", may_persist=False),
    Case("HTTP/1.0 that keeps alive",
         b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nab", b"ab"),
    Case("HTTP/1.0 with an empty body that keeps alive",
         b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"),
    Case("bytes behind a length", OK + b"Content-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\n\r\n", b"ab",
         may_persist=False),
    Case("bytes behind HEAD", OK + b"Content-Length: 2\r\n\r\nab", may_persist=False,
         has_body=False),
    Case("an answer behind the last chunk", CHUNKED + b"2\r\nab\r\n0\r\n\r\n" + OK + b"\r\n", b"ab",
         may_persist=False),
    Case("no HTTP behind the last chunk", CHUNKED + b"2\r\nab\r\n0\r\n\r\n{}", b"ab",
         may_persist=False),
)  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


async def expect(case: Case, *pieces: bytes) -> None:
    head, body, _ = await converse(*pieces, has_body=case.has_body, is_closed=case.is_closed)
    assert (head.status, body) == (case.status, case.body)


@every_case
async def test_an_answer_that_comes_whole_is_understood_and_so_is_whether_another_may_follow(
    case: Case,
) -> None:
    head, body, may_persist = await converse(
        case.wire, has_body=case.has_body, is_closed=case.is_closed
    )
    assert (head.status, body, may_persist) == (case.status, case.body, case.may_persist)


@every_case
async def test_an_answer_that_is_cut_anywhere_is_the_same(case: Case) -> None:
    for cut in range(1, len(case.wire)):
        await expect(case, case.wire[:cut], case.wire[cut:])


@every_case
async def test_an_answer_that_comes_byte_by_byte_is_the_same(case: Case) -> None:
    await expect(case, *(case.wire[at : at + 1] for at in range(len(case.wire))))


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=20))
def test_any_body_in_any_chunks_however_cut_is_that_body(body: bytes, sizes: list[int]) -> None:
    """The chunk decoder alone: sizes cut the body, and then the wire."""
    wire, rest = b"", body
    for size in [*sizes, len(body)]:
        piece, rest = rest[:size], rest[size:]
        if piece:
            wire += b"%x\r\n%s\r\n" % (len(piece), piece)
    wire += b"0\r\n\r\n"
    decoder, received = ChunkedBody(), b""
    for size in [*sizes, len(wire)]:
        piece, wire = wire[:size], wire[size:]
        decoder.feed(memoryview(piece))
        received += b"".join(decoder.take())
    assert received == body
    assert decoder.is_complete
    assert not decoder.has_more


# --- heads ------------------------------------------------------------------------------------


async def test_header_fields_of_a_name_are_joined_and_names_are_in_lower_case() -> None:
    wire = OK + b"WWW-Authenticate: Basic\r\nwww-authenticate: Bearer\r\nETag: \xe9\r\n"
    head, _, _ = await converse(wire + b"Content-Length: 0\r\n\r\n")
    assert head.headers["www-authenticate"] == "Basic, Bearer"
    assert head.headers["etag"] == "é"


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        OK + b"Content-Length: 5, 5\r\n\r\n",
        OK + b"Content-Length: -5\r\n\r\n",
        OK + b"Content-Length: \r\n\r\n",
        OK + b"Content-Length: 99999999999999999999\r\n\r\n",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"A: b\r\n c\r\n\r\n",
        OK + b"A : b\r\n\r\n",
        OK + b"A: \x00\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        CHUNKED + b"xyz\r\n",
        CHUNKED + b"5\r\nhelloworld\r\n",
        CHUNKED + b"fffffffffffffffff\r\n",
    ],
)
async def test_what_breaks_http_is_a_registry_error_however_it_is_cut(wire: bytes) -> None:
    for cut in range(1, len(wire) + 1):
        async with connected() as (connection, server), trio.open_nursery() as nursery:
            nursery.start_soon(send_pieces, server, [wire[:cut], wire[cut:]])
            with pytest.raises(RegistryError, match=r"^GET http://registry.example/v2/: "):
                await ask(connection)
            nursery.cancel_scope.cancel()
        assert not connection.may_persist


async def test_a_head_as_large_as_allowed_is_read() -> None:
    filler = OK + b"Link: " + b"x" * (MAX_HEAD_BYTES - 100) + b"\r\nContent-Length: 2\r\n\r\n"
    head, body, _ = await converse(filler + b"ab")
    assert len(head.headers["link"]) == MAX_HEAD_BYTES - 100
    assert body == b"ab"


@pytest.mark.parametrize(
    "endless", [b"x" * 1024, b"A: b\r\n" * 200, b"HTTP/1.1 100 Continue\r\n\r\n" * 50]
)
async def test_a_head_that_does_not_end_is_refused_and_so_are_endless_1xx(endless: bytes) -> None:
    async def pour(server: trio.SocketStream) -> None:
        await server.send_all(b"" if endless.startswith(b"HTTP") else OK + b"X: ")
        while True:
            await server.send_all(endless)

    async with connected() as (connection, server), trio.open_nursery() as nursery:
        nursery.start_soon(pour, server)
        with pytest.raises(RegistryError, match="head exceeds"):
            await ask(connection)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "begin", [b"2;", b"000", b"2\r\nab\r\n2;a=", b"0\r\n", b"2\r\nab\r\n0\r\nX: "]
)
async def test_chunks_without_content_are_refused_before_they_are_endless(begin: bytes) -> None:
    """A chunk's size, its extensions, trailers."""
    filler = b"X: y\r\n" * 200 if begin.endswith(b"0\r\n") else b"0" * 1024

    async def pour(server: trio.SocketStream) -> None:
        await server.send_all(CHUNKED + begin)
        while True:
            await server.send_all(filler)

    async with connected() as (connection, server), trio.open_nursery() as nursery:
        nursery.start_soon(pour, server)
        with pytest.raises(RegistryError):
            await ask(connection)
        nursery.cancel_scope.cancel()


# --- where it breaks off ----------------------------------------------------------------------


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize(
    "wire",
    [
        OK + b"Content-Length: 5\r\n\r\nhello",
        CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\nX: y\r\n\r\n",
    ],
)
async def test_an_answer_that_breaks_off_anywhere_is_unavailable(
    wire: bytes, *, is_reset: bool
) -> None:
    for cut in range(len(wire)):
        async with connected() as (connection, server), trio.open_nursery() as nursery:

            async def answer(server: trio.SocketStream = server, cut: int = cut) -> None:
                await send_pieces(server, [wire[:cut]])
                await wait_all_tasks_blocked()
                if is_reset:
                    reset(server)
                else:
                    await server.send_eof()

            nursery.start_soon(answer)
            with pytest.raises(UnavailableError, match="the connection broke"):
                await ask(connection)
        assert not connection.may_persist


async def test_a_reset_ends_a_body_that_only_its_end_would_end() -> None:
    async with connected() as (connection, server), trio.open_nursery() as nursery:

        async def answer() -> None:
            await send_pieces(server, [OK + b"\r\nhel"])
            await wait_all_tasks_blocked()
            reset(server)

        nursery.start_soon(answer)
        with pytest.raises(UnavailableError, match="the connection broke"):
            await ask(connection)


async def test_a_request_into_a_closed_connection_is_unavailable() -> None:
    async with connected() as (connection, server):
        reset(server)
        with pytest.raises(UnavailableError, match="the connection broke"):
            await ask(connection)


async def test_the_peer_is_told_also_when_it_has_gone() -> None:
    async with connected() as (connection, server):
        assert connection.peer == "127.0.0.1"
        reset(server)
        assert connection.peer in {"127.0.0.1", ""}
        assert not connection.is_quiet()
        assert connection.peer in {"127.0.0.1", ""}


# --- idle -------------------------------------------------------------------------------------


async def test_an_idle_connection_is_quiet_until_something_comes_or_it_ends() -> None:
    async with connected() as (connection, server):
        assert connection.is_quiet()
        await server.send_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        assert not connection.is_quiet()
    async with connected() as (connection, server):
        await server.send_eof()
        assert not connection.is_quiet()
    async with connected() as (connection, server):
        reset(server)
        assert not connection.is_quiet()


async def test_many_answers_follow_each_other_on_one_connection() -> None:
    cases = [case for case in CASES if case.may_persist]
    async with connected() as (connection, server), trio.open_nursery() as nursery:

        async def answer_all() -> None:
            for case in cases:
                await send_pieces(server, [case.wire])

        nursery.start_soon(answer_all)
        for case in cases:
            head, body = await ask(connection, has_body=case.has_body)
            assert (head.status, body) == (case.status, case.body), case.name
            assert connection.may_persist
            assert connection.is_quiet()


# --- large bodies -----------------------------------------------------------------------------


@pytest.mark.parametrize("receive_bytes", [512, 4_096, RECEIVE_BYTES])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_of_many_buffers_is_whole(
    monkeypatch: pytest.MonkeyPatch, receive_bytes: int, *, is_chunked: bool
) -> None:
    monkeypatch.setattr(connection_module, "RECEIVE_BYTES", receive_bytes)
    body = bytes(range(256)) * 4_096 + b"tail"
    if is_chunked:
        cuts = range(0, len(body), 10_000)
        pieces = [body[at : at + 10_000] for at in cuts]
        wire = CHUNKED + b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in pieces)
        wire += b"0\r\n\r\n"
    else:
        wire = OK + b"Content-Length: %d\r\n\r\n" % len(body) + body
    _, received, may_persist = await converse(wire)
    assert received == body
    assert may_persist


async def test_a_chunk_is_the_consumers_until_it_asks_for_the_next() -> None:
    body = bytes(range(256)) * 8_192
    async with connected() as (connection, server), trio.open_nursery() as nursery:
        nursery.start_soon(
            send_pieces, server, [OK + b"Content-Length: %d\r\n\r\n" % len(body) + body]
        )
        head = await connection.exchange(REQUEST, ASKED, has_body=True)
        at = 0
        async for chunk in connection.body(head):
            copy = bytes(chunk)
            await wait_all_tasks_blocked()  # and the server sends on
            assert chunk == copy == body[at : at + len(copy)]
            at += len(copy)
    assert at == len(body)


# --- time -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "no answer in 0.05 s"),
        (OK, "no answer in 0.05 s"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "no answer in 0.05 s"),
        (OK + b"Content-Length: 5\r\n\r\n", "no byte in 0.05 s"),
        (OK + b"Content-Length: 5\r\n\r\nhel", "no byte in 0.05 s"),
        (CHUNKED + b"5\r\nhel", "no byte in 0.05 s"),
        (OK + b"\r\nhel", "no byte in 0.05 s"),
    ],
)
async def test_what_stalls_runs_into_its_deadline(
    sent: bytes, words: str, jumping_clock: MockClock
) -> None:
    async with connected(stall_seconds=STALL_SECONDS) as (connection, server):
        await server.send_all(sent or b"")
        with pytest.raises(DeadlineExceededError, match=words) as caught:
            await ask(connection)
        assert not connection.may_persist
    # Of TLS it would keep what OpenSSL has, for as long as the error is kept.
    assert not isinstance(caught.value.__context__, BlockingIOError | ssl.SSLWantReadError)


async def drip(server: trio.SocketStream, data: bytes, *, pause: float = STALL_SECONDS / 4) -> None:
    """Sends byte by byte, for as long as somebody takes them."""
    with suppress(trio.BrokenResourceError):
        for at in range(len(data)):
            await trio.sleep(pause)
            await server.send_all(data[at : at + 1])


async def test_a_head_that_is_dripped_has_one_deadline(jumping_clock: MockClock) -> None:
    async with (
        connected(stall_seconds=STALL_SECONDS) as (connection, server),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(drip, server, OK)
        with pytest.raises(DeadlineExceededError, match="no answer"):
            await ask(connection)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Content-Length: 5000\r\n\r\n", b"x" * 5000),
        (b"\r\n", b"x" * 5000),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000),
    ],
)
async def test_a_body_that_is_dripped_has_stalled(
    head: bytes, body: bytes, jumping_clock: MockClock
) -> None:
    async with (
        connected(stall_seconds=4 * STALL_SECONDS) as (connection, server),
        trio.open_nursery() as nursery,
    ):
        await server.send_all(OK + head)
        nursery.start_soon(drip, server, body)
        with (
            trio.fail_after(60),
            pytest.raises(DeadlineExceededError, match=r"only \d+ bytes in 0.2 s"),
        ):
            await ask(connection)
        nursery.cancel_scope.cancel()


class Murmuring:
    """As a socket under TLS where, behind a head, nothing comes but what TLS says by itself."""

    def __init__(self, sock: Channel) -> None:
        self._sock = sock
        self._has_head = False
        self.send, self.close, self.fileno = sock.send, sock.close, sock.fileno

    def recv_into(self, buffer: memoryview) -> int:
        count = self._sock.recv_into(buffer)
        if self._has_head:
            time.sleep(STALL_SECONDS / 2)  # as long as TLS has to do with it
            raise ssl.SSLWantReadError
        self._has_head = True
        return count


async def test_what_tls_says_by_itself_is_no_content_however_fast_it_comes() -> None:
    """New keys, tickets: there is always something to read, so that no wait ever lasts."""

    async def murmur(server: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            while True:
                await server.send_all(bytes(100_000))

    async with (
        connected(stall_seconds=4 * STALL_SECONDS) as (connection, server),
        trio.open_nursery() as nursery,
    ):
        vars(connection)["_sock"] = Murmuring(connection._sock)
        await server.send_all(OK + b"Content-Length: 5000\r\n\r\nhello")
        head = await connection.exchange(REQUEST, ASKED, has_body=True)
        nursery.start_soon(murmur, server)
        with trio.fail_after(10), pytest.raises(DeadlineExceededError, match=r"no byte in 0\.2 s"):
            await read_body(connection, head)
        nursery.cancel_scope.cancel()


async def test_what_brings_enough_for_the_wait_may_take_any_time(
    jumping_clock: MockClock,
) -> None:
    """Each wait is shorter than the deadline, all of them together are longer."""
    piece = b"x" * LEAST_PROGRESS_BYTES

    async def send(server: trio.SocketStream) -> None:
        for _ in range(8):
            await trio.sleep(STALL_SECONDS)
            await server.send_all(piece)

    async with connected(stall_seconds=5 * STALL_SECONDS) as (connection, server):
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            await server.send_all(OK + b"Content-Length: %d\r\n\r\n" % (8 * len(piece)))
            nursery.start_soon(send, server)
            _, body = await ask(connection)
    assert body == 8 * piece
    assert trio.current_time() - begun > 5 * STALL_SECONDS


async def test_a_slow_consumer_is_not_taken_for_a_slow_server(jumping_clock: MockClock) -> None:
    async with connected(stall_seconds=STALL_SECONDS) as (connection, server):
        await server.send_all(OK + b"Content-Length: 6\r\n\r\na")
        head = await connection.exchange(REQUEST, ASKED, has_body=True)
        body = b""
        async with aclosing(connection.body(head)) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) < 6:
                    await server.send_all(b"b")
                await trio.sleep(STALL_SECONDS)
    assert body == b"abbbbb"


@pytest.mark.parametrize("begin", [b"5;", b"0", b"2\r\nab\r\n0\r\nX: ", b"2\r\nab\r\n2;"])
async def test_what_no_content_is_in_extends_no_deadline_of_chunks(
    begin: bytes, jumping_clock: MockClock
) -> None:
    async with (
        connected(stall_seconds=STALL_SECONDS) as (connection, server),
        trio.open_nursery() as nursery,
    ):
        await server.send_all(CHUNKED + begin)
        nursery.start_soon(drip, server, b"0" * 9999)
        with pytest.raises(DeadlineExceededError):
            await ask(connection)
        nursery.cancel_scope.cancel()


async def test_the_deadline_of_chunks_stands_still_while_they_are_consumed(
    jumping_clock: MockClock,
) -> None:
    async with connected(stall_seconds=STALL_SECONDS) as (connection, server):
        await server.send_all(CHUNKED + b"2;a\r\nab\r\n2;")
        head = await connection.exchange(REQUEST, ASKED, has_body=True)
        body = b""
        async with aclosing(connection.body(head)) as chunks:
            async for chunk in chunks:
                body += chunk
                await trio.sleep(2 * STALL_SECONDS)
                await server.send_all(b"a\r\ncd\r\n0\r\n\r\n" if len(body) == 2 else b"")
    assert body == b"abcd"


async def test_a_server_that_takes_no_byte_runs_into_the_deadline(
    jumping_clock: MockClock,
) -> None:
    async with connected(stall_seconds=STALL_SECONDS) as (connection, _):
        with pytest.raises(DeadlineExceededError, match=r"/v2/: takes no whole request in 0\.05 s"):
            await connection.exchange(bytes(64 * 1024 * 1024), ASKED, has_body=True)


# --- cancellation -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent", [b"", OK, OK + b"Content-Length: 5\r\n\r\nhel", CHUNKED + b"5\r\nhel", OK + b"\r\nhel"]
)
async def test_a_wait_that_is_cancelled_leaves_a_connection_that_is_not_used_again(
    sent: bytes,
) -> None:
    async with connected() as (connection, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, connection)
            assert await receive_head(server) == REQUEST
            if sent:
                await server.send_all(sent)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert not connection.may_persist
        connection.close()
        assert await server.receive_some() == b""


async def test_a_body_that_is_left_early_leaves_a_connection_that_is_not_used_again() -> None:
    async with connected() as (connection, server):
        await server.send_all(OK + b"Content-Length: 6\r\n\r\nhel")
        head = await connection.exchange(REQUEST, ASKED, has_body=True)
        body = connection.body(head)
        assert bytes(await anext(body)) == b"hel"
        await body.aclose()
        assert not connection.may_persist


async def test_a_connection_that_is_closed_has_no_buffer_though_it_is_kept_in_mind() -> None:
    """The direct lane's parsers do so, in circles: until these were looked for it took 60 MiB."""
    async with connected() as (connection, server):
        await server.send_all(OK + b"Content-Length: 6\r\n\r\nhel")
        head = await connection.exchange(REQUEST, ASKED, has_body=True)
        async with aclosing(connection.body(head)) as body:
            chunk = await anext(body)
            assert len(connection._buffer) >= len(chunk)
            connection.close()
            assert not connection._buffer
            assert bytes(chunk) == b"hel"


async def test_a_body_of_known_length_is_over_with_its_last_byte() -> None:
    """Nobody waits for the connection's end, though it comes with the next read."""
    async with connected() as (connection, server):
        await server.send_all(OK + b"Connection: close\r\nContent-Length: 3\r\n\r\nabc")
        head = await connection.exchange(REQUEST, ASKED, has_body=True)
        with trio.fail_after(5):
            assert await read_body(connection, head) == b"abc"


@given(st.binary(max_size=200))
async def test_any_bytes_are_an_answer_or_an_error_of_the_tree(junk: bytes) -> None:
    async with connected() as (connection, server):
        await server.send_all(b"HTTP/1.1 200 OK\r\n" * bool(len(junk) % 2) + junk)
        await server.send_eof()
        with suppress(RegistryError, UnavailableError):
            head, body = await ask(connection)
            assert head.status >= 200
            assert len(body) <= len(junk)


def test_the_parser_is_as_strict_as_it_was() -> None:
    """llhttp has lenient flags; a parser without them refuses a length beside chunks."""
    parser = httptools.HttpResponseParser(object())
    with pytest.raises(httptools.HttpParserError):
        parser.feed_data(OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")


# --- bodies that are taken whole --------------------------------------------------------------

WITH_LENGTH: Final = tuple(
    case
    for case in CASES
    if b"Content-Length" in case.wire and case.has_body and case.status != 304
)


@pytest.mark.parametrize("case", WITH_LENGTH, ids=lambda case: case.name)
async def test_a_small_body_is_taken_whole_however_it_is_cut(case: Case) -> None:
    for cut in range(1, len(case.wire) + 1):
        async with connected() as (connection, server), trio.open_nursery() as nursery:
            nursery.start_soon(send_pieces, server, [case.wire[:cut], case.wire[cut:]])
            head = await connection.exchange(REQUEST, ASKED, has_body=True)
            assert await connection.take_small(head) == case.body
            nursery.cancel_scope.cancel()
        if cut == len(case.wire):
            assert connection.may_persist is case.may_persist


@pytest.mark.parametrize("wire", [CHUNKED + b"2\r\nab\r\n0\r\n\r\n", OK + b"\r\nab"])
async def test_a_body_of_unknown_length_is_left_as_it_was(wire: bytes) -> None:
    async with connected() as (connection, server):
        await server.send_all(wire)
        await server.send_eof()
        head = await connection.exchange(REQUEST, ASKED, has_body=True)
        assert await connection.take_small(head) is None
        assert await read_body(connection, head) == b"ab"


async def test_a_body_larger_than_the_buffer_is_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "RECEIVE_BYTES", 1_024)
    async with connected() as (connection, server):
        await server.send_all(OK + b"Content-Length: 1024\r\n\r\n" + b"x" * 1_024)
        head = await connection.exchange(REQUEST, ASKED, has_body=True)
        assert await connection.take_small(head) is None
        assert await read_body(connection, head) == b"x" * 1_024


async def test_what_breaks_off_a_small_body_is_told_behind_what_had_come() -> None:
    async with connected(stall_seconds=STALL_SECONDS) as (connection, server):
        await server.send_all(OK + b"Content-Length: 5\r\n\r\nhel")
        head = await connection.exchange(REQUEST, ASKED, has_body=True)
        assert await connection.take_small(head) is None
        body = connection.body(head)
        assert bytes(await anext(body)) == b"hel"
        with pytest.raises(DeadlineExceededError, match="no byte"):
            await anext(body)
        assert not connection.may_persist
    async with connected() as (connection, server):
        await server.send_all(OK + b"Content-Length: 5\r\n\r\nhel")
        await server.send_eof()
        head = await connection.exchange(REQUEST, ASKED, has_body=True)
        assert await connection.take_small(head) is None
        body = connection.body(head)
        assert bytes(await anext(body)) == b"hel"
        with pytest.raises(UnavailableError, match="2 bytes before the body's end"):
            await anext(body)


class Brimming:
    """As a socket for which all has come already: no wait of its own gives anybody a turn.

    Args:
        sock: to which a request is sent.
        wire: what has come.
        most: how much of it one call gives, as of a TLS record.
    """

    def __init__(self, sock: Channel, wire: bytes, most: int) -> None:
        self.send, self.close, self.fileno = sock.send, sock.close, sock.fileno
        self._wire = memoryview(wire)
        self._most = most

    def recv_into(self, buffer: memoryview) -> int:
        size = min(len(buffer), len(self._wire), self._most)
        buffer[:size], self._wire = self._wire[:size], self._wire[size:]
        return size


@asynccontextmanager
async def brimming(
    wire: bytes, most: int = RECEIVE_BYTES
) -> AsyncIterator[tuple[Connection, Turns]]:
    """A connection on which an answer has come, and one that counts its turns meanwhile."""
    turns = Turns()
    async with connected() as (connection, server), trio.open_nursery() as nursery:
        await server.send_all(b"something is there")
        vars(connection)["_sock"] = Brimming(connection._sock, wire, most)
        nursery.start_soon(turns.take)
        yield connection, turns
        nursery.cancel_scope.cancel()


async def test_others_run_while_what_has_come_is_received_byte_by_byte() -> None:
    wire = OK + b"Content-Length: 2000\r\n\r\n" + bytes(2000)
    async with brimming(wire, most=1) as (connection, turns):
        head = await connection.exchange(REQUEST, ASKED, has_body=True)
        before = turns.count
        assert await connection.take_small(head) == bytes(2000)
        assert turns.count - before > 1000


async def test_others_run_while_chunks_of_one_byte_are_read_and_they_are_joined() -> None:
    count = 100_000
    wire = CHUNKED + b"1\r\n.\r\n" * count + b"0\r\n\r\n"
    async with brimming(wire) as (connection, turns):
        head = await connection.exchange(REQUEST, ASKED, has_body=True)
        before = turns.count
        chunks = [bytes(chunk) async for chunk in connection.body(head)]
        assert b"".join(chunks) == b"." * count
        assert len(chunks) < count // 10
        # one for each buffer that was full of them
        assert turns.count - before >= len(wire) // RECEIVE_BYTES
