"""httpx, imported and opened when the first request needs it: that takes some 40 ms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multi_fetch.durations import CONNECT_TIMEOUT_SECONDS
from multi_fetch.registry.place import Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from multi_fetch.registry.answer import Answer
    from multi_fetch.registry.httpx_lane import HttpxLane
    from multi_fetch.registry.proxies import Proxies
    from multi_fetch.registry.stock import Stock
    from multi_fetch.registry.tls import Trust
    from multi_fetch.registry.url import Url


class GeneralLane:
    """A lane for everything that opens itself; see ``exchange.Lane``.

    Args:
        jobs: requests at the same time.
        stall_seconds: between two bytes, at most.
        connect_seconds: until a connection is open, at most.
        trust: the certificates; None for the system's alone.
        proxies: which of the requests go through one; None for none.
        stock: shared with other lanes; None for one of its own.
    """

    def __init__(  # noqa: PLR0913 - most can be left out
        self,
        *,
        jobs: int,
        stall_seconds: float,
        connect_seconds: float = CONNECT_TIMEOUT_SECONDS,
        trust: Trust | None = None,
        proxies: Proxies | None = None,
        stock: Stock | None = None,
    ) -> None:
        self._jobs = jobs
        self._stall_seconds = stall_seconds
        self._connect_seconds = connect_seconds
        self._trust = trust
        self._proxies = proxies
        self._stock = stock
        self._client: httpx.AsyncClient | None = None
        self._lane: HttpxLane | None = None

    async def send(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        form: str | None = None,
        place: Place = Place.ANYWHERE,
    ) -> Answer:
        """Sends a request as it is; gives the answer, whatever its status.

        Raises:
            MultiFetchError: there is no answer.
        """
        if self._lane is None:
            from multi_fetch.registry.httpx_lane import HttpxLane
            from multi_fetch.registry.proxies import NO_PROXIES
            from multi_fetch.registry.transport import new_client

            self._client = new_client(
                self._jobs,
                stall_seconds=self._stall_seconds,
                connect_seconds=self._connect_seconds,
                trust=self._trust,
                proxies=self._proxies,
                stock=self._stock,
            )
            self._lane = HttpxLane(
                self._client,
                stall_seconds=self._stall_seconds,
                proxies=self._proxies or NO_PROXIES,
            )
        return await self._lane.send(method, url, headers, form, place)

    async def aclose(self) -> None:
        """Closes what was opened."""
        if self._client is not None:
            await self._client.aclose()
