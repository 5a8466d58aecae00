"""What is made ready before the first request: a connection and a token, for one request."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest

from multi_fetch.oci.reference import Reference
from multi_fetch.registry import open_registry
from multi_fetch.registry.hosts import default_host
from multi_fetch.remotes import Warmable
from tests.fakes.consumer import BLOB, BLOB_AS_BLOB, QUICK, consume_from
from tests.registry.conftest import RawServer, StartServer, raw_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import trio

    from multi_fetch.remotes import Remote

TOKEN: Final = "Bearer t0ken"

pytestmark = pytest.mark.usefixtures("lane")


class Registry:
    """One blob; whoever has no token is told where there are some."""

    def __init__(self, scheme: str = "Bearer") -> None:
        self.server: RawServer | None = None
        self.scheme = scheme

    async def reply(self, stream: trio.SocketStream, head: str) -> bool:
        path = head.split(" ")[1]
        if path.startswith("/token"):
            body = json.dumps({"token": TOKEN.removeprefix("Bearer "), "expires_in": 300})
            await stream.send_all(raw_answer("200 OK", body.encode()))
        elif f"authorization: {TOKEN}".lower() not in head.lower() and self.scheme != "none":
            challenge = self._challenge(path)
            await stream.send_all(raw_answer("401 Unauthorized", WWW_Authenticate=challenge))
        else:
            await stream.send_all(raw_answer("200 OK", b"{}" if path == "/v2/" else BLOB))
        return True

    def _challenge(self, path: str) -> str:
        assert self.server is not None
        # As ghcr.io's: an example where no repository was asked for.
        scope = "repository:user/image:pull" if path == "/v2/" else "repository:a:pull"
        realm = f"http://127.0.0.1:{self.server.port}/token"
        return f'{self.scheme} realm="{realm}",service="here",scope="{scope}"'


@asynccontextmanager
async def opened(server: RawServer) -> AsyncIterator[tuple[Remote, Warmable]]:
    async with open_registry(server.repository, patience=QUICK) as remote:
        assert isinstance(remote, Warmable)
        yield remote, remote


def asked(server: RawServer) -> list[str]:
    lines = [head.partition("\r\n")[0] for head in server.heads]
    return [re.sub(r"sha256:\w+", "<digest>", line.removesuffix(" HTTP/1.1")) for line in lines]


async def test_the_first_request_finds_a_token_and_a_connection(start_server: StartServer) -> None:
    registry = Registry()
    server = registry.server = await start_server(registry.reply)
    async with opened(server) as (remote, warm):
        await warm.warm_up()
        assert asked(server) == ["GET /v2/", "GET /token?service=here&scope=repository%3Aa%3Apull"]
        assert server.connections == 1
        verdict = await consume_from(remote, BLOB_AS_BLOB, f"127.0.0.1:{server.port}")
        assert verdict.content == BLOB
        assert asked(server)[2:] == ["GET /v2/a/blobs/<digest>"]
        assert server.connections == 1
        await warm.warm_up()  # once more does no harm
        assert asked(server)[3:] == ["GET /v2/"]


@pytest.mark.parametrize("scheme", ["none", "Basic", "Negotiate"])
async def test_a_registry_that_asks_for_nothing_that_there_is_gets_one_request(
    start_server: StartServer, scheme: str
) -> None:
    registry = Registry(scheme)
    server = registry.server = await start_server(registry.reply)
    async with opened(server) as (_, warm):
        await warm.warm_up()
    assert asked(server) == ["GET /v2/"]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense",
        raw_answer("404 Not Found", b"no"),
        raw_answer("500 Internal Server Error", b"no"),
        raw_answer("429 Too Many Requests", Retry_After="0"),
        raw_answer("401 Unauthorized", WWW_Authenticate="Bearer realm=nowhere"),
        raw_answer("401 Unauthorized", WWW_Authenticate='Bearer realm="'),
        raw_answer("302 Found", Location="http://10.0.0.1:x/"),
    ],
    ids=["cut", "nonsense", "404", "500", "429", "no realm", "no challenge", "no redirect"],
)
async def test_what_goes_wrong_is_asked_once_and_raised_to_nobody(
    start_server: StartServer, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        if "GET /v2/ " in head:
            await stream.send_all(answer)
            return False
        await stream.send_all(raw_answer("200 OK", BLOB))
        return True

    server = await start_server(reply)
    async with opened(server) as (remote, warm):
        await warm.warm_up()
        assert asked(server) == ["GET /v2/"]
        verdict = await consume_from(remote, BLOB_AS_BLOB, f"127.0.0.1:{server.port}")
        assert verdict.content == BLOB
        assert verdict.retries == 0
    assert not [record for record in caplog.records if record.levelname in {"ERROR", "WARNING"}]


async def test_a_registry_that_is_not_there_is_nobodys_trouble_yet() -> None:
    async with open_registry(Reference("127.0.0.1:1/a"), patience=QUICK) as remote:
        assert isinstance(remote, Warmable)
        await remote.warm_up()


@pytest.mark.parametrize("foreign_urls", [False, True])
async def test_of_several_hosts_the_first_is_made_ready(
    start_server: StartServer, foreign_urls: bool
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(raw_answer("200 OK", b"{}"))
        return True

    first, second = await start_server(reply), await start_server(reply)
    hosts = [default_host(f"127.0.0.1:{server.port}") for server in (first, second)]
    async with open_registry(
        first.repository, hosts=hosts, patience=QUICK, foreign_urls=foreign_urls
    ) as remote:
        assert isinstance(remote, Warmable)
        await remote.warm_up()
    assert asked(first) == ["GET /v2/"]
    assert asked(second) == []
