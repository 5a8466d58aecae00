"""References to descriptors: by one HEAD or one GET, wherever the registry keeps the object."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import respx
from httpx import Response

from multi_fetch.errors import (
    DeniedError,
    DigestMismatchError,
    InvalidDigestError,
    InvalidReferenceError,
    InvalidRequestError,
    MultiFetchError,
    NotFoundError,
    ObjectRequiredError,
    RegistryError,
    SizeMismatchError,
    TooLargeError,
    UnavailableError,
    UnsupportedError,
)
from multi_fetch.limits import MAX_MANIFEST_BYTES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.media_types import (
    DOCKER_SCHEMA1_SIGNED,
    OCI_INDEX,
    OCI_MANIFEST,
    OCTET_STREAM,
)
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.request import ByteRange
from multi_fetch.registry import open_registry
from multi_fetch.registry.resolver import RegistryRemote
from multi_fetch.remotes import Report
from tests.registry.conftest import ONCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


# Over both lanes, as far as a test has sockets.
pytestmark = pytest.mark.usefixtures("lane")

LOCATOR = "registry.example/team/app"
BASE = "https://registry.example/v2/team/app"


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": []}).encode()
MANIFEST_DIGEST = sha256(MANIFEST)
BLOB = b"layer"
BLOB_DIGEST = sha256(BLOB)
OTHER_DIGEST = sha256(b"other")

TAG_URL = f"{BASE}/manifests/v1"
TOLD = {"content-type": OCI_MANIFEST, "docker-content-digest": MANIFEST_DIGEST}


def at(endpoint: str, digest: str) -> str:
    return f"{BASE}/{endpoint}/{digest}"


@asynccontextmanager
async def remote() -> AsyncIterator[RegistryRemote]:
    async with open_registry(Reference(LOCATOR), patience=ONCE) as opened:
        assert isinstance(opened, RegistryRemote)
        yield opened


async def opened(
    asked: RegistryRemote, text: str, types: Sequence[str] = (), size: int | None = None
) -> tuple[Descriptor, bytes]:
    async with asked.open(Reference(LOCATOR, text), media_types=types, size=size) as found:
        assert found.name == str(Reference(LOCATOR, text))
        return found.descriptor, b"".join([bytes(chunk) async for chunk in found.chunks])


async def resolved(
    asked: RegistryRemote, text: str, types: Sequence[str] = (), size: int | None = None
) -> Descriptor:
    return (await asked.resolve(Reference(LOCATOR, text), media_types=types, size=size)).descriptor


async def open_failure(
    text: str = "v1", types: Sequence[str] = (), size: int | None = None
) -> MultiFetchError:
    async with remote() as asked:
        with pytest.raises(MultiFetchError) as caught:
            await opened(asked, text, types, size)
    return caught.value


async def resolve_failure(text: str = "v1", size: int | None = None) -> MultiFetchError:
    async with remote() as asked:
        with pytest.raises(MultiFetchError) as caught:
            await resolved(asked, text, size=size)
    return caught.value


# --- open -----------------------------------------------------------------------------------


async def test_a_tag_is_opened_by_one_get(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.get(TAG_URL).respond(headers=TOLD, content=MANIFEST)
    async with remote() as asked:
        descriptor, content = await opened(asked, "v1")
    assert content == MANIFEST
    assert (descriptor.media_type, descriptor.digest, descriptor.size) == (
        OCI_MANIFEST,
        MANIFEST_DIGEST,
        len(MANIFEST),
    )
    assert route.call_count == 1


async def test_a_tags_digest_is_computed_where_it_is_not_told(
    respx_mock: respx.MockRouter,
) -> None:
    respx_mock.get(TAG_URL).respond(headers={"content-type": OCI_MANIFEST}, content=MANIFEST)
    async with remote() as asked:
        descriptor, _ = await opened(asked, "v1")
    assert descriptor.digest == MANIFEST_DIGEST


async def test_a_tag_that_is_missing_is_asked_of_the_manifests_alone(
    respx_mock: respx.MockRouter,
) -> None:
    route = respx_mock.get(TAG_URL).respond(404)
    assert isinstance(await open_failure(), NotFoundError)
    assert route.call_count == 1
    assert respx_mock.calls.call_count == 1


async def test_a_tag_and_a_digest_are_the_digest(respx_mock: respx.MockRouter) -> None:
    respx_mock.get(at("manifests", MANIFEST_DIGEST)).respond(content=MANIFEST)
    async with remote() as asked:
        descriptor, _ = await opened(asked, f"v1@{MANIFEST_DIGEST}")
    assert descriptor.digest == MANIFEST_DIGEST


async def test_the_digest_that_was_asked_for_stands_whatever_the_registry_says(
    respx_mock: respx.MockRouter,
) -> None:
    headers = {**TOLD, "docker-content-digest": OTHER_DIGEST}
    url = at("manifests", MANIFEST_DIGEST)
    respx_mock.get(url).respond(headers=headers, content=MANIFEST)
    async with remote() as asked:
        descriptor, _ = await opened(asked, f"@{MANIFEST_DIGEST}")
    assert descriptor.digest == MANIFEST_DIGEST


async def test_a_blobs_type_is_the_hint_and_its_size_the_headers(
    respx_mock: respx.MockRouter,
) -> None:
    respx_mock.get(at("blobs", BLOB_DIGEST)).respond(content=BLOB)
    async with remote() as asked:
        descriptor, content = await opened(asked, f"@{BLOB_DIGEST}", ["application/x"], 5)
    assert content == BLOB
    assert (descriptor.media_type, descriptor.size) == ("application/x", 5)


async def test_a_blob_of_unknown_length_begins_without_a_size(
    respx_mock: respx.MockRouter,
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield BLOB

    url = at("blobs", BLOB_DIGEST)
    respx_mock.get(url).mock(side_effect=lambda _: Response(200, content=body()))
    async with remote() as asked:
        assert (await opened(asked, f"@{BLOB_DIGEST}", [OCTET_STREAM]))[0].size is None
        assert (await opened(asked, f"@{BLOB_DIGEST}", [OCTET_STREAM], 5))[0].size == 5


async def test_a_manifests_type_asks_the_manifests_first(respx_mock: respx.MockRouter) -> None:
    respx_mock.get(at("manifests", BLOB_DIGEST)).respond(404)
    respx_mock.get(at("blobs", BLOB_DIGEST)).respond(content=BLOB)
    async with remote() as asked:
        await opened(asked, f"@{BLOB_DIGEST}", [OCI_INDEX])
    assert [call.request.url.path.split("/")[4] for call in respx_mock.calls] == [
        "manifests",
        "blobs",
    ]


async def test_another_type_asks_the_blobs_first(respx_mock: respx.MockRouter) -> None:
    respx_mock.get(at("blobs", MANIFEST_DIGEST)).respond(404)
    respx_mock.get(at("manifests", MANIFEST_DIGEST)).respond(content=MANIFEST)
    async with remote() as asked:
        await opened(asked, f"@{MANIFEST_DIGEST}", [OCTET_STREAM])
    assert respx_mock.calls.call_count == 2


@pytest.mark.parametrize("status", [404, 500])
async def test_without_a_type_the_endpoint_that_served_last_is_asked_first(
    respx_mock: respx.MockRouter, status: int
) -> None:
    error = {"errors": [{"code": "UNKNOWN", "message": "unknown error"}]}
    manifests = respx_mock.get(at("manifests", BLOB_DIGEST)).respond(status, json=error)
    blobs = respx_mock.get(at("blobs", BLOB_DIGEST)).respond(content=BLOB)
    async with remote() as asked:
        for _ in range(3):
            assert (await opened(asked, f"@{BLOB_DIGEST}"))[1] == BLOB
        assert (manifests.call_count, blobs.call_count) == (1, 3)
        respx_mock.get(at("blobs", MANIFEST_DIGEST)).respond(404)
        served = respx_mock.get(at("manifests", MANIFEST_DIGEST)).respond(content=MANIFEST)
        for _ in range(2):
            assert (await opened(asked, f"@{MANIFEST_DIGEST}"))[1] == MANIFEST
        assert served.call_count == 2


async def test_requests_with_a_type_do_not_change_what_is_asked_first(
    respx_mock: respx.MockRouter,
) -> None:
    respx_mock.get(at("blobs", BLOB_DIGEST)).respond(content=BLOB)
    respx_mock.get(at("manifests", MANIFEST_DIGEST)).respond(content=MANIFEST)
    async with remote() as asked:
        await opened(asked, f"@{BLOB_DIGEST}", [OCTET_STREAM])
        await opened(asked, f"@{MANIFEST_DIGEST}")
    assert respx_mock.calls.call_count == 2


@pytest.mark.parametrize(
    ("first", "second", "leaf"),
    [
        (404, 404, NotFoundError),
        (500, 404, UnavailableError),
        (404, 403, DeniedError),
    ],
)
async def test_where_both_fail_the_furthest_stage_is_told(
    respx_mock: respx.MockRouter, first: int, second: int, leaf: type[MultiFetchError]
) -> None:
    respx_mock.get(at("manifests", OTHER_DIGEST)).respond(first)
    respx_mock.get(at("blobs", OTHER_DIGEST)).respond(second)
    assert type(await open_failure(f"@{OTHER_DIGEST}")) is leaf


async def test_other_failures_end_the_search(respx_mock: respx.MockRouter) -> None:
    respx_mock.get(at("manifests", OTHER_DIGEST)).respond(503)
    error = await open_failure(f"@{OTHER_DIGEST}")
    assert isinstance(error, UnavailableError)
    assert respx_mock.calls.call_count == 1


@pytest.mark.parametrize("has_length", [True, False])
async def test_a_manifest_beyond_the_limit_is_too_large(
    respx_mock: respx.MockRouter, has_length: bool
) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(65):
            yield b" " * (MAX_MANIFEST_BYTES // 64)

    headers = {"content-length": str(MAX_MANIFEST_BYTES + 1)} if has_length else {}
    response = Response(200, headers=headers, content=body())
    respx_mock.get(TAG_URL).mock(return_value=response)
    assert isinstance(await open_failure(), TooLargeError)


@pytest.mark.parametrize("text", ["v1", f"@{MANIFEST_DIGEST}"])
async def test_a_manifest_of_another_size_is_a_size_mismatch(
    respx_mock: respx.MockRouter, text: str
) -> None:
    respx_mock.get(url__startswith=f"{BASE}/manifests/").respond(headers=TOLD, content=MANIFEST)
    error = await open_failure(text, size=3)
    assert isinstance(error, SizeMismatchError)
    assert (error.want, error.got) == (3, len(MANIFEST))


async def test_a_manifest_of_another_size_is_refused_by_its_length_before_its_body(
    respx_mock: respx.MockRouter,
) -> None:
    respx_mock.get(TAG_URL).respond(
        headers={"content-length": str(MAX_MANIFEST_BYTES + 1)}, content=b""
    )
    assert isinstance(await open_failure(size=3), SizeMismatchError)


async def test_a_blob_of_another_size_is_refused_before_its_body(
    respx_mock: respx.MockRouter,
) -> None:
    respx_mock.get(at("blobs", BLOB_DIGEST)).respond(content=BLOB)
    async with remote() as asked:
        ref = Reference(LOCATOR, f"@{BLOB_DIGEST}")
        with pytest.raises(SizeMismatchError):
            await asked.open(ref, media_types=[OCTET_STREAM], size=6).__aenter__()


async def test_a_page_where_a_manifest_should_be_is_a_registry_error(
    respx_mock: respx.MockRouter,
) -> None:
    respx_mock.get(TAG_URL).respond(html="<html>Log in to the hotel's network</html>")
    assert isinstance(await open_failure(), RegistryError)


async def test_schema_1_is_unsupported_by_get_and_by_head(respx_mock: respx.MockRouter) -> None:
    headers = {"content-type": DOCKER_SCHEMA1_SIGNED, "content-length": "2"}
    respx_mock.get(TAG_URL).respond(headers=headers, content=b"{}")
    respx_mock.head(TAG_URL).respond(headers=headers)
    assert isinstance(await open_failure(), UnsupportedError)
    assert isinstance(await resolve_failure(), UnsupportedError)


# --- resolve --------------------------------------------------------------------------------


async def test_a_tag_is_resolved_by_one_head(respx_mock: respx.MockRouter) -> None:
    respx_mock.head(TAG_URL).respond(headers={**TOLD, "content-length": str(len(MANIFEST))})
    async with remote() as asked:
        found = await asked.resolve(Reference(LOCATOR, "v1"))
    assert found.name == f"{LOCATOR}:v1"
    assert found.descriptor == Descriptor(
        media_type=OCI_MANIFEST,
        digest=found.descriptor.digest,
        size=len(MANIFEST),
    )
    assert found.descriptor.digest == MANIFEST_DIGEST
    assert respx_mock.calls.call_count == 1


async def test_what_is_resolved_can_be_fetched(respx_mock: respx.MockRouter) -> None:
    respx_mock.head(TAG_URL).respond(headers={**TOLD, "content-length": str(len(MANIFEST))})
    respx_mock.get(at("manifests", MANIFEST_DIGEST)).respond(content=MANIFEST)
    async with remote() as asked:
        found = await asked.resolve(Reference(LOCATOR, "v1"))
        async with found.fetcher.fetch(found.descriptor) as chunks:
            assert b"".join([bytes(chunk) async for chunk in chunks]) == MANIFEST


@pytest.mark.parametrize(
    "head",
    [
        Response(400),
        Response(403),
        Response(404),
        Response(405),
        Response(200, headers={"content-type": OCI_MANIFEST, "content-length": "9"}),
        Response(200, headers={**TOLD, "content-type": "application/json"}),
        Response(200, headers={**TOLD, "docker-content-digest": "broken"}),
    ],
)
async def test_where_head_is_refused_or_says_too_little_a_get_does_it(
    respx_mock: respx.MockRouter, head: Response
) -> None:
    respx_mock.head(TAG_URL).mock(return_value=head)
    respx_mock.get(TAG_URL).respond(headers={"content-type": OCI_MANIFEST}, content=MANIFEST)
    async with remote() as asked:
        found = await resolved(asked, "v1")
    assert (found.digest, found.size) == (MANIFEST_DIGEST, len(MANIFEST))


async def test_a_refused_head_ends_with_the_words_of_the_gets_refusal(
    respx_mock: respx.MockRouter,
) -> None:
    respx_mock.head(TAG_URL).respond(404)
    entry = {"code": "MANIFEST_UNKNOWN", "message": "no such tag"}
    respx_mock.get(TAG_URL).respond(404, json={"errors": [entry]})
    error = await resolve_failure()
    assert isinstance(error, NotFoundError)
    assert error.registry_code == "MANIFEST_UNKNOWN"


async def test_a_registry_that_is_unavailable_is_not_asked_twice(
    respx_mock: respx.MockRouter,
) -> None:
    respx_mock.head(TAG_URL).respond(503, headers={"retry-after": "3"})
    error = await resolve_failure()
    assert isinstance(error, UnavailableError)
    assert error.retry_after == 3.0


@pytest.mark.parametrize("status", [404, 500])
async def test_a_blobs_digest_is_resolved_by_head_through_both_endpoints(
    respx_mock: respx.MockRouter, status: int
) -> None:
    respx_mock.head(at("manifests", BLOB_DIGEST)).respond(status)
    respx_mock.head(at("blobs", BLOB_DIGEST)).respond(headers={"content-length": "5"})
    async with remote() as asked:
        for _ in range(2):
            assert (await resolved(asked, f"@{BLOB_DIGEST}")).size == 5
    assert respx_mock.calls.call_count == 3


async def test_a_blob_without_a_length_is_counted_and_hashed(
    respx_mock: respx.MockRouter,
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield BLOB

    respx_mock.head(at("blobs", BLOB_DIGEST)).respond(headers={})
    url = at("blobs", BLOB_DIGEST)
    respx_mock.get(url).mock(side_effect=lambda _: Response(200, content=body()))
    async with remote() as asked:
        found = await resolved(asked, f"@{BLOB_DIGEST}", [OCTET_STREAM])
    assert found.size == len(BLOB)


async def test_a_blob_that_is_counted_must_have_its_digest(respx_mock: respx.MockRouter) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield BLOB

    respx_mock.head(at("blobs", OTHER_DIGEST)).respond(headers={})
    respx_mock.get(at("blobs", OTHER_DIGEST)).mock(return_value=Response(200, content=body()))
    async with remote() as asked:
        with pytest.raises(DigestMismatchError):
            await resolved(asked, f"@{OTHER_DIGEST}", [OCTET_STREAM])


async def test_a_size_that_differs_fails_at_resolve(respx_mock: respx.MockRouter) -> None:
    respx_mock.head(TAG_URL).respond(headers={**TOLD, "content-length": "9"})
    respx_mock.get(TAG_URL).respond(headers=TOLD, content=MANIFEST)
    error = await resolve_failure(size=8)
    assert isinstance(error, SizeMismatchError)
    assert (error.want, error.got) == (8, len(MANIFEST))


async def test_what_was_opened_and_resolved_is_logged_with_fields(
    respx_mock: respx.MockRouter, caplog: pytest.LogCaptureFixture
) -> None:
    respx_mock.get(TAG_URL).respond(headers=TOLD, content=MANIFEST)
    respx_mock.head(TAG_URL).respond(headers={**TOLD, "content-length": str(len(MANIFEST))})
    with caplog.at_level(logging.DEBUG, logger="multi_fetch.registry.resolver"):
        async with remote() as asked:
            await opened(asked, "v1")
            await resolved(asked, "v1")
    facts = [(record.__dict__["ref"], record.__dict__["digest"]) for record in caplog.records]
    assert facts == [(f"{LOCATOR}:v1", MANIFEST_DIGEST)] * 2


@pytest.mark.parametrize("using", ["httpx", "httpcore"])
async def test_a_remote_can_be_mocked_at_both_of_respx_places(using: str) -> None:
    with respx.mock(using=using) as router:
        router.get(TAG_URL).respond(headers=TOLD, content=MANIFEST)
        router.get(at("blobs", BLOB_DIGEST)).respond(content=BLOB)
        async with remote() as asked:
            assert (await opened(asked, "v1"))[1] == MANIFEST
            assert (await opened(asked, f"@{BLOB_DIGEST}", [OCTET_STREAM]))[1] == BLOB


# --- references -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["@sha256:abc", "v1@sha256:abc", "@nonsense", "@sha256:" + "A" * 64]
)
async def test_a_digest_that_is_none_fails_at_resolve_and_asks_nobody(text: str) -> None:
    assert isinstance(await resolve_failure(text), InvalidDigestError)
    assert isinstance(await open_failure(text), InvalidDigestError)


@pytest.mark.parametrize("text", ["v1/../../x", "a b", "v1?x", "t" * 129, "v1\n"])
async def test_a_tag_that_is_none_fails_and_asks_nobody(text: str) -> None:
    assert isinstance(await resolve_failure(text), InvalidReferenceError)


async def test_a_repository_alone_is_no_object() -> None:
    assert isinstance(await resolve_failure(""), ObjectRequiredError)


async def test_a_reference_to_another_repository_is_refused() -> None:
    async with remote() as asked:
        with pytest.raises(InvalidReferenceError, match="is not in"):
            await asked.resolve(Reference("registry.example/other", "v1"))


# --- ranges ---------------------------------------------------------------------------------


async def opened_part(
    text: str, byte_range: ByteRange, types: Sequence[str] = (OCTET_STREAM,)
) -> tuple[int | None, bytes]:
    async with (
        remote() as asked,
        asked.open(Reference(LOCATOR, text), media_types=types, byte_range=byte_range) as found,
    ):
        content = b"".join([bytes(chunk) async for chunk in found.chunks])
        return found.descriptor.size, content


@pytest.mark.parametrize("byte_range", [ByteRange(1, 3), ByteRange(1), ByteRange(0, 99)])
@pytest.mark.parametrize("knows_ranges", [True, False])
async def test_a_part_of_a_blob_is_those_bytes_and_the_descriptor_the_whole_blobs(
    respx_mock: respx.MockRouter, byte_range: ByteRange, knows_ranges: bool
) -> None:
    last = min(len(BLOB) - 1, 99 if byte_range.last is None else byte_range.last)
    expected = BLOB[byte_range.first : last + 1]
    headers = {"content-range": f"bytes {byte_range.first}-{last}/{len(BLOB)}"}
    part = Response(206, headers=headers, content=expected)
    respx_mock.get(at("blobs", BLOB_DIGEST)).mock(
        return_value=part if knows_ranges else Response(200, content=BLOB)
    )
    assert await opened_part(f"@{BLOB_DIGEST}", byte_range) == (len(BLOB), expected)


async def test_a_part_of_a_manifest_is_cut_here_and_no_range_is_asked_for(
    respx_mock: respx.MockRouter,
) -> None:
    route = respx_mock.get(TAG_URL).respond(headers=TOLD, content=MANIFEST)
    assert await opened_part("v1", ByteRange(2, 9), ()) == (len(MANIFEST), MANIFEST[2:10])
    assert "range" not in route.calls.last.request.headers
    with pytest.raises(InvalidRequestError, match=f"has {len(MANIFEST)} bytes"):
        await opened_part("v1", ByteRange(len(MANIFEST)), ())


@pytest.mark.parametrize("status", [200, 416])
async def test_a_part_from_beyond_a_blobs_end_is_an_invalid_request(
    respx_mock: respx.MockRouter, status: int
) -> None:
    headers = {"content-range": "bytes */5"} if status == 416 else {}
    respx_mock.get(at("blobs", BLOB_DIGEST)).respond(status, headers=headers, content=BLOB)
    with pytest.raises(InvalidRequestError, match="which has 5 bytes"):
        await opened_part(f"@{BLOB_DIGEST}", ByteRange(5))


async def test_a_part_of_another_size_than_expected_is_refused(
    respx_mock: respx.MockRouter,
) -> None:
    headers = {"content-range": "bytes 1-2/5"}
    respx_mock.get(at("blobs", BLOB_DIGEST)).respond(206, headers=headers, content=b"ay")
    async with remote() as asked:
        ref = Reference(LOCATOR, f"@{BLOB_DIGEST}")
        found = asked.open(ref, media_types=[OCTET_STREAM], size=6, byte_range=ByteRange(1, 2))
        with pytest.raises(RegistryError, match="another part"):
            await found.__aenter__()


# --- the report -----------------------------------------------------------------------------


async def test_the_limits_that_the_registry_told_last_are_reported(
    respx_mock: respx.MockRouter,
) -> None:
    limits = {"RateLimit-Limit": "100;w=21600", "ratelimit-remaining": "99;w=21600"}
    answers = [Response(200, headers={**TOLD, **limits}, content=MANIFEST)]
    respx_mock.get(TAG_URL).side_effect = [*answers, Response(200, headers=TOLD, content=MANIFEST)]
    async with remote() as asked:
        assert asked.report() == Report()
        await opened(asked, "v1")
        await opened(asked, "v1")
        assert asked.report() == Report(
            0, {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "99;w=21600"}
        )
