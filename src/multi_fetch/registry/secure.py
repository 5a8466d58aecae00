"""TLS over a non-blocking socket, with a bound on what one call does.

A socket of ssl's own receives until there is content. Who sends nothing but TLS's own messages (new
keys, tickets, calls for another handshake), as fast as they are read, would hold it there, and with
it every task. Here each call receives once at most.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from errno import EBADF, EMSGSIZE, ENOBUFS
from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from multi_fetch.limits import MAX_HANDSHAKE_BYTES, MAX_TLS_UNSENT_BYTES, RECEIVE_BYTES

if TYPE_CHECKING:
    import socket

# Four records of TLS, or some thousands of its own messages: a few 10 ms at worst.
RECEIVED_AT_ONCE: Final = 64 * 1024


class SecureSocket:
    """A socket under TLS; what is not said here is as with a socket.

    Args:
        sock: connected and non-blocking; closed with this.
        context: whom to trust.
        host: whose certificate is wanted.
        own_bytes: of the buffer beside this: where many are open, each takes less here too.
        most_handshake: bytes of the other side's.

    Raises:
        ValueError: no certificate can be for such a name.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        host: str,
        *,
        own_bytes: int = RECEIVE_BYTES,
        most_handshake: int = MAX_HANDSHAKE_BYTES,
    ) -> None:
        self._sock = sock
        # What has come is kept here too, and OpenSSL keeps a record of 16 KiB beside it.
        are_many = own_bytes < RECEIVE_BYTES
        self._at_once = own_bytes // 4 if are_many else RECEIVED_AT_ONCE
        self._most_handshake = most_handshake
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=host
        )
        # What is to be sent as it is, and how much content of the last ``send`` is in it.
        self._unsent = b""
        self._accepted = 0

    async def handshake(self) -> None:
        """Comes before everything else.

        Raises:
            OSError: there is no trust, or no TLS, or too much of it, or the connection broke.
        """
        received = 0
        while True:
            is_done = False
            try:
                self._opened().do_handshake()
                is_done = True
            except ssl.SSLWantReadError:
                pass
            except OSError:
                with suppress(OSError):
                    self._push()  # says why
                raise
            await self._push_all()
            if is_done:
                return
            await trio.lowlevel.wait_readable(self._sock)
            with suppress(BlockingIOError):
                received += self._take()
            if received > self._most_handshake:
                most = self._most_handshake
                raise OSError(EMSGSIZE, f"the handshake exceeds {most} bytes")

    def recv_into(self, buffer: memoryview | bytearray) -> int:
        """Content that has come; 0 where TLS itself has ended.

        Raises:
            BlockingIOError, ssl.SSLWantReadError: there is none for now.
            OSError: the connection broke, or was closed without TLS's own end.
        """
        try:
            return self._read_into(buffer)
        except ssl.SSLWantReadError:
            self._take()
        try:
            return self._read_into(buffer)
        finally:
            self._answer()

    def send(self, content: bytes | memoryview) -> int:
        """Sends content; after BlockingIOError, the same again goes on with it."""
        if not self._accepted:
            self._accepted = self._opened().write(content)
        self._push()
        accepted, self._accepted = self._accepted, 0
        return accepted

    def close(self) -> None:
        """Closes the socket at once.

        What OpenSSL keeps, some 100 KiB, is let go of too, however long an error's traceback keeps
        this.
        """
        self._sock.close()
        self._tls = None
        self._incoming = self._outgoing = ssl.MemoryBIO()

    def fileno(self) -> int:
        """The socket's."""
        return self._sock.fileno()

    def getpeername(self) -> object:
        """The socket's."""
        return self._sock.getpeername()

    def _read_into(self, buffer: memoryview | bytearray) -> int:
        return self._opened().read(len(buffer), buffer)  # type: ignore[return-value] # a count, then

    def _opened(self) -> ssl.SSLObject:
        if self._tls is None:
            raise OSError(EBADF, "it was closed here")
        return self._tls

    def _take(self) -> int:
        received = self._sock.recv(self._at_once)
        if received:
            self._incoming.write(received)
        else:
            self._incoming.write_eof()
        return len(received)

    def _answer(self) -> None:
        """Sends what TLS says by itself, as far as there is room."""
        if not (self._outgoing.pending or self._unsent):
            return
        with suppress(BlockingIOError):
            self._push()
        if len(self._unsent) > MAX_TLS_UNSENT_BYTES:
            raise OSError(ENOBUFS, "TLS wants answers that nobody takes")

    def _push(self) -> None:
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()
        while self._unsent:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]

    async def _push_all(self) -> None:
        while True:
            try:
                self._push()
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._sock)
            else:
                return


# What a connection is made of.
Channel: TypeAlias = "socket.socket | SecureSocket"
