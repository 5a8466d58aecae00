"""The general lane's connections: which one takes a request, and how few are looked at for that."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import httpcore
import trio
import trio.testing

from multi_fetch.registry import general_pool
from multi_fetch.registry.general_pool import assign_quickly
from multi_fetch.registry.stock import Stock
from tests.registry.conftest import raw_answer
from tests.registry.sockets import PATIENT_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from tests.registry.conftest import StartServer


def new_pool(most: int, stock: Stock | None = None) -> httpcore.AsyncConnectionPool:
    pool = httpcore.AsyncConnectionPool(max_connections=most)
    assign_quickly(pool, stock or Stock(most))
    return pool


async def reply(stream: trio.SocketStream, head: str) -> bool:
    await stream.send_all(raw_answer("200 OK", b"real"))
    return "/last" not in head


@asynccontextmanager
async def used_at_once(
    pool: httpcore.AsyncConnectionPool, url: str, count: int
) -> AsyncIterator[list[httpcore.Response]]:
    """So many answers are open, each on its own connection; at the end all of them are read."""
    request = httpcore.Request("GET", url, headers={"Host": "a"})
    answers = [await pool.handle_async_request(request) for _ in range(count)]
    yield answers
    for answer in answers:
        assert await answer.aread() == b"real"
        await answer.aclose()


async def hung_up(answers: list[httpcore.Response]) -> None:
    """Waits until our end knows that the server has closed the connections of these."""
    with trio.fail_after(PATIENT_SECONDS):
        for answer in answers:
            await trio.lowlevel.wait_readable(
                answer.extensions["network_stream"].get_extra_info("socket")
            )


async def test_an_idle_connection_is_used_again_before_a_new_one_is_opened(
    start_server: StartServer,
) -> None:
    server = await start_server(reply)
    async with new_pool(9) as pool:
        for _ in range(3):
            async with used_at_once(pool, f"http://127.0.0.1:{server.port}/", 2):
                pass
    assert server.connections == 2


async def test_an_idle_connection_to_elsewhere_makes_room(start_server: StartServer) -> None:
    servers = [await start_server(reply) for _ in range(2)]
    async with new_pool(1) as pool:
        for server in servers * 2:
            with trio.fail_after(PATIENT_SECONDS):
                await pool.request("GET", f"http://127.0.0.1:{server.port}/")
            assert len(pool.connections) == 1
    assert [server.connections for server in servers] == [2, 2]


async def test_who_finds_none_free_waits_until_one_is_given_back(start_server: StartServer) -> None:
    server = await start_server(reply)
    url = f"http://127.0.0.1:{server.port}/"
    done = trio.Event()

    async def ask_too() -> None:
        assert (await pool.request("GET", url)).content == b"real"
        done.set()

    async with new_pool(2) as pool, trio.open_nursery() as nursery:
        async with used_at_once(pool, url, 2):
            nursery.start_soon(ask_too)
            await trio.testing.wait_all_tasks_blocked()
            assert not done.is_set()
            assert len(server.heads) == 2
        with trio.fail_after(PATIENT_SECONDS):
            await done.wait()
    assert server.connections == 2


async def test_one_that_the_server_has_closed_is_not_used(start_server: StartServer) -> None:
    server = await start_server(reply)
    url = f"http://127.0.0.1:{server.port}/last"
    async with new_pool(9) as pool:
        async with used_at_once(pool, url, 3) as answers:
            pass
        await hung_up(answers)
        assert (await pool.request("GET", url)).content == b"real"
        assert len(pool.connections) == 1
    assert server.connections == 4


async def test_those_that_the_server_has_closed_go_also_if_no_request_would_take_them(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing, staying = [await start_server(reply) for _ in range(2)]
    monkeypatch.setattr(general_pool, "SWEEP_SECONDS", PATIENT_SECONDS)
    async with new_pool(9) as pool:
        async with used_at_once(pool, f"http://127.0.0.1:{closing.port}/last", 3) as answers:
            pass
        await hung_up(answers)
        later = time.monotonic() + PATIENT_SECONDS
        monkeypatch.setattr(time, "monotonic", lambda: later)
        await pool.request("GET", f"http://127.0.0.1:{staying.port}/")
        assert len(pool.connections) == 1


async def test_a_request_looks_at_one_idle_socket_however_many_there_are(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server(reply)
    url = f"http://127.0.0.1:{server.port}/"
    looked: list[object] = []
    look = httpcore.AsyncHTTPConnection.has_expired

    def has_expired(connection: httpcore.AsyncHTTPConnection) -> bool:
        looked.append(connection)
        return look(connection)

    monkeypatch.setattr(general_pool, "SWEEP_SECONDS", PATIENT_SECONDS)
    async with new_pool(20) as pool:
        async with used_at_once(pool, url, 20):
            pass
        monkeypatch.setattr(httpcore.AsyncHTTPConnection, "has_expired", has_expired)
        await pool.request("GET", url)
    assert len(looked) == 1


async def test_pools_of_several_hosts_keep_no_more_idle_together_than_one_may(
    start_server: StartServer,
) -> None:
    server = await start_server(reply)
    url = f"http://127.0.0.1:{server.port}/"
    stock = Stock(jobs=64)
    async with AsyncExitStack() as stack:
        for _ in range(3):
            pool = await stack.enter_async_context(new_pool(64, stock))
            async with used_at_once(pool, url, 40):
                pass
            assert len(pool.connections) == 40
        assert sum(len(pool.connections) for pool in stock.pools) == stock.room == 64


async def test_where_all_are_busy_another_pool_waits_for_none_of_them(
    start_server: StartServer,
) -> None:
    server = await start_server(reply)
    url = f"http://127.0.0.1:{server.port}/"
    stock = Stock(jobs=1)
    one, other = new_pool(9, stock), new_pool(9, stock)
    async with one, other, used_at_once(one, url, stock.room + 1):
        with trio.fail_after(PATIENT_SECONDS):
            assert (await other.request("GET", url)).content == b"real"
