"""What repositories of one run share: a host's connections and pace, roots, bounds on memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from multi_fetch.leases import Leases
from multi_fetch.limits import MAX_IDLE_HOSTS
from multi_fetch.registry.exchanges import open_exchange
from multi_fetch.registry.hosts import Host
from multi_fetch.registry.proxies import Proxies
from multi_fetch.registry.ranges import Ranges
from multi_fetch.registry.stock import Stock
from multi_fetch.registry.tls import Contexts
from multi_fetch.remotes import Patience
from multi_fetch.shelf import Shelves

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from multi_fetch.registry.exchange import Exchange


class _Wanted(msgspec.Struct, frozen=True):
    """The arguments of ``open_exchange``."""

    host: Host
    jobs: int
    patience: Patience
    proxies: Proxies | None
    is_last: bool


class Shared:
    """For ``open_registry``, as often as it is called.

    Attributes:
        exchanges: the context for whose time this can be used.
        shelves: for layouts among the repositories.
    """

    def __init__(self) -> None:
        self.exchanges: Leases[_Wanted, Exchange] = Leases(self._open, idle=MAX_IDLE_HOSTS)
        self._stock: Stock | None = None
        self._contexts = Contexts()
        self.shelves = Shelves()
        self._ranges: dict[int, Ranges] = {}

    def open_exchange(
        self,
        host: Host,
        *,
        jobs: int,
        patience: Patience,
        proxies: Proxies | None = None,
        is_last: bool = True,
    ) -> AbstractAsyncContextManager[Exchange]:
        """As ``exchanges.open_exchange``; the same one for the same arguments."""
        return self.exchanges.lend(_Wanted(host, jobs, patience, proxies, is_last))

    def ranges(self, count: int) -> Ranges:
        """What blobs share that come over so many connections; the same for all repositories."""
        return self._ranges.setdefault(count, Ranges(count))

    def _open(self, wanted: _Wanted) -> AbstractAsyncContextManager[Exchange]:
        if self._stock is None:
            self._stock = Stock(wanted.jobs)
        return open_exchange(
            wanted.host,
            jobs=wanted.jobs,
            patience=wanted.patience,
            proxies=wanted.proxies,
            is_last=wanted.is_last,
            stock=self._stock,
            contexts=self._contexts,
        )
