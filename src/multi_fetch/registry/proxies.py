"""Which proxy a request goes through, if any.

The variables have no standard; curl, Go and Python agree on most. What is done here: the scheme's
own proxy, else that for all; NO_PROXY as Go reads it; and this machine is asked through one only
where a user says so of just that host.
"""

from __future__ import annotations

import base64
import ipaddress
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import msgspec

from multi_fetch.errors import HostsError, RegistryError
from multi_fetch.registry.concealment import Discreet
from multi_fetch.registry.hosts import is_loopback
from multi_fetch.registry.url import parse_url

if TYPE_CHECKING:
    from multi_fetch.registry.url import Origin

# What is set is read for each request otherwise, with all of NO_PROXY.
MAX_KNOWN_ORIGINS: Final = 256

SCHEMES: Final = frozenset({"http", "https"})


class Proxies(Discreet, msgspec.Struct, frozen=True, kw_only=True):
    """The proxies' URLs, as the environment's variables have them; empty for none.

    Attributes:
        http: for http.
        https: for https.
        all: for both, where they have none of their own.
        loopback: whether this machine is asked through them too.
        no_proxy: hosts that are asked directly, by commas or blanks: ``*`` for all; names, with
            those below them (with a dot in front these alone); addresses and networks (CIDR); each
            with a port, if only that is meant.
    """

    http: str = ""
    https: str = ""
    all: str = ""
    no_proxy: str = ""
    loopback: bool = False

    def of(self, origin: Origin) -> str:
        """The proxy's URL for an origin, or an empty text.

        Raises:
            HostsError: what is set is no proxy that can be used.
        """
        text = (self.https if origin.scheme == "https" else self.http) or self.all
        if not text or self._is_excepted(origin):
            return ""
        if not self.loopback and is_loopback(origin.host):
            return ""
        return parse_proxy(text)

    def login(self, origin: Origin) -> dict[str, str]:
        """The header that the proxy for an origin gets with each request, if its URL has a login.

        Raises:
            HostsError: as for ``of``.
        """
        url = self.of(origin)
        if "@" not in url:
            return {}
        parts = urlsplit(url)
        pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        encoded = base64.b64encode(pair.encode()).decode("ascii")
        return {"Proxy-Authorization": f"Basic {encoded}"}

    def _is_excepted(self, origin: Origin) -> bool:
        patterns = self.no_proxy.replace(",", " ").lower().split()
        return any(_matches(each, origin) for each in patterns)


NO_PROXIES: Final = Proxies()


def parse_proxy(text: str) -> str:
    """A proxy's URL, whose scheme may be left out.

    Raises:
        HostsError: it is none that can be used. The message has no password.
    """
    url = text if "://" in text else f"http://{text}"
    shown = _shown(text)
    try:
        parts = urlsplit(url)
        is_good = bool(parts.hostname) and parts.port != 0 and url.isascii() and url.isprintable()
    except ValueError:
        is_good, parts = False, urlsplit("")
    if not is_good or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise HostsError(f"{shown!r} is no proxy: write http://<host>:<port>")
    if parts.scheme not in SCHEMES:
        raise HostsError(
            f"the proxy {shown!r} cannot be used: {parts.scheme} is not known here, http and https"
            " are: use one of these"
        )
    try:
        parse_url(url)
    except RegistryError as error:
        raise HostsError(
            f"the proxy {shown!r} cannot be used: {error.message}: check its name"
        ) from error
    return url


def _shown(text: str) -> str:
    """A proxy's URL for messages: without its login, even where that has no host behind it."""
    _, at, place = text.rpartition("@")
    before, colon, port = place.rpartition(":")
    if not at and colon and not port.isdigit() and not port.startswith("//"):
        place = f"{before}:..."
    return place[:200]


def _matches(pattern: str, origin: Origin) -> bool:
    """Whether an entry of NO_PROXY means an origin (Go, golang.org/x/net/http/httpproxy)."""
    if pattern in {"", "*"}:
        return pattern == "*"
    name, port = _split_port(pattern)
    if port and port != str(origin.port):
        return False
    host = origin.host.rstrip(".")
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False)
    except ValueError:
        name = name.removeprefix("*")
        return host.endswith(name) if name.startswith(".") else f".{host}".endswith(f".{name}")


def _split_port(pattern: str) -> tuple[str, str]:
    if pattern.startswith("["):
        name, _, rest = pattern[1:].partition("]")
        return name, rest.removeprefix(":")
    name, _, port = pattern.rpartition(":")
    is_port = port.isdigit() and ":" not in name  # else it is IPv6
    return (name, port) if name and is_port else (pattern, "")
