"""The client: how many connections, whose certificates, and when those are read."""

from __future__ import annotations

import ssl

import httpx
import pytest
import trio

from multi_fetch.durations import CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS
from multi_fetch.errors import UnavailableError
from multi_fetch.registry.hosts import Host
from multi_fetch.registry.proxies import Proxies
from multi_fetch.registry.transport import new_client
from tests.registry.conftest import RawServer, StartServer, new_session, raw_answer


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[ssl.SSLContext]:
    """The contexts into which root certificates were read."""
    loaded: list[ssl.SSLContext] = []

    def load_default_certs(context: ssl.SSLContext) -> None:
        loaded.append(context)

    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", load_default_certs)
    return loaded


async def test_plain_http_reads_no_certificates(
    start_server: StartServer, loads: list[ssl.SSLContext]
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(raw_answer("200 OK"))
        return True

    server = await start_server(reply)
    async with new_client(jobs=1) as client:
        assert (await client.get(f"http://127.0.0.1:{server.port}/")).status_code == 200
    assert loads == []


async def test_https_reads_them_once_and_checks_name_and_certificate(
    loads: list[ssl.SSLContext],
) -> None:
    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some()

    async with trio.open_nursery() as nursery, new_client(jobs=1) as client:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, hang_up, listeners)
        host = Host("https", f"127.0.0.1:{listeners[0].socket.getsockname()[1]}")
        asked = new_session(client, host)
        for _ in range(2):
            with pytest.raises(UnavailableError):
                await asked.request("GET", "/", {}).__aenter__()
        nursery.cancel_scope.cancel()
    (context,) = loads
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


async def test_as_many_requests_run_at_once_as_there_are_jobs(start_server: StartServer) -> None:
    everyone = trio.Event()

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        if server.connections == 30:
            everyone.set()
        await everyone.wait()
        await stream.send_all(raw_answer("200 OK"))
        return True

    server: RawServer = await start_server(reply)
    async with new_client(jobs=30) as client, trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(client.get, f"http://127.0.0.1:{server.port}/")
    assert server.connections == 30


async def test_a_client_waits_for_a_connection_but_not_for_ever_for_a_server() -> None:
    async with new_client(jobs=1) as client:
        assert client.timeout.pool is None
        assert client.timeout.connect == CONNECT_TIMEOUT_SECONDS
        assert client.timeout.read == READ_TIMEOUT_SECONDS


async def test_the_environment_is_left_alone_and_redirects_are_ours() -> None:
    async with new_client(jobs=1) as client:
        assert not client.trust_env
        assert not client.follow_redirects


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_connection_on_which_more_came_than_the_length_said_is_not_used_again(
    start_server: StartServer, method: str
) -> None:
    forged = raw_answer("200 OK", b"forged")

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        is_first = len(server.heads) == 1
        await stream.send_all(raw_answer("200 OK", b"real") + (forged if is_first else b""))
        return True

    server: RawServer = await start_server(reply)
    async with new_client(jobs=1) as client:
        url = f"http://127.0.0.1:{server.port}/"
        await client.request(method, url)
        assert (await client.get(url)).content == b"real"
    assert server.connections == 2


async def test_of_a_head_only_that_is_kept_which_somebody_heeds(start_server: StartServer) -> None:
    fields = "".join(f"{number:x}: a\r\nLink: \xe4\r\n" for number in range(2_000))
    wire = f"HTTP/1.1 200 {'OK' * 5_000}\r\nContent-Length: 2\r\n{fields}\r\nhi".encode("latin-1")

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(wire)
        return True

    server = await start_server(reply)
    async with (
        new_client(jobs=1) as client,
        client.stream("GET", f"http://127.0.0.1:{server.port}/") as answer,
    ):
        assert await answer.aread() == b"hi"
        assert answer.headers.raw == [
            (b"content-length", b"2"),
            (b"link", b", ".join([b"\xe4"] * 2_000)),
        ]
        assert len(answer.reason_phrase) == 2


async def test_a_connection_on_which_nothing_more_came_is_used_again(
    start_server: StartServer,
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(raw_answer("200 OK", b"real"))
        return True

    server = await start_server(reply)
    async with new_client(jobs=1) as client:
        for _ in range(3):
            assert (await client.get(f"http://127.0.0.1:{server.port}/")).content == b"real"
    assert server.connections == 1


async def test_tunnels_in_which_there_is_no_tls_take_no_place_from_other_requests(
    start_server: StartServer,
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        return False

    server = await start_server(reply)
    proxies = Proxies(https=f"http://127.0.0.1:{server.port}")
    async with new_client(jobs=1, proxies=proxies) as client:
        for _ in range(3):
            with trio.fail_after(10), pytest.raises(httpx.ConnectError, match="by the proxy"):
                await client.get("https://registry.example/")
