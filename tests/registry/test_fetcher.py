"""A descriptor's bytes: where they are looked for, and from which offset on."""

from __future__ import annotations

import gc
import hashlib
import weakref
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from httpx import Response

from multi_fetch.errors import (
    DeniedError,
    InvalidRequestError,
    MultiFetchError,
    NotFoundError,
    RegistryError,
    SizeMismatchError,
    UnavailableError,
)
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import Digest
from multi_fetch.oci.media_types import OCI_MANIFEST, OCTET_STREAM
from multi_fetch.registry.fetcher import RegistryFetcher
from multi_fetch.registry.transport import new_client
from tests.registry.conftest import new_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import respx

# Over both lanes, as far as a test has sockets.
pytestmark = pytest.mark.usefixtures("lane")

CONTENT = b"0123456789"
DIGEST = Digest(f"sha256:{hashlib.sha256(CONTENT).hexdigest()}")
BLOB = f"https://registry.example/v2/a/blobs/{DIGEST}"
MANIFEST = f"https://registry.example/v2/a/manifests/{DIGEST}"
UNKNOWN = {"errors": [{"code": "UNKNOWN", "message": "unknown error"}]}


def described(media_type: str = OCTET_STREAM, size: int | None = 10) -> Descriptor:
    return Descriptor(media_type=media_type, digest=DIGEST, size=size)


@asynccontextmanager
async def fetcher() -> AsyncIterator[RegistryFetcher]:
    async with new_client(jobs=2) as client:
        yield RegistryFetcher(new_session(client), "a")


async def fetched(descriptor: Descriptor, offset: int = 0) -> bytes:
    async with fetcher() as asked, asked.fetch(descriptor, offset=offset) as chunks:
        return b"".join([bytes(chunk) async for chunk in chunks])


async def failure(descriptor: Descriptor, offset: int = 0) -> MultiFetchError:
    with pytest.raises(MultiFetchError) as caught:
        await fetched(descriptor, offset)
    return caught.value


async def test_a_blob_is_asked_of_the_blobs(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.get(BLOB).respond(content=CONTENT)
    assert await fetched(described()) == CONTENT
    assert "range" not in route.calls.last.request.headers


async def test_a_manifest_is_asked_of_the_manifests_with_its_type(
    respx_mock: respx.MockRouter,
) -> None:
    route = respx_mock.get(MANIFEST).respond(content=CONTENT)
    assert await fetched(described(OCI_MANIFEST)) == CONTENT
    assert route.calls.last.request.headers["accept"].startswith(f"{OCI_MANIFEST}, ")


async def test_the_error_of_what_is_nowhere_needs_no_collector(
    respx_mock: respx.MockRouter,
) -> None:
    # Its frames have the answers, and these have buffers.
    respx_mock.get(BLOB).respond(404)
    respx_mock.get(MANIFEST).respond(404)
    gc.disable()
    try:
        async with fetcher() as asked:
            left = await last_error(asked)
            assert left() is None
    finally:
        gc.enable()


async def last_error(asked: RegistryFetcher) -> weakref.ref[NotFoundError]:
    try:
        async with asked.fetch(described()):
            raise AssertionError
    except NotFoundError as error:
        return weakref.ref(error)


async def test_the_other_endpoint_is_asked_after_a_404(respx_mock: respx.MockRouter) -> None:
    respx_mock.get(BLOB).respond(404)
    respx_mock.get(MANIFEST).respond(content=CONTENT)
    assert await fetched(described()) == CONTENT


async def test_the_blobs_are_asked_after_a_manifests_500(respx_mock: respx.MockRouter) -> None:
    respx_mock.get(MANIFEST).respond(500, json=UNKNOWN)
    respx_mock.get(BLOB).respond(content=CONTENT)
    assert await fetched(described(OCI_MANIFEST)) == CONTENT


async def test_the_manifests_are_not_asked_after_a_blobs_500(
    respx_mock: respx.MockRouter,
) -> None:
    respx_mock.get(BLOB).respond(500)
    assert isinstance(await failure(described()), UnavailableError)


@pytest.mark.parametrize(
    ("first", "second", "leaf", "status"),
    [
        (404, 404, NotFoundError, 404),
        (500, 404, UnavailableError, 500),
        (404, 403, DeniedError, 403),
        (404, 500, UnavailableError, 500),
        (500, 403, UnavailableError, 500),
    ],
)
async def test_the_error_of_the_furthest_stage_is_told(
    respx_mock: respx.MockRouter,
    first: int,
    second: int,
    leaf: type[MultiFetchError],
    status: int,
) -> None:
    respx_mock.get(MANIFEST).respond(first)
    respx_mock.get(BLOB).respond(second)
    error = await failure(described(OCI_MANIFEST))
    assert type(error) is leaf
    assert error.status == status


async def test_another_size_is_refused_before_the_body(respx_mock: respx.MockRouter) -> None:
    respx_mock.get(BLOB).respond(content=CONTENT)
    async with fetcher() as asked:
        with pytest.raises(SizeMismatchError):
            await asked.fetch(described(size=11)).__aenter__()


async def test_an_unknown_size_is_any_size(respx_mock: respx.MockRouter) -> None:
    respx_mock.get(BLOB).respond(content=CONTENT)
    assert await fetched(described(size=None)) == CONTENT


@pytest.mark.parametrize("offset", range(1, 10))
async def test_an_offset_is_asked_for_as_a_range(respx_mock: respx.MockRouter, offset: int) -> None:
    route = respx_mock.get(BLOB).respond(
        206, headers={"content-range": f"bytes {offset}-9/10"}, content=CONTENT[offset:]
    )
    assert await fetched(described(), offset) == CONTENT[offset:]
    assert route.calls.last.request.headers["range"] == f"bytes={offset}-"


@pytest.mark.parametrize("width", [1, 3, 10])
@pytest.mark.parametrize("offset", [1, 5, 9])
async def test_a_server_that_knows_no_range_has_its_first_bytes_skipped(
    respx_mock: respx.MockRouter, offset: int, width: int
) -> None:
    async def body() -> AsyncIterator[bytes]:
        for start in range(0, 10, width):
            yield CONTENT[start : start + width]

    respx_mock.get(BLOB).mock(return_value=Response(200, content=body()))
    assert await fetched(described(), offset) == CONTENT[offset:]


@pytest.mark.parametrize("has_length", [True, False])
async def test_content_that_ends_before_the_offset_is_an_invalid_request(
    respx_mock: respx.MockRouter, has_length: bool
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield CONTENT

    content = CONTENT if has_length else body()
    respx_mock.get(BLOB).mock(return_value=Response(200, content=content))
    error = await failure(described(size=None), 11)
    assert isinstance(error, InvalidRequestError)
    assert "which has 10 bytes" in error.message


@pytest.mark.parametrize("content_range", [None, "bytes 0-9/10", "bytes 5-8/10", "bytes 5-9/12"])
async def test_another_range_than_asked_is_a_registry_error(
    respx_mock: respx.MockRouter, content_range: str | None
) -> None:
    headers = {} if content_range is None else {"content-range": content_range}
    respx_mock.get(BLOB).respond(206, headers=headers, content=CONTENT[5:])
    assert isinstance(await failure(described(), 5), RegistryError)


async def test_a_part_that_nobody_asked_for_is_a_registry_error(
    respx_mock: respx.MockRouter,
) -> None:
    respx_mock.get(BLOB).respond(206, headers={"content-range": "bytes 0-9/10"}, content=CONTENT)
    assert isinstance(await failure(described()), RegistryError)


async def test_a_range_that_is_refused_is_an_invalid_request(respx_mock: respx.MockRouter) -> None:
    respx_mock.get(BLOB).respond(416)
    error = await failure(described(size=None), 5)
    assert isinstance(error, InvalidRequestError)
    assert error.status == 416


async def test_from_the_end_on_there_is_nothing_to_ask_for(respx_mock: respx.MockRouter) -> None:
    assert await fetched(described(), 10) == b""
    assert respx_mock.calls.call_count == 0
