"""The HTTP client: how many connections, how much patience, whose certificates."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import httpx

from multi_fetch.limits import (
    CONNECT_TIMEOUT_SECONDS,
    KEEPALIVE_SECONDS,
    POOL_TIMEOUT_SECONDS,
    READ_TIMEOUT_SECONDS,
)

if TYPE_CHECKING:
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
            _load_roots(self._context)
            self._has_roots = True
        return await super().handle_async_request(request)


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
        transport=Transport(limits), timeout=timeout, trust_env=False, follow_redirects=False
    )


def _load_roots(context: ssl.SSLContext) -> None:
    """The system's roots, as curl and Go use them; certifi's where the system has none."""
    context.load_default_certs()
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None and paths.capath is None:
        import certifi

        context.load_verify_locations(certifi.where())
