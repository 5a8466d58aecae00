"""The HTTP client: how many connections, how much patience, whose certificates."""

from __future__ import annotations

import ssl
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING

import h11
import httpx

from multi_fetch.limits import (
    CONNECT_TIMEOUT_SECONDS,
    KEEPALIVE_SECONDS,
    POOL_TIMEOUT_SECONDS,
    READ_TIMEOUT_SECONDS,
)
from multi_fetch.registry.tls import load_roots

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self


class Transport(httpx.AsyncHTTPTransport):
    """httpx's own, but the root certificates are read when the first https request comes.

    Reading them takes some 20 to 40 ms, which a registry on this machine never needs. Until then
    the context trusts nobody.
    """

    def __init__(self, limits: httpx.Limits) -> None:
        self._context: ssl.SSLContext = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._has_roots = False
        super().__init__(verify=self._context, limits=limits, trust_env=False)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends one request, and gives its answer before the body."""
        if request.url.scheme == "https" and not self._has_roots:
            load_roots(self._context)
            self._has_roots = True
        response = await super().handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream), "an async transport made it"
        response.stream = _Body(response.stream)
        return response


class _Body(httpx.AsyncByteStream):
    """A body whose connection is not used again if more came on it than belongs to the answer.

    The client would take that for the answer to its next request, and a tag's manifest has no
    digest that would show it (RFC 9112, section 11.2: response splitting). httpcore looks only for
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


def _h11_state(stream: httpx.AsyncByteStream) -> h11.Connection | None:
    """What reads the answers of a body's connection; None if httpcore is not as it was."""
    pooled: object = getattr(stream, "_httpcore_stream", None)
    body: object = getattr(pooled, "_stream", None)
    state: object = getattr(getattr(body, "_connection", None), "_h11_state", None)
    return state if isinstance(state, h11.Connection) else None


def new_client(jobs: int, *, stall_seconds: float = READ_TIMEOUT_SECONDS) -> httpx.AsyncClient:
    """A client, to be entered and closed by its owner.

    Args:
        jobs: requests at the same time.
        stall_seconds: between two bytes, at most.
    """
    limits = httpx.Limits(
        max_connections=jobs,
        max_keepalive_connections=jobs,
        keepalive_expiry=KEEPALIVE_SECONDS,
    )
    timeout = httpx.Timeout(
        connect=CONNECT_TIMEOUT_SECONDS,
        read=stall_seconds,
        write=stall_seconds,
        pool=POOL_TIMEOUT_SECONDS,
    )
    return httpx.AsyncClient(
        transport=Transport(limits),
        timeout=timeout,
        # A registry has no session with us, and a domain's cookies would reach its other hosts.
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
        trust_env=False,
        follow_redirects=False,
    )
