"""Where names lead: a public registry's redirects, realms and foreign URLs never lead inside.

The registry is asked through a proxy, which makes it a public one: its address is not known. What
it names is asked directly, and looked up as each test says.
"""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from multi_fetch.errors import MultiFetchError, NotFoundError, RegistryError
from multi_fetch.oci.reference import Reference
from multi_fetch.registry import open_registry
from multi_fetch.registry.answer import Asked
from multi_fetch.registry.hosts import Host
from multi_fetch.registry.place import refuse_inside
from multi_fetch.registry.proxies import NO_PROXIES, Proxies
from multi_fetch.registry.tls import DEFAULT_TLS, Tls
from multi_fetch.registry.url import parse_url
from multi_fetch.remotes import Foreign
from tests.fakes.consumer import BLOB, BLOB_AS_BLOB, BLOB_DIGEST, QUICK
from tests.fakes.proxy import running_proxy
from tests.registry.conftest import RawServer, StartServer, raw_answer
from tests.registry.tls_server import Authority, tls_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from multi_fetch.remotes import Remote

pytestmark = pytest.mark.usefixtures("lane")

PUBLIC = "registry.example"
INTERNAL = "internal.example"


class Names(trio.abc.HostnameResolver):
    """Looks up what a test says, in the place of DNS."""

    def __init__(self, **addresses: str) -> None:
        self.addresses = {name.replace("_", "."): address for name, address in addresses.items()}

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - the same
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        text = (host or b"").decode()
        text = self.addresses.get(text, text)
        return socket.getaddrinfo(text, port, family, type, proto, flags | socket.AI_NUMERICHOST)

    async def getnameinfo(self, sockaddr: tuple[Any, ...], flags: int) -> tuple[str, str]:
        raise NotImplementedError


@pytest.fixture
async def names() -> AsyncIterator[Names]:
    resolver = Names(internal_example="127.0.0.1")
    trio.socket.set_custom_hostname_resolver(resolver)
    yield resolver
    trio.socket.set_custom_hostname_resolver(None)


async def leading_to(start_server: StartServer, head: bytes) -> RawServer:
    """A registry with one answer, but for what has a token."""

    async def reply(stream: trio.SocketStream, asked: str) -> bool:
        await stream.send_all(raw_answer("200 OK", BLOB) if "Bearer" in asked else head)
        return True

    return await start_server(reply)


async def inner(start_server: StartServer) -> RawServer:
    """What has something to hide, or to give."""

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        body = b'{"token": "t0ken"}' if "/token" in head.partition("\r\n")[0] else BLOB
        await stream.send_all(raw_answer("200 OK", body))
        return True

    return await start_server(reply)


@asynccontextmanager
async def behind_proxy(
    registry: RawServer, *, tls: Tls = DEFAULT_TLS, **more: Any
) -> AsyncIterator[Remote]:
    """The registry as a public one."""
    async with running_proxy({f"{PUBLIC}:80": registry.port, f"{PUBLIC}:443": registry.port}) as it:
        proxies = Proxies(all=f"http://127.0.0.1:{it.port}", no_proxy=INTERNAL)
        ref = Reference(f"{PUBLIC}/a")
        async with open_registry(
            ref, hosts=[Host("http", PUBLIC, tls=tls)], proxies=proxies, patience=QUICK, **more
        ) as remote:
            yield remote


async def content(remote: Remote, locator: str = f"{PUBLIC}/a") -> bytes:
    ref = Reference(locator, f"@{BLOB_DIGEST}")
    async with remote.open(ref, media_types=BLOB_AS_BLOB.media_types) as opened:
        return b"".join([bytes(chunk) async for chunk in opened.chunks])


# --- from outside ---------------------------------------------------------------------------


async def test_a_redirect_to_a_name_of_an_inner_address_is_not_followed(
    start_server: StartServer, names: Names
) -> None:
    inside = await inner(start_server)
    location = f"http://{INTERNAL}:{inside.port}/secret"
    registry = await leading_to(start_server, raw_answer("307 There", Location=location))
    async with behind_proxy(registry) as remote:
        with pytest.raises(RegistryError, match=r"stands for 127\.0\.0\.1, in a private network"):
            await content(remote)
    assert inside.heads == []


@pytest.mark.parametrize("login", [{}, {"username": "me", "password": "s3cret"}])
async def test_a_realm_of_an_inner_address_is_told_nothing(
    start_server: StartServer, names: Names, login: dict[str, Any]
) -> None:
    inside = await inner(start_server)
    realm = f'Bearer realm="http://{INTERNAL}:{inside.port}/token"'
    registry = await leading_to(start_server, raw_answer("401 Who", WWW_Authenticate=realm))
    async with behind_proxy(registry, **login) as remote:
        with pytest.raises(RegistryError, match="in a private network"):
            await content(remote)
    assert inside.heads == []


async def test_an_identity_token_is_not_posted_there(
    start_server: StartServer, names: Names, tmp_path: Path
) -> None:
    """A form goes over the general lane, whatever the test's is."""
    from multi_fetch.registry.credentials import Keychain

    file = tmp_path / "config.json"
    file.write_text('{"auths": {"registry.example": {"identitytoken": "s3cret"}}}')
    inside = await inner(start_server)
    realm = f'Bearer realm="http://{INTERNAL}:{inside.port}/token"'
    registry = await leading_to(start_server, raw_answer("401 Who", WWW_Authenticate=realm))
    async with behind_proxy(registry, keychain=Keychain.load([file])) as remote:
        with pytest.raises(RegistryError, match="in a private network"):
            await content(remote)
    assert inside.heads == []


async def test_an_idle_connection_to_an_inner_address_is_judged_too(
    start_server: StartServer, names: Names
) -> None:
    """One origin names another through a public place, after it had been asked directly."""
    inside = await inner(start_server)
    location = f"http://{INTERNAL}:{inside.port}/secret"
    registry = await leading_to(start_server, raw_answer("307 There", Location=location))
    names.addresses["mirror.example"] = "127.0.0.1"
    async with running_proxy({f"{PUBLIC}:80": registry.port}) as proxy:
        proxies = Proxies(all=f"http://127.0.0.1:{proxy.port}", no_proxy=INTERNAL)
        host = Host("http", f"{INTERNAL}:{inside.port}")
        ref = Reference(f"{INTERNAL}:{inside.port}/a")
        async with open_registry(ref, hosts=[host], proxies=proxies, patience=QUICK) as remote:
            assert await content(remote, ref.locator) == BLOB
            exchange = remote._session._exchange  # type: ignore[attr-defined]
            asked = len(inside.heads)
            with pytest.raises(RegistryError, match="in a private network"):
                await exchange.follow("GET", parse_url(f"http://{PUBLIC}/x"), {}, "")
    assert len(inside.heads) == asked


async def test_a_foreign_url_with_an_inner_address_is_not_asked(
    start_server: StartServer, names: Names, tmp_path: Path
) -> None:
    authority, file = Authority(), tmp_path / "ca.pem"
    authority.ca.cert_pem.write_to_path(str(file))
    registry = await leading_to(start_server, raw_answer("404 No"))
    tls = Tls(ca_files=(str(file),))

    async def reply(stream: trio.SSLStream[trio.SocketStream], head: bytes) -> bool:
        await stream.send_all(raw_answer("200 OK", BLOB))
        return True

    async with tls_server(authority.certified(INTERNAL), reply) as inside:
        url = f"https://{INTERNAL}:{inside.port}/layer"
        async with behind_proxy(registry, tls=tls, foreign_urls=True) as remote:
            with pytest.raises(NotFoundError):
                await content(remote)
            with pytest.raises(RegistryError, match="in a private network"):
                await from_elsewhere(remote, f"{PUBLIC}/a", url)
        assert inside.heads == []


async def from_elsewhere(remote: Remote, locator: str, url: str) -> bytes:
    assert isinstance(remote, Foreign)
    ref = Reference(locator, f"@{BLOB_DIGEST}")
    async with remote.open_foreign(ref, [url], size=len(BLOB)) as opened:
        return b"".join([bytes(chunk) async for chunk in opened.chunks])


# --- from inside ----------------------------------------------------------------------------


async def test_a_registry_that_is_reached_inside_may_name_others_there(
    start_server: StartServer, names: Names
) -> None:
    """A company's names have other addresses within than without (split horizon)."""
    inside = await inner(start_server)
    names.addresses["registry.example"] = "127.0.0.1"
    place = f"http://{INTERNAL}:{inside.port}"
    for head in (
        raw_answer("307 There", Location=f"{place}/x"),
        raw_answer("401 Who", WWW_Authenticate=f'Bearer realm="{place}/token"'),
    ):
        registry = await leading_to(start_server, head)
        ref = Reference(f"{PUBLIC}:{registry.port}/a")
        hosts = [Host("http", ref.hostname)]
        async with open_registry(ref, hosts=hosts, proxies=NO_PROXIES, patience=QUICK) as remote:
            assert await content(remote, ref.locator) == BLOB
    assert len(inside.heads) == 2


async def test_so_may_the_manifests_of_such_a_registry(
    start_server: StartServer, names: Names, tmp_path: Path
) -> None:
    authority, file = Authority(), tmp_path / "ca.pem"
    authority.ca.cert_pem.write_to_path(str(file))
    registry = await leading_to(start_server, raw_answer("404 No"))
    names.addresses["registry.example"] = "127.0.0.1"
    ref = Reference(f"{PUBLIC}:{registry.port}/a")
    hosts = [Host("http", ref.hostname, tls=Tls(ca_files=(str(file),)))]

    async def reply(stream: trio.SSLStream[trio.SocketStream], head: bytes) -> bool:
        await stream.send_all(raw_answer("200 OK", BLOB))
        return True

    async with (
        tls_server(authority.certified(INTERNAL), reply) as inside,
        open_registry(ref, hosts=hosts, patience=QUICK, foreign_urls=True) as remote,
    ):
        with pytest.raises(MultiFetchError):
            await content(remote, ref.locator)
        url = f"https://{INTERNAL}:{inside.port}/layer"
        assert await from_elsewhere(remote, ref.locator, url) == BLOB


async def test_the_registrys_own_origin_may_be_anywhere(
    start_server: StartServer, names: Names
) -> None:
    """The user has named it, whoever leads back to it."""

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        first = head.partition("\r\n")[0]
        answer = raw_answer("200 OK", BLOB)
        if "/token" in first:
            answer = raw_answer("200 OK", b'{"token": "t0ken"}')
        elif "Bearer" not in head:
            realm = f'Bearer realm="http://{INTERNAL}:{server.port}/token"'
            answer = raw_answer("401 Who", WWW_Authenticate=realm)
        elif "/moved" not in first:
            answer = raw_answer("307 There", Location="/moved")
        await stream.send_all(answer)
        return True

    server = await start_server(reply)
    ref = Reference(f"{INTERNAL}:{server.port}/a")
    hosts = [Host("http", ref.hostname)]
    async with open_registry(ref, hosts=hosts, patience=QUICK) as remote:
        assert await content(remote, ref.locator) == BLOB


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", ""])
def test_an_address_outside_is_no_matter(address: str) -> None:
    refuse_inside(address, Asked("GET", parse_url("https://files.example/a")))
