"""One request and its answer: redirects, connections that had gone stale, hosts that are busy.

Redirects are followed by hand, since each one is a matter of trust: the Authorization header stays
with the registry's own origin, https never becomes http, and a public registry cannot send us
into a private network.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import httpx
import trio

from multi_fetch import __version__
from multi_fetch.errors import DeadlineExceededError, RegistryError, UnavailableError
from multi_fetch.limits import MAX_REDIRECTS, MAX_STALE_CONNECTIONS
from multi_fetch.registry.answer import Answer, describe_request, translated
from multi_fetch.registry.api import redacted
from multi_fetch.registry.errcode import printable
from multi_fetch.registry.hosts import is_inside
from multi_fetch.registry.pace import Paces

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multi_fetch.remotes import Patience

logger = logging.getLogger(__name__)

# RFC 9110, section 15.4: those with a Location to go to.
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

# The digest is over the bytes as stored, so no encoding may touch them.
_ALWAYS: Final = {"User-Agent": f"multi-fetch/{__version__}", "Accept-Encoding": "identity"}


class Exchange:
    """Sends requests.

    Args:
        client: sends them; it is its owner's to close.
        jobs: requests to a host at the same time, at most, while it is not busy.
        patience: how long a head may take, and how busy hosts are borne.
    """

    def __init__(self, client: httpx.AsyncClient, *, jobs: int, patience: Patience) -> None:
        self._client = client
        self.patience = patience
        self._paces = Paces(jobs)

    async def follow(  # noqa: PLR0913 - a request's parts
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        authorization: str,
        *,
        attempt: int = 1,
        form: str | None = None,
    ) -> Answer:
        """Sends a request, and again to wherever the answer points; a form is sent only once.

        Args:
            method: GET, HEAD or POST.
            url: where to.
            headers: without those that are always the same.
            authorization: the header's value, for this origin alone; or empty.
            attempt: which of its request it is, from 1.
            form: a body to POST.

        Raises:
            MultiFetchError: there is no answer, or none that may be followed.
        """
        target = origin = parse_url(url)
        for redirects in range(MAX_REDIRECTS + 1):
            sent = dict(headers, **_ALWAYS)
            if authorization and is_same_origin(target, origin):
                sent["Authorization"] = authorization
            request = self._client.build_request(method, target, headers=sent, content=form)
            answer = await self._send_in_turn(request, attempt)
            if answer.status not in REDIRECTS or form:
                return answer
            try:
                target = _next_target(answer, redirects)
                await answer.first_bytes()  # and no more, so that the connection is used again
            finally:
                await answer.aclose()
        raise AssertionError("the last redirect is refused")

    async def _send_in_turn(self, request: httpx.Request, attempt: int) -> Answer:
        """Sends a request when its host has room for it, and learns from the answer."""
        pace = self._paces.of(request.url.host, request.url.port) if self._paces else None
        if pace is None:
            sent_at = trio.current_time()
            answer = await self._send(request)
        else:
            await (pace.wait_turn() if attempt == 1 else pace.wait_again())
            try:
                sent_at = trio.current_time()
                answer = await self._send(request)
            finally:
                pace.done()
        if answer.status == 429:
            self._slow_down(request.url, answer, sent_at)
        elif self._paces:
            self._paces.speed_up(request.url.host, request.url.port)
        return answer

    def _slow_down(self, url: httpx.URL, answer: Answer, sent_at: float) -> None:
        patience = self.patience
        if not patience.retries:  # then it is the caller who paces
            return
        asked = answer.retry_after() or 0.0
        is_bearable = asked <= patience.max_wait_seconds
        self._paces.get_or_start(url.host, url.port).slow_down(
            sent_at=sent_at,
            retry_after=asked if is_bearable else 0.0,
            pause_seconds=patience.first_wait_seconds if is_bearable else 0.0,
            max_pause_seconds=patience.max_wait_seconds,
        )

    async def _send(self, request: httpx.Request) -> Answer:
        """Sends a request as it is, and again where the server had closed an idle connection.

        RFC 9112, section 9.3.1: that race is a client's to repair, by itself. Each failure takes
        one idle connection out of the pool, and a new one that fails is not tried again.
        """
        for attempt in range(MAX_STALE_CONNECTIONS + 1):
            trace = request.extensions["trace"] = _Trace(self.patience.stall_seconds)
            try:
                with translated(request), trace.scope:
                    answer = Answer(await self._client.send(request, stream=True))
                    if logger.isEnabledFor(logging.DEBUG):
                        _log(answer)
                    return answer
            except UnavailableError:
                is_repeatable = trace.is_reused and request.method != "POST"
                if not is_repeatable or attempt == MAX_STALE_CONNECTIONS:
                    raise
                continue
            seconds = self.patience.stall_seconds
            raise DeadlineExceededError(f"{describe_request(request)}: no answer in {seconds:g} s")
        raise AssertionError("the last attempt returns or raises")


def _next_target(answer: Answer, redirects: int) -> httpx.URL:
    if redirects == MAX_REDIRECTS:
        raise RegistryError(
            f"{answer.what}: more than {MAX_REDIRECTS} redirects", status=answer.status
        )
    location = answer.headers.get("location", "")
    target = answer.url.join(location)  # httpx has read it before, and refused what is no URL
    if not location:
        raise _refused(answer, "nowhere, as it has no Location", location)
    if target.scheme not in {"http", "https"} or not target.host:
        raise _refused(answer, "no http URL", location)
    if answer.url.scheme == "https" and target.scheme == "http":
        raise _refused(answer, "a place without https", location)
    if is_inside(target.host) and not answer.is_from_inside:
        raise _refused(answer, "a private network", location)
    return target.copy_with(fragment=None, userinfo=b"")  # else httpx would log in with it


def _refused(answer: Answer, where: str, location: str) -> RegistryError:
    shown = printable(location.partition("?")[0].rpartition("@")[2], 200)
    return RegistryError(
        f"{answer.what}: the redirect leads to {where}: {shown!r}", status=answer.status
    )


def parse_url(url: str) -> httpx.URL:
    """Reads a URL whose host can be looked up.

    Raises:
        RegistryError: it is none.
    """
    try:
        parsed = httpx.URL(url)
        _ = parsed.host  # it is decoded only now, and "xn--" cannot be
    except (httpx.InvalidURL, UnicodeError) as error:
        raise RegistryError(f"{redacted(url)!r} is no URL: {printable(str(error))}") from error
    return parsed


def is_same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    """Whether scheme, host and port are the same."""
    # httpx drops a scheme's own port and writes hosts in lower case.
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)


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


def _log(answer: Answer) -> None:
    facts = {
        "url": redacted(str(answer.url)),
        "status": answer.status,
        "digest": answer.headers.get("docker-content-digest", ""),
    }
    logger.debug("answer: %s", answer.what, extra=facts)
