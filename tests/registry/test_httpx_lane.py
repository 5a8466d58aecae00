"""The general lane over httpx: the same answers, errors of the tree, and mocks that see it."""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import httpx
import pytest
import respx
import trio
from trio.testing import wait_all_tasks_blocked

from multi_fetch.errors import (
    DeadlineExceededError,
    MultiFetchError,
    RegistryError,
    UnavailableError,
)
from multi_fetch.registry.httpx_lane import HttpxLane, translated
from multi_fetch.registry.retry import is_passing
from multi_fetch.registry.transport import new_client
from multi_fetch.registry.url import parse_url
from tests.registry.conftest import RawServer, StartServer, raw_answer
from tests.registry.sockets import PATIENT_SECONDS, reset
from tests.registry.test_connection import CASES, Case, every_case
from tests.turns import Turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from multi_fetch.registry.url import Url

BODY: Final = b"as it was stored"
URL: Final = parse_url("https://registry.example/v2/")


@asynccontextmanager
async def opened(
    transport: httpx.AsyncBaseTransport | None = None, *, stall_seconds: float = PATIENT_SECONDS
) -> AsyncIterator[HttpxLane]:
    client = new_client(jobs=8, stall_seconds=stall_seconds)
    if transport is not None:
        client = httpx.AsyncClient(transport=transport, trust_env=False)
    async with client:
        yield HttpxLane(client, stall_seconds=stall_seconds)


def at(server: RawServer) -> Url:
    return parse_url(f"http://127.0.0.1:{server.port}/v2/")


async def fetch(
    lane: HttpxLane, url: Url, method: str = "GET", form: str | None = None
) -> tuple[int, bytes]:
    answer = await lane.send(method, url, {}, form)
    try:
        return answer.status, await answer.read(1 << 20)
    finally:
        await answer.aclose()


async def converse(start_server: StartServer, case: Case, *pieces: bytes) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        for piece in pieces:
            await wait_all_tasks_blocked()
            await stream.send_all(piece)
        return not case.is_closed

    server = await start_server(reply)
    async with opened() as lane:
        method = "GET" if case.has_body else "HEAD"
        assert await fetch(lane, at(server), method) == (case.status, case.body)


@every_case
async def test_an_answer_is_what_it_is_on_the_fast_lane(
    start_server: StartServer, case: Case
) -> None:
    await converse(start_server, case, case.wire)


async def test_an_answer_that_is_cut_anywhere_is_the_same(start_server: StartServer) -> None:
    (case,) = (case for case in CASES if case.name == "trailers")
    for cut in range(1, len(case.wire)):
        await converse(start_server, case, case.wire[:cut], case.wire[cut:])


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "leaf", "words"),
    [
        (httpx.ConnectTimeout(""), UnavailableError, "no connection in"),
        (httpx.ReadTimeout(""), DeadlineExceededError, "no byte in 7 s"),
        (httpx.WriteTimeout(""), DeadlineExceededError, "no byte in 7 s"),
        (httpx.PoolTimeout(""), DeadlineExceededError, "it took too long"),
        (httpx.ConnectError("refused"), UnavailableError, "no connection: refused"),
        (httpx.ReadError(""), UnavailableError, "the connection broke"),
        (httpx.RemoteProtocolError("Server disconnected"), UnavailableError, "broke: Server"),
        (httpx.RemoteProtocolError("peer closed connection"), UnavailableError, "broke: peer"),
        (httpx.RemoteProtocolError("illegal header line"), RegistryError, "breaks HTTP: illegal"),
        (httpx.LocalProtocolError("no"), RegistryError, "cannot be sent or followed: no"),
        (httpx.InvalidURL("no"), RegistryError, "cannot be sent or followed: no"),
        (httpx.UnsupportedProtocol("no"), RegistryError, "cannot be sent or followed: no"),
        (OverflowError("port"), RegistryError, "cannot be sent or followed: port"),
        (UnicodeError("label"), RegistryError, "cannot be sent or followed: label"),
    ],
)
def test_what_httpx_raises_is_of_the_tree(
    raised: Exception, leaf: type[MultiFetchError], words: str
) -> None:
    with pytest.raises(leaf, match=words) as caught, translated("GET x", 7):
        raise raised
    assert type(caught.value) is leaf
    assert caught.value.__cause__ is raised


@pytest.mark.timeout(10)
@pytest.mark.parametrize("words", ["no more", ""])
def test_an_error_whose_causes_go_round_in_a_circle_is_judged_too(words: str) -> None:
    """Who raises again what it caught, from what came of that, makes one."""
    error = httpx.ReadError(words)
    error.__cause__ = OSError(words)
    error.__cause__.__context__ = error
    with pytest.raises(UnavailableError, match=f"broke.*{words}") as caught, translated("GET x", 7):
        raise error
    assert is_passing(caught.value)


async def test_a_secret_that_a_broken_answer_repeats_is_in_no_traceback(
    start_server: StartServer,
) -> None:
    """A program that uses the library prints the causes of an error too."""
    secret = "open-sesame-open-sesame"

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        assert secret in head
        await stream.send_all(f"HTTP/1.1 200 OK\r\nno header {secret}\r\n\r\n".encode())
        return True

    server = await start_server(reply)
    async with httpx.AsyncClient(trust_env=False) as client:
        lane = HttpxLane(client, stall_seconds=PATIENT_SECONDS)
        headers = {"authorization": f"Bearer {secret}"}
        with pytest.raises(RegistryError, match="illegal header line") as caught:
            await lane.send("GET", parse_url(f"http://127.0.0.1:{server.port}/"), headers)
    told = "".join(traceback.format_exception(caught.value))
    assert "illegal header line" in told
    assert secret not in told


def test_what_is_a_bug_stays_one() -> None:
    with pytest.raises(KeyError), translated("GET x", 7):
        raise KeyError("x")


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "no answer"),
        (b"HTTP/1.1 200 OK\r\n", "no answer"),
        (raw_answer("200 OK", BODY)[: -len(BODY)], "no byte"),
        (raw_answer("200 OK", BODY)[:-1], f"only {len(BODY) - 1} bytes"),
    ],
)
async def test_what_stalls_runs_into_its_deadline(
    start_server: StartServer, sent: bytes, words: str, jumping_clock: MockClock
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        if sent:
            await stream.send_all(sent)
        await stream.receive_some()
        return False

    server = await start_server(reply)
    async with opened(stall_seconds=0.05) as lane:
        with pytest.raises(DeadlineExceededError, match=rf"{words} in 0\.05 s"):
            await fetch(lane, at(server))


async def test_a_head_that_is_dripped_has_one_deadline(
    start_server: StartServer, jumping_clock: MockClock
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        while True:
            await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            await trio.sleep(0.01)

    server = await start_server(reply)
    async with opened(stall_seconds=0.1) as lane:
        with pytest.raises(DeadlineExceededError, match=r"no answer in 0\.1 s"):
            await fetch(lane, at(server))


async def test_a_body_that_is_dripped_has_stalled(
    start_server: StartServer, jumping_clock: MockClock
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(raw_answer("200 OK", Content_Length="5000"))
        while True:
            await stream.send_all(b"x")
            await trio.sleep(0.01)

    server = await start_server(reply)
    async with opened(stall_seconds=0.2) as lane:
        with trio.fail_after(60), pytest.raises(DeadlineExceededError, match=r"only \d+ bytes in"):
            await fetch(lane, at(server))


@pytest.mark.parametrize("begun", [b"5\r\nhello\r\n5;", b"5\r\nhello\r\n0\r\nNote: "])
async def test_what_is_dripped_and_no_content_has_stalled_too(
    start_server: StartServer, begun: bytes, jumping_clock: MockClock
) -> None:
    """A chunk's extension, and a trailer, of which nobody sees the end."""

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + begun)
        while True:
            await stream.send_all(b"x")
            await trio.sleep(0.01)

    server = await start_server(reply)
    async with opened(stall_seconds=0.2) as lane:
        with trio.fail_after(10), pytest.raises(DeadlineExceededError, match=r"only 5 bytes in"):
            await fetch(lane, at(server))


async def test_others_have_their_turns_while_tiny_chunks_come(start_server: StartServer) -> None:
    """Until then trio keeps each wait's deadline: those of 5,000 chunks, for each of many jobs."""
    sent = 5_000

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        head_bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        await stream.send_all(head_bytes + b"1\r\na\r\n" * sent + b"0\r\n\r\n")
        return True

    server = await start_server(reply)
    turns = Turns()

    async with opened() as lane, trio.open_nursery() as nursery:
        nursery.start_soon(turns.take)
        answer = await lane.send("GET", at(server), {})
        came = Counter([turns.count async for chunk in answer.chunks() if chunk == b"a"])
        await answer.aclose()
        nursery.cancel_scope.cancel()
    assert sum(came.values()) == sent
    assert max(came.values()) <= 200  # trio takes two that are ready in any order


async def test_a_connection_that_is_reset_has_no_address_and_no_other_trouble(
    start_server: StartServer,
) -> None:
    is_reset = trio.Event()

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(raw_answer("307 There", BODY))
        await asked_for.wait()
        reset(stream)
        is_reset.set()
        return False

    asked_for = trio.Event()
    server = await start_server(reply)
    async with opened() as lane:
        answer = await lane.send("GET", at(server), {})
        assert answer.peer == "127.0.0.1"
        asked_for.set()
        await is_reset.wait()
        assert answer.peer == ""
        assert answer.is_from_inside
        await answer.aclose()


# --- idle connections -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "is_repeated"), [("GET", True), ("HEAD", True), ("POST", False)]
)
async def test_a_request_is_sent_again_where_an_idle_connection_had_ended_but_no_form(
    start_server: StartServer, method: str, *, is_repeated: bool
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        if len(server.heads) == 2:
            return False
        is_bare = head.startswith("HEAD")
        await stream.send_all(raw_answer("200 OK", b"" if is_bare else BODY))
        return True

    server: RawServer = await start_server(reply)
    form = "a=b" if method == "POST" else None
    async with opened() as lane:
        await fetch(lane, at(server))
        if is_repeated:
            assert (await fetch(lane, at(server), method, form))[0] == 200
        else:
            with pytest.raises(UnavailableError, match="the connection broke"):
                await fetch(lane, at(server), method, form)
    assert server.connections == 1 + is_repeated


async def test_a_new_connection_that_breaks_is_not_tried_again(start_server: StartServer) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        return False

    server = await start_server(reply)
    async with opened() as lane:
        with pytest.raises(UnavailableError, match="the connection broke"):
            await fetch(lane, at(server))
    assert server.connections == 1


async def test_a_request_that_is_cancelled_closes_its_connection(
    start_server: StartServer,
) -> None:
    ended = trio.Event()

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(raw_answer("200 OK", BODY)[:-1])
        assert await stream.receive_some() == b""
        ended.set()
        return False

    server = await start_server(reply)
    async with opened() as lane:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch, lane, at(server))
            while not server.heads:
                await wait_all_tasks_blocked()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with trio.fail_after(5):
            await ended.wait()


# --- mocks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("using", ["httpx", "httpcore"])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_respx_in_both_of_its_modes_answers(using: str, *, is_stream: bool) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield BODY[:5]
        yield BODY[5:]

    response = httpx.Response(200, content=stream() if is_stream else BODY)
    with respx.mock(using=using) as router:
        router.get(str(URL)).mock(return_value=response)
        async with opened() as lane:
            assert await fetch(lane, URL) == (200, BODY)
        assert router.calls.call_count == 1


async def test_a_mock_transport_answers_and_fails() -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        if request.method == "HEAD":
            raise httpx.ConnectError("mocked")
        return httpx.Response(206, content=BODY, headers={"X-Seen": request.headers["X-One"]})

    async with opened(httpx.MockTransport(respond)) as lane:
        answer = await lane.send("GET", URL, {"X-One": "1"})
        assert (answer.status, answer.headers["x-seen"], answer.peer) == (206, "1", "")
        assert await answer.read(100) == BODY
        await answer.aclose()
        with pytest.raises(UnavailableError, match="no connection: mocked"):
            await lane.send("HEAD", URL, {})


async def test_libraries_log_no_signature_and_go_on_to_log_what_others_do(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A program that logs on INFO has httpx's lines too, with whole URLs; on DEBUG all headers."""
    caplog.set_level(logging.DEBUG)

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(raw_answer("307 To", Location="https://store.example/?sig=s1gned"))
        return True

    server = await start_server(reply)
    url = parse_url(f"http://127.0.0.1:{server.port}/blob?sig=s1gned")
    async with opened() as lane:
        assert (await fetch(lane, url))[0] == 307
        assert "s1gned" not in caplog.text
        async with httpx.AsyncClient(trust_env=False) as others:
            await others.get(str(url))
    assert "s1gned" in caplog.text
