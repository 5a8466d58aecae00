"""A long or narrow way to a server: ``python -m bench.far <address> --delay 0.04 --rate 10e6``.

A TCP proxy: what comes from the server is passed on later by the delay, and each connection no
faster than the rate. It prints its own address, and ends with its stdin.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

RECEIVE_BYTES: Final = 64 * 1024
# Chunks on their way, for each connection.
ON_THE_WAY: Final = 256


class Way:
    """The proxy.

    Args:
        address: of the server.
        delay: in seconds, of what comes back.
        rate: bytes a second of each connection.
    """

    def __init__(self, address: str, delay: float, rate: float) -> None:
        self._host, _, self._port = address.rpartition(":")
        self._delay = delay
        self._rate = rate

    async def serve(self, near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream(self._host, int(self._port))
        async with far, trio.open_nursery() as nursery:
            send, receive = trio.open_memory_channel[tuple[float, bytes]](ON_THE_WAY)
            nursery.start_soon(self._ask, near, far, nursery.cancel_scope)
            nursery.start_soon(self._take, far, send)
            nursery.start_soon(self._deliver, receive, near, nursery.cancel_scope)

    async def _ask(
        self, near: trio.SocketStream, far: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        try:
            async for data in near:
                await far.send_all(data)
        except trio.BrokenResourceError:
            pass
        scope.cancel()

    async def _take(
        self, far: trio.SocketStream, send: trio.MemorySendChannel[tuple[float, bytes]]
    ) -> None:
        free_at = 0.0
        async with send:
            while data := await far.receive_some(RECEIVE_BYTES):
                free_at = max(free_at, trio.current_time()) + len(data) / self._rate
                await send.send((free_at + self._delay, data))

    async def _deliver(
        self,
        receive: trio.MemoryReceiveChannel[tuple[float, bytes]],
        near: trio.SocketStream,
        scope: trio.CancelScope,
    ) -> None:
        try:
            async for due, data in receive:
                await trio.sleep_until(due)
                await near.send_all(data)
        except trio.BrokenResourceError:
            pass
        scope.cancel()


async def run(way: Way) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    host, port = listeners[0].socket.getsockname()
    print(f"{host}:{port}", flush=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, way.serve, listeners)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


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
    trio.run(run, Way(options.address, options.delay, options.rate))
