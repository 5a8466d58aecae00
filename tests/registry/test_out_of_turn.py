"""Answers that nobody asked for: HTTP/1.1 has no name for an answer but its turn.

RFC 9112, section 9.2: answers belong to requests by their order alone. One more than was asked for
shifts all that follow on its connection; what is named by a digest is then wrong, and found out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import trio

from multi_fetch.errors import DigestMismatchError
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCI_MANIFEST
from multi_fetch.registry import open_registry
from tests.fakes.consumer import BLOB_AS_BLOB, QUICK, Ask, consume_from
from tests.registry.conftest import StartServer, raw_answer

if TYPE_CHECKING:
    from multi_fetch.remotes import Remote

pytestmark = pytest.mark.usefixtures("lane")

BLOBS: Final = [b"%d" % number * 500 for number in range(8)]
MANIFESTS: Final = [
    b'{"schemaVersion":2,"mediaType":"%b","annotations":{"a":"%d"}}' % (OCI_MANIFEST.encode(), each)
    for each in range(8)
]


def answer_of(content: bytes, media_type: str) -> bytes:
    named = {"Content_Type": media_type, "Docker_Content_Digest": digest_of(content)}
    return raw_answer("200 OK", content, **named)


@pytest.mark.parametrize(
    ("contents", "media_type"), [(BLOBS, "application/octet-stream"), (MANIFESTS, OCI_MANIFEST)]
)
async def test_what_a_shifted_connection_gives_is_never_taken_for_what_was_asked(
    start_server: StartServer, contents: list[bytes], media_type: str
) -> None:
    """Each request is answered with what the one before it wanted."""
    shifted = [b"x" * len(contents[0]), *contents]

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(answer_of(shifted.pop(0), media_type))
        return True

    server = await start_server(reply)
    async with open_registry(server.repository, patience=QUICK) as remote:
        for content in contents:
            await expect_mismatch(remote, content, media_type, server.port)
    assert len(server.heads) == len(contents)


async def expect_mismatch(remote: Remote, content: bytes, media_type: str, port: int) -> None:
    ask = Ask(digest_of(content), content, (media_type,))
    verdict = await consume_from(remote, ask, f"127.0.0.1:{port}")
    assert isinstance(verdict.error, DigestMismatchError)
    assert verdict.error.want == digest_of(content)


@pytest.mark.parametrize("is_split", [False, True])
async def test_an_answer_too_many_ends_its_connection_and_shifts_nothing(
    start_server: StartServer, *, is_split: bool
) -> None:
    """It comes with the answer before it, or while the connection is idle."""
    one, other = BLOBS[:2]

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        wanted = one if digest_of(one) in head else other
        due = answer_of(wanted, "application/octet-stream")
        unasked = answer_of(BLOBS[7], "application/octet-stream")
        await stream.send_all(due if is_split else due + unasked)
        if is_split:
            await trio.testing.wait_all_tasks_blocked()
            await stream.send_all(unasked)
        return True

    server = await start_server(reply)
    async with open_registry(server.repository, patience=QUICK) as remote:
        for content in (one, other, one):
            ask = BLOB_AS_BLOB._replace(text=digest_of(content), content=content)
            verdict = await consume_from(remote, ask, f"127.0.0.1:{server.port}")
            assert (verdict.error, verdict.content) == (None, content)
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert server.connections == 3
