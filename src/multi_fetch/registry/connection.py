"""One HTTP/1.1 connection on a non-blocking socket: a request, its head, its body.

httptools (llhttp) reads heads and chunked bodies; a body of known length is received straight
into a large buffer and handed out as a view of it. Nothing is awaited that is there already, and
each wait has its deadline.

RFC 9112: section 6.3 for where a body ends, section 9.3 for when the connection may be used again.
"""

from __future__ import annotations

import ssl
from contextlib import aclosing
from functools import cached_property
from typing import TYPE_CHECKING, Final

import httptools
import trio

from multi_fetch.advice import TELL_OPERATOR, TRY_LATER
from multi_fetch.errors import (
    DeadlineExceededError,
    MultiFetchError,
    RegistryError,
    UnavailableError,
)
from multi_fetch.limits import CRUMB_BYTES, MAX_HEAD_BYTES, MAX_READS, RECEIVE_BYTES
from multi_fetch.registry.buffers import Buffers, Loan
from multi_fetch.registry.chunked import ChunkedBody
from multi_fetch.registry.head import HEAD_END, parse_head
from multi_fetch.registry.progress import Progress
from multi_fetch.registry.secure import SecureSocket

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from multi_fetch.registry.answer import Asked
    from multi_fetch.registry.head import Head
    from multi_fetch.registry.secure import Channel

# A socket that has nothing for us now: a plain one, and one under TLS.
WOULD_BLOCK: Final = (BlockingIOError, ssl.SSLWantReadError)


class Connection:
    """A connection that is open; it belongs to one request at a time.

    Args:
        sock: connected and non-blocking; under TLS, with its handshake done.
        buffers: for large bodies; None for none.
        stall_seconds: for the head of an answer, and as for ``Progress`` in its body.

    Attributes:
        is_used: whether it has served a request before: then it may turn out to be closed.
        may_persist: whether it may serve another, once the body was read to its end.
        fd: the socket's file descriptor.
    """

    def __init__(
        self, sock: Channel, *, stall_seconds: float, buffers: Buffers | None = None
    ) -> None:
        self.is_used = False
        self.may_persist = False
        self._stall_seconds = stall_seconds
        self._deadline: float | None = None
        self._progress: Progress | None = None
        self._trouble: MultiFetchError | None = None
        self._sock = sock
        self.fd = sock.fileno()
        self._what: Asked | str = ""
        self._loan = Loan(buffers or Buffers(0, own_bytes=RECEIVE_BYTES))
        self._buffer = self._loan.rest()
        self._view = memoryview(self._buffer)
        # What was received and not yet taken: self._view[start:end].
        self._start = 0
        self._end = 0

    @cached_property
    def peer(self) -> str:
        """The address at the other end; empty where it had gone when it was first asked for."""
        try:
            name = self._sock.getpeername()
        except OSError:
            return ""
        return str(name[0]) if isinstance(name, tuple) else ""

    def is_quiet(self) -> bool:
        """Whether an idle connection is still open and nothing came that nobody asked for."""
        try:
            return not self._sock.recv_into(bytearray(1)) and False
        except WOULD_BLOCK:
            return True
        except OSError:
            return False

    def close(self) -> None:
        """Closes it at once; whoever owns it does not wait for it now."""
        self._sock.close()
        self._use(self._loan.close())

    async def exchange(self, request: bytes, what: Asked, *, has_body: bool) -> Head:
        """Sends a request and receives the head of its response.

        Args:
            request: all of it.
            what: was asked, for messages.
            has_body: False for HEAD, whose response ends with its head.

        Raises:
            UnavailableError: the connection broke.
            DeadlineExceededError: nothing came for too long.
            RegistryError: what came is no HTTP.
        """
        self._begin()
        self._what = what
        await self._send(request)
        # The answer is not there yet, and 1xx answers do not extend what its head may take.
        self._deadline = self._stalls_at()
        await self._wait_readable(self._deadline)
        return await self._answer(has_body=has_body)

    def rest(self) -> None:
        """Has no buffer while the connection is idle."""
        self._use(self._loan.rest())

    def _begin(self) -> None:
        self._use(self._buffer or self._loan.own())
        self.may_persist = False
        self._progress = None

    def start(self, request: bytes) -> bool:
        """Sends a request without a wait; where not all of it was taken the connection is useless.

        Then ``arrived`` tells what there is of the answer, until ``finish`` or ``go_on``.
        """
        self._begin()
        try:
            return self._sock.send(request) == len(request)
        except OSError:
            return False

    def arrived(self) -> memoryview | None:
        """All that has come of the answer; None where no more of it comes, or comes in crumbs."""
        for _ in range(MAX_READS):
            try:
                count = self._sock.recv_into(self._view[self._end :] if self._end else self._view)
            except WOULD_BLOCK:
                break
            except OSError:
                return None
            if not count:
                return None
            self._end += count
            # What TLS has taken from the socket makes that readable no more.
            if not isinstance(self._sock, SecureSocket):
                break
        else:
            return None
        return self._view[: self._end]

    def finish(self) -> None:
        """Says that what has arrived was one answer, behind which another may come."""
        self.may_persist = self.is_used = True

    async def go_on(self, what: Asked, *, sent_at: float) -> Head:
        """Receives the head of the response to a request that ``start`` sent; as ``exchange``."""
        self._what, self._deadline = what, sent_at + self._stall_seconds
        return await self._answer(has_body=True)

    async def _answer(self, *, has_body: bool) -> Head:
        while (head := await self._receive_head()).status < 200:
            pass
        self._deadline = None
        if not has_body or head.status in {204, 304}:
            head.length, head.is_chunked = 0, False
        # Only a body that was read to its end leaves a connection that can be used again.
        self.may_persist = head.length == 0 and head.may_persist and self._start == self._end
        self.is_used = True
        return head

    async def take_small(self, head: Head) -> bytes | None:
        """The whole body, if its length is known and the buffer has room for it.

        None leaves it to ``body``, with what has been received and what then went wrong.
        """
        length = head.length
        if length is None or self._start + length > len(self._buffer):
            return None
        while self._end - self._start < length:
            try:
                if not await self._receive():
                    return None
            except MultiFetchError as error:
                self._trouble = error
                return None
        body = bytes(self._view[self._start : self._start + length])
        self._start += length
        self.may_persist = head.may_persist and self._start == self._end
        return body

    async def body(self, head: Head) -> AsyncGenerator[memoryview | bytes, None]:
        """The body, in chunks that are valid until the next is asked for.

        Whoever stops early closes the connection.

        Raises:
            UnavailableError: it breaks off.
            DeadlineExceededError: too little came for too long.
            RegistryError: its chunks are no HTTP.
        """
        if head.is_chunked:
            async with aclosing(self._chunked_body(may_persist=head.may_persist)) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        left = head.length
        while left is None or left > 0:
            if self._start == self._end:
                self._use(self._loan.enlarge(left or 0))
                if not await self._receive():
                    if left is None:
                        return
                    raise self._broken(f", {left} bytes before the body's end")
            start, end = self._start, self._end
            if left is not None:
                end = min(end, start + left)
                left -= end - start
            self._start = end
            yield self._view[start:end]
        # If more came than the length said, it would be taken for the next answer.
        self.may_persist = head.may_persist and self._start == self._end
        self._use(self._loan.shrink())

    def _use(self, buffer: bytearray) -> None:
        """Receives into this one; of what is in the other nothing is left."""
        self._start = self._end = 0
        self._buffer, self._view = buffer, memoryview(buffer)

    async def _chunked_body(self, *, may_persist: bool) -> AsyncGenerator[bytes, None]:
        body = ChunkedBody()
        idle_bytes = 0  # since the last content: a chunk's head, its extensions, trailers
        while not body.is_complete:
            if self._start == self._end:
                self._start = self._end = 0
                if not await self._receive():
                    raise self._broken(" before the body's last chunk")
            received = self._view[self._start : self._end]
            self._start = self._end
            try:
                body.feed(received)
            except httptools.HttpParserError as error:
                if not body.is_complete:
                    raise self._malformed(f"the answer breaks HTTP: {error}") from error
                may_persist = False  # it is no HTTP that stands behind the last chunk
            chunks = body.take()
            if len(chunks) > MAX_READS:
                chunks = [b"".join(chunks)]
                await trio.lowlevel.checkpoint()
            idle_bytes = 0 if chunks else idle_bytes + len(received)
            if idle_bytes > MAX_HEAD_BYTES:
                raise self._malformed(f"{MAX_HEAD_BYTES} bytes of chunks have no content")
            # Neither do they extend the time that content may take to come.
            self._deadline = None if chunks else self._deadline or self._stalls_at()
            for chunk in chunks:
                yield chunk
        self._deadline = None
        self.may_persist = may_persist and not body.has_more

    async def _receive_head(self) -> Head:
        searched = self._start
        while (
            found := HEAD_END.search(self._buffer, max(self._start, searched - 3), self._end)
        ) is None:
            searched = self._end
            # The buffer also holds the 1xx answers before it.
            if self._end - self._start > MAX_HEAD_BYTES or self._end == len(self._buffer):
                most = min(MAX_HEAD_BYTES, self._end)
                raise self._malformed(f"the answer's head exceeds {most} bytes")
            if not await self._receive():
                raise self._broken(" before the answer")
        head = parse_head(self._view[self._start : found.end()], self._what)
        self._start = found.end()
        return head

    async def _receive(self) -> int:
        """Receives what there is, up to the buffer's end; 0 where the other side has ended."""
        if self._trouble is not None:
            raise self._trouble
        room = self._view[self._end :]
        received, began = 0, None
        while room:
            try:
                count = self._sock.recv_into(room)
            except WOULD_BLOCK:
                # A wait in here would have this as its context, and with it what TLS keeps.
                count = 0 if received else -1
            except OSError as error:
                raise self._broken(f": {error}") from error
            if count < 0:
                began = began or trio.current_time()  # also before what TLS says by itself
                await self._wait_readable(began)
                continue
            received += count
            room = room[count:]
            if count < 16_384:  # none at all, where the other side has ended
                break
        self._end += received
        if began is None and received < CRUMB_BYTES:
            await trio.lowlevel.checkpoint()
        if self._progress is not None:
            waited = trio.current_time() - began if began else 0.0
            self._progress.add(waited=waited, received=received)
        return received

    def _broken(self, why: str) -> UnavailableError:
        return UnavailableError(f"{self._what}: the connection broke{why}{TRY_LATER}")

    def _malformed(self, why: str) -> RegistryError:
        return RegistryError(f"{self._what}: {why}{TELL_OPERATOR}")

    def _stalls_at(self) -> float:
        return trio.current_time() + self._stall_seconds

    async def _wait_readable(self, began: float) -> None:
        progress, deadline = self._progress, self._deadline
        if deadline is None:  # a body is waited for
            progress = self._progress = progress or Progress(self._stall_seconds)
            deadline = began + progress.left_seconds
        with trio.move_on_at(deadline) as scope:
            await trio.lowlevel.wait_readable(self._sock)
        if scope.cancelled_caught:
            missing = progress or f"no answer in {self._stall_seconds:g} s"
            raise DeadlineExceededError(f"{self._what}: {missing}{TRY_LATER}")

    async def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        deadline = None
        while rest:
            try:
                rest = rest[self._sock.send(rest) :]
            except WOULD_BLOCK:
                with trio.move_on_at(deadline := deadline or self._stalls_at()) as scope:
                    await trio.lowlevel.wait_writable(self._sock)
                if scope.cancelled_caught:
                    raise DeadlineExceededError(
                        f"{self._what}: takes no whole request in {self._stall_seconds:g} s"
                        f"{TRY_LATER}"
                    ) from None
            except OSError as error:
                raise self._broken(f": {error}") from error
