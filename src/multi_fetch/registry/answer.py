"""An answer whose body is still to come, with httpx's errors turned into the tree's.

httpx raises while a body is read as well as before, so every read goes through ``translated``.
"""

from __future__ import annotations

import re
import time
from contextlib import aclosing, contextmanager, suppress
from typing import TYPE_CHECKING, Final

import httpx
import trio

from multi_fetch.errors import (
    DeadlineExceededError,
    MultiFetchError,
    RegistryError,
    TooLargeError,
    UnavailableError,
)
from multi_fetch.limits import (
    CONNECT_TIMEOUT_SECONDS,
    ERROR_BODY_SECONDS,
    MAX_ERROR_BODY_BYTES,
    READ_TIMEOUT_SECONDS,
)
from multi_fetch.registry.api import content_length, redacted
from multi_fetch.registry.errcode import error_of, parse_retry_after, printable
from multi_fetch.registry.hosts import is_inside

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence

# h11 and httpcore say so in words alone when the other side hung up; all else that they call a
# protocol error is one.
HUNG_UP = re.compile(r"disconnected|closed connection", re.IGNORECASE)

# More than httpcore reads from a socket at once (64 KiB).
_MAX_RECEIVED_BYTES: Final = 128 * 1024

# Docker Hub sends three, GitHub six.
_MAX_RATELIMIT_HEADERS: Final = 16
_MAX_RATELIMIT_CHARACTERS: Final = 200

# httpx's kinds in the order in which they are tried: the special before the general.
_TRANSLATIONS: Final[Sequence[tuple[type[Exception], type[MultiFetchError], str]]] = (
    (httpx.ConnectTimeout, UnavailableError, f"no connection in {CONNECT_TIMEOUT_SECONDS:g} s"),
    (httpx.TimeoutException, DeadlineExceededError, "it took too long"),
    (httpx.ConnectError, UnavailableError, "no connection"),
    (httpx.NetworkError, UnavailableError, "the connection broke"),
    (httpx.RemoteProtocolError, RegistryError, "the answer breaks HTTP"),
)

IDENTITY: Final = frozenset({"", "identity"})


class Answer:
    """A response to a GET or HEAD; whoever holds it closes it.

    Attributes:
        status: the HTTP status.
        headers: names in any case.
        url: where it came from in the end.
        attempts: how often it was asked for in a row.
    """

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.url = response.request.url
        self.status = response.status_code
        self.attempts = 1
        self.headers: Mapping[str, str] = response.headers

    @property
    def what(self) -> str:
        """What was asked: ``GET https://...``, fit for logs and errors."""
        return describe_request(self._response.request)

    @property
    def is_from_inside(self) -> bool:
        """Whether it came from a loopback, private or link-local address."""
        stream = self._response.extensions.get("network_stream")
        peer = stream.get_extra_info("server_addr") if stream is not None else None
        return is_inside(self.url.host) or (isinstance(peer, tuple) and is_inside(str(peer[0])))

    @property
    def encoding(self) -> str:
        """How the body says to be encoded; empty if not at all."""
        encoding = self.headers.get("content-encoding", "").strip().lower()
        return "" if encoding in IDENTITY else encoding

    def encoded(self) -> RegistryError:
        """The error of a body that is encoded; it is returned."""
        return RegistryError(
            f"{self.what}: the content is encoded ({printable(self.encoding, 40)}) though that was"
            " not asked for: its digest is over the bytes as stored",
            status=self.status,
        )

    def retry_after(self) -> float | None:
        """The seconds that it asks to wait, or None."""
        return parse_retry_after(self.headers.get("retry-after", ""), now=time.time())

    def ratelimit(self) -> dict[str, str]:
        """What it tells of limits: headers of any registry that has "ratelimit" in their names."""
        told: dict[str, str] = {}
        for name, value in self._response.headers.raw:
            if b"ratelimit" in name.lower() and len(told) < _MAX_RATELIMIT_HEADERS:
                told[_latin(name.lower())] = _latin(value)
        return told

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it was sent, in chunks of any size; to be closed by who iterates.

        Raises:
            RegistryError: it breaks HTTP.
            UnavailableError: the connection broke.
            DeadlineExceededError: nothing came for too long.
        """
        with translated(self._response.request):
            async with aclosing(_raw(self._response)) as raw:
                async for chunk in raw:
                    yield chunk

    async def read(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            TooLargeError: it is longer than ``limit`` bytes.
            RegistryError: it is encoded.
            MultiFetchError: as for ``chunks``.
        """
        if self.encoding:
            raise self.encoded()
        length = content_length(self.headers)
        body = bytearray()
        if length is None or length <= limit:
            async with aclosing(self.chunks()) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > limit:
                        break
                else:
                    return bytes(body)
        raise TooLargeError(
            f"{self.what}: the answer is larger than {limit} bytes", status=self.status
        )

    async def first_bytes(self) -> bytes:
        """The body up to an error's limit; less where it breaks off. A short one is read whole."""
        body = bytearray()
        # the status says what matters; these are only its words
        with (
            trio.move_on_after(ERROR_BODY_SECONDS),
            suppress(MultiFetchError),
            translated(self._response.request),
        ):
            async with aclosing(_raw(self._response)) as raw:
                async for chunk in raw:
                    body += chunk
                    if len(body) >= MAX_ERROR_BODY_BYTES:
                        break
        return bytes(body[:MAX_ERROR_BODY_BYTES])

    async def error(self) -> MultiFetchError:
        """The error that this answer stands for, with what its body says; it is returned."""
        body = await self.first_bytes()
        error = error_of(self.status, self.headers, body, what=self.what, now=time.time())
        error.attempts = self.attempts
        return error

    async def aclose(self) -> None:
        """Gives the connection back, or closes it if the body was not read to its end."""
        await self._response.aclose()


def describe_request(request: httpx.Request) -> str:
    """A request for logs and errors."""
    return f"{request.method} {redacted(str(request.url))}"


def _latin(text: bytes) -> str:
    return printable(text.decode("latin-1"), _MAX_RATELIMIT_CHARACTERS)


async def _raw(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The body's bytes; whoever stops early closes this, and the connection with it.

    This is httpx's stream itself: aiter_raw would add nothing but refuse bodies that a mock gave
    whole. It is a chain of generators, and trio warns of each that is left suspended. When the
    connection is closed, going on ends them all, after what had been received already.
    """
    assert isinstance(response.stream, httpx.AsyncByteStream), "an async transport made it"
    raw = aiter(response.stream)
    try:
        async for chunk in raw:
            yield chunk
    finally:
        await response.aclose()
        left = _MAX_RECEIVED_BYTES
        with suppress(httpx.HTTPError, httpx.StreamError, StopAsyncIteration):
            while left > 0:
                left -= len(await anext(raw))


@contextmanager
def translated(request: httpx.Request) -> Iterator[None]:
    """Raises httpx's errors as those of the tree; the request's URL begins their messages."""
    try:
        yield
    except (httpx.HTTPError, UnicodeError, OverflowError) as error:
        raise _translation(error, request) from error


def _translation(error: Exception, request: httpx.Request) -> MultiFetchError:
    what, words = describe_request(request), printable(str(error))
    said = f": {words}" if words else ""
    if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
        seconds = request.extensions.get("timeout", {}).get("read") or READ_TIMEOUT_SECONDS
        return DeadlineExceededError(f"{what}: no byte in {seconds:g} s{said}")
    if isinstance(error, httpx.RemoteProtocolError) and HUNG_UP.search(words):
        return UnavailableError(f"{what}: the connection broke{said}")
    for kind, leaf, text in _TRANSLATIONS:
        if isinstance(error, kind):
            return leaf(f"{what}: {text}{said}")
    # a name that no look-up takes, a port beyond 65535, a character that no header takes
    return RegistryError(f"{what}: cannot be sent or followed{said}")
