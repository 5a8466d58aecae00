"""Requests and answers as values: what the pull API makes, what a fault changes, what is sent."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Iterator

Headers: TypeAlias = tuple[tuple[str, str], ...]


class FileSlice(msgspec.Struct, frozen=True):
    """Bytes of a file that are read only when they are sent.

    Attributes:
        path: of the file.
        first: the offset of its first byte.
        size: how many bytes.
    """

    path: Path
    first: int
    size: int


Body: TypeAlias = bytes | FileSlice


class Stop(Enum):
    """What becomes of a connection whose answer is not sent to its end."""

    CLOSE = "close"  # a FIN: the peer reads an end of file
    RESET = "reset"  # a RST: the peer reads "connection reset"
    STALL = "stall"  # nothing more, until the peer gives up


# As a Delivery's ``stop_at``: not even the head of the answer is sent.
BEFORE_HEAD: Final = -1


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """How an answer is sent; by default at once and to its end, and the connection is kept.

    Attributes:
        delay_seconds: before the first byte of the head.
        drip_bytes: send so many bytes of the body at a time; 0 for no dripping.
        drip_seconds: the pause before each of these pieces.
        stop_at: bytes of the body after which sending stops, BEFORE_HEAD, or None for never.
        stop: how it stops.
        is_closed_after: the connection is closed after the answer, which did not say so.
    """

    delay_seconds: float = 0.0
    drip_bytes: int = 0
    drip_seconds: float = 0.0
    stop_at: int | None = None
    stop: Stop = Stop.CLOSE
    is_closed_after: bool = False


class Request(msgspec.Struct, frozen=True):
    """A request without its body: nothing here takes one.

    Attributes:
        method: in upper case.
        path: without the query, percent-decoded.
        query: what stands behind ``?``, as it came.
        headers: names in lower case.
    """

    method: str
    path: str
    query: str = ""
    headers: Headers = ()

    def header(self, name: str) -> str:
        """The first header of this name, or an empty text."""
        return _first(self.headers, name)

    def without_header(self, name: str) -> Request:
        """The same request, as if it had not sent this header."""
        return replace(self, headers=_without(self.headers, name))


class Answer(msgspec.Struct, frozen=True):
    """An answer: without a Content-Length header its body goes out chunked."""

    status: int
    headers: Headers = ()
    body: Body = b""
    delivery: Delivery = Delivery()

    def header(self, name: str) -> str:
        """The first header of this name, or an empty text."""
        return _first(self.headers, name)

    def without_header(self, name: str) -> Answer:
        """The same answer, without this header."""
        return replace(self, headers=_without(self.headers, name))

    def with_header(self, name: str, value: str) -> Answer:
        """The same answer, with this header and none other of its name."""
        return replace(self, headers=(*_without(self.headers, name), (name, value)))

    def with_body(self, body: Body) -> Answer:
        """The same answer with another body; a Content-Length that it has is made to fit."""
        answer = replace(self, body=body)
        if not self.header("Content-Length"):
            return answer
        return answer.with_header("Content-Length", str(body_size(body)))


def body_size(body: Body) -> int:
    """The bytes of a body."""
    return len(body) if isinstance(body, bytes) else body.size


def body_bytes(body: Body) -> bytes:
    """All of a body, in memory."""
    return b"".join(body_chunks(body, max(body_size(body), 1)))


def body_chunks(body: Body, max_bytes: int) -> Iterator[bytes]:
    """A body in order, in pieces of at most ``max_bytes``; a file that is too short ends it."""
    if isinstance(body, bytes):
        for start in range(0, len(body), max_bytes):
            yield body[start : start + max_bytes]
        return
    with body.path.open("rb") as file:
        file.seek(body.first)
        left = body.size
        while left and (chunk := file.read(min(left, max_bytes))):
            left -= len(chunk)
            yield chunk


def _first(headers: Headers, name: str) -> str:
    return next((value for key, value in headers if key.lower() == name.lower()), "")


def _without(headers: Headers, name: str) -> Headers:
    return tuple((key, value) for key, value in headers if key.lower() != name.lower())
