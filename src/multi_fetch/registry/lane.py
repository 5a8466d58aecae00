"""The fast lane: GET and HEAD over connections of its own, below httpx.

It does what nearly every request needs, and nothing else: http and https, directly to the host.
Idle connections are a stack for each origin, so finding one costs the same however many there are.
What is unusual (a proxy, a POST) goes through httpx; so does everything while a test has mocked
httpx or httpcore.
"""

from __future__ import annotations

import socket
import ssl
import sys
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from multi_fetch.errors import MultiFetchError, UnavailableError
from multi_fetch.limits import CONNECT_TIMEOUT_SECONDS, KEEPALIVE_SECONDS, MAX_STALE_CONNECTIONS
from multi_fetch.registry.connection import WOULD_BLOCK, Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from multi_fetch.registry.connection import Head

DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Origin(msgspec.Struct, frozen=True):
    """Where connections lead (RFC 6454, section 4), and how a Host header names it.

    Attributes:
        scheme: ``http`` or ``https``.
        host: without brackets.
        port: always written.
    """

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The Host header: the port is left out where it goes without saying."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


class Lane:
    """Connections, idle and new.

    Args:
        context: gives the TLS context, at the first https request.
        jobs: idle connections that are kept, for all origins together.
        stall_seconds: between two bytes, at most.
    """

    def __init__(
        self, context: Callable[[], ssl.SSLContext], *, jobs: int, stall_seconds: float
    ) -> None:
        self._context = context
        self._jobs = jobs
        self._stall_seconds = stall_seconds
        self._idle: dict[Origin, list[tuple[float, Connection]]] = {}
        self._idle_count = 0

    async def send(
        self, origin: Origin, request: bytes, what: str, *, has_body: bool
    ) -> tuple[Connection, Head]:
        """Sends a request, and again where an idle connection turns out to be closed.

        RFC 9112, section 9.3.1: that race is a client's to repair, by itself.

        Returns:
            The connection, which the caller gives back by ``release`` or closes, and the head.

        Raises:
            MultiFetchError: no connection, or no answer over one.
        """
        for _ in range(MAX_STALE_CONNECTIONS):
            connection = self._take_idle(origin)
            if connection is None:
                break
            try:
                return connection, await connection.exchange(request, what, has_body=has_body)
            except UnavailableError:
                connection.close()
            except BaseException:
                connection.close()
                raise
        connection = await self._connect(origin)
        try:
            return connection, await connection.exchange(request, what, has_body=has_body)
        except BaseException:
            connection.close()
            raise

    def release(self, origin: Origin, connection: Connection) -> None:
        """Takes back a connection whose body was read to its end."""
        if not connection.may_persist or self._idle_count >= self._jobs:
            connection.close()
            return
        self._idle_count += 1
        self._idle.setdefault(origin, []).append((trio.current_time(), connection))

    def close(self) -> None:
        """Closes what is idle."""
        for stack in self._idle.values():
            for _, connection in stack:
                connection.close()
        self._idle.clear()

    def _take_idle(self, origin: Origin) -> Connection | None:
        stack = self._idle.get(origin)
        while stack:
            since, connection = stack.pop()
            self._idle_count -= 1
            if trio.current_time() - since < KEEPALIVE_SECONDS and connection.is_quiet():
                return connection
            connection.close()
        return None

    async def _connect(self, origin: Origin) -> Connection:
        with trio.move_on_after(CONNECT_TIMEOUT_SECONDS):
            try:
                sock = await _open_socket(origin)
            except OSError as error:
                raise UnavailableError(f"{origin}: no connection: {_words(error)}") from error
            if origin.scheme == "https":
                sock = await self._start_tls(origin, sock)
            return Connection(sock, stall_seconds=self._stall_seconds)
        raise UnavailableError(f"{origin}: no connection in {CONNECT_TIMEOUT_SECONDS:g} s")

    async def _start_tls(self, origin: Origin, sock: socket.socket) -> ssl.SSLSocket:
        try:
            secure = self._context().wrap_socket(
                sock, server_hostname=origin.host, do_handshake_on_connect=False
            )
        except (OSError, ValueError) as error:
            sock.close()
            raise UnavailableError(f"{origin}: no TLS: {_words(error)}") from error
        try:
            while True:
                try:
                    secure.do_handshake()
                except ssl.SSLWantReadError:
                    await trio.lowlevel.wait_readable(secure)
                except ssl.SSLWantWriteError:
                    await trio.lowlevel.wait_writable(secure)
                else:
                    return secure
        except OSError as error:
            secure.close()
            raise UnavailableError(f"{origin}: no TLS: {_words(error)}") from error
        except BaseException:
            secure.close()
            raise


async def _open_socket(origin: Origin) -> socket.socket:
    """A connected socket, by happy eyeballs (RFC 8305), as trio has it."""
    stream = await trio.open_tcp_stream(origin.host, origin.port)
    sock = socket.socket(fileno=stream.socket.detach())
    sock.setblocking(False)
    return sock


def _words(error: Exception) -> str:
    causes = [error, *getattr(error, "exceptions", ())] if error.__cause__ is None else [error.__cause__]
    return str(causes[-1]) or type(error).__name__
