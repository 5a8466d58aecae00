"""The fast lane: GET and HEAD over connections of its own, below httpx.

It does what nearly every request needs, and nothing else: http and https, directly to the host.
Idle connections are a stack for each origin, so finding one costs the same however many there are.
While a test has mocked httpx or httpcore the lane is closed, and the mock sees every request.
"""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from multi_fetch.advice import with_advice
from multi_fetch.budget import hold
from multi_fetch.durations import CONNECT_TIMEOUT_SECONDS
from multi_fetch.errands import needing_a_thread
from multi_fetch.errors import HostsError, RegistryError, UnavailableError
from multi_fetch.limits import MAX_STALE_CONNECTIONS
from multi_fetch.registry.answer import Answer, Asked
from multi_fetch.registry.concealment import Discreet
from multi_fetch.registry.connection import Connection
from multi_fetch.registry.place import Place, refuse_inside
from multi_fetch.registry.secure import SecureSocket
from multi_fetch.registry.stock import Stock
from multi_fetch.registry.url import Origin

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Callable, Mapping
    from types import ModuleType

    from multi_fetch.oci.digest import Chunk
    from multi_fetch.registry.head import Head
    from multi_fetch.registry.secure import Channel
    from multi_fetch.registry.url import Url


class Begun(Discreet, msgspec.Struct, frozen=True, eq=False):
    """A request that was sent, when on trio's clock, and the connection that its answer is on."""

    origin: Origin
    request: bytes
    sent_at: float
    connection: Connection

    def __repr__(self) -> str:  # the request has a header with a secret
        return f"Begun({str(self.origin)!r}, sent_at={self.sent_at})"


class FastLane:
    """Connections, idle and new.

    Args:
        context: the TLS context for an origin.
        jobs: for its own stock.
        stall_seconds: between two bytes, at most.
        connect_seconds: until a connection is open, at most.
        stock: that it shares with others; None for its own.
    """

    def __init__(
        self,
        context: Callable[[Origin], ssl.SSLContext],
        *,
        jobs: int,
        stall_seconds: float,
        connect_seconds: float = CONNECT_TIMEOUT_SECONDS,
        stock: Stock | None = None,
    ) -> None:
        self._context = context
        self.stall_seconds = stall_seconds
        self._connect_seconds = connect_seconds
        self._stock = stock or Stock(jobs)
        # Requests that the direct lane has sent, and leaves to this one.
        self._begun: dict[tuple[Origin, bytes], Begun] = {}

    def is_open(self) -> bool:
        """Whether requests may go this way: not while httpx or httpcore is mocked."""
        return sys.modules.keys().isdisjoint(MOCKABLE) or not is_mocked()

    async def send(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        form: str | None = None,
        place: Place = Place.ANYWHERE,
    ) -> FastAnswer:
        """Sends a GET or HEAD; see ``exchange.Lane``."""
        assert form is None, "only the general lane has bodies"
        request = request_bytes(method, url, headers)
        connection, head = await self._exchange(url, request, Asked(method, url), place)
        return FastAnswer(self, connection, head, method, url)

    def leave(self, begun: Begun) -> None:
        """Keeps the answer that has begun to come to a request until ``send`` wants that."""
        twin = self._begun.pop((begun.origin, begun.request), None)
        if twin is not None:
            twin.connection.close()
        self._begun[begun.origin, begun.request] = begun
        if len(self._begun) > self._stock.room:
            self._begun.pop(next(iter(self._begun))).connection.close()

    def has_begun(self, method: str, url: Url, headers: Mapping[str, str]) -> bool:
        """Whether a request has been sent already, and its answer is here."""
        return (url.origin, request_bytes(method, url, headers)) in self._begun

    async def _exchange(
        self, url: Url, request: bytes, asked: Asked, place: Place
    ) -> tuple[Connection, Head]:
        """Sends a request, and again where an idle connection turns out to be closed.

        RFC 9112, section 9.3.1: that race is a client's to repair, by itself.
        """
        origin, has_body = url.origin, asked.method != "HEAD"
        begun = self._begun.pop((origin, request), None) if self._begun else None
        if begun is not None:  # to the registry itself, which may be anywhere
            try:
                return begun.connection, await begun.connection.go_on(asked, sent_at=begun.sent_at)
            except UnavailableError:
                begun.connection.close()
            except BaseException:
                begun.connection.close()
                raise
        for _ in range(MAX_STALE_CONNECTIONS):
            connection = self.take_idle(origin)
            if connection is None:
                break
            try:
                if place is Place.OUTSIDE:
                    refuse_inside(connection.peer, asked)
                return connection, await connection.exchange(request, asked, has_body=has_body)
            except UnavailableError:
                connection.close()
            except BaseException:
                connection.close()
                raise
        connection = await self._connect(origin, asked, place)
        try:
            return connection, await connection.exchange(request, asked, has_body=has_body)
        except BaseException:
            connection.close()
            raise

    def release(self, origin: Origin, connection: Connection) -> None:
        """Takes back a connection whose body was read to its end."""
        if not connection.may_persist:
            connection.close()
            return
        self._stock.put(self, origin, connection)

    def close(self) -> None:
        """Closes what is idle."""
        self._stock.close(self)
        for begun in self._begun.values():
            begun.connection.close()
        self._begun.clear()

    def take_idle(self, origin: Origin) -> Connection | None:
        """The connection to an origin that was used last, if there is an idle one."""
        return self._stock.take(self, origin)

    async def _connect(self, origin: Origin, asked: Asked, place: Place) -> Connection:
        with trio.move_on_after(self._connect_seconds):
            try:
                sock = await _open_socket(origin, asked, place)
            except OSError as error:
                raise UnavailableError(
                    f"{asked}: no connection: {with_advice(_words(error))}"
                ) from error
            except (UnicodeError, OverflowError) as error:  # a name that no look-up takes
                raise RegistryError(f"{asked}: cannot be sent: {error}: check the name") from error
            channel: Channel = sock
            if origin.scheme == "https":
                channel = await self._start_tls(origin, sock, asked)
            return Connection(
                channel, stall_seconds=self.stall_seconds, buffers=self._stock.buffers
            )
        words = with_advice(f"no connection in {self._connect_seconds:g} s")
        raise UnavailableError(f"{asked}: {words}")

    async def _start_tls(self, origin: Origin, sock: socket.socket, asked: Asked) -> SecureSocket:
        try:
            secure = SecureSocket(
                sock,
                self._context(origin),
                origin.host,
                own_bytes=self._stock.buffers.own_bytes,
                most_handshake=self._stock.most_handshake,
            )
            await secure.handshake()
        except HostsError:  # a ValueError too
            sock.close()
            raise
        except (OSError, ValueError) as error:
            sock.close()
            raise UnavailableError(f"{asked}: no TLS: {with_advice(_words(error))}") from error
        except BaseException:
            sock.close()
            raise
        return secure


class FastAnswer(Answer):
    """An answer of the fast lane's.

    Args:
        lane: that the connection goes back to.
        connection: whose body has not been read.
        head: of the answer.
        method: of the request.
        url: that was asked for.
    """

    def __init__(
        self, lane: FastLane, connection: Connection, head: Head, method: str, url: Url
    ) -> None:
        super().__init__(method, url, head.status, head.headers)
        self._lane = lane
        self._connection = connection
        self._head = head
        self._is_closed = False

    @property
    def peer(self) -> str:
        """The address that it came from."""
        return self._connection.peer

    def chunks(self) -> AsyncGenerator[Chunk, None]:
        """The body as it was sent; see ``Answer.chunks``."""
        return self._connection.body(self._head)

    def ratelimit(self) -> dict[str, str]:
        """What it tells of limits; see ``Answer.ratelimit``."""
        return super().ratelimit() if self._head.ratelimits else {}

    async def take_small(self) -> bytes | None:
        """The whole body, if it fits what is received at once; see ``Answer.take_small``."""
        if self.encoding:
            return None
        body = await self._connection.take_small(self._head)
        if body is not None:
            await hold(len(body))
        return body

    async def aclose(self) -> None:
        """Gives the connection back, or closes it if the body was not read to its end."""
        if not self._is_closed:
            self._is_closed = True
            self._lane.release(self.url.origin, self._connection)


# Where tests put a mock: respx has a place in httpx's client and one in httpcore's pool; others
# replace the transport's method. A name of httpx's that is gone is looked for in vain, no more.
MOCKED_PLACES: Final = (
    ("httpx", "AsyncClient", "_transport_for_url"),
    ("httpx", "AsyncHTTPTransport", "handle_async_request"),
    ("httpcore", "AsyncConnectionPool", "handle_async_request"),
)
MOCKABLE: Final = frozenset(library for library, _, _ in MOCKED_PLACES)


def is_mocked() -> bool:
    """Whether httpx or httpcore sends in another way than its own.

    A library that is not imported yet cannot be mocked.
    """
    return any(
        library in sys.modules and not _is_own(sys.modules[library], kind, method)
        for library, kind, method in MOCKED_PLACES
    )


def _is_own(library: ModuleType, kind: str, method: str) -> bool:
    function = getattr(getattr(library, kind, None), method, None)
    if function is None:
        return True
    code = getattr(function, "__code__", None)
    folder = str(library.__file__).removesuffix("__init__.py")
    return code is not None and code.co_filename.startswith(folder)


def request_bytes(method: str, url: Url, headers: Mapping[str, str]) -> bytes:
    """A request without a body, as it is sent.

    Raises:
        RegistryError: it cannot be.
    """
    lines = [f"{method} {url.target} HTTP/1.1", f"Host: {url.origin.authority}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    text = "\r\n".join(lines)
    ends = len(lines) - 1
    if text.count("\r") != ends or text.count("\n") != ends or not text.isascii():
        raise RegistryError(
            f"{Asked(method, url)}: cannot be sent: a character that no header takes: check the"
            " name"
        )
    return f"{text}\r\n\r\n".encode("ascii")


async def _open_socket(origin: Origin, asked: Asked, place: Place) -> socket.socket:
    """A connected socket, by happy eyeballs (RFC 8305), as trio has it."""
    with needing_a_thread():  # for the name's look-up
        stream = await trio.open_tcp_stream(origin.host, origin.port)
    if place is Place.OUTSIDE:
        try:
            refuse_inside(stream.socket.getpeername()[0], asked)
        except BaseException:
            stream.socket.close()
            raise
    sock = socket.socket(fileno=stream.socket.detach())
    sock.setblocking(False)
    return sock


def _words(error: Exception) -> str:
    cause = error.__cause__ or error
    last = cause.exceptions[-1] if isinstance(cause, BaseExceptionGroup) else cause
    return str(last) or type(last).__name__
