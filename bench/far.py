"""A long or narrow way to a server: ``python -m bench.far <address> --delay 0.04 --rate 10e6``.

A TCP proxy: what comes from the server is passed on later by the delay, and each connection no
faster than the rate. It prints its own address, and ends with its stdin. It is one bare loop over
epoll: what it costs for each answer is time in which the others wait, and would be measured too.
"""

from __future__ import annotations

import argparse
import heapq
import math
import select
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

RECEIVE_BYTES: Final = 64 * 1024
# On their way, for each connection.
MAX_CHUNKS: Final = 256


class Way:
    """One connection of a client, and the one to the server.

    Attributes:
        near: the client's.
        far: the server's.
        chunks: from the server, each with the time at which it is due.
        free_at: when a further chunk may begin to come.
        has_ended: whether the server has nothing more.
    """

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near = near
        self.far = far
        self.chunks: deque[tuple[float, memoryview]] = deque()
        self.free_at = 0.0
        self.has_ended = False
        for each in (near, far):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def is_full(self) -> bool:
        return len(self.chunks) >= MAX_CHUNKS


class Proxy:
    """The loop.

    Args:
        address: of the server.
        delay: in seconds, of what comes back.
        rate: bytes a second of each connection.
    """

    def __init__(self, address: str, delay: float, rate: float) -> None:
        host, _, port = address.rpartition(":")
        self._server = (host, int(port))
        self._delay = delay
        self._rate = rate
        self._epoll = select.epoll()
        self._ways: dict[int, Way] = {}
        self._due: list[tuple[float, int]] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)

    def run(self) -> None:
        """Until stdin ends."""
        host, port = self._listener.getsockname()
        print(f"{host}:{port}", flush=True)
        self._epoll.register(self._listener.fileno(), select.EPOLLIN)
        while True:
            # epoll itself knows milliseconds only
            rest = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            ready, _, _ = select.select([self._epoll.fileno(), sys.stdin], [], [], rest)
            if sys.stdin in ready and not sys.stdin.read(1):
                return
            for descriptor, events in self._epoll.poll(0) if ready else ():
                self._serve(descriptor, events)
            self._deliver_what_is_due()

    def _serve(self, descriptor: int, events: int) -> None:
        if descriptor == self._listener.fileno():
            with suppress(BlockingIOError):
                self._accept(self._listener.accept()[0])
            return
        way = self._ways.get(descriptor)
        if way is None:
            return
        try:
            if descriptor == way.far.fileno():
                self._take(way)
            else:
                if events & select.EPOLLOUT:
                    self._deliver(way)
                if events & ~select.EPOLLOUT:
                    self._ask(way)
        except OSError:
            self._close(way)

    def _accept(self, near: socket.socket) -> None:
        way = Way(near, socket.create_connection(self._server))
        for each in (way.near, way.far):
            self._ways[each.fileno()] = way
            self._epoll.register(each.fileno(), select.EPOLLIN)

    def _ask(self, way: Way) -> None:
        """Requests are short, and servers take them at once."""
        data = way.near.recv(RECEIVE_BYTES)
        if data:
            way.far.sendall(data)
        else:
            self._close(way)

    def _take(self, way: Way) -> None:
        data = way.far.recv(RECEIVE_BYTES)
        way.has_ended = not data
        way.free_at = max(way.free_at, time.monotonic()) + len(data) / self._rate
        due = way.free_at + self._delay
        way.chunks.append((due, memoryview(data)))
        heapq.heappush(self._due, (due, way.near.fileno()))
        if way.has_ended or way.is_full():
            self._epoll.modify(way.far.fileno(), 0)

    def _deliver_what_is_due(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            _, descriptor = heapq.heappop(self._due)
            way = self._ways.get(descriptor)
            if way is not None:
                try:
                    self._deliver(way)
                except OSError:
                    self._close(way)

    def _deliver(self, way: Way) -> None:
        """Passes on what is due, as far as the client takes it."""
        was_full, now = way.is_full(), time.monotonic()
        is_blocked = False
        while way.chunks and way.chunks[0][0] <= now and not is_blocked:
            due, chunk = way.chunks[0]
            if not chunk:
                self._close(way)
                return
            try:
                rest = chunk[way.near.send(chunk) :]
            except BlockingIOError:
                rest = chunk
            is_blocked = bool(rest)
            if is_blocked:
                way.chunks[0] = due, rest
            else:
                way.chunks.popleft()
        wanted = select.EPOLLIN | (select.EPOLLOUT if is_blocked else 0)
        self._epoll.modify(way.near.fileno(), wanted)
        if was_full and not way.is_full() and not way.has_ended:
            self._epoll.modify(way.far.fileno(), select.EPOLLIN)

    def _close(self, way: Way) -> None:
        for each in (way.near, way.far):
            self._ways.pop(each.fileno(), None)
            each.close()


@contextmanager
def far_away(address: str, *, delay: float = 0.0, rate: float = math.inf) -> Iterator[str]:
    """The proxy in a process of its own; its address."""
    command = [sys.executable, "-m", "bench.far", address, f"--delay={delay}", f"--rate={rate}"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bench.far", description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--rate", type=float, default=math.inf)
    options = parser.parse_args()
    Proxy(options.address, options.delay, options.rate).run()
