"""The one way in."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from httpx import Response

from multi_fetch.errors import InvalidReferenceError
from multi_fetch.oci.reference import Reference
from multi_fetch.registry import open_registry
from multi_fetch.remotes import open_remote
from tests.registry.conftest import ONCE

if TYPE_CHECKING:
    import respx


async def test_a_remote_is_opened_by_its_reference_and_asks_nobody_yet(
    respx_mock: respx.MockRouter,
) -> None:
    async with open_remote(Reference("docker.io/library/redis"), patience=ONCE) as remote:
        assert respx_mock.calls.call_count == 0
        url = "https://registry-1.docker.io/v2/library/redis/manifests/7"
        respx_mock.head(url).respond(429)
        with pytest.raises(Exception, match="429 Too Many Requests"):
            await remote.resolve(Reference("docker.io/library/redis", "7"))


async def test_the_login_reaches_the_registry(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.head("http://localhost:5000/v2/a/manifests/v1")
    route.side_effect = [
        Response(401, headers={"www-authenticate": "Basic realm=r"}),
        Response(429),
    ]
    ref = Reference("localhost:5000/a", "v1")
    async with open_registry(
        ref, username="alice", password="s3cret", jobs=1, patience=ONCE
    ) as remote:
        with pytest.raises(Exception, match="429 Too Many Requests"):
            await remote.resolve(ref)
    sent = route.calls.last.request.headers["authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")) == b"alice:s3cret"


async def test_a_reference_without_a_repository_is_refused() -> None:
    with pytest.raises(InvalidReferenceError, match="names no repository"):
        await open_registry(Reference("registry.example", "v1")).__aenter__()
