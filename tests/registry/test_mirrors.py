"""Several hosts of one repository: who is asked for what, and what is borne of whom."""

from __future__ import annotations

import base64
import json
import random
import re
from typing import TYPE_CHECKING, Final

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from multi_fetch.durations import MIRROR_REST_SECONDS
from multi_fetch.errors import (
    DigestMismatchError,
    InvalidReferenceError,
    MultiFetchError,
    NotFoundError,
    RateLimitedError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedError,
)
from multi_fetch.limits import MAX_DATA_BYTES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCI_MANIFEST, OCTET_STREAM
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.request import ByteRange
from multi_fetch.registry import open_registry
from multi_fetch.registry.credentials import Keychain
from multi_fetch.registry.hosts import Host
from multi_fetch.registry.mirrors import MirroredRemote
from tests.fakes.consumer import QUICK
from tests.registry.mirror_set import LOCATOR, content_of, opened, shelves

if TYPE_CHECKING:
    from pathlib import Path

    from tests.registry.conftest import StartServer
    from tests.registry.mirror_set import Shelf

BLOB: Final = b"a small blob"
DIGEST: Final = digest_of(BLOB)
MANIFEST: Final = b'{"schemaVersion": 2, "layers": []}'
LARGE: Final = random.Random("large").randbytes(MAX_DATA_BYTES + 100_000)
LARGE_DIGEST: Final = digest_of(LARGE)
AS_BLOB: Final = {"media_types": (OCTET_STREAM,)}

pytestmark = pytest.mark.usefixtures("lane")


async def two(start_server: StartServer) -> tuple[Shelf, Shelf]:
    """A mirror and the registry, which have the same."""
    mirror, upstream = await shelves(start_server, 2)
    for shelf in (mirror, upstream):
        for content in (BLOB, LARGE):
            shelf.add(content)
        shelf.add(MANIFEST, "v1")
    return mirror, upstream


# --- who is asked ---------------------------------------------------------------------------


async def test_the_mirror_is_asked_first_and_told_the_namespace(start_server: StartServer) -> None:
    mirror, upstream = await two(start_server)
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        assert await content_of(remote, "v1") == MANIFEST
        assert await content_of(remote, DIGEST, **AS_BLOB) == BLOB
    assert upstream.asked == []
    assert mirror.heads[0].startswith("GET /v2/a/manifests/v1?ns=upstream.example HTTP/1.1\r\n")
    assert all("?ns=upstream.example " in head for head in mirror.heads)


async def test_a_mirror_that_may_not_resolve_is_asked_for_digests_alone(
    start_server: StartServer,
) -> None:
    mirror, upstream = await two(start_server)
    async with opened(mirror.host(may_resolve=False), upstream.host(namespace="")) as remote:
        resolved = await remote.resolve(Reference(LOCATOR, "v1"))
        assert await content_of(remote, "v1") == MANIFEST
        assert await content_of(remote, resolved.descriptor.digest, media_types=[OCI_MANIFEST])
        assert await content_of(remote, DIGEST, **AS_BLOB) == BLOB
        by_digest = Reference(LOCATOR, f"v1@{DIGEST}")
        assert (await remote.resolve(by_digest, media_types=[OCTET_STREAM])).descriptor.size == 12
    assert mirror.asked == [f"GET {digest_of(MANIFEST)}", f"GET {DIGEST}", f"HEAD {DIGEST}"]
    assert upstream.asked == ["HEAD v1", "GET v1"]
    assert all("?ns=" not in head for head in upstream.heads)


async def test_who_may_only_resolve_is_asked_for_tags_and_their_content_elsewhere(
    start_server: StartServer,
) -> None:
    mirror, upstream = await two(start_server)
    hosts = mirror.host(may_resolve=False), upstream.host(may_pull=False)
    async with opened(*hosts) as remote:
        assert await content_of(remote, "v1") == MANIFEST
        async with remote.open(Reference(LOCATOR, "v1")) as found:
            assert found.name == f"{LOCATOR}:v1"
    assert set(upstream.asked) == {"HEAD v1"}
    assert set(mirror.asked) == {f"GET {digest_of(MANIFEST)}"}


async def test_what_nobody_may_do_is_unsupported(start_server: StartServer) -> None:
    mirror, _ = await two(start_server)
    async with opened(mirror.host(may_pull=False)) as remote:
        with pytest.raises(UnsupportedError, match=r"no host of it may be asked for content"):
            await content_of(remote, DIGEST)
    async with opened(mirror.host(may_resolve=False)) as remote:
        with pytest.raises(UnsupportedError, match="no host of it may resolve tags"):
            await content_of(remote, "v1")
    assert mirror.asked == []


async def test_what_a_mirror_has_not_the_next_is_asked_for_each_time(
    start_server: StartServer,
) -> None:
    mirror, upstream = await two(start_server)
    del mirror.objects[DIGEST]
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        for _ in range(2):
            assert await content_of(remote, DIGEST, **AS_BLOB) == BLOB
        assert await content_of(remote, "v1") == MANIFEST
    assert upstream.asked == [f"GET {DIGEST}"] * 2
    assert len([each for each in mirror.asked if DIGEST in each]) == 4


async def test_one_host_with_every_capability_needs_no_more_than_itself(
    start_server: StartServer,
) -> None:
    mirror, _ = await two(start_server)
    async with opened(mirror.host()) as remote:
        assert not isinstance(remote, MirroredRemote)
        assert await content_of(remote, "v1") == MANIFEST


async def test_a_reference_that_is_none_is_asked_of_nobody(start_server: StartServer) -> None:
    mirror, upstream = await two(start_server)
    async with opened(mirror.host(), upstream.host()) as remote:
        for ref in (Reference(LOCATOR), Reference("other.example/a", "v1")):
            with pytest.raises(InvalidReferenceError):
                async with remote.open(ref):
                    pass
        with pytest.raises(InvalidReferenceError):
            await remote.resolve(Reference(LOCATOR, "v1 "))
    assert mirror.asked == upstream.asked == []


# --- mirrors in trouble ---------------------------------------------------------------------


async def test_a_mirror_where_nobody_listens_is_asked_once_and_left_alone(
    start_server: StartServer, closed_port: int
) -> None:
    _, upstream = await two(start_server)
    dead = Host("http", f"127.0.0.1:{closed_port}", namespace="upstream.example")
    patience = replace(QUICK, first_wait_seconds=1000.0, max_wait_seconds=1000.0)
    async with opened(dead, upstream.host(namespace=""), patience=patience) as remote:
        with trio.fail_after(20):
            for _ in range(20):
                assert await content_of(remote, DIGEST, **AS_BLOB) == BLOB
        assert remote.report().retries == 0


@pytest.mark.parametrize("status", [401, 429, 502, 503])
async def test_a_mirror_in_trouble_is_left_alone_and_then_one_request_tries_it(
    start_server: StartServer, jumping_clock: trio.testing.MockClock, status: int
) -> None:
    mirror, upstream = await two(start_server)
    mirror.status = status
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        for _ in range(3):
            await content_of(remote, DIGEST, **AS_BLOB)
        assert len(mirror.asked) == 1
        await trio.sleep(MIRROR_REST_SECONDS + 0.1)
        for _ in range(3):
            await content_of(remote, DIGEST, **AS_BLOB)
        assert len(mirror.asked) == 2
        mirror.status = 200
        await trio.sleep(MIRROR_REST_SECONDS + 0.1)
        for _ in range(3):
            await content_of(remote, DIGEST, **AS_BLOB)
    assert len(mirror.asked) == 5
    assert len(upstream.asked) == 6


async def test_a_busy_mirror_is_left_alone_for_as_long_as_it_asks(
    start_server: StartServer, jumping_clock: trio.testing.MockClock
) -> None:
    mirror, upstream = await two(start_server)
    mirror.status, mirror.headers = 429, {"Retry_After": "100"}
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        for pause, count in ((0, 1), (99, 1), (2, 2)):
            await trio.sleep(pause)
            await content_of(remote, DIGEST, **AS_BLOB)
            assert len(mirror.asked) == count


async def test_a_mirror_that_says_nothing_is_left_after_its_own_time(
    start_server: StartServer, jumping_clock: trio.testing.MockClock
) -> None:
    mirror, upstream = await two(start_server)
    mirror.is_silent = True
    patience = replace(QUICK, stall_seconds=1000.0)
    async with opened(mirror.host(), upstream.host(namespace=""), patience=patience) as remote:
        started = trio.current_time()
        for _ in range(3):
            await content_of(remote, DIGEST, **AS_BLOB)
        assert trio.current_time() - started < 11
    assert len(mirror.asked) == 1


async def test_an_error_of_one_object_says_nothing_of_the_others(start_server: StartServer) -> None:
    mirror, upstream = await two(start_server)
    mirror.status = 500
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        await content_of(remote, DIGEST, **AS_BLOB)
        mirror.status = 200
        await content_of(remote, DIGEST, **AS_BLOB)
    assert len(upstream.asked) == 1


async def test_while_all_rest_the_last_is_asked_all_the_same(start_server: StartServer) -> None:
    one, other = await two(start_server)
    one.status = other.status = 503
    patience = replace(QUICK, retries=0)
    async with opened(one.host(), other.host(), patience=patience) as remote:
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await content_of(remote, DIGEST, **AS_BLOB)
    assert len(one.asked) == 1
    assert len(other.asked) == 3


@pytest.mark.parametrize(
    ("status", "kind"), [(404, NotFoundError), (429, RateLimitedError), (503, UnavailableError)]
)
async def test_the_error_is_the_last_hosts(
    start_server: StartServer, closed_port: int, status: int, kind: type[MultiFetchError]
) -> None:
    _, upstream = await two(start_server)
    upstream.status = status
    dead = Host("http", f"127.0.0.1:{closed_port}", namespace="upstream.example")
    patience = replace(QUICK, retries=0)
    async with opened(dead, upstream.host(namespace=""), patience=patience) as remote:
        with pytest.raises(kind) as caught:
            await content_of(remote, DIGEST, **AS_BLOB)
        assert caught.value.status == status
        with pytest.raises(kind):
            await remote.resolve(Reference(LOCATOR, "v1"))


async def test_the_last_host_is_borne_with_all_the_patience(start_server: StartServer) -> None:
    mirror, upstream = await two(start_server)
    mirror.status = upstream.status = 503
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        with pytest.raises(UnavailableError):
            await content_of(remote, DIGEST, **AS_BLOB)
        assert remote.report().retries == QUICK.retries
    assert len(mirror.asked) == 1
    assert len(upstream.asked) == 1 + QUICK.retries


async def test_the_limits_that_are_told_are_those_of_the_last_that_has_any(
    start_server: StartServer,
) -> None:
    mirror, upstream = await two(start_server)
    mirror.headers = {"RateLimit_Limit": "1"}
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        await content_of(remote, "v1")
        assert remote.report().ratelimit == {"ratelimit-limit": "1"}
        upstream.headers = {"RateLimit_Limit": "2"}
        mirror.status = 404
        await content_of(remote, DIGEST, **AS_BLOB)
        assert remote.report().ratelimit == {"ratelimit-limit": "2"}


# --- secrets --------------------------------------------------------------------------------


async def test_each_host_is_told_its_own_login_and_no_other(
    start_server: StartServer, tmp_path: Path
) -> None:
    mirror, upstream = await two(start_server)
    for shelf in (mirror, upstream):
        shelf.status, shelf.headers = 401, {"WWW_Authenticate": "Basic realm=r"}
    hosts = mirror.host(), upstream.host(namespace="")
    path = tmp_path / "config.json"
    held = {host.authority: {"auth": pair(f"kept-{n}")} for n, host in enumerate(hosts)}
    path.write_text(json.dumps({"auths": held}))
    ref = Reference(LOCATOR, f"@{DIGEST}")
    for given, expected in (("", "kept-1"), ("given", "given")):
        mirror.heads.clear()
        upstream.heads.clear()
        async with open_registry(
            ref,
            username="me" if given else "",
            password=given,
            keychain=Keychain([path]),
            hosts=hosts,
            patience=QUICK,
        ) as remote:
            with pytest.raises(UnauthorizedError):
                await remote.resolve(ref, media_types=[OCTET_STREAM])
        assert logins(mirror) == {f"Basic {pair('kept-0')}"}
        assert logins(upstream) == {f"Basic {pair(expected)}"}


def pair(password: str) -> str:
    return base64.b64encode(f"me:{password}".encode()).decode()


def logins(shelf: Shelf) -> set[str]:
    found = (
        re.search(r"^authorization: (.+)", head, re.IGNORECASE | re.MULTILINE)
        for head in shelf.heads
    )
    return {each[1].strip() for each in found if each is not None}


# --- wrong bytes ----------------------------------------------------------------------------


@pytest.mark.parametrize("lie", [BLOB[::-1], BLOB + b"more", BLOB[:-1], b""])
async def test_wrong_bytes_of_a_mirror_are_the_next_hosts_to_mend(
    start_server: StartServer, lie: bytes
) -> None:
    mirror, upstream = await two(start_server)
    mirror.lies[DIGEST] = lie
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        for _ in range(2):
            assert await content_of(remote, DIGEST, **AS_BLOB) == BLOB
        assert await content_of(remote, "v1") == MANIFEST
    assert mirror.asked == [f"GET {DIGEST}", "GET v1"]  # for the wrong one no second time
    assert upstream.asked == [f"GET {DIGEST}"] * 2


async def test_a_wrong_manifest_of_a_tag_is_mended_too(start_server: StartServer) -> None:
    mirror, upstream = await two(start_server)
    mirror.lies[digest_of(MANIFEST)] = MANIFEST.replace(b"2", b"3")
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        assert await content_of(remote, "v1") == MANIFEST


async def test_the_last_hosts_wrong_bytes_are_the_consumers_to_find(
    start_server: StartServer,
) -> None:
    mirror, upstream = await two(start_server)
    mirror.lies[DIGEST] = upstream.lies[DIGEST] = BLOB[::-1]
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        with pytest.raises(DigestMismatchError):
            await content_of(remote, DIGEST, **AS_BLOB)
    assert (len(mirror.asked), len(upstream.asked)) == (1, 1)


async def test_a_large_object_that_was_wrong_is_not_asked_of_that_mirror_again(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    mirror, upstream = await two(start_server)
    mirror.lies[LARGE_DIGEST] = LARGE[:-1] + bytes([LARGE[-1] ^ 1])
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        with pytest.raises(DigestMismatchError) as caught:
            await content_of(remote, LARGE_DIGEST, **AS_BLOB)
        assert caught.value.has_alternative
        assert [each.url for each in caplog.records] == [mirror.host().url]  # type: ignore[attr-defined]
        assert await content_of(remote, LARGE_DIGEST, **AS_BLOB) == LARGE
        assert await content_of(remote, DIGEST, **AS_BLOB) == BLOB
    assert mirror.asked == [f"GET {LARGE_DIGEST}", f"GET {DIGEST}"]


async def test_what_is_wrong_at_the_last_host_too_has_no_alternative(
    start_server: StartServer,
) -> None:
    mirror, upstream = await two(start_server)
    mirror.lies[LARGE_DIGEST] = upstream.lies[LARGE_DIGEST] = LARGE[:-1] + b"?"
    found = []
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        for _ in range(3):
            with pytest.raises(DigestMismatchError) as caught:
                await content_of(remote, LARGE_DIGEST, **AS_BLOB)
            found.append(caught.value.has_alternative)
    assert found == [True, False, False]
    assert len(mirror.asked) == 1


async def test_a_tag_that_one_mirror_alone_may_resolve_has_no_alternative(
    start_server: StartServer,
) -> None:
    """It would be asked again and again, as it is not the registry that is asked for a tag."""
    mirror, upstream = await two(start_server)
    mirror.lies[digest_of(MANIFEST)] = MANIFEST.replace(b"2", b"3")
    hosts = mirror.host(), upstream.host(namespace="", may_resolve=False)
    async with opened(*hosts) as remote:
        with pytest.raises(DigestMismatchError) as caught:
            await content_of(remote, "v1")
    assert not caught.value.has_alternative


async def test_a_mirror_that_goes_on_wrongly_where_another_broke_off_is_found_out(
    start_server: StartServer,
) -> None:
    one, other, upstream = await shelves(start_server, 3)
    for shelf in (one, other, upstream):
        shelf.add(LARGE)
    one.cuts = [1000]
    other.lies[LARGE_DIGEST] = LARGE[:-1] + b"?"
    hosts = one.host(), other.host(), upstream.host(namespace="")
    async with opened(*hosts) as remote:
        with pytest.raises(DigestMismatchError) as caught:
            await content_of(remote, LARGE_DIGEST, **AS_BLOB)
        assert caught.value.has_alternative
        assert await content_of(remote, LARGE_DIGEST, **AS_BLOB) == LARGE  # of neither
    assert (len(one.asked), len(other.asked), len(upstream.asked)) == (1, 1, 1)


async def test_a_pin_that_does_not_hold_is_not_held_against_the_mirror(
    start_server: StartServer,
) -> None:
    mirror, upstream = await two(start_server)
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        with pytest.raises(DigestMismatchError):
            async with remote.open(Reference(LOCATOR, "v1")):
                raise DigestMismatchError(want=DIGEST, got=digest_of(MANIFEST))
        by_digest = digest_of(MANIFEST)
        assert await content_of(remote, by_digest, media_types=[OCI_MANIFEST]) == MANIFEST
    assert upstream.asked == []


# --- bodies that go on elsewhere ------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 1, 1000, MAX_DATA_BYTES, MAX_DATA_BYTES + 90_000])
async def test_a_large_body_that_breaks_goes_on_at_the_next_host(
    start_server: StartServer, cut: int
) -> None:
    mirror, upstream = await two(start_server)
    mirror.cuts = [cut]
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        assert await content_of(remote, LARGE_DIGEST, **AS_BLOB) == LARGE
        assert await content_of(remote, DIGEST, **AS_BLOB) == BLOB
    asked = f"GET {LARGE_DIGEST}" + (f" {cut}-" if cut else "")
    assert upstream.asked == [asked] if cut else [asked, f"GET {DIGEST}"]


async def test_a_body_goes_from_mirror_to_mirror_to_the_registry(start_server: StartServer) -> None:
    one, two_, three = await shelves(start_server, 3)
    for shelf in (one, two_, three):
        shelf.add(LARGE)
    one.cuts, two_.cuts, three.cuts = [1000], [2000], [3000]
    async with opened(one.host(), two_.host(), three.host(namespace="")) as remote:
        assert await content_of(remote, LARGE_DIGEST, **AS_BLOB) == LARGE
    assert [shelf.asked[0].partition(" ")[2] for shelf in (one, two_, three)] == [
        LARGE_DIGEST,
        f"{LARGE_DIGEST} 1000-",
        f"{LARGE_DIGEST} 3000-",
    ]
    assert three.asked[1] == f"GET {LARGE_DIGEST} 6000-"


async def test_where_no_host_can_go_on_the_error_is_the_last_ones(
    start_server: StartServer,
) -> None:
    mirror, upstream = await two(start_server)
    mirror.cuts = [1000]
    del upstream.objects[LARGE_DIGEST]
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        with pytest.raises(NotFoundError):
            await content_of(remote, LARGE_DIGEST, **AS_BLOB)


async def test_a_range_goes_on_within_its_bounds(start_server: StartServer) -> None:
    mirror, upstream = await two(start_server)
    mirror.cuts = [1000]
    ref = Reference(LOCATOR, f"@{LARGE_DIGEST}")
    async with (
        opened(mirror.host(), upstream.host(namespace="")) as remote,
        remote.open(ref, media_types=[OCTET_STREAM], byte_range=ByteRange(100, 5099)) as found,
    ):
        content = b"".join([bytes(chunk) async for chunk in found.chunks])
    assert content == LARGE[100:5100]
    assert upstream.asked == [f"GET {LARGE_DIGEST} 1100-5099"]


@pytest.mark.parametrize("offset", [0, 5, len(LARGE) - 1, len(LARGE), len(LARGE) + 1])
async def test_a_descriptor_is_fetched_from_an_offset(
    start_server: StartServer, offset: int
) -> None:
    mirror, upstream = await two(start_server)
    del mirror.objects[LARGE_DIGEST]
    descriptor = Descriptor(media_type=OCTET_STREAM, digest=digest_of(LARGE), size=len(LARGE))
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        fetcher = (await remote.resolve(Reference(LOCATOR, "v1"))).fetcher
        async with fetcher.fetch(descriptor, offset=offset) as chunks:
            assert b"".join([bytes(chunk) async for chunk in chunks]) == LARGE[offset:]


async def test_who_stops_early_leaves_nothing_behind(start_server: StartServer) -> None:
    mirror, upstream = await two(start_server)
    ref = Reference(LOCATOR, f"@{LARGE_DIGEST}")
    mirror.cuts = [MAX_DATA_BYTES + 1000] * 2
    async with opened(mirror.host(), upstream.host(namespace="")) as remote:
        for _ in range(2):
            async with remote.open(ref, media_types=[OCTET_STREAM]) as found:
                assert await anext(found.chunks)
                assert await anext(found.chunks)
    assert len(mirror.asked) == 2
