"""Lanes that share a stock have its bounds together, and each its own connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from multi_fetch.limits import HANDSHAKE_MEMORY, MAX_JOBS
from multi_fetch.registry.fast_lane import FastLane
from multi_fetch.registry.stock import Stock
from multi_fetch.registry.tls import new_context
from tests.registry.sockets import PATIENT_SECONDS
from tests.registry.test_fast_lane import answer_once, at, fetch

if TYPE_CHECKING:
    from tests.registry.conftest import StartServer


def a_lane(stock: Stock) -> FastLane:
    return FastLane(lambda _: new_context(), jobs=9, stall_seconds=PATIENT_SECONDS, stock=stock)


async def test_idle_connections_of_all_lanes_are_bounded_together(
    start_server: StartServer,
) -> None:
    server = await start_server(answer_once)
    stock = Stock(jobs=2)
    lanes = [a_lane(stock) for _ in range(7)]
    for lane in lanes:
        await fetch(lane, at(server))
    assert stock.count == stock.room == 4
    for lane in lanes[-4:]:
        await fetch(lane, at(server))
    assert server.connections == len(lanes)
    for lane in lanes:
        lane.close()
    assert stock.count == 0


@pytest.mark.parametrize("jobs", [1, 16, 32, 64, 128, MAX_JOBS])
def test_what_connections_may_keep_of_certificates_is_bounded_for_all_of_them(jobs: int) -> None:
    stock = Stock(jobs=jobs)
    assert stock.most_handshake * (jobs + stock.room) <= 2 * HANDSHAKE_MEMORY
    assert stock.most_handshake >= 12 * 1024  # of honest registries


async def test_a_lane_never_gets_the_connection_of_another(start_server: StartServer) -> None:
    """Another may trust other certificates."""
    server = await start_server(answer_once)
    stock = Stock(jobs=2)
    one, other = a_lane(stock), a_lane(stock)
    await fetch(one, at(server))
    assert other.take_idle(at(server).origin) is None
    await fetch(other, at(server))
    assert server.connections == 2
    other.close()
    assert stock.count == 1
    await fetch(one, at(server))
    assert server.connections == 2
    one.close()


async def test_lanes_use_each_others_buffers_again(start_server: StartServer) -> None:
    server = await start_server(answer_once)
    stock = Stock(jobs=2)
    one, other = a_lane(stock), a_lane(stock)
    await fetch(one, at(server))
    buffer = stock.buffers.own()
    stock.buffers.take_own_back(buffer)
    await fetch(other, at(server))
    assert stock.buffers.own() is buffer
    for lane in (one, other):
        lane.close()
