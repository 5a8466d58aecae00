"""What the general lane receives: smaller pieces over many connections, and what begins has bounds.

h11 and the generators around it keep each piece about three times until the next is asked for, and
of a head they wait for 100 KiB. That is much with hundreds of connections.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from errno import EMSGSIZE
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import httpcore
import trio

from multi_fetch.limits import (
    MAX_HANDSHAKE_BYTES,
    MAX_HEAD_BYTES,
    RECEIVE_MEMORY,
)
from multi_fetch.registry.buffers import most_handshake_for, own_bytes_for
from multi_fetch.registry.head import HEAD_END
from multi_fetch.registry.secure import RECEIVED_AT_ONCE

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator

# RFC 9110, section 15.2: another head follows.
INFORMATIONAL: Final = re.compile(rb"HTTP/[0-9]\.[0-9] 1")
_FIRST_BYTES: Final = 10


class Backend(httpcore.TrioBackend):
    """Opens connections for a pool of httpcore's.

    Args:
        jobs: connections at the same time.
    """

    def __init__(self, jobs: int) -> None:
        self._most_bytes = RECEIVE_MEMORY // 2 // jobs
        self._most_head_bytes = min(MAX_HEAD_BYTES, own_bytes_for(jobs))
        self._most_handshake = most_handshake_for(jobs)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> Stream:
        """A connection that is open."""
        stream = await super().connect_tcp(host, port, timeout, local_address, socket_options)
        return Stream(stream, self._most_bytes, self._most_head_bytes, self._most_handshake)


class Stream(httpcore.AsyncNetworkStream):
    """A connection's bytes both ways.

    Args:
        stream: that they go over.
        most_bytes: that are received at once.
        most_head_bytes: of an answer.
        most_handshake: bytes of the other side's: a proxy's, and the one's behind it, together.
    """

    def __init__(
        self,
        stream: httpcore.AsyncNetworkStream,
        most_bytes: int,
        most_head_bytes: int,
        most_handshake: int = MAX_HANDSHAKE_BYTES,
    ) -> None:
        self._stream = stream
        self._most_handshake = most_handshake
        self._most_bytes = most_bytes
        self._most_head_bytes = most_head_bytes
        # Whether a head is waited for: how long it is by now, its first bytes, its last two.
        self._is_head = False
        self._head_bytes = 0
        self._first = self._last = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """What comes next.

        Raises:
            httpcore.RemoteProtocolError: the head of an answer is too long.
        """
        data = await self._stream.read(min(max_bytes, self._most_bytes), timeout)
        if self._is_head:
            self._judge(data)
        return data

    def _begin_head(self) -> None:
        self._is_head = True
        self._head_bytes = 0
        self._first = self._last = b""

    def _judge(self, data: bytes) -> None:
        """Counts the head's bytes; those of 1xx answers before it are heads of their own."""
        at = 0
        while self._is_head:
            self._first = (self._first + data[at : at + _FIRST_BYTES])[:_FIRST_BYTES]
            known = len(self._last)
            end = HEAD_END.search(self._last + data[at:])
            ends_at = len(data) if end is None else at + end.end() - known
            self._head_bytes += ends_at - at
            if self._head_bytes > self._most_head_bytes:
                raise httpcore.RemoteProtocolError(
                    f"its head exceeds {self._most_head_bytes} bytes"
                )
            if end is None:
                self._last = (self._last + data[-2:])[-2:]
                return
            at = ends_at
            if INFORMATIONAL.match(self._first):
                self._begin_head()
            else:
                self._is_head = False

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Sends a part of a request."""
        self._begin_head()
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Closes it, and lets go of it at once.

        What trio has for TLS is in a circle with itself, and what OpenSSL keeps in there, 100 KiB,
        counts for nothing with who decides when to look for circles.
        """
        try:
            await self._stream.aclose()
        finally:
            inner: object = getattr(self._stream, "_stream", None)
            while inner is not None:  # through a proxy with TLS there are two
                vars(inner).pop("_handshook", None)
                vars(inner).pop("receive_some", None)
                inner = vars(inner).get("transport_stream")

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Stream:
        """The same under TLS.

        Raises:
            httpcore.ConnectError: there is no trust, or too long a handshake.
        """
        transport: trio.abc.Stream = self._stream._stream  # type: ignore[attr-defined]  # noqa: SLF001 - httpcore has no other way to it
        with _counted(transport, self._most_handshake) as left:
            stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        # trio would take 64 KiB, which each TLS keeps: through a proxy there are two.
        most = min(self._most_bytes // 2, RECEIVED_AT_ONCE)
        transport.receive_some = partial(transport.receive_some, most)  # type: ignore[method-assign]
        return Stream(stream, self._most_bytes, self._most_head_bytes, left())

    def get_extra_info(self, info: str) -> Any:
        """What is known of it beside."""
        return self._stream.get_extra_info(info)


@contextmanager
def _counted(transport: trio.abc.Stream, most_bytes: int) -> Iterator[Callable[[], int]]:
    """Counts what comes from a transport: of certificates OpenSSL keeps many times what they have.

    Yields:
        What tells how many bytes are left.

    Raises:
        trio.BrokenResourceError: more came.
    """
    received = 0
    receive = transport.receive_some

    async def receive_counted(max_bytes: int | None = None) -> bytes | bytearray:
        nonlocal received
        data = await receive(max_bytes)
        received += len(data)
        if received > most_bytes:
            words = f"the handshake exceeds {most_bytes} bytes"
            # httpcore makes its own error of this one, and keeps only what that was made of.
            raise trio.BrokenResourceError(words) from OSError(EMSGSIZE, words)
        return data

    transport.receive_some = receive_counted  # type: ignore[method-assign]
    try:
        yield lambda: most_bytes - received
    finally:
        del transport.receive_some  # the class's own is there again
