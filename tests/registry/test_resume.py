"""Bodies that break: however often, and wherever, what arrives is whole or an error."""

from __future__ import annotations

import random
import re
import tracemalloc
from typing import TYPE_CHECKING, Final

import pytest
import trio
from msgspec.structs import replace

from multi_fetch.errors import DeadlineExceededError, RegistryError, UnavailableError
from multi_fetch.limits import LEAST_PROGRESS_BYTES, MAX_MANIFEST_BYTES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCTET_STREAM
from multi_fetch.oci.reference import Reference
from multi_fetch.registry import open_registry
from multi_fetch.registry.resolver import RegistryRemote
from tests.fakes.consumer import (
    BLOB,
    BLOB_AS_BLOB,
    BLOB_DIGEST,
    HASTY,
    PART,
    QUICK,
    TAG,
    consume,
    consume_from,
)
from tests.registry.conftest import RawServer, StartServer, raw_answer

if TYPE_CHECKING:
    from trio.testing import MockClock

RANGE: Final = re.compile(r"range: bytes=([0-9]+)-([0-9]*)", re.IGNORECASE)

pytestmark = pytest.mark.usefixtures("lane")


class Breaking:
    """Serves one blob, and breaks off after some bytes of each answer but the last.

    Attributes:
        content: of the blob.
        breaks: how many bytes of each answer's body come; those that are left are whole.
        knows_ranges: or answers 200 and everything.
        is_chunked: or told by its length.
        is_reset: or closed.
    """

    def __init__(self, content: bytes, breaks: list[int]) -> None:
        self.content = content
        self.breaks = breaks
        self.knows_ranges = True
        self.is_chunked = False
        self.is_reset = False

    async def reply(self, stream: trio.SocketStream, head: str) -> bool:
        asked = RANGE.search(head) if self.knows_ranges else None
        first = int(asked[1]) if asked else 0
        if first >= len(self.content):
            named = {"Content_Range": f"bytes */{len(self.content)}"}
            await stream.send_all(raw_answer("416 Range Not Satisfiable", b"", **named))
            return True
        end = int(asked[2]) + 1 if asked and asked[2] else len(self.content)
        body = self.content[first : min(end, len(self.content))]
        status = "200 OK"
        named = {}
        if asked:
            status = "206 Partial Content"
            named = {"Content_Range": f"bytes {first}-{first + len(body) - 1}/{len(self.content)}"}
        is_whole = not self.breaks
        sent = body if is_whole else body[: self.breaks.pop(0)]
        if self.is_chunked:
            head_bytes = raw_answer(status, b"", **named).replace(
                b"Content-Length: 0", b"Transfer-Encoding: chunked"
            )
            framed = b"%x\r\n%b\r\n" % (len(sent), sent) if sent else b""
            await stream.send_all(head_bytes + framed + (b"0\r\n\r\n" if is_whole else b""))
        else:
            whole = raw_answer(status, body, **named)
            await stream.send_all(whole[: len(whole) - len(body) + len(sent)])
        if not is_whole and self.is_reset:
            await trio.sleep(0.01)
            stream.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER 0: the close is a RST
        return is_whole


@pytest.mark.parametrize("seed", range(24))
async def test_a_blob_that_breaks_anywhere_arrives_whole_and_nothing_of_it_twice(
    start_server: StartServer, seed: int
) -> None:
    chance = random.Random(seed)
    content = chance.randbytes(chance.choice([1, 2, 100, 70_000, 300_000]))
    breaking = Breaking(content, [chance.randrange(len(content) + 1) for _ in range(3)])
    breaking.knows_ranges = chance.random() < 0.7
    breaking.is_chunked = chance.random() < 0.5
    breaking.is_reset = chance.random() < 0.3
    server = await start_server(breaking.reply)
    ask = BLOB_AS_BLOB._replace(text=digest_of(content), content=content)
    patience = replace(QUICK, retries=6)
    verdict = await consume(ask, f"127.0.0.1:{server.port}", patience)
    assert verdict.error is None
    assert verdict.content == content


@pytest.mark.parametrize("first", [0, 1, 4095])
@pytest.mark.parametrize("break_at", [0, 1, 50])
async def test_a_part_that_breaks_is_exactly_those_bytes(
    start_server: StartServer, first: int, break_at: int
) -> None:
    breaking = Breaking(BLOB, [break_at])
    server = await start_server(breaking.reply)
    asked = type(PART.byte_range)(first, first + 99)  # type: ignore[misc]  # it is a ByteRange
    ask = PART._replace(content=BLOB[first : first + 100], byte_range=asked)
    verdict = await consume(ask, f"127.0.0.1:{server.port}")
    assert verdict.error is None
    assert verdict.content == ask.content


@pytest.mark.parametrize("offset", [0, 1000, 4095])
async def test_a_fetch_from_an_offset_goes_on_from_where_it_broke(
    start_server: StartServer, offset: int
) -> None:
    breaking = Breaking(BLOB, [50 if offset < 4000 else 0])
    server = await start_server(breaking.reply)
    address = f"127.0.0.1:{server.port}"
    descriptor = Descriptor(media_type=OCTET_STREAM, digest=BLOB_DIGEST, size=len(BLOB))
    async with open_registry(Reference(f"{address}/a"), patience=QUICK) as remote:
        assert isinstance(remote, RegistryRemote)
        fetcher = remote._fetcher
        async with fetcher.fetch(descriptor, offset=offset) as chunks:
            received = b"".join([bytes(chunk) async for chunk in chunks])
    assert received == BLOB[offset:]


async def test_without_retries_a_break_is_the_consumers_and_so_are_the_bytes_before(
    start_server: StartServer,
) -> None:
    server = await start_server(Breaking(BLOB, [1000]).reply)
    verdict = await consume(BLOB_AS_BLOB, f"127.0.0.1:{server.port}", replace(QUICK, retries=0))
    assert isinstance(verdict.error, UnavailableError)
    assert verdict.error.attempts == 1
    assert verdict.content == BLOB[:1000]


async def test_a_blob_that_is_dripped_goes_on_elsewhere_until_there_is_no_more_patience(
    start_server: StartServer, jumping_clock: MockClock
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        asked = RANGE.search(head)
        first, at = int(asked[1]) if asked else 0, len(server.heads)
        named = {"Content_Range": f"bytes {first}-{len(BLOB) - 1}/{len(BLOB)}"}
        status, rest = "206 Partial Content" if asked else "200 OK", BLOB[first:]
        await stream.send_all(raw_answer(status, rest, **named)[: -len(rest)])
        if at > heals_at:
            await stream.send_all(rest)
            return True
        for byte in rest:
            await stream.send_all(bytes([byte]))
            await trio.sleep(0.02)
        return True

    heals_at = HASTY.retries
    server = await start_server(reply)
    verdict = await consume(BLOB_AS_BLOB, f"127.0.0.1:{server.port}", HASTY)
    assert (verdict.error, verdict.content) == (None, BLOB)
    heals_at = 99
    server.heads.clear()
    verdict = await consume(BLOB_AS_BLOB, f"127.0.0.1:{server.port}", HASTY)
    assert isinstance(verdict.error, DeadlineExceededError)
    assert len(server.heads) == verdict.error.attempts == HASTY.retries + 1
    assert verdict.content == BLOB[: len(verdict.content)] != b""


async def test_a_byte_for_each_connection_is_too_little_in_the_long_run(
    start_server: StartServer,
) -> None:
    server = await start_server(Breaking(BLOB, [1] * len(BLOB)).reply)
    patience = replace(QUICK, stall_seconds=0.1)
    verdict = await consume(BLOB_AS_BLOB, f"127.0.0.1:{server.port}", patience)
    assert isinstance(verdict.error, UnavailableError)
    assert verdict.error.attempts == patience.retries + 1
    assert verdict.content == BLOB[: len(server.heads)]
    assert len(verdict.content) < LEAST_PROGRESS_BYTES


async def test_who_stops_early_leaves_nothing_behind(start_server: StartServer) -> None:
    """Also while a resume waits: trio would warn of generators that are left suspended."""
    server = await start_server(Breaking(BLOB, [1000] * 9).reply)
    address = f"127.0.0.1:{server.port}"
    patience = replace(QUICK, first_wait_seconds=1_000_000.0, max_wait_seconds=1_000_000.0)
    async with open_registry(Reference(f"{address}/a"), patience=patience) as remote:
        with trio.move_on_after(0.2) as scope:
            await consume_from(remote, BLOB_AS_BLOB, address)
        assert scope.cancelled_caught
        ref = Reference(f"{address}/a", f"@{BLOB_DIGEST}")
        async with remote.open(ref, media_types=[OCTET_STREAM]) as opened:
            assert await anext(opened.chunks)


@pytest.mark.parametrize("has_length", [True, False])
async def test_a_manifest_without_end_is_too_large_and_memory_stays_flat(
    start_server: StartServer, has_length: bool
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        length = "Content-Length: 99999999999" if has_length else "Transfer-Encoding: chunked"
        await stream.send_all(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode())
        piece = b"10000\r\n" + b" " * 65_536 + b"\r\n"
        while True:
            await stream.send_all(piece)

    server = await start_server(reply)
    tracemalloc.start()
    verdict = await consume(TAG, f"127.0.0.1:{server.port}")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert verdict.error is not None
    assert verdict.error.code == "too-large"
    assert peak < 4 * MAX_MANIFEST_BYTES


async def test_a_resume_that_gets_a_page_in_place_of_the_rest_is_an_error(
    start_server: StartServer,
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        if len(server.heads) == 1:
            await stream.send_all(raw_answer("200 OK", BLOB)[:-1000])
            return False
        await stream.send_all(raw_answer("302 Found", Location="file:///etc/passwd"))
        return True

    server: RawServer = await start_server(reply)
    verdict = await consume(BLOB_AS_BLOB, f"127.0.0.1:{server.port}")
    assert isinstance(verdict.error, RegistryError)
    assert BLOB.startswith(verdict.content)
