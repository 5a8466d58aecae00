"""Where a registry is, and how it is reached; and which addresses count as inside.

A host is judged by its text: names are not looked up here (see place.py). "Inside" is what the
public internet cannot reach: loopback, private and link-local addresses. A public registry may not
send us there.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import quote

import msgspec

from multi_fetch.errors import InvalidReferenceError
from multi_fetch.registry.concealment import Discreet
from multi_fetch.registry.tls import DEFAULT_TLS, Tls

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from multi_fetch.registry.url import Origin

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# RFC 6052, section 2.1, and RFC 8215: IPv6 that a gateway makes IPv4; the latter leads anywhere.
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
LOCAL_NAT64: Final = ipaddress.IPv6Network("64:ff9b:1::/48")

# RFC 4291, section 2.5.5.1, and RFC 7915: the last four bytes are IPv4, for systems and gateways.
IPV4_ENDS: Final = (
    NAT64,
    ipaddress.IPv6Network("::/96"),
    ipaddress.IPv6Network("::ffff:0:0:0/96"),
)
# RFC 6890: for protocols, and where a cloud tells a machine its secrets (192.0.0.192).
PROTOCOLS: Final = ipaddress.IPv4Network("192.0.0.0/24")

PORT = re.compile(r":([0-9]{1,9})\Z", re.ASCII)
MAX_PORT: Final = 65_535

# Docker Hub's name is not where it answers (distribution/reference, and moby's registry package).
HUB: Final = "docker.io"
_DOCKER_HUB: Final[Mapping[str, str]] = {
    HUB: "registry-1.docker.io",
    "index.docker.io": "registry-1.docker.io",
}


# A path that has the namespace already: a link to a further page, from a proxy.
NAMESPACE = re.compile(r"[?&]ns=")

# distribution-spec, "Endpoints": what all paths begin with.
API_ROOT: Final = "/v2"


class PrivateHost(msgspec.Struct, frozen=True):
    """A host that the user allows to be inside, whoever names it.

    Attributes:
        host: as in URLs: in lower case, IPv6 without brackets.
        port: None for any.
    """

    host: str
    port: int | None = None

    def is_at(self, origin: Origin) -> bool:
        """Whether connections to an origin lead there."""
        return self.host == origin.host.rstrip(".") and self.port in {None, origin.port}


class Host(Discreet, msgspec.Struct, frozen=True):
    """A registry's endpoint, or a mirror's.

    Attributes:
        scheme: ``https`` or ``http``.
        authority: the host, with its port where one is written; IPv6 in brackets.
        root: what the API's paths begin with here: ``/v2``, or what stands in its place.
        namespace: the registry that is asked for, where this is another; else empty.
        may_pull: whether objects are fetched from it.
        may_resolve: whether it is trusted with what a tag stands for.
        headers: sent to it, and not to where it leads.
        tls: the certificates.
        connect_seconds: how long a connection may take to open; None for the default.
        proxy: the URL of the proxy for it, whatever the environment says; else empty.
        may_name: who may be in a private network though it, or where it leads, is not.
        is_plain: whether http will do for a login on the network too, where a registry on this
            machine names a token service on another. To name that machine by http says nothing of
            the network.
    """

    scheme: str
    authority: str
    root: str = API_ROOT
    namespace: str = ""
    may_pull: bool = True
    may_resolve: bool = True
    headers: tuple[tuple[str, str], ...] = ()
    tls: Tls = DEFAULT_TLS
    connect_seconds: float | None = None
    proxy: str = ""
    may_name: tuple[PrivateHost, ...] = ()
    is_plain: bool = False

    @property
    def url(self) -> str:
        """What the paths of the API are appended to, without a slash at its end."""
        return f"{self.scheme}://{self.authority}"

    def target(self, path: str) -> str:
        """The API's path as it is here.

        distribution-spec, "Registry Proxying": ``ns`` tells a proxy whose repository is meant.
        """
        if self.root != API_ROOT:
            path = self.root + path.removeprefix(API_ROOT)
        if not self.namespace or NAMESPACE.search(path):
            return path
        return f"{path}{'&' if '?' in path else '?'}ns={quote(self.namespace, safe=':')}"

    def path(self, target: str) -> str:
        """The API's path that a path as it is here stands for: ``target``, the other way."""
        is_moved = self.root != API_ROOT and target.startswith(f"{self.root}/")
        return API_ROOT + target.removeprefix(self.root) if is_moved else target

    def __repr__(self) -> str:  # headers and the proxy's URL may hold secrets
        return f"Host({self.url + self.root!r})"


# RFC 6761, section 6.4: a name that is nobody's, where there is no registry but certificates.
NOBODY: Final = Host("https", "nobody.invalid")


def load_hosts(
    hosts_dir: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], registry: str
) -> list[Host]:
    """The hosts to ask for a registry's objects, in order; the registry itself is commonly last.

    Args:
        hosts_dir: containerd's ``certs.d`` with ``<registry>/hosts.toml``, or Docker's with
            ``<registry>/*.crt``; of several the first that knows the registry decides. Empty for
            none.
        registry: as in references: ``docker.io``, ``registry.example:5000``.

    Returns:
        At least one host: the registry's own, if nothing is said of it.

    Raises:
        HostsError: a file cannot be read or understood; names it, and the key in it.
        InvalidReferenceError: no host can have this name or port.
    """
    own = default_host(registry)
    if not hosts_dir:
        return [own]
    from multi_fetch.registry.hosts_file import find_folder, read_folder

    folder = find_folder(hosts_dir, registry)
    return [own] if folder is None else read_folder(folder, registry, own)


def default_host(hostname: str) -> Host:
    """The endpoint of a reference's host name: https, and plain http only on this machine.

    Raises:
        InvalidReferenceError: no host can have this name or port.
    """
    authority = where_it_answers(hostname)
    _check_authority(authority)
    scheme = "http" if is_loopback(without_port(authority)) else "https"
    return Host(scheme, authority)


def where_it_answers(authority: str) -> str:
    """The authority under which a registry answers: Docker Hub's name is another."""
    return _DOCKER_HUB.get(authority.lower(), authority)


def name_of(host: Host) -> str:
    """What users call a host where they log in: ``docker.io``, though that answers elsewhere."""
    return HUB if host.authority in _DOCKER_HUB.values() else host.authority


def without_port(authority: str) -> str:
    """An authority's host alone, IPv6 without its brackets."""
    if authority.startswith("["):  # so that no colon within is taken for a port's
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def _check_authority(authority: str) -> None:
    port = PORT.search(authority)
    if port is not None and int(port[1]) > MAX_PORT:
        raise InvalidReferenceError(
            f"{authority[:300]!r} is not a host: ports end at {MAX_PORT}: write another"
        )
    try:
        # as the look-up does it: labels have 1 to 63 bytes, and "xn--" cannot be
        without_port(authority).encode("idna").decode("idna")
    except UnicodeError as error:
        raise InvalidReferenceError(
            f"{authority[:300]!r} is not a host: {error}: check its spelling"
        ) from error


# Each redirect asks this of the same few places.
@lru_cache(maxsize=256)
def is_inside(host: str) -> bool:
    """Whether a host (no port; IPv6 with or without brackets) is loopback, private, link-local."""
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    address = _address(host)
    return address is not None and not _is_global(address)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine; not where a gateway would have to send it back here."""
    address = _literal(host)
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    return host.lower() == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> Address | None:
    address = _literal(host)
    embedded = _embedded(address) if isinstance(address, ipaddress.IPv6Address) else None
    return embedded or address


def _literal(host: str) -> Address | None:
    # Of IPv6 it is a zone (RFC 4007); else a part of a name, that may stand for anything.
    text = host.partition("%")[0] if ":" in host else host
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return _old_style_address(host)


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one leads to: by its form, by 6to4, or by a gateway."""
    embedded = address.ipv4_mapped or address.sixtofour
    if address.is_loopback or address.is_unspecified:
        return None
    if embedded is None and any(address in network for network in IPV4_ENDS):
        embedded = ipaddress.IPv4Address(address.packed[-4:])
    return embedded


def _is_global(address: Address) -> bool:
    is_local = address in PROTOCOLS
    if isinstance(address, ipaddress.IPv6Address):
        is_local = address.is_site_local or address in LOCAL_NAT64
    return address.is_global and not is_local


def _old_style_address(host: str) -> Address | None:
    # "127.1", "0x7f.0.0.1" and "2130706433" connect to loopback too: inet_aton(3).
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None
