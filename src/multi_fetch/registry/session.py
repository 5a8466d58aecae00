"""Sends one request: authorization, redirects, connections that had gone stale.

Redirects are followed by hand, since each one is a matter of trust: the Authorization header stays
with the registry's own origin, https never becomes http, and a public registry cannot send us
into a private network.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import httpx

from multi_fetch import __version__
from multi_fetch.errors import (
    NotFoundError,
    RegistryError,
    TooLargeError,
    UnavailableError,
)
from multi_fetch.limits import MAX_REDIRECTS, MAX_STALE_CONNECTIONS, MAX_TOKEN_BODY_BYTES
from multi_fetch.registry.answer import Answer, translated
from multi_fetch.registry.api import redacted
from multi_fetch.registry.authorizer import Authorizer
from multi_fetch.registry.errcode import printable
from multi_fetch.registry.hosts import is_inside
from multi_fetch.registry.login import Login

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from multi_fetch.registry.auth import TokenRequest
    from multi_fetch.registry.credentials import Credential, Keychain
    from multi_fetch.registry.hosts import Host

logger = logging.getLogger(__name__)

# RFC 9110, section 15.4: those with a Location to go to.
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

# Answers to one request's 401s: a token; and another of another login, where there is a newer one.
MAX_AUTHORIZATIONS: Final = 2

# The digest is over the bytes as stored, so no encoding may touch them.
_ALWAYS: Final = {"User-Agent": f"multi-fetch/{__version__}", "Accept-Encoding": "identity"}


class Session:
    """Requests to one repository's registry.

    Args:
        client: sends them; it is its owner's to close.
        host: the registry.
        credential: for it, or None.
        repository: what tokens are asked for.
        keychain: where to look for a credential, if none is given and the registry wants one.

    Attributes:
        retries: requests that were sent again.
        ratelimit: the headers with which the registry last told its limits.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        host: Host,
        credential: Credential | None,
        repository: str,
        *,
        keychain: Keychain | None = None,
    ) -> None:
        self.retries = 0
        self.ratelimit: dict[str, str] = {}
        self._client = client
        self._host = host
        login = Login.of(credential)
        if credential is None and keychain is not None:
            login = Login(partial(keychain.find, host.authority, repository))
        self._authorizer = Authorizer(host, login, repository, self._ask_token_service)

    @asynccontextmanager
    async def request(
        self, method: str, path: str, headers: Mapping[str, str]
    ) -> AsyncIterator[Answer]:
        """Sends a GET or HEAD; gives the answer, whatever its status.

        Raises:
            UnauthorizedError: the registry asks for credentials that there are not.
            MultiFetchError: there is no answer, or none that may be followed.
        """
        url = self._host.url + path
        sent = await self._authorizer.authorization()
        answer = await _follow(self._client, method, url, headers, sent)
        for attempt in range(MAX_AUTHORIZATIONS):
            if answer.status != 401 or not _is_same_origin(answer.url, _parse_url(url)):
                break
            sent = await self._after_401(answer, sent, is_fresh=attempt > 0)
            answer = await _follow(self._client, method, url, headers, sent)
        self.ratelimit = answer.ratelimit() or self.ratelimit
        try:
            yield answer
        finally:
            await answer.aclose()

    async def _after_401(self, answer: Answer, sent: str, *, is_fresh: bool) -> str:
        is_registry_inside = answer.is_from_inside
        try:
            refusal = await answer.error()
        finally:
            await answer.aclose()
        authorization = await self._authorizer.answer(
            answer.headers.get("www-authenticate", ""),
            sent=sent,
            is_registry_inside=is_registry_inside,
            is_fresh=is_fresh,
        )
        if not authorization:
            raise refusal
        return authorization

    async def _ask_token_service(self, question: TokenRequest) -> bytes:
        method, headers = "GET", {"Accept": "application/json"}
        if question.form:
            method = "POST"
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        answer = await _follow(
            self._client,
            method,
            question.url,
            headers,
            question.authorization,
            form=question.form or None,
        )
        try:
            if answer.status == 200:
                return await answer.read(MAX_TOKEN_BODY_BYTES)
            error = await answer.error()
        except TooLargeError as large:
            raise RegistryError(f"no token: {large}") from large
        finally:
            await answer.aclose()
        if isinstance(error, NotFoundError):  # no token service is not: no such object
            raise RegistryError(error.message, status=error.status)
        raise error


async def _follow(  # noqa: PLR0913 - a request's parts
    client: httpx.AsyncClient,
    method: str,
    url: str,
    headers: Mapping[str, str],
    authorization: str,
    *,
    form: str | None = None,
) -> Answer:
    """Sends a request, and again to wherever the answer points; a form is sent only once."""
    target = origin = _parse_url(url)
    for redirects in range(MAX_REDIRECTS + 1):
        sent = dict(headers, **_ALWAYS)
        if authorization and _is_same_origin(target, origin):
            sent["Authorization"] = authorization
        request = client.build_request(method, target, headers=sent, content=form)
        answer = await _send(client, request)
        if answer.status not in REDIRECTS or form:
            return answer
        try:
            target = _next_target(answer, redirects)
            await answer.first_bytes()  # and no more, so that the connection can be used again
        finally:
            await answer.aclose()
    raise AssertionError("the last redirect is refused")


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


def _parse_url(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
        _ = parsed.host  # it is decoded only now, and "xn--" cannot be
    except (httpx.InvalidURL, UnicodeError) as error:
        raise RegistryError(f"{redacted(url)!r} is no URL: {printable(str(error))}") from error
    return parsed


def _is_same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    # httpx drops a scheme's own port and writes hosts in lower case.
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)


class _Trace:
    """What httpcore tells of a request on its way: whether it went over a used connection."""

    def __init__(self) -> None:
        self.has_connected = False
        self.has_begun = False

    async def __call__(self, event: str, facts: object) -> None:
        self.has_connected = self.has_connected or event == "connection.connect_tcp.started"
        self.has_begun = self.has_begun or event.endswith(".send_request_headers.started")

    @property
    def is_reused(self) -> bool:
        return self.has_begun and not self.has_connected


async def _send(client: httpx.AsyncClient, request: httpx.Request) -> Answer:
    """Sends a request as it is, and again where the server had closed an idle connection.

    RFC 9112, section 9.3.1: that race is a client's to repair, by itself. Each failure takes one
    idle connection out of the pool, and a new one that fails is not tried again.
    """
    for attempt in range(MAX_STALE_CONNECTIONS + 1):
        trace = request.extensions["trace"] = _Trace()
        try:
            with translated(request):
                response = await client.send(request, stream=True)
        except UnavailableError:
            is_repeatable = trace.is_reused and request.method != "POST"
            if not is_repeatable or attempt == MAX_STALE_CONNECTIONS:
                raise
            continue
        answer = Answer(response)
        if logger.isEnabledFor(logging.DEBUG):
            _log(answer)
        return answer
    raise AssertionError("the last attempt returns or raises")


def _log(answer: Answer) -> None:
    facts = {
        "url": redacted(str(answer.url)),
        "status": answer.status,
        "digest": answer.headers.get("docker-content-digest", ""),
    }
    logger.debug("answer: %s", answer.what, extra=facts)
