"""Connections that are idle, and the buffers of those in use: of one lane, or of several together.

With the remote ``-`` each host has a lane. Bounds for each of them would add up: to more open files
than a process may have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import trio

from multi_fetch.durations import KEEPALIVE_SECONDS
from multi_fetch.limits import TWOFOLD_IDLE_CONNECTIONS
from multi_fetch.registry.buffers import Buffers, most_handshake_for, own_bytes_for

if TYPE_CHECKING:
    import httpcore

    from multi_fetch.registry.connection import Connection
    from multi_fetch.registry.url import Origin

    # A lane has certificates of its own, so its connections are for no other.
    Owner: TypeAlias = object
    Key: TypeAlias = tuple[Owner, Origin]


class Stock:
    """What lanes share.

    Args:
        jobs: how many connections are in use at the same time.

    Attributes:
        buffers: for connections that are in use.
        count: of idle connections, for all origins together.
        room: for them.
        most_handshake: how many bytes a handshake may have.
        pools: of general lanes, whose connections have the same room together.
    """

    def __init__(self, jobs: int) -> None:
        self.buffers = Buffers(own_bytes=own_bytes_for(jobs))
        self.count = 0
        # A registry sends on to a store, and each job goes from one to the other and back.
        self.room = max(jobs, min(2 * jobs, TWOFOLD_IDLE_CONNECTIONS))
        self.most_handshake = most_handshake_for(jobs)
        self.pools: list[httpcore.AsyncConnectionPool] = []
        self._idle: dict[Key, list[tuple[float, Connection]]] = {}

    def put(self, owner: Owner, origin: Origin, connection: Connection) -> None:
        """Keeps a connection until it is asked for, or is the oldest and in the way."""
        if self.count >= self.room:
            self._close_oldest()
        connection.rest()
        self.count += 1
        self._idle.setdefault((owner, origin), []).append((trio.current_time(), connection))

    def take(self, owner: Owner, origin: Origin) -> Connection | None:
        """The connection to an origin that was used last, if there is an idle one."""
        stack = self._idle.get((owner, origin))
        while stack:
            since, connection = stack.pop()
            self.count -= 1
            if trio.current_time() - since < KEEPALIVE_SECONDS and connection.is_quiet():
                return connection
            connection.close()
        return None

    def close(self, owner: Owner) -> None:
        """Closes what is idle of one lane's."""
        for key in [key for key in self._idle if key[0] is owner]:
            for _, connection in self._idle.pop(key):
                connection.close()
                self.count -= 1

    def _close_oldest(self) -> None:
        """So that those of an origin that is asked no more are not in the way for ever."""
        # Nor are the origins: a registry that redirects has a store of any name.
        self._idle = {key: stack for key, stack in self._idle.items() if stack}
        stack = min(self._idle.values(), key=lambda stack: stack[0][0])
        _, connection = stack.pop(0)
        connection.close()
        self.count -= 1
