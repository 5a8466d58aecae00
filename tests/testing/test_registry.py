import hashlib

import httpx
import pytest
import trio

from multi_fetch.testing.faults import Fault, close_after
from multi_fetch.testing.registry import serve_layout
from tests.testing.conftest import Sample


async def test_content_arrives_byte_for_byte_with_the_headers_of_the_spec(
    sample: Sample, client: httpx.AsyncClient
) -> None:
    async with serve_layout(sample.layout) as registry:
        answer = await client.get(f"http://{registry.address}{sample.blob_path}")
    assert answer.status_code == 200
    assert answer.headers["Content-Length"] == "1024"
    assert answer.headers["Docker-Content-Digest"] == sample.blob.digest
    assert hashlib.sha256(answer.content).hexdigest() == sample.blob.digest.encoded


async def test_head_has_the_headers_of_get_and_no_body(
    sample: Sample, client: httpx.AsyncClient
) -> None:
    async with serve_layout(sample.layout) as registry:
        url = f"http://{registry.address}{sample.manifest_path}"
        head = await client.head(url)
        got = await client.get(url)
    assert dict(head.headers) == dict(got.headers)
    assert (head.content, len(got.content)) == (b"", sample.image.size)


async def test_the_log_tells_what_was_asked_and_answered(
    sample: Sample, client: httpx.AsyncClient
) -> None:
    faults = [Fault(close_after(), path="*/blobs/*", skip=1)]
    async with serve_layout(sample.layout, faults=faults) as registry:
        base = f"http://{registry.address}"
        await client.get(f"{base}/v2/n/tags/list?n=1", headers={"X-Mark": "a"})
        await client.head(f"{base}/v2/n/manifests/missing")
        await client.get(base + sample.blob_path.replace(":", "%3A"))
        with pytest.raises(Exception, match="disconnected"):
            await client.get(base + sample.blob_path)
        log = [(each.method, each.path, each.query, each.status) for each in registry.requests]
        assert dict(registry.requests[0].headers)["x-mark"] == "a"
    assert log == [
        ("GET", "/v2/n/tags/list", "n=1", 200),
        ("HEAD", "/v2/n/manifests/missing", "", 404),
        ("GET", sample.blob_path, "", 200),
        ("GET", sample.blob_path, "", None),
    ]


async def test_requests_are_served_side_by_side(sample: Sample, client: httpx.AsyncClient) -> None:
    """Each of many connections gets its own answer, while all are open at the same time."""
    answers: list[bytes] = []

    async def ask(url: str) -> None:
        answers.append((await client.get(url)).content)

    async with serve_layout(sample.layout) as registry, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask, f"http://{registry.address}{sample.blob_path}")
    assert len(answers) == 20
    assert {hashlib.sha256(each).hexdigest() for each in answers} == {sample.blob.digest.encoded}


async def test_the_block_ends_though_a_connection_is_open(sample: Sample) -> None:
    with trio.fail_after(5):
        async with serve_layout(sample.layout) as registry:
            host, port = registry.address.split(":")
            stream = await trio.open_tcp_stream(host, int(port))
        async with stream:
            assert await stream.receive_some() == b""


async def test_a_port_that_is_taken_is_an_os_error(sample: Sample) -> None:
    async with serve_layout(sample.layout) as registry:
        port = int(registry.address.split(":")[1])
        with pytest.raises(OSError, match="in use"):
            async with serve_layout(sample.layout, port=port):
                pass
