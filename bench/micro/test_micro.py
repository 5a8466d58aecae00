"""The parts that every object passes, alone: ``make bench-micro``."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import pytest

from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.reference import parse_reference
from multi_fetch.protocol.frames import Begin, Data, End
from multi_fetch.protocol.framing import NEED_DATA, FrameDecoder
from multi_fetch.protocol.plain import parse_plain
from multi_fetch.protocol.request import parse_line
from multi_fetch.protocol.wire import MessagePackWire
from multi_fetch.registry.chunked import ChunkedBody
from multi_fetch.registry.head import parse_head
from multi_fetch.registry.url import join, parse_url
from multi_fetch.verify import Verifier

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

KIB: Final = 1024
SMALL: Final = os.urandom(4 * KIB)
DIGEST: Final = digest_of(SMALL)
DESCRIPTOR: Final = Descriptor(
    media_type="application/octet-stream", digest=DIGEST, size=len(SMALL)
)
BEGIN: Final = Begin(1, DIGEST, DESCRIPTOR, "registry.example/a", None)
END: Final = End(1, len(SMALL), DIGEST, 0)
LINE: Final = f"{DIGEST} mediatype:application/octet-stream size:4096".encode()
HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Tue, 24 Nov 2026 00:00:00 GMT\r\n"
    b"Content-Type: application/octet-stream\r\nContent-Length: 4096\r\n"
    b"Last-Modified: Tue, 24 Nov 2026 00:00:00 GMT\r\nConnection: keep-alive\r\n"
    b'ETag: "6564cbd0-1000"\r\nAccept-Ranges: bytes\r\n\r\n'
)
SIGNED: Final = (
    "https://store.example/docker/registry/v2/blobs/sha256/ab/abcd/data?X-Amz-Algorithm=AWS4"
    "-HMAC-SHA256&X-Amz-Credential=a%2F20261124%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Signature=ab"
)


class Benchmark(Protocol):
    """What of pytest-benchmark's fixture is used here."""

    def __call__(self, function: Callable[..., T], *args: object) -> T: ...


def test_a_request_line(benchmark: Benchmark) -> None:
    assert benchmark(parse_line, LINE) is not None


def test_a_plain_request_line(benchmark: Benchmark) -> None:
    assert benchmark(parse_plain, LINE) == parse_line(LINE)


def test_a_reference(benchmark: Benchmark) -> None:
    assert benchmark(parse_reference, f"registry.example/team/app@{DIGEST}").digest == DIGEST


def test_a_head(benchmark: Benchmark) -> None:
    assert benchmark(parse_head, memoryview(HEAD), "GET x").length == 4096


def test_a_chunked_body(benchmark: Benchmark) -> None:
    wire = memoryview(b"1000\r\n%s\r\n" % SMALL * 16 + b"0\r\n\r\n")

    def read() -> int:
        body = ChunkedBody()
        body.feed(wire)
        return sum(map(len, body.take()))

    assert benchmark(read) == 16 * len(SMALL)


def test_a_location(benchmark: Benchmark) -> None:
    base = parse_url("https://registry.example/v2/a/blobs/sha256:ab")
    assert str(benchmark(join, base, SIGNED)) == SIGNED


def test_the_frames_of_a_small_object(benchmark: Benchmark) -> None:
    wire = MessagePackWire()

    def encode() -> int:
        pieces = (wire.frame(BEGIN), *wire.data(1, 0, SMALL), wire.frame(END))
        return sum(map(len, pieces))

    assert benchmark(encode) > len(SMALL)


def test_the_frames_of_a_small_object_decoded(benchmark: Benchmark) -> None:
    wire = MessagePackWire()
    stream = b"".join((wire.frame(BEGIN), *wire.data(1, 0, SMALL), wire.frame(END)))

    def decode() -> list[object]:
        decoder = FrameDecoder()
        decoder.feed(stream)
        found: list[object] = []
        while (frame := decoder.next_frame()) is not NEED_DATA:
            found.append(frame)
        return found

    begin, data, end = benchmark(decode)
    assert isinstance(begin, Begin)
    assert isinstance(data, Data)
    assert isinstance(end, End)


@pytest.mark.parametrize("size", [4 * KIB, 64 * KIB, 1024 * KIB])
def test_verification(benchmark: Benchmark, size: int) -> None:
    content = os.urandom(size)
    want = digest_of(content)

    def verify() -> str:
        verifier = Verifier(want, size)
        for start in range(0, size, 256 * KIB):
            verifier.update(content[start : start + 256 * KIB])
        return verifier.finish()

    assert benchmark(verify) == want


@pytest.mark.parametrize("size", [4 * KIB, 64 * KIB, 1024 * KIB])
def test_sha256_alone(benchmark: Benchmark, size: int) -> None:
    content = os.urandom(size)
    assert benchmark(lambda: hashlib.sha256(content).digest())
