"""The client: how many connections, whose certificates, and when those are read."""

from __future__ import annotations

import ssl

import pytest
import trio

from multi_fetch.errors import UnavailableError
from multi_fetch.registry.hosts import Host
from multi_fetch.registry.session import Session
from multi_fetch.registry.transport import new_client
from tests.registry.conftest import RawServer, StartServer, raw_answer


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[ssl.SSLContext]:
    """The contexts into which root certificates were read."""
    loaded: list[ssl.SSLContext] = []
    monkeypatch.setattr(
        ssl.SSLContext, "load_default_certs", lambda self, *purpose: loaded.append(self)
    )
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
        asked = Session(client, host, None, "a")
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


async def test_redirects_cookies_of_others_and_the_environment_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    async with new_client(jobs=1) as client:
        assert not client.follow_redirects
        assert not client.trust_env
