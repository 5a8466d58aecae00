"""The HTTP client: how many connections, how much patience, whose certificates, which proxy."""

from __future__ import annotations

import ssl
import weakref
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import h11
import httpcore
import httpx
import trio

from multi_fetch.durations import (
    CLOSE_SECONDS,
    CONNECT_TIMEOUT_SECONDS,
    KEEPALIVE_SECONDS,
    POOL_TIMEOUT_SECONDS,
    READ_TIMEOUT_SECONDS,
)
from multi_fetch.errors import RegistryError
from multi_fetch.registry.answer import Asked
from multi_fetch.registry.general_pool import assign_quickly
from multi_fetch.registry.general_stream import Backend
from multi_fetch.registry.head import Head
from multi_fetch.registry.place import Place, refuse_inside
from multi_fetch.registry.proxies import MAX_KNOWN_ORIGINS, Proxies
from multi_fetch.registry.retry import causes_of
from multi_fetch.registry.stock import Stock
from multi_fetch.registry.tls import Trust
from multi_fetch.registry.url import DEFAULT_PORTS, Origin, parse_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

# In an answer's extensions: whether it came through a proxy, whose address says nothing.
PROXIED: Final = "multi_fetch_proxied"

# In a request's extensions: the Place where its connection may lead.
PLACE: Final = "multi_fetch_place"


class Transport(httpx.AsyncBaseTransport):
    """Pools of httpx's own, each opened when the first request needs it.

    Root certificates alone take some 20 to 40 ms to read, which a registry on this machine never
    needs.

    Args:
        jobs: connections of each pool at the same time.
        trust: the certificates.
        proxies: which of the requests go through one; such an answer says so in its extensions.
        stock: that counts the connections of several.
    """

    def __init__(self, jobs: int, trust: Trust, proxies: Proxies, stock: Stock) -> None:
        self._limits = httpx.Limits(
            max_connections=jobs,
            max_keepalive_connections=jobs,
            keepalive_expiry=KEEPALIVE_SECONDS,
        )
        self._backend = Backend(jobs)
        self._trust = trust
        self._stock = stock
        self._proxy_of = lru_cache(MAX_KNOWN_ORIGINS)(proxies.of)
        self._pools: dict[tuple[str, bool, str, bool], httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends one request, and gives its answer before the body."""
        origin = _origin_of(request.url)
        proxy = self._proxy_of(origin)
        # A proxy's address is the user's choice, and the one behind it is not known.
        is_judged = not proxy and request.extensions.get(PLACE) is Place.OUTSIDE
        if is_judged:
            request.extensions["trace"] = _Judge(request)
        # What is in a pool was judged when it was opened.
        key = (origin.scheme, self._trust.is_own(origin), proxy, is_judged)
        if key not in self._pools:
            self._pools[key] = self._new_pool(origin, proxy)
        try:
            response = await self._pools[key].handle_async_request(request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if not proxy:
                raise
            raise type(error)(f"by the proxy {_authority(proxy)}: {words_of(error)}") from error
        assert isinstance(response.stream, httpx.AsyncByteStream), "an async transport made it"
        response.stream = _Body(response.stream)
        _keep_heeded(response)
        response.extensions[PROXIED] = bool(proxy)
        return response

    async def aclose(self) -> None:
        """Closes the pools."""
        while self._pools:
            transport = self._pools.popitem()[1]
            self._stock.pools.remove(transport._pool)  # noqa: SLF001 - as below
            await transport.aclose()

    def _new_pool(self, origin: Origin, proxy: str) -> httpx.AsyncHTTPTransport:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody
        if origin.scheme == "https":
            context = self._trust.context(origin)
        through = None
        if proxy:
            is_secure = parse_url(proxy).origin.scheme == "https"
            through = httpx.Proxy(
                proxy, ssl_context=self._trust.proxy_context() if is_secure else None
            )
        transport = httpx.AsyncHTTPTransport(
            verify=context, limits=self._limits, trust_env=False, proxy=through
        )
        pool = transport._pool  # noqa: SLF001 - httpx takes no pool of ours
        pool._network_backend = self._backend  # noqa: SLF001 - nor a backend
        assign_quickly(pool, self._stock)
        if through is not None:
            _close_what_fails(pool)
        return transport


def _origin_of(url: httpx.URL) -> Origin:
    """Where a request leads; its URL was read before, and only http and https get here."""
    port = DEFAULT_PORTS[url.scheme] if url.port is None else url.port
    return Origin(url.scheme, url.raw_host.decode("ascii"), port)


def _keep_heeded(response: httpx.Response) -> None:
    """Leaves of an answer's head what somebody heeds: it is kept for as long as the body streams.

    A field of three bytes takes some 400 here, and a head has room for thousands.
    """
    head = Head()
    for name, value in response.headers.raw:
        head.on_header(name, value)
    response.headers = httpx.Headers(
        [(name.encode("latin-1"), text.encode("latin-1")) for name, text in head.headers.items()]
    )
    response.extensions.pop("reason_phrase", None)


def _close_what_fails(pool: httpcore.AsyncConnectionPool) -> None:
    """Has each connection closed on which a request fails, as httpcore has it elsewhere.

    A tunnel in which there is no TLS it leaves open, and counts for ever; when there are as many as
    there may be connections, every other request would wait for ever.
    """
    create = pool.create_connection

    def create_closing(origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface:
        created = create(origin)
        # Not in a circle: with that what it had received would stay until the circles are looked
        # for.
        weak, send = weakref.ref(created), type(created).handle_async_request

        async def send_or_close(request: httpcore.Request) -> httpcore.Response:
            connection = weak()
            assert connection is not None, "its pool has it while a request is sent on it"
            try:
                return await send(connection, request)
            except httpcore.ConnectionNotAvailable:  # it is busy with another's request
                raise
            except BaseException:
                with trio.move_on_after(CLOSE_SECONDS, shield=True):
                    await connection.aclose()
                raise

        created.handle_async_request = send_or_close  # type: ignore[method-assign]
        return created

    pool.create_connection = create_closing  # type: ignore[method-assign]


class _NoCookies(httpx.Cookies):
    """Keeps none, and does not look for any: that takes a twentieth of a small object's time.

    A registry has no session with us, and a domain's cookies would reach its other hosts.
    """

    def extract_cookies(self, response: httpx.Response) -> None:
        """Leaves them."""


class _Judge:
    """Refuses a connection into a private network before anything is sent on it.

    Args:
        request: whose own trace is told everything too.
    """

    def __init__(self, request: httpx.Request) -> None:
        self._asked = Asked(request.method, parse_url(str(request.url)))
        self._trace = request.extensions.get("trace")

    async def __call__(self, event: str, facts: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            stream: httpcore.AsyncNetworkStream = facts["return_value"]
            try:
                refuse_inside(str(stream.get_extra_info("server_addr")[0]), self._asked)
            except RegistryError:
                await stream.aclose()
                raise
            except OSError as error:
                await stream.aclose()
                raise httpx.ConnectError(str(error)) from error
        if self._trace is not None:
            await self._trace(event, facts)


class _Body(httpx.AsyncByteStream):
    """A body whose connection is not used again if more came on it than belongs to the answer.

    The client would take that for the answer to its next request, and a tag's manifest has no
    digest that would show it (RFC 9112, section 11.1: response splitting). httpcore looks only for
    what has not been read from the socket yet.
    """

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    async def aclose(self) -> None:
        """Gives the connection back, or closes it."""
        state = _h11_state(self._stream)
        if state is not None and state.their_state is h11.DONE and state.trailing_data[0]:
            state.send_failed()  # which is not so, but makes httpcore close the connection
        await self._stream.aclose()


def _authority(proxy: str) -> str:
    """Of a proxy's URL, without its login."""
    return parse_url(proxy).origin.authority


def words_of(error: BaseException) -> str:
    """What an error says, or what it comes from: httpcore's are silent of a bad certificate."""
    return next((words for each in causes_of(error) if (words := str(each))), "")


def _h11_state(stream: httpx.AsyncByteStream) -> h11.Connection | None:
    """What reads the answers of a body's connection; None if httpcore is not as it was."""
    pooled: object = getattr(stream, "_httpcore_stream", None)
    body: object = getattr(pooled, "_stream", None)
    state: object = getattr(getattr(body, "_connection", None), "_h11_state", None)
    return state if isinstance(state, h11.Connection) else None


def new_client(  # noqa: PLR0913 - each can be left out
    jobs: int,
    *,
    stall_seconds: float = READ_TIMEOUT_SECONDS,
    connect_seconds: float = CONNECT_TIMEOUT_SECONDS,
    trust: Trust | None = None,
    proxies: Proxies | None = None,
    stock: Stock | None = None,
) -> httpx.AsyncClient:
    """A client, to be entered and closed by its owner.

    Args:
        jobs: requests at the same time.
        stall_seconds: between two bytes, at most.
        connect_seconds: until a connection is open, at most.
        trust: the certificates; None for the system's alone.
        proxies: None for none.
        stock: shared with other clients; None for one of its own.
    """
    timeout = httpx.Timeout(
        connect=connect_seconds,
        read=stall_seconds,
        write=stall_seconds,
        pool=POOL_TIMEOUT_SECONDS,
    )
    client = httpx.AsyncClient(
        transport=Transport(jobs, trust or Trust(), proxies or Proxies(), stock or Stock(jobs)),
        timeout=timeout,
        trust_env=False,
        follow_redirects=False,
    )
    client._cookies = _NoCookies()  # noqa: SLF001 - the client would copy them into its own
    return client
