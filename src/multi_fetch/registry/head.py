"""A response's head: bytes -> status, fields, and where its body ends (pure).

httptools (llhttp) judges the syntax; RFC 9112, section 6.3 for the body's length, section 9.3 for
whether the connection may be used again.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import httptools

from multi_fetch.advice import TELL_OPERATOR
from multi_fetch.errors import RegistryError
from multi_fetch.registry.concealment import LONG_LOGIN_CHARACTERS

if TYPE_CHECKING:
    from multi_fetch.registry.answer import Asked


# Where an empty line ends; with the line's end before it in full, the search takes fifteen times as
# long.
HEAD_END = re.compile(rb"\n\r?\n")

# Fields that somebody here heeds, beside those that tell of limits. Others would be kept for as
# long as a body streams, and a head has room for thousands.
HEEDED: Final = frozenset(
    {
        "accept-ranges",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "date",
        "docker-content-digest",
        "etag",
        "link",
        "location",
        "oci-filters-applied",
        "retry-after",
        "transfer-encoding",
        "www-authenticate",
    }
)

# Names of those that tell of limits. Docker Hub sends three, GitHub six.
MAX_RATELIMIT_HEADERS: Final = 16

# So much is told of a list of codings.
MAX_CODING_CHARACTERS: Final = 80

_CONTENT_TYPE: Final = b"\r\ncontent-type:"
_OCTETS: Final = _CONTENT_TYPE + b" application/octet-stream\r\n"

# A longer one is not worth a place in memory: nothing here is named so.
MAX_KNOWN_NAME_BYTES: Final = 64


def _field_name(name: bytes) -> str:
    return name.decode("latin-1").lower()


# In lower case: servers send the same few again and again.
_known_field_name = lru_cache(maxsize=256)(_field_name)


class Head:
    """A response's status line and header fields.

    Attributes:
        status: of the response.
        headers: those that somebody heeds; names in lower case, several fields of a name are
            joined by commas.
        length: of the body in bytes; None where only its end will tell.
        is_chunked: whether the body comes in chunks.
        may_persist: whether the connection may serve another request after the body.
        ratelimits: how many of them tell of limits.
    """

    __slots__ = ("headers", "is_chunked", "length", "may_persist", "ratelimits", "status")

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.status = 0
        self.length: int | None = None
        self.is_chunked = False
        self.may_persist = True
        self.ratelimits = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser for each field."""
        key = (_known_field_name if len(name) <= MAX_KNOWN_NAME_BYTES else _field_name)(name)
        if key not in HEEDED:
            if "ratelimit" not in key:
                return
            if key not in self.headers:
                if self.ratelimits == MAX_RATELIMIT_HEADERS:
                    return
                self.ratelimits += 1
        text = value.decode("latin-1")
        known = self.headers.get(key)
        self.headers[key] = text if known is None else f"{known}, {text}"


def parse_head(data: memoryview, what: Asked | str) -> Head:
    """A head from its bytes, the empty line at its end included.

    Args:
        data: one head, whole.
        what: was asked, for messages.

    Raises:
        RegistryError: it is no HTTP/1.x, switches protocols, or has a transfer coding beside
            chunked.
    """
    head = Head()
    parser = httptools.HttpResponseParser(head)
    try:
        parser.feed_data(data)
    except httptools.HttpParserError as error:
        raise RegistryError(f"{what}: the answer breaks HTTP: {error}{TELL_OPERATOR}") from error
    except httptools.HttpParserUpgrade as error:
        raise RegistryError(
            f"{what}: the answer is another protocol's, unasked{TELL_OPERATOR}"
        ) from error
    head.status = parser.get_status_code()
    head.may_persist = _may_persist(parser.get_http_version(), head.headers)
    coding = head.headers.get("transfer-encoding")
    if coding is not None:
        head.is_chunked = coding.strip().lower() == "chunked"
        # RFC 9112, section 6.1: HTTP/1.0 has no chunks, so who sends them may frame wrongly
        head.may_persist = head.may_persist and parser.get_http_version() != "1.0"
        if not head.is_chunked:
            raise RegistryError(
                f"{what}: the answer has a transfer coding, {_short(coding)!r}{TELL_OPERATOR}"
            )
        return head
    length = head.headers.get("content-length")
    if length is not None:
        head.length = int(length)
    return head


def says_octets(head: bytes) -> bool:
    """Whether it says, as most do of a blob, that the content is application/octet-stream.

    Args:
        head: in lower case, its form judged by the parser: neither folded, nor with other ends of
            lines.
    """
    return _OCTETS in head and head.count(_CONTENT_TYPE) == 1


def _short(coding: str) -> str:
    """The codings' names; what is longer is none, and may repeat a login or a token."""
    names = (name.strip() for name in coding[:MAX_CODING_CHARACTERS].split(","))
    return ", ".join(name if len(name) <= LONG_LOGIN_CHARACTERS else "..." for name in names)


def _may_persist(version: str, headers: dict[str, str]) -> bool:
    """RFC 9112, section 9.3. The parser's own answer is wrong once a body of 0 bytes has ended."""
    options = {option.strip() for option in headers.get("connection", "").lower().split(",")}
    return "close" not in options and (version != "1.0" or "keep-alive" in options)
