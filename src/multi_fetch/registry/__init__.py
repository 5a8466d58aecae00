"""A remote over HTTP: the registries of distribution-spec. The only room that knows httpx.

From the outside in: ``open_registry`` makes a ``RegistryRemote`` (resolver.py), which asks
``Session`` for answers (session.py), which asks ``Authorizer`` what to send (authorizer.py).
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from multi_fetch.errors import InvalidReferenceError
from multi_fetch.limits import DEFAULT_JOBS, DEFAULT_RANGES
from multi_fetch.registry.credentials import Credential
from multi_fetch.registry.exchanges import open_exchange
from multi_fetch.registry.hosts import default_host
from multi_fetch.registry.resolver import RegistryRemote
from multi_fetch.registry.session import Session
from multi_fetch.registry.tls import Contexts
from multi_fetch.remotes import DEFAULT_PATIENCE, Patience

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from multi_fetch.oci.reference import Reference
    from multi_fetch.registry.credentials import Keychain
    from multi_fetch.registry.exchange import Exchange
    from multi_fetch.registry.hosts import Host
    from multi_fetch.registry.proxies import Proxies
    from multi_fetch.registry.ranges import Ranges
    from multi_fetch.registry.shared import Shared
    from multi_fetch.remotes import Remote


@asynccontextmanager
async def open_registry(  # noqa: PLR0913 - as for open_remote
    ref: Reference,
    *,
    username: str = "",
    password: str = "",
    keychain: Keychain | None = None,
    jobs: int = DEFAULT_JOBS,
    patience: Patience = DEFAULT_PATIENCE,
    hosts: Sequence[Host] = (),
    proxies: Proxies | None = None,
    foreign_urls: bool = False,
    ranges: int = DEFAULT_RANGES,
    shared: Shared | None = None,
) -> AsyncIterator[Remote]:
    """The remote of a reference's repository; arguments as for ``remotes.open_remote``.

    Raises:
        InvalidReferenceError: the reference names no repository.
    """
    if not ref.repository:
        raise InvalidReferenceError(f"{ref} names no repository: write <host>/<repository>")
    login = Credential(username=username, password=password) if username or password else None
    hosts = hosts or [default_host(ref.hostname)]
    last = {_last(hosts, "may_pull"), _last(hosts, "may_resolve")}
    several = _several(ranges, shared)
    jobs += several.most_connections if several else 0
    opening = partial(_opener(shared), jobs=jobs, patience=patience, proxies=proxies)
    async with AsyncExitStack() as stack:
        remotes, sessions = [], {}
        for number, host in enumerate(hosts):
            exchange = await stack.enter_async_context(opening(host, is_last=number in last))
            own = None if host.namespace else login  # no mirror is told the registry's
            sessions[host.url] = Session(exchange, host, own, ref.repository, keychain=keychain)
            remotes.append(RegistryRemote(sessions[host.url], ref, several))
        remote = _together(hosts, remotes, sessions, ref)
        if foreign_urls:
            open_more = _foreign(remote, _registry(hosts, ref), sessions)
            more = open_more(jobs=jobs, patience=patience, proxies=proxies)
            remote = await stack.enter_async_context(more)
        yield remote


def _opener(shared: Shared | None) -> Callable[..., AbstractAsyncContextManager[Exchange]]:
    if shared is None:
        return partial(open_exchange, contexts=Contexts())
    return shared.open_exchange


def _several(count: int, shared: Shared | None) -> Ranges | None:
    """What the hosts share of blobs that come over several connections, if any may."""
    if count == 1:
        return None
    if shared is not None:
        return shared.ranges(count)
    from multi_fetch.registry.ranges import Ranges

    return Ranges(count)


def _together(
    hosts: Sequence[Host],
    remotes: Sequence[RegistryRemote],
    sessions: Mapping[str, Session],
    ref: Reference,
) -> Remote:
    """The hosts' remotes as one."""
    if len(remotes) == 1 and hosts[0].may_pull and hosts[0].may_resolve:
        return remotes[0]
    from multi_fetch.registry.mirrors import MirroredRemote
    from multi_fetch.registry.source import Source

    standings = [sessions[host.url].standing for host in hosts]
    return MirroredRemote(list(map(Source, hosts, remotes, standings)), ref.locator)


def _foreign(
    remote: Remote, registry: Host, sessions: Mapping[str, Session]
) -> Callable[..., AbstractAsyncContextManager[Remote]]:
    """What opens the remote once more, as one that asks foreign URLs too."""
    from multi_fetch.registry.foreign import open_foreign_urls

    return partial(open_foreign_urls, remote, registry, sessions.get(registry.url))


def _registry(hosts: Sequence[Host], ref: Reference) -> Host:
    """The registry itself, among its mirrors or not."""
    own = replace(default_host(ref.hostname), may_name=hosts[0].may_name)
    return next((host for host in hosts if not host.namespace), own)


def _last(hosts: Sequence[Host], capability: str) -> int:
    """The last host that has a capability: there is no other to ask in its place."""
    able = [number for number, host in enumerate(hosts) if getattr(host, capability)]
    return able[-1] if able else -1
