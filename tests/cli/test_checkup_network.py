"""From a name to TLS, on real sockets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from multi_fetch.cli.checkup import Checkup, Finding
from multi_fetch.cli.checkup_network import check_network
from multi_fetch.registry.hosts import Host
from multi_fetch.registry.proxies import NO_PROXIES, Proxies
from multi_fetch.registry.tls import Tls
from tests.fakes.proxy import running_proxy
from tests.registry.tls_server import NAME, Authority, tls_server

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    import trio


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def root(authority: Authority, tmp_path: Path) -> str:
    return authority.root_in(tmp_path)


async def silence(stream: trio.SSLStream[trio.SocketStream], head: bytes) -> bool:
    return True


async def looked_at(context: ssl.SSLContext, tls: Tls, name: str = NAME) -> tuple[bool, Finding]:
    """Whether HTTP may be tried, and the last finding."""
    found: list[Finding] = []
    async with tls_server(context, silence) as server:
        host = Host("https", f"{name}:{server.port}", tls=tls)
        is_open = await check_network(Checkup(found.append, host.url), host, NO_PROXIES)
    return is_open, found[-1]


async def test_a_certificate_is_told_with_its_issuer_time_and_trust(
    authority: Authority, root: str
) -> None:
    until = datetime.now(UTC) + timedelta(days=100)
    context = authority.certified(NAME, not_after=until)
    is_open, told = await looked_at(context, Tls(ca_files=(root,)))
    assert (is_open, told.step, told.verdict) == (True, "tls", "ok")
    assert told.said.startswith("TLSv1.")
    for part in ("issued by trustme", f"good until {until:%Y-%m-%d} (99 days)", root):
        assert part in told.said


async def test_one_that_ends_soon_is_a_warning(authority: Authority, root: str) -> None:
    context = authority.certified(NAME, not_after=datetime.now(UTC) + timedelta(days=5))
    is_open, told = await looked_at(context, Tls(ca_files=(root,)))
    assert (is_open, told.verdict) == (True, "warn")
    assert "renew" in told.advice


async def test_one_that_nobody_looks_at_is_a_warning(authority: Authority) -> None:
    is_open, told = await looked_at(authority.certified(NAME), Tls(is_verified=False))
    assert (is_open, told.verdict) == (True, "warn")
    assert "--insecure" in told.advice


@pytest.mark.parametrize(
    ("names", "days", "is_trusted", "part"),
    [
        ([NAME], 5, False, "--ca-file"),
        ([NAME], -1, True, "renew"),
        (["other.example"], 5, True, "the name that the certificate is for"),
    ],
)
async def test_one_that_is_no_good_says_why(
    authority: Authority, root: str, names: list[str], days: int, part: str, is_trusted: bool
) -> None:
    context = authority.certified(*names, not_after=datetime.now(UTC) + timedelta(days=days))
    is_open, told = await looked_at(context, Tls(ca_files=(root,) if is_trusted else ()))
    assert (is_open, told.step, told.code) == (False, "tls", "unavailable")
    assert part in told.advice


async def test_behind_a_proxy_it_is_the_proxy_that_is_looked_at() -> None:
    found: list[Finding] = []
    async with running_proxy({}) as proxy:
        host = Host("https", "registry.example")
        proxies = Proxies(https=f"http://user:secret@127.0.0.1:{proxy.port}")
        assert await check_network(Checkup(found.append), host, proxies)
    assert [each.step for each in found] == ["proxy", "addresses", "connection"]
    assert found[0].said == f"http://127.0.0.1:{proxy.port} for https://registry.example"
    assert proxy.heads == []


async def test_a_proxy_whose_name_cannot_be_is_a_finding() -> None:
    found: list[Finding] = []
    host, proxies = Host("https", "registry.example"), Proxies(all="http://me:s3cret@xn--0:1")
    assert not await check_network(Checkup(found.append), host, proxies)
    assert (found[0].step, found[0].code) == ("proxy", "invalid-request")
    assert "s3cret" not in repr(found)


async def test_a_hosts_own_proxy_comes_first() -> None:
    found: list[Finding] = []
    async with running_proxy({}) as proxy:
        host = Host("http", "127.0.0.1:1", proxy=f"http://127.0.0.1:{proxy.port}")
        assert await check_network(Checkup(found.append), host, NO_PROXIES)
    assert str(proxy.port) in found[0].said


async def test_a_name_that_cannot_be_is_no_crash() -> None:
    found: list[Finding] = []
    host = Host("https", f"{'a' * 64}.example")
    assert not await check_network(Checkup(found.append), host, NO_PROXIES)
    assert found[-1].verdict == "fail"
