"""The fast lane: connections that are used again, those that had gone, TLS, and who closes it."""

from __future__ import annotations

import gc
import ssl
import warnings
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

import httpcore
import httpx
import pytest
import respx
import trio
from trio.testing import wait_all_tasks_blocked

from multi_fetch.durations import KEEPALIVE_SECONDS
from multi_fetch.errors import DeadlineExceededError, RegistryError, UnavailableError
from multi_fetch.limits import MAX_STALE_CONNECTIONS
from multi_fetch.registry.fast_lane import MOCKED_PLACES, FastLane, is_mocked
from multi_fetch.registry.tls import new_context
from multi_fetch.registry.url import Url, parse_url
from tests.registry.conftest import RawServer, StartServer, raw_answer
from tests.registry.sockets import PATIENT_SECONDS, receive_head, reset
from tests.registry.tls_server import NAME, Authority, TlsServer, answering, tls_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from trio.testing import MockClock


BODY: Final = b"as it was stored"


@contextmanager
def opened(
    context: Callable[[], ssl.SSLContext] = new_context,
    *,
    jobs: int = 4,
    stall_seconds: float = PATIENT_SECONDS,
) -> Iterator[FastLane]:
    """A lane; what it leaves open shows as a ResourceWarning, which fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lane = FastLane(lambda _: context(), jobs=jobs, stall_seconds=stall_seconds)
        try:
            yield lane
        finally:
            lane.close()
            gc.collect()


def at(server: RawServer | TlsServer, path: str = "/v2/", host: str = "127.0.0.1") -> Url:
    scheme = "https" if isinstance(server, TlsServer) else "http"
    return parse_url(f"{scheme}://{host}:{server.port}{path}")


async def fetch(lane: FastLane, url: Url, method: str = "GET") -> bytes:
    answer = await lane.send(method, url, {})
    try:
        return await answer.read(1 << 30)
    finally:
        await answer.aclose()


async def answer_once(stream: trio.SocketStream, head: str) -> bool:
    await stream.send_all(raw_answer("200 OK", b"" if head.startswith("HEAD") else BODY))
    return True


# --- requests ---------------------------------------------------------------------------------


async def test_a_request_is_what_it_was_told_to_be(start_server: StartServer) -> None:
    server = await start_server(answer_once)
    with opened() as lane:
        url = at(server, "/v2/a/blobs/sha256:ab?x=%2F%7e%zz&y=a+b")
        answer = await lane.send("GET", url, {"Accept": "*/*", "X-One": "1"})
        assert await answer.read(100) == BODY
        await answer.aclose()
        assert (answer.status, answer.peer, answer.method) == (200, "127.0.0.1", "GET")
    (head,) = server.heads
    assert head.split("\r\n") == [
        "GET /v2/a/blobs/sha256:ab?x=%2F%7e%zz&y=a+b HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        "Accept: */*",
        "X-One: 1",
    ]


@pytest.mark.parametrize("value", ["a\r\nEvil: 1", "a\nb", "a\rb", "é", "a\r\n\r\nGET / HTTP/1.1"])
async def test_a_header_that_would_be_another_is_not_sent(
    start_server: StartServer, value: str
) -> None:
    server = await start_server(answer_once)
    with opened() as lane, pytest.raises(RegistryError, match="cannot be sent"):
        await lane.send("GET", at(server), {"Authorization": value})
    assert server.connections == 0


# --- connections ------------------------------------------------------------------------------


async def test_one_connection_serves_requests_that_follow_each_other(
    start_server: StartServer,
) -> None:
    server = await start_server(answer_once)
    with opened() as lane:
        for method in ("GET", "HEAD", "GET", "HEAD"):
            expected = BODY if method == "GET" else b""
            assert await fetch(lane, at(server), method) == expected
    assert (server.connections, len(server.heads)) == (1, 4)


async def test_requests_at_the_same_time_have_connections_of_their_own_and_keep_them(
    start_server: StartServer,
) -> None:
    server = await start_server(answer_once)
    with opened(jobs=3) as lane:
        for _ in range(2):
            answers = [await lane.send("GET", at(server), {}) for _ in range(3)]
            for answer in answers:
                assert await answer.read(100) == BODY
                await answer.aclose()
                await answer.aclose()  # a second time does nothing
    assert server.connections == 3


async def test_a_registry_and_the_store_that_it_sends_on_to_keep_their_connections(
    start_server: StartServer,
) -> None:
    registry, store = await start_server(answer_once), await start_server(answer_once)
    with opened(jobs=2) as lane:
        for _ in range(4):
            for server in (registry, store):
                answers = [await lane.send("GET", at(server), {}) for _ in range(2)]
                for answer in answers:
                    await answer.drain()
    assert (registry.connections, store.connections) == (2, 2)


async def test_idle_connections_are_bounded_and_the_oldest_makes_room(
    start_server: StartServer,
) -> None:
    left = [await start_server(answer_once) for _ in range(3)]
    busy = await start_server(answer_once)
    with opened(jobs=1) as lane:
        for server in left:
            await fetch(lane, at(server))
        for _ in range(3):
            await fetch(lane, at(busy))
        assert lane._stock.count == sum(map(len, lane._stock._idle.values())) == 2
        await fetch(lane, at(left[-1]))
        await fetch(lane, at(left[0]))
    assert busy.connections == 1
    assert [server.connections for server in left] == [2, 1, 1]


@pytest.mark.parametrize(
    "answer",
    [
        raw_answer("200 OK", BODY, Connection="close"),
        raw_answer("200 OK", BODY).replace(b"1.1", b"1.0"),
        raw_answer("200 OK", BODY) + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_a_connection_that_may_not_be_used_again_is_not(
    start_server: StartServer, answer: bytes
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(answer)
        return True

    server = await start_server(reply)
    with opened() as lane:
        for _ in range(3):
            assert await fetch(lane, at(server)) == BODY
    assert server.connections == 3


async def test_an_answer_that_was_not_read_to_its_end_costs_its_connection(
    start_server: StartServer,
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(raw_answer("200 OK", bytes(3_000_000)))
        return True

    server = await start_server(reply)
    with opened() as lane:
        await (await lane.send("GET", at(server), {})).aclose()
        answer = await lane.send("GET", at(server), {})
        body = answer.chunks()
        await anext(body)
        await body.aclose()
        await answer.aclose()
        assert len(await fetch(lane, at(server))) == 3_000_000
    assert server.connections == 3


@pytest.mark.parametrize("ending", ["fin", "reset", "stray bytes", "stray bytes and fin"])
async def test_an_idle_connection_that_has_ended_or_speaks_is_replaced(ending: str) -> None:
    streams: list[trio.SocketStream] = []
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = parse_url(f"http://127.0.0.1:{listener.socket.getsockname()[1]}/")

    async def serve(stream: trio.SocketStream) -> None:
        streams.append(stream)
        with suppress(AssertionError, trio.BrokenResourceError, trio.ClosedResourceError):
            while await receive_head(stream):
                await stream.send_all(raw_answer("200 OK", BODY))
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        with opened() as lane:
            assert await fetch(lane, url) == BODY
            await wait_all_tasks_blocked()
            (stream,) = streams
            if ending.startswith("stray"):
                await stream.send_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
            if ending.endswith("fin"):
                await stream.send_eof()
            if ending == "reset":
                reset(stream)
            assert await fetch(lane, url) == BODY
            assert len(streams) == 2
            nursery.cancel_scope.cancel()


async def test_an_old_idle_connection_is_not_trusted(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server(answer_once)
    with opened() as lane:
        await fetch(lane, at(server))
        later = trio.current_time() + KEEPALIVE_SECONDS
        with monkeypatch.context() as patch:
            patch.setattr(trio, "current_time", lambda: later)
            await fetch(lane, at(server))
    assert server.connections == 2


async def test_connections_that_close_on_their_second_request_are_all_replaced_unseen(
    start_server: StartServer,
) -> None:
    """The race of RFC 9112, section 9.3.1, lost with each idle connection in turn."""
    seen: set[trio.SocketStream] = set()

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        if stream in seen and len(seen) == 3:
            reset(stream)
            return False
        seen.add(stream)
        await stream.send_all(raw_answer("200 OK", BODY))
        return True

    server = await start_server(reply)
    with opened(jobs=3) as lane:
        answers = [await lane.send("GET", at(server), {}) for _ in range(3)]
        for answer in answers:
            await answer.drain()
        assert await fetch(lane, at(server)) == BODY
    assert server.connections == 4
    assert len(server.heads) == 3 + 3 + 1 <= 3 + MAX_STALE_CONNECTIONS


async def test_a_new_connection_that_breaks_is_not_tried_again(start_server: StartServer) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        return False

    server = await start_server(reply)
    with opened() as lane, pytest.raises(UnavailableError, match="the connection broke"):
        await lane.send("GET", at(server), {})
    assert server.connections == 1


@pytest.mark.parametrize("is_idle", [False, True])
async def test_an_answer_that_does_not_come_is_not_asked_for_again(
    start_server: StartServer, jumping_clock: MockClock, *, is_idle: bool
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        if len(server.heads) == 1 and is_idle:
            await stream.send_all(raw_answer("200 OK", BODY))
        return True

    server: RawServer = await start_server(reply)
    with opened(stall_seconds=0.05) as lane:
        if is_idle:
            await fetch(lane, at(server))
        with pytest.raises(DeadlineExceededError, match="no answer"):
            await lane.send("GET", at(server), {})
    assert len(server.heads) == 1 + is_idle
    assert server.connections == 1


async def test_a_port_where_nobody_listens_is_unavailable(closed_port: int) -> None:
    with opened() as lane, pytest.raises(UnavailableError, match=r"no connection: .*refused"):
        await lane.send("GET", parse_url(f"http://127.0.0.1:{closed_port}/"), {})


async def test_a_name_that_no_look_up_takes_is_a_registry_error() -> None:
    with opened() as lane, pytest.raises(RegistryError, match="cannot be sent"):
        await lane.send("GET", parse_url(f"http://{'a' * 64}.example/"), {})


# --- cancellation -----------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n", raw_answer("200 OK", BODY)[:-1]])
@pytest.mark.parametrize("is_idle", [False, True])
async def test_a_request_that_is_cancelled_at_any_wait_closes_its_connection(
    start_server: StartServer, sent: bytes, *, is_idle: bool
) -> None:
    ended = trio.Event()

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        if len(server.heads) == 1 and is_idle:
            await stream.send_all(raw_answer("200 OK", BODY))
            return True
        if sent:
            await stream.send_all(sent)
        assert await stream.receive_some() == b""
        ended.set()
        return False

    server: RawServer = await start_server(reply)
    with opened() as lane:
        if is_idle:
            await fetch(lane, at(server))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch, lane, at(server))
            while len(server.heads) < 1 + is_idle:
                await wait_all_tasks_blocked()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with trio.fail_after(5):
            await ended.wait()
        assert not lane._stock.count


# --- TLS --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_one_tls_connection_serves_many_requests(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    """Also after TLS 1.3's session tickets, which come when nobody asked for anything."""
    certified = authority.certified(NAME)
    certified.minimum_version = certified.maximum_version = version
    async with tls_server(certified, answering(BODY)) as server:
        with opened(authority.trusting) as lane:
            for _ in range(4):
                assert await fetch(lane, at(server, host=NAME)) == BODY
                await wait_all_tasks_blocked()
    assert (server.connections, len(server.heads)) == (1, 4)


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_large_body_comes_whole_over_tls(authority: Authority, *, is_chunked: bool) -> None:
    body = bytes(range(256)) * 20_000 + b"tail"

    async def chunked(stream: trio.SSLStream[trio.SocketStream], head: bytes) -> bool:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(body), 70_000):
            piece = body[start : start + 70_000]
            await stream.send_all(b"%x\r\n%s\r\n" % (len(piece), piece))
        await stream.send_all(b"0\r\n\r\n")
        return True

    reply = chunked if is_chunked else answering(body)
    async with tls_server(authority.certified(NAME), reply) as server:
        with opened(authority.trusting) as lane:
            for _ in range(2):
                assert await fetch(lane, at(server, host=NAME)) == body
    assert server.connections == 1


async def test_tls_connections_at_the_same_time_do_not_disturb_each_other(
    authority: Authority,
) -> None:
    body = bytes(range(251)) * 4_000
    async with tls_server(authority.certified(NAME), answering(body)) as server:
        with opened(authority.trusting, jobs=8) as lane:

            async def fetch_some() -> None:
                for _ in range(3):
                    assert await fetch(lane, at(server, host=NAME)) == body

            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(fetch_some)
    assert server.connections <= 8


async def test_a_stranger_a_wrong_name_and_an_old_certificate_are_refused(
    authority: Authority,
) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    for context, words in (
        (Authority().certified(NAME), "unable to get local issuer|self-signed|self signed"),
        (authority.certified("other.example"), "Hostname mismatch"),
        (authority.certified(NAME, not_after=yesterday), "expired"),
    ):
        async with tls_server(context, answering(BODY)) as server:
            refused = pytest.raises(UnavailableError, match=f"no TLS: .*({words})")
            with opened(authority.trusting) as lane, refused:
                await lane.send("GET", at(server, host=NAME), {})
            assert server.heads == []


async def test_tls_below_1_2_is_refused(authority: Authority) -> None:
    certified = authority.certified(NAME)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is what the test is about
        certified.minimum_version = ssl.TLSVersion.TLSv1
        certified.maximum_version = ssl.TLSVersion.TLSv1_1
    certified.set_ciphers("ALL:@SECLEVEL=0")
    async with tls_server(certified, answering(BODY)) as server:
        refused = pytest.raises(UnavailableError, match="no TLS: ")
        with opened(authority.trusting) as lane, refused:
            await lane.send("GET", at(server, host=NAME), {})
        assert server.heads == []


async def test_what_speaks_no_tls_is_unavailable() -> None:
    async def speak_http(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await stream.receive_some()

    async with serving(speak_http) as url:
        with opened() as lane, pytest.raises(UnavailableError, match=r"no TLS: ."):
            await lane.send("GET", url, {})


@asynccontextmanager
async def serving(serve: Callable[[trio.SocketStream], Awaitable[object]]) -> AsyncIterator[Url]:
    """A server that does what it likes; the https URL of it."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield parse_url(f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}/")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize("taken", [0, 1, 64])
async def test_a_handshake_that_is_cut_is_unavailable(taken: int, *, is_reset: bool) -> None:
    async def cut(stream: trio.SocketStream) -> None:
        if taken:
            await stream.receive_some(taken)
        if is_reset:
            reset(stream)
        else:
            await stream.send_eof()
            await stream.receive_some(100_000)
            await stream.aclose()

    async with serving(cut) as url:
        with opened() as lane, pytest.raises(UnavailableError, match=r"no TLS: .|no connection: ."):
            await lane.send("GET", url, {})


async def test_a_handshake_that_is_cancelled_or_too_slow_closes_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = 0
    begun = trio.Event()

    async def be_silent(stream: trio.SocketStream) -> None:
        nonlocal ended
        await stream.receive_some()
        begun.set()
        assert await stream.receive_some() == b""
        ended += 1

    async with serving(be_silent) as url:
        with opened() as lane:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(lane.send, "GET", url, {}))
                await begun.wait()
                nursery.cancel_scope.cancel()
            monkeypatch.setattr(lane, "_connect_seconds", 0.05)
            with pytest.raises(UnavailableError, match=r"no connection in 0\.05 s"):
                await lane.send("GET", url, {})
        await wait_all_tasks_blocked()
        assert ended == 2


async def test_a_body_without_a_length_needs_tls_own_end(authority: Authority) -> None:
    """Else whoever cuts the connection says where the body ends (RFC 9112, section 9.8)."""
    for is_cut in (True, False):

        async def reply(
            stream: trio.SSLStream[trio.SocketStream], head: bytes, *, is_cut: bool = is_cut
        ) -> bool:
            await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n" + BODY)
            if is_cut:
                await stream.transport_stream.send_eof()
            else:
                await stream.unwrap()
            return False

        async with tls_server(authority.certified(NAME), reply) as server:
            with opened(authority.trusting) as lane:
                if is_cut:
                    with pytest.raises(UnavailableError, match="the connection broke"):
                        await fetch(lane, at(server, host=NAME))
                else:
                    assert await fetch(lane, at(server, host=NAME)) == BODY


async def test_no_context_is_asked_for_where_there_is_no_tls(
    start_server: StartServer, authority: Authority
) -> None:
    made: list[ssl.SSLContext] = []

    def context() -> ssl.SSLContext:
        made.append(authority.trusting())
        return made[-1]

    plain = await start_server(answer_once)
    async with tls_server(authority.certified(NAME), answering(BODY)) as server:
        with opened(context) as lane:
            await fetch(lane, at(plain))
            assert made == []
            answers = [await lane.send("GET", at(server, host=NAME), {}) for _ in range(2)]
            for answer in answers:
                await answer.drain()
    assert made


# --- mocks ------------------------------------------------------------------------------------


def test_the_places_where_mocks_are_put_exist_today() -> None:
    """A new httpx, httpcore or respx that moves one needs a new name in MOCKED_PLACES."""
    libraries = {"httpx": httpx, "httpcore": httpcore}
    for library, kind, method in MOCKED_PLACES:
        assert callable(getattr(getattr(libraries[library], kind), method))


@pytest.mark.parametrize("using", ["httpx", "httpcore"])
async def test_respx_in_both_of_its_modes_closes_the_lane_for_as_long_as_it_mocks(
    using: str,
) -> None:
    with opened() as lane:
        assert lane.is_open()
        with respx.mock(using=using):
            assert not lane.is_open()
        assert lane.is_open()


@pytest.mark.parametrize("mocker", [respx.mocks.HTTPXMocker, respx.mocks.HTTPCoreMocker])
def test_what_respx_replaces_in_either_mode_is_among_them(mocker: type[respx.mocks.Mocker]) -> None:
    replaced = {
        (target.partition(".")[0], target.rpartition(".")[2], method)
        for target in mocker.targets
        for method in mocker.target_methods
    }
    assert replaced & set(MOCKED_PLACES)


def test_a_transports_method_that_was_replaced_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for library, kind, method in MOCKED_PLACES:
        owner = getattr({"httpx": httpx, "httpcore": httpcore}[library], kind)
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, lambda *_: None)
            assert is_mocked()
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, partial(print))  # it has no code of its own
            assert is_mocked()
    assert not is_mocked()
