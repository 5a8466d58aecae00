"""What the general lane receives: smaller pieces over many connections, and what begins has bounds.

h11 and the generators around it keep each piece about three times until the next is asked for, and
of a head they wait for 100 KiB. That is much with hundreds of connections. A large piece costs less
than many small ones, so there is some room for the few that are at work, however many might be.
"""

from __future__ import annotations

import math
import re
from contextlib import contextmanager
from errno import EMSGSIZE
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import httpcore
import trio

from multi_fetch.limits import (
    GENERAL_EXTRA_MEMORY,
    MAX_GENERAL_PIECE_BYTES,
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


class Room:
    """How much connections may receive at once.

    Args:
        jobs: connections at the same time.

    Attributes:
        share: of each.
    """

    def __init__(self, jobs: int) -> None:
        self.share = min(MAX_GENERAL_PIECE_BYTES, RECEIVE_MEMORY // 2 // jobs)
        self._extra = GENERAL_EXTRA_MEMORY

    def lend(self) -> int:
        """How much a connection may have beyond its share, until it is taken back."""
        lent = min(MAX_GENERAL_PIECE_BYTES - self.share, self._extra)
        self._extra -= lent
        return lent

    def take_back(self, lent: int) -> None:
        """Takes back what was lent."""
        self._extra += lent


class Backend(httpcore.TrioBackend):
    """Opens connections for a pool of httpcore's.

    Args:
        jobs: connections at the same time.
    """

    def __init__(self, jobs: int) -> None:
        self._room = Room(jobs)
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
        return Stream(stream, self._room, self._most_head_bytes, self._most_handshake)


class Stream(httpcore.AsyncNetworkStream):
    """A connection's bytes both ways.

    Args:
        stream: that they go over.
        room: for what is received at once.
        most_head_bytes: of an answer.
        most_handshake: bytes of the other side's: a proxy's, and the one's behind it, together.
    """

    def __init__(
        self,
        stream: httpcore.AsyncNetworkStream,
        room: Room,
        most_head_bytes: int,
        most_handshake: int = MAX_HANDSHAKE_BYTES,
    ) -> None:
        self._stream = stream
        self._most_handshake = most_handshake
        self._room = room
        self._lent = 0
        self._most_head_bytes = most_head_bytes
        # Whether as much came as was asked for: to ask for more than comes costs time. TLS never
        # gives more than a record of 16 KiB.
        self._is_full = False
        # Whether a head is waited for: how long it is by now, its first bytes, its last two.
        self._is_head = False
        self._head_bytes = 0
        self._first = self._last = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """What comes next; of a body more than httpcore asks for, which takes what it gets.

        Raises:
            httpcore.RemoteProtocolError: the head of an answer is too long.
        """
        self._keep(0)  # nobody has the piece before this one any more
        most = least = min(max_bytes, self._room.share)
        if self._is_full:
            self._lent = self._room.lend()
            most = self._room.share + self._lent
        data = await self._stream.read(most, timeout)
        self._is_full = len(data) >= least
        self._keep(max(0, len(data) - self._room.share))
        if self._is_head:
            self._judge(data)
        return data

    def _keep(self, lent: int) -> None:
        """Gives back what was lent, but for so much."""
        self._room.take_back(self._lent - lent)
        self._lent = lent

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
        self._keep(0)
        self._is_full = False
        self._begin_head()
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Closes it, and lets go of it at once.

        What trio has for TLS is in a circle with itself, and what OpenSSL keeps in there, 100 KiB,
        counts for nothing with who decides when to look for circles.
        """
        self._keep(0)
        try:
            await self._stream.aclose()
        finally:
            _let_go(getattr(self._stream, "_stream", None))

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Stream:
        """The same under TLS.

        Raises:
            httpcore.ConnectError: there is no trust, or too long a handshake.
            httpcore.ConnectTimeout: it takes too long.
        """
        transport: trio.abc.Stream = self._stream._stream  # type: ignore[attr-defined]  # noqa: SLF001 - httpcore has no other way to it
        self._keep(0)  # of a proxy's answer; what goes on is another stream
        # As httpcore does it, which keeps the circle of one that fails.
        tls = trio.SSLStream(
            transport, ssl_context, server_hostname=server_hostname, https_compatible=True
        )
        is_open = False
        try:
            with (
                _counted(transport, self._most_handshake) as left,
                trio.fail_after(math.inf if timeout is None else timeout),
            ):
                await tls.do_handshake()
            is_open = True
        except trio.TooSlowError as error:
            raise httpcore.ConnectTimeout(error) from error
        except trio.BrokenResourceError as error:
            raise httpcore.ConnectError(error) from error
        finally:
            if not is_open:
                _let_go(tls)
                await self.aclose()
        stream = type(self._stream)(tls)  # type: ignore[call-arg] # httpcore's TrioStream
        # trio would take 64 KiB, which each TLS keeps: through a proxy there are two.
        most = min(self._room.share // 2, RECEIVED_AT_ONCE)
        transport.receive_some = partial(transport.receive_some, most)  # type: ignore[method-assign]
        return Stream(stream, self._room, self._most_head_bytes, left())

    def get_extra_info(self, info: str) -> Any:
        """What is known of it beside."""
        return self._stream.get_extra_info(info)


def _let_go(stream: object) -> None:
    """Opens the circles of what trio has for TLS; through a proxy with TLS there are two."""
    while stream is not None:
        vars(stream).pop("_handshook", None)
        vars(stream).pop("receive_some", None)
        stream = vars(stream).get("transport_stream")


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
