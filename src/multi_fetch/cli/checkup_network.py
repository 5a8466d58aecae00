"""Steps of ``multi-fetch doctor`` below HTTP: a proxy, a name's addresses, a connection, TLS."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import trio

from multi_fetch.errors import UnavailableError
from multi_fetch.registry.proxies import Proxies
from multi_fetch.registry.tls import new_context, roots
from multi_fetch.registry.url import parse_url

if TYPE_CHECKING:
    from multi_fetch.cli.checkup import Checkup
    from multi_fetch.registry.hosts import Host
    from multi_fetch.registry.url import Origin

# A certificate that has less left is soon a matter of urgency.
SOON: Final = timedelta(days=14)

MAX_ADDRESSES: Final = 8


async def check_network(checkup: Checkup, host: Host, proxies: Proxies) -> bool:
    """Goes from the host's name to a connection under TLS; tells whether HTTP can be tried.

    Behind a proxy, names and TLS are reached through it alone: then the proxy is what is looked at.
    """
    origin = parse_url(host.url).origin
    own = Proxies(all=host.proxy, loopback=True) if host.proxy else None
    proxy = await checkup.take("proxy", lambda: _proxy(own or proxies, origin))
    if proxy is None:
        return False
    target = parse_url(proxy).origin if proxy else origin
    checkup.ok("proxy", f"{target} for {origin}" if proxy else f"none for {origin}")
    addresses = await checkup.take("addresses", lambda: _addresses(target))
    if addresses is None:
        return False
    checkup.ok("addresses", f"{target.host}: {', '.join(addresses)}")
    stream = await checkup.take("connection", lambda: _connect(target))
    if stream is None:
        return False
    async with stream:
        peer = stream.socket.getpeername()
        checkup.ok("connection", f"{peer[0]} port {peer[1]}")
        if proxy or origin.scheme != "https":
            return True
        return await checkup.take("tls", lambda: _tls(checkup, host, stream)) is not None


async def _proxy(proxies: Proxies, origin: Origin) -> str:
    return proxies.of(origin)


async def _addresses(origin: Origin) -> list[str]:
    try:
        found = await trio.socket.getaddrinfo(origin.host, origin.port, type=ssl.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UnavailableError(f"no address for {origin.host}: {error}") from error
    return list(dict.fromkeys(str(each[4][0]) for each in found))[:MAX_ADDRESSES]


async def _connect(origin: Origin) -> trio.SocketStream:
    try:
        return await trio.open_tcp_stream(origin.host, origin.port)
    except OSError as error:
        last: BaseException = error.__cause__ or error
        while isinstance(last, BaseExceptionGroup):
            last = last.exceptions[-1]
        why = os.strerror(last.errno) if isinstance(last, OSError) and last.errno else str(last)
        raise UnavailableError(f"no connection to {origin.authority}: {why}") from error


async def _tls(checkup: Checkup, host: Host, stream: trio.SocketStream) -> bool:
    origin = parse_url(host.url).origin
    context = new_context(host.tls, is_own=True)
    secure = trio.SSLStream(stream, context, server_hostname=origin.host, https_compatible=True)
    try:
        await secure.do_handshake()
    except trio.BrokenResourceError as error:
        raise UnavailableError(f"no TLS with {origin.authority}: {error.__cause__}") from error
    _tell(checkup, host, secure)
    return True


def _tell(checkup: Checkup, host: Host, secure: trio.SSLStream[trio.SocketStream]) -> None:
    certificate = secure.getpeercert()
    if not host.tls.is_verified or not certificate:
        checkup.warn(
            "tls",
            f"{secure.version()}, and nobody looks whose certificate it is",
            "leave out --insecure (or skip_verify), and give the authority's with --ca-file",
        )
        return
    until = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)
    left = until - datetime.now(UTC)
    trusted = " and ".join([roots(), *host.tls.ca_files])
    said = (
        f"{secure.version()}, certificate of {_name(certificate['subject'])}, issued by"
        f" {_name(certificate['issuer'])}, good until {until:%Y-%m-%d} ({left.days} days),"
        f" trusted by {trusted}"
    )
    if host.tls.client_pairs:
        said += f"; {host.tls.client_pairs[-1][0]} was shown"
    if left < SOON:
        checkup.warn("tls", said, "the registry's operator has to renew the certificate soon")
    else:
        checkup.ok("tls", said)


def _name(parts: object) -> str:
    """The common name, or else the organisation's, of what Python makes of an X.509 name."""
    assert isinstance(parts, tuple)
    fields = dict(pair for part in parts for pair in part)
    return fields.get("commonName") or fields.get("organizationName") or "nobody"
