"""Where a registry is: its scheme and authority, and which addresses count as inside.

A host is judged by its text: names are not looked up here. "Inside" is what the public internet
cannot reach: loopback, private and link-local addresses. A public registry may not send us there.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from multi_fetch.errors import InvalidReferenceError

if TYPE_CHECKING:
    from collections.abc import Mapping

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

PORT = re.compile(r":([0-9]{1,9})\Z", re.ASCII)
MAX_PORT: Final = 65_535

# Docker Hub's name is not where it answers (distribution/reference, and moby's registry package).
_DOCKER_HUB: Final[Mapping[str, str]] = {
    "docker.io": "registry-1.docker.io",
    "index.docker.io": "registry-1.docker.io",
}


class Host(msgspec.Struct, frozen=True):
    """A registry's endpoint.

    Attributes:
        scheme: ``https`` or ``http``.
        authority: the host, with its port where one is written; IPv6 in brackets.
    """

    scheme: str
    authority: str

    @property
    def url(self) -> str:
        """What the paths of the API are appended to, without a slash at its end."""
        return f"{self.scheme}://{self.authority}"


def default_host(hostname: str) -> Host:
    """The endpoint of a reference's host name: https, and plain http only on this machine.

    Raises:
        InvalidReferenceError: no host can have this name or port.
    """
    authority = _DOCKER_HUB.get(hostname.lower(), hostname)
    _check_authority(authority)
    scheme = "http" if _is_loopback(without_port(authority)) else "https"
    return Host(scheme, authority)


def without_port(authority: str) -> str:
    """An authority's host alone, IPv6 without its brackets."""
    if authority.startswith("["):  # so that no colon within is taken for a port's
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def _check_authority(authority: str) -> None:
    port = PORT.search(authority)
    if port is not None and int(port[1]) > MAX_PORT:
        raise InvalidReferenceError(f"{authority[:300]!r} is not a host: ports end at {MAX_PORT}")
    try:
        # as the look-up does it: labels have 1 to 63 bytes, and "xn--" cannot be
        without_port(authority).encode("idna").decode("idna")
    except UnicodeError as error:
        raise InvalidReferenceError(f"{authority[:300]!r} is not a host: {error}") from error


def is_inside(host: str) -> bool:
    """Whether a host (no port; IPv6 with or without brackets) is loopback, private, link-local."""
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    address = _address(host)
    return address is not None and not address.is_global


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host.lower() == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> Address | None:
    try:
        address: Address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return _old_style_address(host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _old_style_address(host: str) -> Address | None:
    # "127.1", "0x7f.0.0.1" and "2130706433" connect to loopback too: inet_aton(3).
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None
