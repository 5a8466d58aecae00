"""A token that expires while a blob comes is replaced where the blob goes on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import httpx

from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.reference import Reference
from multi_fetch.registry.resolver import RegistryRemote
from tests.registry.conftest import QUICK, new_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONTENT: Final = b"0123456789"
DIGEST: Final = str(digest_of(CONTENT))
BEARER: Final = 'Bearer realm="https://auth.example/token",service="s"'


class CutBody(httpx.AsyncByteStream):
    """Half of the content, then the connection breaks."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield CONTENT[:5]
        raise httpx.ReadError("reset")


class Registry:
    """Takes the token t1 once, and t2 from then on; its first body breaks."""

    def __init__(self) -> None:
        self.tokens = 0
        self.sent: list[tuple[str, str]] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "auth.example":
            self.tokens += 1
            return httpx.Response(200, content=json.dumps({"token": f"t{self.tokens}"}).encode())
        token = request.headers.get("authorization", "")
        byte_range = request.headers.get("range", "")
        self.sent.append((token, byte_range))
        if token == "Bearer t1" and not byte_range:
            return httpx.Response(200, headers={"content-length": "10"}, stream=CutBody())
        if token == "Bearer t2" and byte_range == "bytes=5-":
            headers = {"content-range": "bytes 5-9/10"}
            return httpx.Response(206, headers=headers, content=CONTENT[5:])
        error = ',error="invalid_token"' if token else ""
        return httpx.Response(401, headers={"www-authenticate": BEARER + error})


async def test_a_blob_goes_on_with_a_new_token() -> None:
    registry = Registry()
    ref = Reference("registry.example/a", f"@{DIGEST}")
    async with httpx.AsyncClient(transport=httpx.MockTransport(registry)) as client:
        remote = RegistryRemote(new_session(client, patience=QUICK), ref)
        async with remote.open(ref, media_types=("application/octet-stream",)) as opened:
            content = b"".join([bytes(chunk) async for chunk in opened.chunks])
    assert content == CONTENT
    assert registry.sent == [
        ("", ""),
        ("Bearer t1", ""),
        ("Bearer t1", "bytes=5-"),
        ("Bearer t2", "bytes=5-"),
    ]
