"""Mirrors that fail again and again, or now and then, or come back: who is asked and who not."""

from __future__ import annotations

import logging
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import pytest
import trio
import trio.testing

from multi_fetch.durations import MIRROR_REST_SECONDS
from multi_fetch.errors import DigestMismatchError, SizeMismatchError
from multi_fetch.limits import MAX_DATA_BYTES, MAX_MIRROR_FAILURES
from multi_fetch.oci.media_types import OCTET_STREAM
from multi_fetch.oci.reference import Reference
from multi_fetch.registry import open_registry
from multi_fetch.registry.hosts import Host
from multi_fetch.registry.shared import Shared
from tests.fakes.consumer import QUICK
from tests.registry.mirror_set import LOCATOR, content_of, opened, shelves

if TYPE_CHECKING:
    from multi_fetch.remotes import Remote
    from tests.registry.conftest import StartServer
    from tests.registry.mirror_set import Shelf

SMALL: Final = [f"blob {number}".encode() for number in range(20)]
AS_BLOB: Final = {"media_types": (OCTET_STREAM,)}

# In which one byte is wrong at its end, after most of it has been passed on.
LARGE: Final = [
    random.Random(number).randbytes(MAX_DATA_BYTES + 1000)
    for number in range(MAX_MIRROR_FAILURES + 3)
]

pytestmark = pytest.mark.usefixtures("lane")


async def two(start_server: StartServer) -> tuple[Shelf, Shelf, list[str]]:
    """A mirror and the registry, which have the same, and the digests of the small ones."""
    mirror, upstream = await shelves(start_server, 2)
    digests = [shelf.add(content) for content in SMALL for shelf in (mirror, upstream)]
    for content in LARGE:
        mirror.add(content)
        upstream.add(content)
    return mirror, upstream, digests[::2]


async def fetch_all(remote: Remote, digests: list[str]) -> None:
    for digest, content in zip(digests, SMALL, strict=True):
        assert await content_of(remote, digest, **AS_BLOB) == content


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


# --- again and again ------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 403, 405, 500])
async def test_who_refuses_each_object_is_soon_left_alone_and_warned_of_once(
    start_server: StartServer,
    jumping_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    mirror, upstream, digests = await two(start_server)
    mirror.status = status
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        await fetch_all(remote, digests)
        assert len(mirror.asked) == MAX_MIRROR_FAILURES
        assert warnings_of(caplog) == ["a mirror failed: asking the next host"]
        await trio.sleep(MIRROR_REST_SECONDS + 0.1)
        await fetch_all(remote, digests)
        assert len(mirror.asked) == MAX_MIRROR_FAILURES + 1
        mirror.status = 200
        await trio.sleep(MIRROR_REST_SECONDS + 0.1)
        await fetch_all(remote, digests)
    assert len(mirror.asked) == MAX_MIRROR_FAILURES + 1 + len(digests)
    assert len(upstream.asked) == 2 * len(digests)


async def test_who_has_wrong_bytes_for_all_is_soon_left_alone(
    start_server: StartServer, jumping_clock: trio.testing.MockClock
) -> None:
    mirror, upstream, digests = await two(start_server)
    mirror.lies = dict.fromkeys(digests, b"<html>a portal</html>")
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        await fetch_all(remote, digests)
        assert mirror.asked == [f"GET {digest}" for digest in digests[:MAX_MIRROR_FAILURES]]
        mirror.lies.clear()
        await trio.sleep(MIRROR_REST_SECONDS + 0.1)
        await fetch_all(remote, digests)
    # but for those that had been wrong
    assert mirror.asked[MAX_MIRROR_FAILURES:] == [
        f"GET {digest}" for digest in digests[MAX_MIRROR_FAILURES:]
    ]


async def test_who_has_wrong_bytes_for_large_ones_spoils_only_a_few_requests(
    start_server: StartServer,
) -> None:
    mirror, upstream, _ = await two(start_server)
    digests = [upstream.add(content) for content in LARGE]
    for digest, content in zip(digests, LARGE, strict=True):
        mirror.lies[digest] = content[:-1] + bytes([content[-1] ^ 1])
    spoilt = 0
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        for digest in digests:
            try:
                await content_of(remote, digest, **AS_BLOB)
            except DigestMismatchError:
                spoilt += 1
        assert spoilt == len(mirror.asked) == MAX_MIRROR_FAILURES
        assert len(upstream.asked) == len(digests) - MAX_MIRROR_FAILURES


async def test_who_breaks_off_each_large_body_is_soon_left_alone(start_server: StartServer) -> None:
    mirror, upstream, _ = await two(start_server)
    mirror.cuts = [1000] * len(LARGE)
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        for content in LARGE:
            assert await content_of(remote, upstream.add(content), **AS_BLOB) == content
    assert len(mirror.asked) == MAX_MIRROR_FAILURES


# --- sizes that who asks was wrong about ----------------------------------------------------


async def test_sizes_that_no_host_has_are_not_held_against_a_mirror(
    start_server: StartServer,
) -> None:
    mirror, upstream, digests = await two(start_server)
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        for digest in digests[: MAX_MIRROR_FAILURES + 1]:
            with pytest.raises(SizeMismatchError):
                await content_of(remote, digest, size=999, **AS_BLOB)
        upstream.asked.clear()
        await fetch_all(remote, digests)
    assert not upstream.asked


async def test_sizes_that_the_next_host_has_are_held_against_a_mirror(
    start_server: StartServer,
) -> None:
    mirror, upstream, digests = await two(start_server)
    mirror.lies = dict.fromkeys(digests, b"<html>a portal</html>")
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        for digest, content in zip(digests, SMALL, strict=True):
            assert await content_of(remote, digest, size=len(content), **AS_BLOB) == content
    assert len(mirror.asked) == MAX_MIRROR_FAILURES


async def test_a_wrong_size_that_comes_to_light_at_the_end_is_not_held_against_a_mirror(
    start_server: StartServer,
) -> None:
    mirror, upstream, digests = await two(start_server)
    mirror.is_chunked = True
    large = [upstream.add(content) for content in LARGE]
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        for digest in large:
            with pytest.raises(SizeMismatchError):
                await content_of(remote, digest, size=MAX_DATA_BYTES + 999, **AS_BLOB)
        assert len(mirror.asked) == len(large)
        await fetch_all(remote, digests)
    assert not upstream.asked


# --- now and then ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 404, 500])
async def test_who_fails_half_the_time_is_asked_for_all_that_it_has(
    start_server: StartServer, status: int
) -> None:
    mirror, upstream, digests = await two(start_server)
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        for number, (digest, content) in enumerate(zip(digests, SMALL, strict=True)):
            mirror.status = status if number % 2 else 200
            assert await content_of(remote, digest, **AS_BLOB) == content
    assert list(dict.fromkeys(mirror.asked)) == [f"GET {digest}" for digest in digests]
    assert upstream.asked == [f"GET {digest}" for digest in digests[1::2]]


async def test_who_has_wrong_bytes_for_some_is_asked_for_the_others(
    start_server: StartServer,
) -> None:
    mirror, upstream, digests = await two(start_server)
    wrong = digests[::3]
    mirror.lies = dict.fromkeys(wrong, b"something else")
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        for _ in range(2):
            await fetch_all(remote, digests)
    right = [digest for digest in digests if digest not in wrong]
    assert sorted(mirror.asked) == sorted(f"GET {each}" for each in [*wrong, *right, *right])
    assert sorted(upstream.asked) == sorted(f"GET {each}" for each in [*wrong, *wrong])


async def test_a_mirror_that_dies_and_comes_back_is_asked_again(
    start_server: StartServer, jumping_clock: trio.testing.MockClock
) -> None:
    mirror, upstream, digests = await two(start_server)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    host = Host("http", f"127.0.0.1:{port}", namespace="upstream.example")
    assert mirror.server is not None
    async with opened(host, upstream.host(namespace="")) as remote, trio.open_nursery() as nursery:
        life = await nursery.start(serve_for_a_while, mirror, listener)
        await fetch_all(remote, digests)
        assert len(mirror.asked) == len(digests)
        life.cancel()  # it dies, with its connections
        await life.ended.wait()
        for _ in range(2):
            await fetch_all(remote, digests)
        assert len(upstream.asked) == 2 * len(digests)
        (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
        life = await nursery.start(serve_for_a_while, mirror, listener)
        await trio.sleep(MIRROR_REST_SECONDS + 0.1)
        await fetch_all(remote, digests)
        life.cancel()
    assert len(mirror.asked) == 2 * len(digests)
    assert len(upstream.asked) == 2 * len(digests)


class Life:
    """A server's time, and that it is over."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self.cancel = scope.cancel
        self.ended = trio.Event()


async def serve_for_a_while(
    shelf: Shelf,
    listener: trio.SocketListener,
    task_status: trio.TaskStatus[Life],
) -> None:
    assert shelf.server is not None
    async with trio.open_nursery() as nursery:
        life = Life(nursery.cancel_scope)
        task_status.started(life)
        nursery.start_soon(trio.serve_listeners, shelf.server.serve, [listener])
    life.ended.set()


# --- several repositories -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "is_the_hosts"), [(401, False), (403, False), (500, True), (503, True)]
)
async def test_what_is_learnt_of_a_host_counts_for_all_its_repositories_and_a_refusal_for_one(
    start_server: StartServer, status: int, *, is_the_hosts: bool
) -> None:
    mirror, upstream, digests = await two(start_server)
    shared = Shared()
    hosts = mirror.host(), upstream.host(namespace="")
    async with shared.exchanges, AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(
                open_registry(Reference(name), patience=QUICK, hosts=hosts, shared=shared)
            )
            for name in (LOCATOR, "upstream.example/b")
        ]
        mirror.status = status
        await fetch_all(one, digests)
        mirror.status, asked = 200, len(mirror.asked)
        ref = Reference("upstream.example/b", f"@{digests[0]}")
        async with other.open(ref, media_types=[OCTET_STREAM]) as found:
            assert b"".join([bytes(each) async for each in found.chunks]) == SMALL[0]
    assert len(mirror.asked) - asked == (0 if is_the_hosts else 1)
