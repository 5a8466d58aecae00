"""From a host to what sends its requests: lanes, certificates, proxies, patience."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypedDict

from msgspec.structs import replace

from multi_fetch.durations import (
    CONNECT_TIMEOUT_SECONDS,
    MIRROR_CONNECT_TIMEOUT_SECONDS,
    MIRROR_STALL_SECONDS,
)
from multi_fetch.registry.exchange import Exchange
from multi_fetch.registry.fast_lane import FastLane
from multi_fetch.registry.general_lane import GeneralLane
from multi_fetch.registry.proxies import NO_PROXIES, Proxies
from multi_fetch.registry.tls import Trust
from multi_fetch.registry.url import parse_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from multi_fetch.registry.hosts import Host
    from multi_fetch.registry.stock import Stock
    from multi_fetch.registry.tls import Contexts
    from multi_fetch.registry.url import Origin
    from multi_fetch.remotes import Patience


class _Waits(TypedDict):
    """As both lanes take them."""

    stall_seconds: float
    connect_seconds: float


@asynccontextmanager
async def open_exchange(  # noqa: PLR0913 - each can be left out
    host: Host,
    *,
    jobs: int,
    patience: Patience,
    proxies: Proxies | None = None,
    is_last: bool = True,
    stock: Stock | None = None,
    contexts: Contexts | None = None,
) -> AsyncIterator[Exchange]:
    """What sends requests to a host, and to where it leads.

    Args:
        host: its certificates, headers and proxy count.
        jobs: requests at the same time.
        patience: with it.
        proxies: for it, if it has no proxy of its own, and for where it leads; None for none.
        is_last: whether no other can be asked in its place; else there is less patience with it.
        stock: that several hosts share; None for its own.
        contexts: the same.
    """
    origin = parse_url(host.url).origin
    connect_seconds = host.connect_seconds or CONNECT_TIMEOUT_SECONDS
    if not is_last:
        connect_seconds = host.connect_seconds or MIRROR_CONNECT_TIMEOUT_SECONDS
        patience = _less(patience)
    proxies = _proxies_of(host) or proxies or NO_PROXIES
    trust = Trust(host.tls, origin, contexts)
    waits = _Waits(stall_seconds=patience.stall_seconds, connect_seconds=connect_seconds)
    general = GeneralLane(jobs=jobs, trust=trust, proxies=proxies, stock=stock, **waits)
    fast = FastLane(trust.context, jobs=jobs, stock=stock, **waits)
    own = _own_headers(host, origin)
    sending = partial(Exchange, own=own, trust=trust, may_name=host.may_name)
    try:
        yield sending(general, jobs=jobs, patience=patience, fast=fast, proxies=proxies)
    finally:
        fast.close()
        await general.aclose()


def _proxies_of(host: Host) -> Proxies | None:
    return Proxies(all=host.proxy, loopback=True) if host.proxy else None


def _own_headers(host: Host, origin: Origin) -> tuple[Origin, Mapping[str, str]] | None:
    return (origin, dict(host.headers)) if host.headers else None


def _less(patience: Patience) -> Patience:
    """With a host in whose place another can be asked."""
    stall_seconds = min(patience.stall_seconds, MIRROR_STALL_SECONDS)
    return replace(patience, retries=0, stall_seconds=stall_seconds)
