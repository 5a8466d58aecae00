"""URLs: where a connection leads, and what is asked for there.

RFC 3986, as far as http and https need it. What servers write into Location is often not quite a
URL; what browsers would repair is repaired here: blanks and letters beyond ASCII are encoded.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from multi_fetch.errors import RegistryError
from multi_fetch.registry.api import redacted
from multi_fetch.registry.concealment import Discreet
from multi_fetch.registry.errcode import printable

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

# RFC 3986, section 2: what stands in a path and query as it is.
TARGET_CHARACTERS: Final = "/?:@!$&'()*+,;=-._~%[]|"
HOST = re.compile(r"(?!\.)(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._~-]+)?)")
# What stands where a port should, and is none: a password, if a host was forgotten behind it.
NO_PORT = re.compile(r":(?!//|[0-9]*(?:/|\Z))[^/\[\]]+", re.ASCII)
ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*://", re.ASCII | re.IGNORECASE)
# RFC 9110, section 4.1: 8,000 should be taken at least; CloudFront, nginx and Apache take 8,190.
# Each job has a few copies of one.
MAX_URL_CHARACTERS: Final = 8_192
# RFC 1035, section 2.3.4. A proxy may take a longer one, or one that begins with a dot; but with
# those OpenSSL and Python refuse to begin.
MAX_HOST_CHARACTERS: Final = 255


class Origin(msgspec.Struct, frozen=True):
    """Where connections lead (RFC 6454, section 4).

    Attributes:
        scheme: ``http`` or ``https``.
        host: in lower case; IPv6 without brackets.
        port: always written.
    """

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """As a Host header has it: a port that goes without saying is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


class Url(Discreet, msgspec.Struct, frozen=True):
    """An origin, and what is asked for there: path and query, encoded."""

    origin: Origin
    target: str

    @property
    def query(self) -> str:
        """What stands behind the question mark."""
        return self.target.partition("?")[2]

    def __str__(self) -> str:
        return f"{self.origin}{self.target}"

    def __repr__(self) -> str:
        return f"Url({redacted(str(self))!r})"  # a signature stands in the query


def parse_url(text: str) -> Url:
    """Reads an http or https URL; user name and fragment are dropped.

    Raises:
        RegistryError: it is none.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
        if not host.isascii():
            host = host.encode("idna").decode("ascii")
        host.encode("ascii").decode("idna")  # "xn--" cannot be
        path = quote(parts.path or "/", safe=TARGET_CHARACTERS)
        query = f"?{quote(parts.query, safe=TARGET_CHARACTERS)}" if parts.query else ""
    except UnicodeError as error:
        raise RegistryError(f"{shown(text)!r} is no URL: {printable(str(error))}") from error
    except ValueError:  # its words may quote a password
        raise _malformed(text) from None
    if max(len(text), len(path) + len(query)) > MAX_URL_CHARACTERS:
        raise RegistryError(
            f"{shown(text)!r} is longer than {MAX_URL_CHARACTERS} characters, which few servers"
            " take: check it"
        )
    if not HOST.fullmatch(host) or len(host) > MAX_HOST_CHARACTERS:
        raise RegistryError(
            f"{shown(text)!r} is no URL: it has no host that can be looked up: check it"
        )
    if parts.scheme not in DEFAULT_PORTS:
        raise RegistryError(f"{shown(text)!r} is no http or https URL: check it")
    origin = Origin(parts.scheme, host, DEFAULT_PORTS[parts.scheme] if port is None else port)
    return Url(origin, path + query)


def join(base: Url, location: str) -> Url:
    """Where a Location header leads from a URL (RFC 3986, section 5).

    Raises:
        RegistryError: to no http or https URL.
    """
    location = location.strip()
    if ABSOLUTE.match(location):  # urljoin would leave out an empty ";" that may be signed
        return parse_url(location)
    try:
        joined = urljoin(str(base), location)
    except ValueError:
        raise _malformed(location) from None
    return parse_url(joined)


def _malformed(text: str) -> RegistryError:
    return RegistryError(f"{shown(text)!r} is no URL: its host or port cannot be read: check it")


def shown(text: str) -> str:
    """A text that should be a URL, for messages: without user and query, which may be secret.

    Where it is none, a password may end at any of its slashes and question marks.
    """
    try:
        parts = urlsplit(text)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if is_whole:
        return printable(redacted(text), 200)
    before, mark, after = text.partition("?")
    place = NO_PORT.sub(":...", before.rpartition("@")[2])
    return "..." if mark and "@" in after else printable(place, 200)
