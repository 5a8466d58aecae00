"""Repositories of one registry share what belongs to the registry, and nothing else."""

from __future__ import annotations

import ssl
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from multi_fetch.errors import UnavailableError
from multi_fetch.oci.reference import Reference
from multi_fetch.registry import open_registry
from multi_fetch.registry.hosts import Host, default_host
from multi_fetch.registry.shared import Shared
from multi_fetch.registry.url import parse_url
from multi_fetch.remotes import DEFAULT_PATIENCE, Patience
from multi_fetch.testing.faults import Fault, answer_status, require_bearer
from multi_fetch.testing.registry import serve_layout
from tests.registry.conftest import ONCE, QUICK
from tests.registry.test_listing import Shop
from tests.registry.tls_server import Authority, tls_server

if TYPE_CHECKING:
    from pathlib import Path

    from multi_fetch.remotes import Remote


async def fetch(remote: Remote, ref: Reference) -> None:
    async with remote.open(ref) as opened:
        async for _ in opened.chunks:
            pass


async def test_repositories_of_a_registry_come_over_the_same_connections(tmp_path: Path) -> None:
    shop, shared = Shop(tmp_path), Shared()
    faults = [Fault(require_bearer("t0ken"))]
    async with (
        serve_layout(shop.layout, faults=faults) as registry,
        shared.exchanges,
        AsyncExitStack() as stack,
    ):
        for name in ("a", "b/c", "d"):
            ref = Reference(f"{registry.address}/{name}", "v0001")
            opening = open_registry(ref, patience=QUICK, shared=shared)
            await fetch(await stack.enter_async_context(opening), ref)
    assert registry.connections == 1
    # a token is for one repository
    assert [each.path for each in registry.requests].count("/token") == 3


async def test_a_busy_registry_is_spared_by_all_its_repositories(tmp_path: Path) -> None:
    shop, shared = Shop(tmp_path), Shared()
    busy = Fault(answer_status(429, headers={"Retry-After": "1"}), times=1)
    patience = Patience(retries=3, first_wait_seconds=0.001)
    async with (
        serve_layout(shop.layout, faults=[busy]) as registry,
        shared.exchanges,
        AsyncExitStack() as stack,
    ):
        refs = [Reference(f"{registry.address}/{name}", "v0001") for name in "ab"]
        openings = [open_registry(ref, patience=patience, shared=shared) for ref in refs]
        one, other = [await stack.enter_async_context(opening) for opening in openings]
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch, one, refs[0])
            while not registry.requests:
                await trio.testing.wait_all_tasks_blocked(0.01)
            await trio.testing.wait_all_tasks_blocked(0.05)
            await fetch(other, refs[1])
        assert trio.current_time() - started > 0.9


async def test_the_same_host_has_one_exchange_for_the_same_arguments() -> None:
    shared = Shared()
    host = default_host("registry.example")
    async with shared.exchanges:
        first = shared.open_exchange(host, jobs=4, patience=DEFAULT_PATIENCE)
        second = shared.open_exchange(host, jobs=4, patience=DEFAULT_PATIENCE)
        mirror = shared.open_exchange(host, jobs=4, patience=DEFAULT_PATIENCE, is_last=False)
        async with first as one, second as two, mirror as three:
            assert one is two
            assert one is not three


def test_the_bound_on_memory_is_one() -> None:
    shared = Shared()
    assert shared.ranges(4) is shared.ranges(4)
    assert shared.ranges(4) is not shared.ranges(2)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[ssl.SSLContext]:
    """The contexts for which the system's roots are read, which nobody's certificate has."""
    read: list[ssl.SSLContext] = []
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda each: read.append(each))  # noqa: PLW0108 - a built-in is no method
    return read


async def say_nothing(stream: trio.abc.Stream, head: object) -> bool:
    return False


async def test_the_systems_roots_are_read_once_for_all_registries(
    read: list[ssl.SSLContext],
) -> None:
    shared = Shared()
    context = Authority().certified("127.0.0.1")
    async with (
        tls_server(context, say_nothing) as one,
        tls_server(context, say_nothing) as other,
        shared.exchanges,
        AsyncExitStack() as stack,
    ):
        for server in (one, other):
            host = Host("https", f"127.0.0.1:{server.port}")
            opening = shared.open_exchange(host, jobs=1, patience=ONCE)
            exchange = await stack.enter_async_context(opening)
            with pytest.raises(UnavailableError, match=r"(?i)certificate verify failed"):
                await exchange.follow("GET", parse_url(f"{host.url}/v2/"), {}, "")
    assert len(read) == 1


async def test_they_are_read_once_for_a_registry_and_its_mirrors(
    read: list[ssl.SSLContext],
) -> None:
    context = Authority().certified("127.0.0.1")
    async with tls_server(context, say_nothing) as one, tls_server(context, say_nothing) as other:
        mirror = Host("https", f"127.0.0.1:{one.port}", namespace="registry.example")
        own = Host("https", f"127.0.0.1:{other.port}")
        ref = Reference("registry.example/a", "v0001")
        async with open_registry(ref, hosts=[mirror, own], patience=ONCE) as remote:
            with pytest.raises(UnavailableError, match=r"(?i)certificate verify failed"):
                await fetch(remote, ref)
    assert one.connections == other.connections == 1
    assert len(read) == 1
