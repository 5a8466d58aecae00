"""Which connection of the general lane's takes a request, found without looking at all of them.

httpcore 1.0 asks twice a request for the state of each idle connection's socket, and of all other
connections, to count them. With 16 of them that is a third of the lane's time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import httpcore

    from multi_fetch.registry.stock import Stock

# Between two looks for idle connections that have ended. One is also looked at when it is taken.
SWEEP_SECONDS: Final = 1.0


def assign_quickly(pool: httpcore.AsyncConnectionPool, stock: Stock) -> None:
    """Has a pool of httpcore's, which has no other way to be told, use an ``Assignment``."""
    pool._assign_requests_to_connections = Assignment(pool, stock)  # type: ignore[method-assign] # noqa: SLF001
    stock.pools.append(pool)
    close = pool._close_connections  # noqa: SLF001

    async def close_those(closing: list[httpcore.AsyncConnectionInterface]) -> None:
        if closing:  # else a scope against cancellation is opened, three times a request
            await close(closing)

    pool._close_connections = close_those  # type: ignore[method-assign] # noqa: SLF001


class Assignment:
    """Gives a pool's waiting requests their connections; idle ones stay until they are in the way.

    Args:
        pool: of httpcore's, whose own way to do so this takes the place of.
        stock: where this pool and those of other hosts are counted together.
    """

    def __init__(self, pool: httpcore.AsyncConnectionPool, stock: Stock) -> None:
        self._pool = pool
        self._stock = stock
        self._sweep_at = 0.0

    def __call__(self) -> list[httpcore.AsyncConnectionInterface]:
        """Assigns what can be assigned; returns the connections that the pool is to close."""
        pool = self._pool
        connections = pool._connections  # noqa: SLF001 - httpcore has no other way to see them
        closing = self._swept(connections)
        queued = [each for each in pool._requests if each.is_queued()]  # noqa: SLF001
        if not queued:
            _remove_closed(connections)
        for request in queued:
            origin = request.request.url.origin
            connection = _idle_one(connections, origin, closing)
            if connection is None:
                _remove_closed(connections)
                if len(connections) >= pool._max_connections:  # noqa: SLF001
                    other = next((each for each in connections if each.is_idle()), None)
                    if other is None:
                        break
                    connections.remove(other)
                    closing.append(other)
                else:
                    closing.extend(self._in_the_way())
                connection = pool.create_connection(origin)
                connections.append(connection)
            request.assign_to_connection(connection)
        return closing

    def _in_the_way(self) -> list[httpcore.AsyncConnectionInterface]:
        """Takes out an idle one of any pool's where all pools together have enough."""
        pools = [pool._connections for pool in self._stock.pools]  # noqa: SLF001
        if sum(map(len, pools)) >= self._stock.room:
            for connections in pools:
                other = next((each for each in connections if each.is_idle()), None)
                if other is not None:
                    connections.remove(other)
                    return [other]
        return []

    def _swept(
        self, connections: list[httpcore.AsyncConnectionInterface]
    ) -> list[httpcore.AsyncConnectionInterface]:
        """Takes out those that have ended, once in a while."""
        now = time.monotonic()
        if now < self._sweep_at:
            return []
        self._sweep_at = now + SWEEP_SECONDS
        ended = [each for each in connections if each.has_expired()]
        for each in ended:
            connections.remove(each)
        return ended


def _remove_closed(connections: list[httpcore.AsyncConnectionInterface]) -> None:
    for closed in [each for each in connections if each.is_closed()]:
        connections.remove(closed)


def _idle_one(
    connections: list[httpcore.AsyncConnectionInterface],
    origin: httpcore.Origin,
    closing: list[httpcore.AsyncConnectionInterface],
) -> httpcore.AsyncConnectionInterface | None:
    """The first that can be used; those before it that have ended go where they are closed."""
    while True:
        found = next(
            (
                each
                for each in connections
                if each.is_available() and each.can_handle_request(origin)
            ),
            None,
        )
        if found is None or not found.has_expired():
            return found
        connections.remove(found)
        closing.append(found)
