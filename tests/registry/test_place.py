"""Where names lead: a public registry's redirects, realms and foreign URLs never lead inside.

The registry is asked through a proxy, which makes it a public one: its address is not known. What
it names is asked directly, and looked up as each test says.
"""

from __future__ import annotations

import re
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from multi_fetch.errors import MultiFetchError, NotFoundError, RegistryError
from multi_fetch.limits import LEAST_SPLIT_BYTES
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.reference import Reference
from multi_fetch.registry import open_registry
from multi_fetch.registry.answer import Asked
from multi_fetch.registry.hosts import Host, PrivateHost
from multi_fetch.registry.place import refuse_inside
from multi_fetch.registry.proxies import NO_PROXIES, Proxies
from multi_fetch.registry.tls import DEFAULT_TLS, Tls
from multi_fetch.registry.url import parse_url
from multi_fetch.remotes import Foreign
from tests.fakes.consumer import BLOB, BLOB_AS_BLOB, BLOB_DIGEST, QUICK
from tests.fakes.proxy import running_proxy
from tests.registry.conftest import RawServer, StartServer, raw_answer
from tests.registry.tls_server import Authority, answering, tls_server

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
    registry: RawServer, *allowed: PrivateHost, tls: Tls = DEFAULT_TLS, **more: Any
) -> AsyncIterator[Remote]:
    """The registry as a public one, which may name these inside."""
    async with running_proxy({f"{PUBLIC}:80": registry.port, f"{PUBLIC}:443": registry.port}) as it:
        proxies = Proxies(all=f"http://127.0.0.1:{it.port}", no_proxy=INTERNAL)
        ref = Reference(f"{PUBLIC}/a")
        async with open_registry(
            ref,
            hosts=[Host("http", PUBLIC, tls=tls, may_name=allowed)],
            proxies=proxies,
            patience=QUICK,
            **more,
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
    authority = Authority()
    registry = await leading_to(start_server, raw_answer("404 No"))
    tls = Tls(ca_files=(authority.root_in(tmp_path),))

    async with tls_server(authority.certified(INTERNAL), answering(BLOB)) as inside:
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


# --- from outside, where the user allows it -------------------------------------------------


@pytest.mark.parametrize("is_literal", [False, True])
async def test_a_store_that_is_allowed_is_asked_without_any_credentials(
    start_server: StartServer, names: Names, is_literal: bool
) -> None:
    inside = await inner(start_server)
    name = "127.0.0.1" if is_literal else INTERNAL
    location = f"http://{name}:{inside.port}/x"

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        answer = raw_answer("307 There", Location=location)
        if "authorization" not in head.lower():
            answer = raw_answer("401 Who", WWW_Authenticate="Basic realm=x")
        await stream.send_all(answer)
        return True

    registry = await start_server(reply)
    login: dict[str, Any] = {"username": "me", "password": "s3cret"}
    for allowed in (PrivateHost(name), PrivateHost(name, inside.port)):
        async with behind_proxy(registry, allowed, **login) as remote:
            assert await content(remote) == BLOB
    assert len(inside.heads) == 2
    assert "authorization" not in "".join(inside.heads).lower()


@pytest.mark.parametrize("is_literal", [False, True])
async def test_the_refusal_names_what_would_allow_it_and_nothing_else_does(
    start_server: StartServer, names: Names, is_literal: bool
) -> None:
    inside = await inner(start_server)
    name = "127.0.0.1" if is_literal else INTERNAL
    location = f"http://{name}:{inside.port}/x"
    registry = await leading_to(start_server, raw_answer("307 There", Location=location))
    others = PrivateHost(name, 1), PrivateHost(f"x.{name}"), PrivateHost("example")
    async with behind_proxy(registry, *others) as remote:
        with pytest.raises(RegistryError) as caught:
            await content(remote)
    assert f"; if it is meant to be there, add --allow-private {name}:{inside.port}" in str(
        caught.value
    )
    assert str(caught.value).endswith(caught.value.advice)
    assert inside.heads == []


async def test_a_realm_that_is_allowed_gets_what_any_gets(
    start_server: StartServer, names: Names
) -> None:
    inside = await inner(start_server)
    realm = f'Bearer realm="http://{INTERNAL}:{inside.port}/token"'
    registry = await leading_to(start_server, raw_answer("401 Who", WWW_Authenticate=realm))
    login: dict[str, Any] = {"username": "me", "password": "s3cret"}
    async with behind_proxy(registry, PrivateHost(INTERNAL), **login) as remote:
        assert await content(remote) == BLOB
    (head,) = inside.heads
    assert "authorization: basic" in head.lower()


async def test_who_is_allowed_names_nobody_else_inside(
    start_server: StartServer, names: Names
) -> None:
    names.addresses["other.internal.example"] = "127.0.0.1"
    hidden = await inner(start_server)
    onward = f"http://other.{INTERNAL}:{hidden.port}/x"
    store = await leading_to(start_server, raw_answer("307 There", Location=onward))
    location = f"http://{INTERNAL}:{store.port}/x"
    registry = await leading_to(start_server, raw_answer("307 There", Location=location))
    async with behind_proxy(registry, PrivateHost(INTERNAL)) as remote:
        with pytest.raises(RegistryError, match=f"--allow-private other.{INTERNAL}:{hidden.port}"):
            await content(remote)
    assert (len(store.heads), hidden.heads) == (1, [])
    both = PrivateHost(INTERNAL), PrivateHost(f"other.{INTERNAL}")
    async with behind_proxy(registry, *both) as remote:
        assert await content(remote) == BLOB


@pytest.mark.parametrize("is_literal", [False, True])
async def test_a_foreign_url_that_is_allowed_is_asked(
    start_server: StartServer, names: Names, tmp_path: Path, is_literal: bool
) -> None:
    name = "127.0.0.1" if is_literal else INTERNAL
    authority = Authority()
    registry = await leading_to(start_server, raw_answer("404 No"))
    tls = Tls(ca_files=(authority.root_in(tmp_path),))

    async with tls_server(authority.certified(name), answering(BLOB)) as inside:
        url = f"https://{name}:{inside.port}/layer"
        for allowed in ((), (PrivateHost(name, inside.port),)):
            more: dict[str, Any] = {"tls": tls, "foreign_urls": True}
            async with behind_proxy(registry, *allowed, **more) as remote:
                with pytest.raises(NotFoundError):
                    await content(remote)
                if allowed:
                    assert await from_elsewhere(remote, f"{PUBLIC}/a", url) == BLOB
                else:
                    with pytest.raises(RegistryError, match=f"--allow-private {name}"):
                        await from_elsewhere(remote, f"{PUBLIC}/a", url)


async def test_a_large_blob_of_a_store_that_is_allowed_comes_over_several_connections(
    start_server: StartServer, names: Names
) -> None:
    """What the store is asked for again, by Range, may lead nowhere else either."""
    large = bytes(range(256)) * (LEAST_SPLIT_BYTES // 256 + 1)
    hidden = await inner(start_server)
    asked_again = trio.Event()

    async def store_reply(stream: trio.SocketStream, head: str) -> bool:
        found = re.search(r"(?im)^range: bytes=([0-9]+)-([0-9]*)", head)
        if found is None:
            whole = raw_answer("200 OK", large, Accept_Ranges="bytes")
            await stream.send_all(whole[: len(large) // 4])
            await asked_again.wait()  # a quick stream would have ended before
            await stream.send_all(whole[len(large) // 4 :])
            return True
        asked_again.set()
        location = f"http://other.{INTERNAL}:{hidden.port}/x"
        await stream.send_all(raw_answer("307 There", Location=location))
        return True

    store = await start_server(store_reply)
    location = f"http://{INTERNAL}:{store.port}/x"
    registry = await leading_to(start_server, raw_answer("307 There", Location=location))
    names.addresses[f"other.{INTERNAL}"] = "127.0.0.1"
    ref = Reference(f"{PUBLIC}/a", f"@{digest_of(large)}")
    async with (
        behind_proxy(registry, PrivateHost(INTERNAL), ranges=2) as remote,
        remote.open(ref, media_types=BLOB_AS_BLOB.media_types) as opened,
    ):
        came = b"".join([bytes(chunk) async for chunk in opened.chunks])
    assert came == large
    assert any("range:" in head.lower() for head in store.heads)
    assert hidden.heads == []


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
    authority = Authority()
    registry = await leading_to(start_server, raw_answer("404 No"))
    names.addresses["registry.example"] = "127.0.0.1"
    ref = Reference(f"{PUBLIC}:{registry.port}/a")
    hosts = [Host("http", ref.hostname, tls=Tls(ca_files=(authority.root_in(tmp_path),)))]

    async with (
        tls_server(authority.certified(INTERNAL), answering(BLOB)) as inside,
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
