"""The general lane: everything goes, over httpx.

httpx raises while a body is read as well as before, so every read goes through ``translated``.
"""

from __future__ import annotations

import logging
import re
import traceback
from contextlib import aclosing, contextmanager, suppress
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Final

import httpx
import trio

from multi_fetch.advice import TELL_OPERATOR, TRY_LATER, with_advice
from multi_fetch.durations import READ_TIMEOUT_SECONDS
from multi_fetch.errors import (
    DeadlineExceededError,
    MultiFetchError,
    RegistryError,
    UnavailableError,
)
from multi_fetch.limits import MAX_GENERAL_PIECE_BYTES, MAX_STALE_CONNECTIONS
from multi_fetch.registry.answer import Answer, Asked
from multi_fetch.registry.concealment import secrets_of, telling
from multi_fetch.registry.errcode import printable
from multi_fetch.registry.place import Place
from multi_fetch.registry.progress import Progress
from multi_fetch.registry.proxies import NO_PROXIES, Proxies
from multi_fetch.registry.retry import causes_of
from multi_fetch.registry.transport import PLACE, PROXIED, words_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence

    from multi_fetch.registry.url import Url

# h11 and httpcore say so in words alone when the other side hung up; all else that they call a
# protocol error is one.
HUNG_UP = re.compile(r"disconnected|closed connection", re.IGNORECASE)

# Who logs requests beside this project: with queries, in which signatures stand, and headers.
LIBRARY_LOGGERS: Final = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy")

_is_sending: ContextVar[bool] = ContextVar("is_sending", default=False)

PROXY_STATUS = re.compile(r"[1-5][0-9]{2}", re.ASCII)

# More than is received from a socket at once.
_MAX_RECEIVED_BYTES: Final = 2 * MAX_GENERAL_PIECE_BYTES

# Chunks until others have a turn: what was received may have thousands, of a byte each, and trio
# lets go of what bounded the wait for each of them in between.
_CHUNKS_A_TURN: Final = 64

# httpx's kinds in the order in which they are tried: the special before the general.
_TRANSLATIONS: Final[Sequence[tuple[type[Exception], type[MultiFetchError], str]]] = (
    (httpx.ConnectTimeout, UnavailableError, "no connection in time"),
    (httpx.TimeoutException, DeadlineExceededError, "it took too long"),
    (httpx.ConnectError, UnavailableError, "no connection"),
    (httpx.NetworkError, UnavailableError, "the connection broke"),
    (httpx.RemoteProtocolError, RegistryError, "the answer breaks HTTP"),
)


class HttpxLane:
    """Sends requests with a client.

    Args:
        client: its owner's to close.
        stall_seconds: how long a head may take.
        proxies: that the client goes through.
    """

    def __init__(
        self, client: httpx.AsyncClient, *, stall_seconds: float, proxies: Proxies = NO_PROXIES
    ) -> None:
        self._client = client
        self._stall_seconds = stall_seconds
        self._proxies = proxies
        for name in LIBRARY_LOGGERS:
            logging.getLogger(name).addFilter(_is_of_others)

    async def send(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        form: str | None = None,
        place: Place = Place.ANYWHERE,
    ) -> Answer:
        """Sends a request as it is, and again where the server had closed an idle connection.

        RFC 9112, section 9.3.1: that race is a client's to repair, by itself. Each failure takes
        one idle connection out of the pool, and a new one that fails is not tried again.

        Raises:
            MultiFetchError: there is no answer.
        """
        asked = str(Asked(method, url))
        concealed = self._concealing(url, headers, form)
        with translated(asked, self._stall_seconds, concealed):
            # Not the client's build_request: what that would add takes 10 us to find.
            request = httpx.Request(method, str(url), headers=dict(headers), content=form)
        request.extensions[PLACE] = place
        for attempt in range(MAX_STALE_CONNECTIONS + 1):
            trace = request.extensions["trace"] = _Trace(self._stall_seconds)
            try:
                with translated(asked, self._stall_seconds, concealed), trace.scope, _unlogged():
                    response = await self._client.send(request, stream=True)
                    await _refuse_two_framings(response, asked)
                    return HttpxAnswer(response, url, self._stall_seconds)
            except UnavailableError:
                is_repeatable = trace.is_reused and request.method != "POST"
                if not is_repeatable or attempt == MAX_STALE_CONNECTIONS:
                    raise
                continue
            raise DeadlineExceededError(
                f"{asked}: no answer in {self._stall_seconds:g} s{TRY_LATER}"
            )
        raise AssertionError("the last attempt returns or raises")

    def _concealing(
        self, url: Url, headers: Mapping[str, str], form: str | None
    ) -> Callable[[str], str]:
        """What takes out of a text what a request says in confidence, also to its proxy."""

        def concealed(text: str) -> str:
            sent = dict(headers, **self._proxies.login(url.origin))
            return telling(text, secrets_of(sent, form or "", url.query))

        return concealed


class HttpxAnswer(Answer):
    """An answer of httpx's.

    Args:
        response: whose body has not been read, if it was not mocked.
        url: that was asked for.
        stall_seconds: between two bytes, for messages.
    """

    def __init__(
        self, response: httpx.Response, url: Url, stall_seconds: float = READ_TIMEOUT_SECONDS
    ) -> None:
        super().__init__(response.request.method, url, response.status_code, response.headers)
        self._response = response
        self._stall_seconds = stall_seconds

    @property
    def peer(self) -> str:
        """The address that it came from; empty where that is not known, as behind a proxy."""
        if self._response.extensions.get(PROXIED):
            return ""
        stream = self._response.extensions.get("network_stream")
        address = None
        with suppress(OSError):  # it has been reset
            address = stream.get_extra_info("server_addr") if stream is not None else None
        return str(address[0]) if isinstance(address, tuple) else ""

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it was sent; see ``Answer.chunks``."""
        with translated(self.what, self._stall_seconds, self.concealed):
            progress = Progress(self._stall_seconds)
            async with aclosing(_raw(self._response)) as raw:
                for number in count(1):
                    if number % _CHUNKS_A_TURN == 0:
                        await trio.lowlevel.checkpoint()
                    began, chunk = trio.current_time(), None
                    # What is no content (a chunk's extensions, trailers) is no chunk, and no end.
                    with trio.move_on_after(progress.left_seconds) as scope:
                        chunk = await anext(raw, None)
                    if chunk is not None:
                        progress.add(waited=trio.current_time() - began, received=len(chunk))
                    if scope.cancelled_caught or not progress.left_seconds:
                        raise DeadlineExceededError(f"{self.what}: {progress}{TRY_LATER}")
                    if chunk is None:
                        return
                    yield chunk

    async def aclose(self) -> None:
        """Gives the connection back, or closes it if the body was not read to its end."""
        await self._response.aclose()


@contextmanager
def _unlogged() -> Iterator[None]:
    """While libraries log nothing of what this task does: ``exchange`` logs it, without secrets."""
    before = _is_sending.set(True)
    try:
        yield
    finally:
        _is_sending.reset(before)


def _is_of_others(_: logging.LogRecord) -> bool:
    return not _is_sending.get()


class _Trace:
    """What httpcore tells of a request on its way, and the time that its head may take.

    Whether it went over a used connection, and when the answer's head is waited for: then ``scope``
    gets its deadline. The wait for a connection has none, and 1xx answers do not extend it.
    """

    def __init__(self, head_seconds: float) -> None:
        self.has_connected = False
        self.has_begun = False
        self.scope = trio.CancelScope()
        self._head_seconds = head_seconds

    async def __call__(self, event: str, facts: object) -> None:
        self.has_connected = self.has_connected or event == "connection.connect_tcp.started"
        self.has_begun = self.has_begun or event.endswith(".send_request_headers.started")
        if event.endswith(".receive_response_headers.started"):
            self.scope.deadline = trio.current_time() + self._head_seconds

    @property
    def is_reused(self) -> bool:
        return self.has_begun and not self.has_connected


async def _refuse_two_framings(response: httpx.Response, asked: str) -> None:
    """RFC 9112, section 6.3: who sees two ends of one body may be shown another's answer next.

    Lengths that differ h11 refuses, and a coding beside chunked; here it would take the chunks.

    Raises:
        RegistryError: the body's end is told twice.
    """
    if "content-length" in response.headers and "transfer-encoding" in response.headers:
        await response.aclose()
        raise RegistryError(
            f"{asked}: the answer breaks HTTP: Content-Length beside Transfer-Encoding"
            f"{TELL_OPERATOR}"
        )


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
def translated(
    asked: str, stall_seconds: float, concealed: Callable[[str], str] = str
) -> Iterator[None]:
    """Raises httpx's errors as those of the tree.

    Args:
        asked: the request, with which messages begin.
        stall_seconds: between two bytes, for messages.
        concealed: takes out of the words what must not be repeated: they may quote the server.
    """
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, OverflowError) as error:
        words = printable(concealed(words_of(error)))
        _let_go(error, concealed)
        raise _translation(error, words, asked, stall_seconds) from error


def _let_go(error: BaseException, concealed: Callable[[str], str]) -> None:
    """Lets go of what an error and what it came from hold: they go on into tracebacks.

    Their frames hold what was received, until circles are looked for: h11's errors are in one with
    the frames that raised them. Their words may quote it, and a server may repeat a secret.
    """
    for each in causes_of(error):
        traceback.clear_frames(each.__traceback__)
        each.args = tuple(concealed(arg) if isinstance(arg, str) else arg for arg in each.args)


def _translation(error: Exception, words: str, asked: str, stall_seconds: float) -> MultiFetchError:
    said = f": {words}" if words else ""
    if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
        return DeadlineExceededError(f"{asked}: no byte in {stall_seconds:g} s{said}{TRY_LATER}")
    if isinstance(error, httpx.ProxyError):
        advice = "; check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, and the login there"
        return UnavailableError(f"{asked}: the proxy refuses{said}{advice}", status=_status(words))
    if isinstance(error, httpx.RemoteProtocolError) and HUNG_UP.search(words):
        return UnavailableError(f"{asked}: the connection broke{said}{TRY_LATER}")
    for kind, leaf, text in _TRANSLATIONS:
        if isinstance(error, kind):
            return leaf(f"{asked}: {with_advice(f'{text}{said}')}")
    # a name that no look-up takes, a port beyond 65535, a character that no header takes
    return RegistryError(f"{asked}: cannot be sent or followed{said}: check the name")


def _status(words: str) -> int | None:
    """The status with which a proxy refuses, as httpcore tells it: ``407 Proxy Auth...``."""
    code = words.partition(" ")[0]
    return int(code) if PROXY_STATUS.fullmatch(code) else None
