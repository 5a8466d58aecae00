"""The direct lane: what comes in the plainest way, and that all else is left alone."""

from __future__ import annotations

import select
from contextlib import asynccontextmanager
from errno import EMFILE
from typing import TYPE_CHECKING, Final

import pytest
import trio
from msgspec.structs import replace
from trio.testing import wait_all_tasks_blocked

from multi_fetch.durations import DIRECT_WAIT_SECONDS
from multi_fetch.errors import DeniedError, MultiFetchError
from multi_fetch.lanes import Direct
from multi_fetch.limits import MAX_DIRECT_BYTES
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCI_MANIFEST, OCTET_STREAM
from multi_fetch.oci.reference import Reference
from multi_fetch.registry import direct as direct_room
from multi_fetch.registry import open_registry
from multi_fetch.registry.api import Endpoint
from multi_fetch.registry.auth import Token
from multi_fetch.registry.hosts import Host
from multi_fetch.registry.resolver import RegistryRemote
from multi_fetch.registry.url import Url
from tests.fakes.consumer import open_idle
from tests.registry.conftest import ONCE, QUICK, StartServer, raw_answer
from tests.registry.sockets import reset
from tests.registry.tls_server import NAME, Authority, answering, tls_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from trio.testing import MockClock

    from multi_fetch.oci.digest import Digest
    from multi_fetch.registry.direct import RegistryDirectLane, SentRequest
    from multi_fetch.remotes import Patience
    from tests.registry.conftest import RawServer, Reply

BODY: Final = b"as it was stored"
DIGEST: Final = digest_of(BODY)
TYPES: Final = ("application/x.y",)


@asynccontextmanager
async def opened(
    server: RawServer, patience: Patience = ONCE, *, jobs: int = 4, hosts: Sequence[Host] = ()
) -> AsyncIterator[tuple[RegistryRemote, RegistryDirectLane]]:
    """A remote and its lane, with a connection that is idle."""
    opening = open_registry(server.repository, patience=patience, jobs=jobs, hosts=hosts)
    async with opening as remote:
        assert isinstance(remote, RegistryRemote)
        await open_idle(remote)
        with remote.direct_lane() as lane:
            assert lane is not None
            yield remote, lane


def always(*pieces: bytes) -> Reply:
    """Answers in these pieces, each sent when the client has taken the one before."""

    async def reply(stream: trio.SocketStream, _head: str) -> bool:
        for piece in pieces:
            await wait_all_tasks_blocked()
            await stream.send_all(piece)
        return True

    return reply


def asked(
    lane: RegistryDirectLane, digest: Digest, media_types: Sequence[str], size: int | None
) -> SentRequest | None:
    """A request, if it can be sent."""
    asker = lane.asker()
    return None if asker is None else asker.ask(digest, media_types, size)


async def came(lane: RegistryDirectLane, digest: Digest = DIGEST) -> SentRequest:
    """What came of a request that could be asked."""
    sent = asked(lane, digest, TYPES, None)
    assert sent is not None
    with trio.fail_after(5):
        assert await lane.wait() == [sent]
    return sent


async def fetched(remote: RegistryRemote, server: RawServer, size: int | None = None) -> bytes:
    """The same object in the general way."""
    content = bytearray()
    ref = Reference(server.repository.locator, f"@{DIGEST}")
    async with remote.open(ref, media_types=TYPES, size=size) as found:
        async for chunk in found.chunks:
            content += chunk
    return bytes(content)


# --- what is plain ----------------------------------------------------------------------------


async def test_blobs_come_one_after_the_other_over_one_connection(
    start_server: StartServer,
) -> None:
    server = await start_server(always(raw_answer("200 OK", BODY)))
    async with opened(server) as (_, lane):
        for _ in range(3):
            sent = await came(lane)
            assert (sent.content, sent.media_type) == (BODY, TYPES[0])
            lane.take(sent)
    assert server.connections == 1


async def test_many_are_under_way_at_the_same_time(start_server: StartServer) -> None:
    gate = trio.Event()

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await gate.wait()
        await stream.send_all(raw_answer("200 OK", head.split()[1][-64:].encode()))
        return True

    server = await start_server(reply)
    digests = [digest_of(b"%d" % number) for number in range(4)]
    async with opened(server) as (remote, lane):
        for _ in digests[1:]:
            await open_idle(remote)
        sent = [asked(lane, digest, TYPES, None) for digest in digests]
        gate.set()
        arrived: list[SentRequest] = []
        while len(arrived) < len(digests):
            arrived += [each for each in await lane.wait() if each not in arrived]
        assert {each.content for each in arrived} == {each.encoded.encode() for each in digests}
        assert set(arrived) == set(sent)


async def test_a_request_is_byte_for_byte_that_of_the_general_path(
    start_server: StartServer,
) -> None:
    server = await start_server(always(raw_answer("200 OK", BODY)))
    async with opened(server) as (remote, lane):
        remote._session._authorizer._token = Token("Basic YTpi")
        lane.take(await came(lane))
        await fetched(remote, server)
    direct, general = server.heads
    assert direct == general
    assert "Authorization: Basic YTpi" in direct


async def test_what_was_told_since_goes_into_the_next_request(start_server: StartServer) -> None:
    server = await start_server(always(raw_answer("200 OK", BODY)))
    async with opened(server) as (remote, lane):
        lane.take(await came(lane))
        remote._session._authorizer._token = Token("Bearer t")
        lane.take(await came(lane))
    assert ["Bearer t" in head for head in server.heads] == [False, True]


WHOLE: Final = raw_answer("200 OK", BODY)


@pytest.mark.parametrize("cut", range(1, len(WHOLE)))
async def test_an_answer_may_be_cut_anywhere(start_server: StartServer, cut: int) -> None:
    server = await start_server(always(WHOLE[:cut], WHOLE[cut:]))
    async with opened(server) as (_, lane):
        sent = await came(lane)
        assert sent.content == BODY
        lane.take(sent)
        assert (await came(lane)).content == BODY


async def test_an_answer_may_come_byte_by_byte(start_server: StartServer) -> None:
    server = await start_server(always(*[WHOLE[at : at + 1] for at in range(len(WHOLE))]))
    async with opened(server) as (_, lane):
        assert (await came(lane)).content == BODY


async def test_an_empty_blob_and_the_largest_come(start_server: StartServer) -> None:
    contents = {digest_of(content): content for content in (b"", b"x" * MAX_DIRECT_BYTES)}

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        content = next(contents[digest] for digest in contents if digest in head)
        await stream.send_all(raw_answer("200 OK", content))
        return True

    server = await start_server(reply)
    async with opened(server) as (_, lane):
        for digest, content in contents.items():
            sent = await came(lane, digest)
            assert sent.content == content
            lane.take(sent)


async def test_without_a_hint_the_answer_says_what_it_is(start_server: StartServer) -> None:
    answer = raw_answer("200 OK", BODY, Content_Type="Text/Plain; charset=utf-8")
    server = await start_server(always(answer))
    async with opened(server) as (remote, lane):
        assert asked(lane, DIGEST, (), None) is None  # more likely a manifest
        await fetched(remote, server)
        remote._last_endpoint = Endpoint.BLOBS
        sent = asked(lane, DIGEST, (), None)
        assert sent is not None
        assert await lane.wait() == [sent]
        assert sent.media_type == "text/plain"


@pytest.mark.parametrize("name", ["Authorization", "X-Key"])
async def test_what_the_answer_says_repeats_no_secret(start_server: StartServer, name: str) -> None:
    token = "a-token-that-is-issued-for-this-registry-alone"
    server = await start_server(always(raw_answer("200 OK", BODY, Content_Type=f"a/{token}")))
    headers = () if name == "Authorization" else ((name, token),)
    hosts = [Host("http", f"127.0.0.1:{server.port}", headers=headers)]
    async with opened(server, hosts=hosts) as (remote, lane):
        remote._session._authorizer._token = Token("Bearer t" if headers else f"Bearer {token}")
        await fetched(remote, server)
        remote._last_endpoint = Endpoint.BLOBS
        sent = asked(lane, DIGEST, (), None)
        assert sent is not None
        assert await lane.wait() == [sent]
        assert sent.media_type == OCTET_STREAM


@pytest.mark.parametrize("close", ["Connection: close\r\n", ""])
async def test_a_connection_that_may_not_persist_serves_no_other(
    start_server: StartServer, close: str
) -> None:
    """It says so, or more came than belongs to the answer."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n{close}\r\n".encode()
    server = await start_server(always(head + BODY + (b"" if close else b"more")))
    async with opened(server) as (remote, lane):
        sent = await came(lane)
        assert sent.content is None
        lane.leave(sent)
        assert await fetched(remote, server) == BODY
        assert len(server.heads) == 1
        lane._is_doubtful = False
        assert asked(lane, DIGEST, TYPES, None) is None


async def test_a_connection_goes_back_to_the_general_path(start_server: StartServer) -> None:
    server = await start_server(always(WHOLE))
    async with opened(server) as (remote, lane):
        lane.take(await came(lane))
        with trio.move_on_after(0):
            await lane.wait()
        assert await fetched(remote, server) == BODY
        assert (await came(lane)).content == BODY
    assert server.connections == 1


async def test_under_tls_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = Authority()
    monkeypatch.setenv("SSL_CERT_FILE", authority.root_in(tmp_path))
    body = bytes(MAX_DIRECT_BYTES)
    async with tls_server(authority.certified(NAME), answering(body)) as server:
        ref = Reference(f"{NAME}:{server.port}/a")
        async with open_registry(ref, hosts=[Host("https", ref.hostname)], patience=ONCE) as remote:
            assert isinstance(remote, RegistryRemote)
            await open_idle(remote)
            with remote.direct_lane() as lane:
                assert lane is not None
                for _ in range(2):
                    sent = await came(lane)
                    assert sent.content == body
                    lane.take(sent)
        assert server.connections == 1


# --- what is not ------------------------------------------------------------------------------

PLAIN_HEAD: Final = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n".encode()

LEFT: Final = [
    raw_answer("404 Not Found", b"{}"),
    raw_answer("401 Unauthorized", b"", WWW_Authenticate='Basic realm="r"'),
    raw_answer("206 Partial Content", BODY, Content_Range="bytes 0-15/16"),
    raw_answer("204 No Content"),
    raw_answer("503 Service Unavailable", b"later"),
    raw_answer("307 Temporary Redirect", b"", Location="/elsewhere"),
    b"HTTP/1.1 103 Early Hints\r\n\r\n" + WHOLE,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" + BODY + b"\r\n0\r\n\r\n",
    PLAIN_HEAD + b"Content-Encoding: gzip\r\n\r\n" + BODY,
    PLAIN_HEAD + b"RateLimit-Remaining: 7\r\n\r\n" + BODY,
    PLAIN_HEAD + b"Content-Length: 17\r\n\r\n" + BODY,
    b"HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n" + bytes(65537),
    b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n" + BODY[:15],
    b"this is no HTTP\r\n\r\n",
]


@pytest.mark.parametrize("answer", LEFT, ids=range(len(LEFT)))
async def test_what_is_left_is_what_the_general_path_would_have_got(
    start_server: StartServer, answer: bytes
) -> None:
    """The same verdict, and no request for it."""
    outcomes, heads = [], []
    for goes_directly in (True, False):
        server = await start_server(always(answer))
        async with opened(server) as (remote, lane):
            if goes_directly:
                sent = asked(lane, DIGEST, TYPES, len(BODY))
                assert sent is not None
                assert await lane.wait() == [sent]
                assert sent.content is None
                lane.leave(sent)
            outcomes.append(await outcome(remote, server))
            heads.append([head.split()[1] for head in server.heads])
    assert outcomes[0] == outcomes[1]
    assert heads[0] == heads[1]


async def outcome(remote: RegistryRemote, server: RawServer) -> tuple[str, str]:
    try:
        return "ok", (await fetched(remote, server, len(BODY))).hex()
    except MultiFetchError as error:
        return error.code, error.message.replace(str(server.port), "PORT")


async def test_content_that_proves_wrong_can_be_left_with_its_answer(
    start_server: StartServer,
) -> None:
    server = await start_server(always(WHOLE))
    async with opened(server) as (remote, lane):
        lane.leave(await came(lane))
        assert await fetched(remote, server) == BODY
    assert len(server.heads) == 1


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_connection_that_had_gone_is_made_up_for(
    start_server: StartServer, *, is_reset: bool
) -> None:
    async def reply(stream: trio.SocketStream, _head: str) -> bool:
        if len(server.heads) > 1:
            await stream.send_all(WHOLE)
        elif is_reset:
            reset(stream)
        else:
            await stream.aclose()
        return len(server.heads) > 1

    server = await start_server(reply)
    async with opened(server) as (remote, lane):
        sent = await came(lane)
        assert sent.content is None
        lane.leave(sent)
        assert await fetched(remote, server) == BODY


@pytest.mark.parametrize("stall_seconds", [0.2, DIRECT_WAIT_SECONDS + 0.3])
async def test_what_takes_long_is_left_and_waited_for_with_deadlines(
    start_server: StartServer, stall_seconds: float, jumping_clock: MockClock
) -> None:
    async def silent(_stream: trio.SocketStream, _head: str) -> bool:
        await trio.sleep_forever()
        return False

    server = await start_server(silent)
    async with opened(server, replace(ONCE, stall_seconds=stall_seconds)) as (remote, lane):
        begun = trio.current_time()
        sent = await came(lane)
        assert sent.content is None
        until_left = min(DIRECT_WAIT_SECONDS, stall_seconds)
        assert trio.current_time() - begun >= until_left
        lane.leave(sent)
        with pytest.raises(MultiFetchError, match=f"no answer in {stall_seconds:g} s"):
            await fetched(remote, server)
        # Counted from when it was sent, and not from when it was left.
        assert trio.current_time() - begun < until_left + stall_seconds
    assert len(server.heads) == 1


async def test_what_takes_long_is_left_however_much_else_comes(start_server: StartServer) -> None:
    silent_digest = digest_of(b"never sent")

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        if silent_digest in head:
            await trio.sleep_forever()
        await stream.send_all(raw_answer("200 OK", BODY))
        return True

    server = await start_server(reply)
    async with opened(server, replace(ONCE, stall_seconds=0.2)) as (remote, lane):
        await open_idle(remote)
        silent = asked(lane, silent_digest, TYPES, None)
        arrived: list[SentRequest] = []
        with trio.fail_after(5):
            while silent not in arrived:
                other = asked(lane, DIGEST, TYPES, None)
                await wait_all_tasks_blocked()  # so that there is always one that has come
                arrived = await lane.wait()
                assert other in arrived
                lane.take(other)
        assert silent is not None
        lane.drop(silent)


async def test_what_was_dropped_is_closed_and_waits_for_nobody(start_server: StartServer) -> None:
    closed = trio.Event()

    async def silent(stream: trio.SocketStream, _head: str) -> bool:
        assert not await stream.receive_some()
        closed.set()
        return False

    server = await start_server(silent)
    async with opened(server) as (_, lane):
        sent = asked(lane, DIGEST, TYPES, None)
        assert sent is not None
        lane.drop(sent)
        with trio.fail_after(5):
            await closed.wait()


async def test_refusals_of_one_time_slow_the_host_down_once(start_server: StartServer) -> None:
    """Those that were left were sent before the first of them was read, and wait for no turn."""
    refused = raw_answer("429 Too Many Requests", Retry_After="0")
    count = 4

    async def reply(stream: trio.SocketStream, _head: str) -> bool:
        await stream.send_all(refused if len(server.heads) <= count else WHOLE)
        return True

    server = await start_server(reply)
    async with opened(server, QUICK, jobs=count) as (remote, lane):
        for _ in range(count - 1):
            await open_idle(remote)
        left = [asked(lane, digest_of(b"%d" % number), TYPES, None) for number in range(count)]
        while left:
            for sent in await lane.wait():
                lane.leave(sent)
                left.remove(sent)
        session = remote._session
        for number in range(count):
            path = f"/v2/a/blobs/{digest_of(b'%d' % number)}"
            answer = await session._exchange.follow(
                "GET", Url(session.origin, path), {"Accept": "*/*"}, ""
            )
            assert answer.status == 429
            await answer.drain()
        pace = session._exchange._paces.of(session.origin)
        assert pace is not None
        assert pace.refusals == 1
    assert len(server.heads) == count


async def test_answers_that_nobody_asks_for_are_closed_in_time(start_server: StartServer) -> None:
    """Those of the same request, and those beyond what a lane keeps."""
    server = await start_server(always(raw_answer("404 Not Found")))
    async with opened(server, jobs=1) as (remote, lane):
        for number in range(8):
            lane._is_doubtful = False
            lane.leave(await came(lane, digest_of(b"%d" % (number // 2))))
            await open_idle(remote)
        fast = remote._session.straight_lane()
        assert fast is not None
        assert len(fast._begun) == 2


# --- what is not asked this way ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("media_types", "size"),
    [((OCI_MANIFEST,), None), ((OCTET_STREAM,), MAX_DIRECT_BYTES + 1), ((), None)],
)
async def test_manifests_and_large_blobs_are_not_asked_for(
    start_server: StartServer, media_types: Sequence[str], size: int | None
) -> None:
    server = await start_server(always(WHOLE))
    async with opened(server) as (_, lane):
        assert asked(lane, DIGEST, media_types, size) is None


async def test_without_an_idle_connection_nothing_is_asked(start_server: StartServer) -> None:
    server = await start_server(always(WHOLE))
    async with opened(server) as (_, lane):
        assert asked(lane, DIGEST, TYPES, None) is not None
        assert asked(lane, DIGEST, TYPES, None) is None


async def test_a_busy_host_is_asked_in_turn_alone(start_server: StartServer) -> None:
    server = await start_server(always(WHOLE))
    async with opened(server) as (remote, lane):
        session = remote._session
        session._exchange._paces.get_or_start(session.origin)
        assert asked(lane, DIGEST, TYPES, None) is None


async def test_a_token_that_is_to_be_renewed_is_waited_for(start_server: StartServer) -> None:
    server = await start_server(always(WHOLE))
    async with opened(server) as (remote, lane):
        renew_at = trio.current_time() - 1
        remote._session._authorizer._token = Token("Bearer t", renew_at=renew_at)
        assert asked(lane, DIGEST, TYPES, None) is None


async def test_after_an_answer_that_was_not_plain_some_go_the_general_way_then_one_is_tried(
    start_server: StartServer,
) -> None:
    answers = [raw_answer("403 Forbidden"), WHOLE]

    async def reply(stream: trio.SocketStream, _head: str) -> bool:
        await stream.send_all(answers.pop(0) if len(answers) > 1 else answers[0])
        return True

    server = await start_server(reply)
    async with opened(server) as (remote, lane):
        await open_idle(remote)
        lane.leave(await came(lane))
        with pytest.raises(DeniedError):
            await fetched(remote, server)
        tried = [asked(lane, DIGEST, TYPES, None) for _ in range(direct_room.CAUTION + 2)]
        assert tried[:-2] == [None] * direct_room.CAUTION
        (*_, one, other) = tried
        assert one is not None
        assert other is None
        assert await lane.wait() == [one]
        lane.take(one)
        tried = [asked(lane, DIGEST, TYPES, None) for _ in range(2)]
        assert None not in tried


async def test_a_system_without_epoll_has_no_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll")
    async with open_registry(Reference("127.0.0.1:1/a")) as remote:
        assert isinstance(remote, Direct)
        with remote.direct_lane() as lane:
            assert lane is None


async def test_where_no_more_files_can_be_opened_there_is_no_lane(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> None:
        raise OSError(EMFILE, "Too many open files")

    monkeypatch.setattr(select, "epoll", refuse)
    async with open_registry(Reference("127.0.0.1:1/a")) as remote:
        assert isinstance(remote, Direct)
        with remote.direct_lane() as lane:
            assert lane is None
