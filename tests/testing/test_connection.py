import hashlib
from pathlib import Path

import httpx
import trio

from multi_fetch.testing.registry import serve_layout
from tests.testing.conftest import BLOB, Sample


async def test_a_connection_is_kept_for_the_next_request(
    sample: Sample, client: httpx.AsyncClient
) -> None:
    async with serve_layout(sample.layout) as registry:
        base = f"http://{registry.address}"
        for path in (sample.manifest_path, sample.blob_path, "/v2/", "/v2/n/blobs/missing"):
            await client.get(base + path)
        await client.head(base + sample.blob_path)
        assert registry.connections == 1


async def test_a_request_that_comes_byte_by_byte_is_answered(sample: Sample) -> None:
    request = f"GET {sample.blob_path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    async with serve_layout(sample.layout) as registry:
        host, port = registry.address.split(":")
        stream = await trio.open_tcp_stream(host, int(port))
        async with stream:
            for byte in request:
                await stream.send_all(bytes([byte]))
            answer = b"".join([chunk async for chunk in stream])
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert hashlib.sha256(body).hexdigest() == sample.blob.digest.encoded


async def test_what_is_no_http_gets_a_400_and_the_connection_ends(sample: Sample) -> None:
    async with serve_layout(sample.layout) as registry:
        host, port = registry.address.split(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(b"\x16\x03\x01\x02\x00\x01\r\n\r\n")
            answer = b"".join([chunk async for chunk in stream])
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert len(registry.requests) == 0


async def test_a_client_that_goes_away_in_mid_answer_does_no_harm(
    tmp_path: Path, sample: Sample, client: httpx.AsyncClient
) -> None:
    big = b"x" * (16 * 1024 * 1024)
    path = tmp_path / "blobs" / "sha256" / sample.blob.digest.encoded
    path.write_bytes(big)
    async with serve_layout(sample.layout) as registry:
        url = f"http://{registry.address}{sample.blob_path}"
        async with client.stream("GET", url):
            pass
        assert (await client.get(url)).content == big


async def test_requests_that_come_together_are_answered_in_turn(sample: Sample) -> None:
    """A body that nobody asked for is thrown away, and the next request is found behind it."""
    requests = (
        b"POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nGET /"
        b"GET /v2/n/manifests/latest HTTP/1.1\r\nHost: x\r\n\r\n"
        + f"GET {sample.blob_path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    )
    async with serve_layout(sample.layout) as registry:
        host, port = registry.address.split(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(requests)
            answers = b"".join([chunk async for chunk in stream])
        assert [each.status for each in registry.requests] == [405, 200, 200]
    assert answers.endswith(b"\r\n\r\n" + BLOB)
