"""Bodies: raw, bounded, and with the tree's errors wherever they break."""

from __future__ import annotations

import gzip
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
import trio

from multi_fetch.errors import (
    DeadlineExceededError,
    NotFoundError,
    RegistryError,
    TooLargeError,
    UnavailableError,
)
from multi_fetch.limits import MAX_ERROR_BODY_BYTES
from multi_fetch.registry.httpx_lane import HttpxAnswer, HttpxLane
from multi_fetch.registry.transport import new_client
from multi_fetch.registry.url import parse_url
from tests.registry.conftest import Reply, StartServer, raw_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from multi_fetch.registry.answer import Answer

URL = "https://registry.example/v2/a/blobs/x?sig=s3cret"


def answer_of(response: httpx.Response) -> Answer:
    response.request = httpx.Request("GET", URL)
    return HttpxAnswer(response, parse_url(URL))


async def plenty() -> AsyncIterator[bytes]:
    for _ in range(100):
        yield b"x" * 1_000


async def broken(error: Exception) -> AsyncIterator[bytes]:
    yield b"abc"
    raise error


@asynccontextmanager
async def answer_from(port: int) -> AsyncIterator[Answer]:
    async with new_client(jobs=1) as client:
        lane = HttpxLane(client, stall_seconds=30)
        answer = await lane.send("GET", parse_url(f"http://127.0.0.1:{port}/x"), {})
        try:
            yield answer
        finally:
            await answer.aclose()


def replies(data: bytes) -> Reply:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(data)
        return False

    return reply


async def test_a_body_is_read_whole_up_to_its_limit() -> None:
    assert await answer_of(httpx.Response(200, content=b"abc")).read(3) == b"abc"


async def test_a_longer_body_is_too_large_by_its_length_or_by_its_bytes() -> None:
    with pytest.raises(TooLargeError, match="larger than 2 bytes"):
        await answer_of(httpx.Response(200, content=b"abc")).read(2)
    with pytest.raises(TooLargeError, match="larger than 5000 bytes"):
        await answer_of(httpx.Response(200, content=plenty())).read(5_000)


async def test_an_encoded_body_is_refused_though_it_could_be_decoded() -> None:
    stream = httpx.ByteStream(gzip.compress(b"abc"))
    response = httpx.Response(200, headers={"content-encoding": "gzip"}, stream=stream)
    with pytest.raises(RegistryError, match="encoded"):
        await answer_of(response).read(1_000)


async def test_identity_is_no_encoding() -> None:
    response = httpx.Response(200, headers={"content-encoding": "Identity"}, content=b"abc")
    assert await answer_of(response).read(3) == b"abc"


@pytest.mark.parametrize(
    ("raised", "leaf"),
    [
        (httpx.ReadError("reset"), UnavailableError),
        (httpx.ReadTimeout(""), DeadlineExceededError),
        (httpx.RemoteProtocolError("peer closed connection"), UnavailableError),
        (httpx.RemoteProtocolError("bad chunk"), RegistryError),
    ],
)
async def test_what_breaks_while_reading_is_of_the_tree(
    raised: Exception, leaf: type[Exception]
) -> None:
    answer = answer_of(httpx.Response(200, content=broken(raised)))
    received = b""
    with pytest.raises(leaf) as caught:  # noqa: PT012 - what came before counts too
        async with aclosing(answer.chunks()) as chunks:
            async for chunk in chunks:
                received += chunk
    assert received == b"abc"
    assert "s3cret" not in str(caught.value)
    assert "/v2/a/blobs/x?..." in str(caught.value)


async def test_an_error_tells_the_bodys_words_and_reads_no_more_than_its_limit() -> None:
    error = await answer_of(httpx.Response(404, content=b"gone")).error()
    assert isinstance(error, NotFoundError)
    assert "404 Not Found: gone; check the name" in error.message
    assert len(await answer_of(httpx.Response(404, content=plenty())).first_bytes()) == (
        MAX_ERROR_BODY_BYTES
    )


@pytest.mark.parametrize("said", ["/x?sig={}", "<p>sig = {}</p>", "&sig%3D{}&", "{:.16}"])
async def test_an_error_does_not_tell_the_signature_of_its_url(said: str) -> None:
    signature = "s1gned-" * 4
    response = httpx.Response(404, content=f"no {said.format(signature)}".encode())
    response.request = httpx.Request("GET", f"https://store.example/x?sig={signature}")
    answer = HttpxAnswer(response, parse_url(str(response.request.url)))
    assert "s1gned" not in (await answer.error()).message


async def test_an_error_whose_body_breaks_is_still_that_error() -> None:
    answer = answer_of(httpx.Response(404, content=broken(httpx.ReadError("reset"))))
    assert isinstance(await answer.error(), NotFoundError)


async def test_a_body_cut_short_is_unavailable(start_server: StartServer) -> None:
    whole = raw_answer("200 OK", b"abcdef")
    server = await start_server(replies(whole[:-1]))
    async with answer_from(server.port) as answer:
        with pytest.raises(UnavailableError, match="connection broke"):
            await answer.read(100)


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_body_that_is_left_early_leaves_nothing_behind(
    start_server: StartServer, framing: str
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        if framing == "length":
            await stream.send_all(raw_answer("200 OK", b"x" * 200_000, Content_Length="9000000"))
        else:
            await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            await stream.send_all(b"3\r\nabc\r\n" * 5_000)
        await trio.sleep_forever()
        return False

    server = await start_server(reply)
    async with answer_from(server.port) as answer, aclosing(answer.chunks()) as chunks:
        assert await anext(chunks)  # trio would warn of generators that are left suspended


async def test_a_body_that_is_cancelled_leaves_nothing_behind(start_server: StartServer) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(raw_answer("200 OK", b"abc", Content_Length="9"))
        await trio.sleep_forever()
        return False

    server = await start_server(reply)
    with trio.CancelScope() as scope:
        async with answer_from(server.port) as answer, aclosing(answer.chunks()) as chunks:
            async for _ in chunks:
                scope.cancel()
    assert scope.cancelled_caught


async def test_where_an_answer_comes_from_is_told_by_its_socket(start_server: StartServer) -> None:
    server = await start_server(replies(raw_answer("200 OK")))
    async with answer_from(server.port) as answer:
        assert answer.is_from_inside
    assert not answer_of(httpx.Response(200)).is_from_inside


class _Peer:
    """What httpcore's streams tell of a socket."""

    def get_extra_info(self, name: str) -> object:
        return ("10.0.0.5", 443) if name == "server_addr" else None


async def test_a_public_name_at_a_private_address_is_inside() -> None:
    response = httpx.Response(200, extensions={"network_stream": _Peer()})
    assert answer_of(response).is_from_inside
