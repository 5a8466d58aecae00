"""A proxy on a real socket, with a log: CONNECT tunnels, and plain http is passed on.

It knows where names are, so that a test's registry may have a name out there.
"""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass
class Proxy:
    """What runs.

    Attributes:
        names: ``host:port`` -> a port on 127.0.0.1.
        port: its own, on 127.0.0.1.
        heads: of all requests to itself.
        status: with which it refuses everybody; 0 for not at all.
    """

    names: dict[str, int] = field(default_factory=dict)
    port: int = 0
    heads: list[str] = field(default_factory=list)
    status: int = 0

    @property
    def asked(self) -> list[str]:
        """The first lines of what was asked."""
        return [head.partition("\r\n")[0] for head in self.heads]

    async def serve(self, stream: trio.abc.Stream) -> None:
        """One connection: any number of plain requests, or one tunnel."""
        while head := await _head(stream):
            self.heads.append(head)
            method, target, _ = self.asked[-1].split(" ")
            if self.status:
                await stream.send_all(_refusal(self.status))
                continue
            parts = urlsplit(target)
            place = target if method == "CONNECT" else f"{parts.hostname}:{parts.port or 80}"
            async with await trio.open_tcp_stream("127.0.0.1", self.names[place]) as there:
                if method == "CONNECT":
                    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
                    await _tunnel(stream, there)
                    return
                path = f"{parts.path}?{parts.query}" if parts.query else parts.path
                await there.send_all(_request(method, path, head))
                await _pass_back(there, stream)


async def _head(stream: trio.abc.Stream) -> str:
    """What comes up to an empty line; empty where nothing more comes."""
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        data = await stream.receive_some(1)
        if not data:
            return ""
        received += bytes(data)
    return received.decode().removesuffix("\r\n\r\n")


def _refusal(status: int) -> bytes:
    return f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()


def _request(method: str, path: str, head: str) -> bytes:
    lines = head.split("\r\n")[1:]
    kept = [each for each in lines if not each.lower().startswith("proxy-")]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *kept, "", ""]).encode()


async def _pass_back(there: trio.abc.Stream, stream: trio.abc.Stream) -> None:
    """One answer, whose body has a length."""
    head = await _head(there)
    await stream.send_all(f"{head}\r\n\r\n".encode())
    left = int(head.lower().partition("content-length:")[2].partition("\r\n")[0])
    while left and (data := await there.receive_some(left)):
        await stream.send_all(data)
        left -= len(data)


async def _tunnel(one: trio.abc.Stream, other: trio.abc.Stream) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_copy, one, other, nursery.cancel_scope)
        nursery.start_soon(_copy, other, one, nursery.cancel_scope)


async def _copy(one: trio.abc.Stream, other: trio.abc.Stream, scope: trio.CancelScope) -> None:
    try:
        while data := await one.receive_some(65536):
            await other.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    scope.cancel()


@asynccontextmanager
async def running_proxy(
    names: dict[str, int], context: ssl.SSLContext | None = None
) -> AsyncIterator[Proxy]:
    """Passes on until the block ends; with a context it is reached by https."""
    proxy = Proxy(names)

    async def serve(plain: trio.SocketStream) -> None:
        stream: trio.abc.Stream = plain
        if context is not None:
            stream = trio.SSLStream(plain, context, server_side=True, https_compatible=True)
        try:
            await proxy.serve(stream)
        except (trio.BrokenResourceError, ssl.SSLError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy.port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield proxy
        nursery.cancel_scope.cancel()
