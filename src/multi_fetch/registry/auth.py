"""Authorization: what to send, what to ask the token service, and who asks it.

The upper part decides and does no I/O: a challenge becomes a TokenRequest, a body becomes a
Token. Below, the Authorizer waits: however many requests want a token, one of them fetches it
and the others take what it got, be that a token or an error.

Sources: distribution's docs, spec/auth/token.md and spec/auth/oauth.md.
"""

from __future__ import annotations

import base64
import copy
import math
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
import trio

from multi_fetch.errors import MultiFetchError, RegistryError
from multi_fetch.limits import DEFAULT_TOKEN_LIFETIME_SECONDS, TOKEN_RENEWAL_SHARE
from multi_fetch.registry.api import redacted
from multi_fetch.registry.challenge import parse_challenges
from multi_fetch.registry.hosts import is_inside

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from multi_fetch.registry.challenge import Challenge
    from multi_fetch.registry.credentials import Credential
    from multi_fetch.registry.hosts import Host

CLIENT_ID: Final = "multi-fetch"

# A token goes into a header: visible ASCII (RFC 6750, section 2.1 allows less; registries use it).
TOKEN_TEXT = re.compile(r"[!-~]+", re.ASCII)


class TokenRequest(msgspec.Struct, frozen=True):
    """What to ask a token service.

    Attributes:
        url: with its query.
        authorization: the header's value, or empty for an anonymous token.
        form: an OAuth 2 form to POST; empty for a GET.
    """

    url: str
    authorization: str = ""
    form: str = ""

    def __repr__(self) -> str:
        return f"TokenRequest({redacted(self.url)!r})"


class Token(msgspec.Struct, frozen=True):
    """An Authorization header's value, and when to get the next one.

    Attributes:
        authorization: ``Bearer ...`` or ``Basic ...``.
        renew_at: on the clock that ``read_token`` was given; infinite for what never expires.
    """

    authorization: str
    renew_at: float = math.inf

    def __repr__(self) -> str:
        return f"Token(***, renew_at={self.renew_at})"


class _Answer(msgspec.Struct):
    token: str | None = None
    access_token: str | None = None
    expires_in: float | str | None = None


def choose_challenge(challenges: Sequence[Challenge]) -> Challenge | None:
    """The best that can be answered here: Bearer, then Basic."""
    for scheme in ("bearer", "basic"):
        for challenge in challenges:
            if challenge.scheme == scheme:
                return challenge
    return None


def basic(credential: Credential) -> Token:
    """Basic authentication (RFC 7617, in UTF-8)."""
    pair = f"{credential.username}:{credential.password}".encode()
    return Token(f"Basic {base64.b64encode(pair).decode('ascii')}")


def token_request(
    challenge: Challenge,
    credential: Credential | None,
    *,
    host: Host,
    is_registry_inside: bool,
    repository: str,
) -> TokenRequest:
    """What to ask for a Bearer challenge, with the credential where there is one.

    Args:
        challenge: of scheme ``bearer``.
        credential: for the registry, and so for the token service that it names.
        host: the registry.
        is_registry_inside: whether the registry is in a loopback, private or link-local network.
        repository: what the token is for, if the challenge names no scope.

    Raises:
        RegistryError: the realm is no URL that a registry at this place may name.
    """
    realm = challenge.params.get("realm", "")
    _check_realm(realm, host=host, is_registry_inside=is_registry_inside)
    scopes = challenge.params.get("scope", "").split() or [f"repository:{repository}:pull"]
    service = challenge.params.get("service", "")
    if credential is not None and credential.identity_token:
        return TokenRequest(realm, form=_refresh_form(credential.identity_token, service, scopes))
    parts = urlsplit(realm)
    query = parse_qsl(parts.query, keep_blank_values=True)
    if service:
        query.append(("service", service))
    query += [("scope", scope) for scope in scopes]
    url = parts._replace(query=urlencode(query), fragment="").geturl()
    if credential is None or not credential.has_login:
        return TokenRequest(url)
    return TokenRequest(url, basic(credential).authorization)


def _refresh_form(identity_token: str, service: str, scopes: Sequence[str]) -> str:
    form = {
        "grant_type": "refresh_token",
        "refresh_token": identity_token,
        "client_id": CLIENT_ID,
        "service": service,
        "scope": " ".join(scopes),
    }
    return urlencode(form)


def _check_realm(realm: str, *, host: Host, is_registry_inside: bool) -> None:
    try:
        parts = urlsplit(realm)
        target = parts.hostname or ""
        is_url = parts.scheme in {"http", "https"} and bool(target) and parts.port != 0
    except ValueError:
        is_url, parts, target = False, urlsplit(""), ""
    if not is_url or "@" in parts.netloc:
        raise RegistryError(
            f"{host.authority} names a token service that is no http URL: {realm[:200]!r}"
        )
    if parts.scheme == "http" and host.scheme == "https":
        raise RegistryError(
            f"{host.authority} names a token service without https, {redacted(realm)}:"
            " nothing is sent there"
        )
    if is_inside(target) and not is_registry_inside:
        raise RegistryError(
            f"{host.authority} names a token service in a private network, {redacted(realm)}:"
            " nothing is sent there"
        )


def read_token(body: bytes, *, service: str, asked_at: float) -> Token:
    """Reads a token service's answer.

    Args:
        body: JSON with ``token`` or ``access_token``, and ``expires_in`` in seconds.
        service: its URL, fit for messages.
        asked_at: seconds on any clock, before the question was sent: ``renew_at`` is on it too.

    Raises:
        RegistryError: there is no token in it.
    """
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RegistryError(f"the answer of {service} is not the JSON of a token") from error
    text = answer.token or answer.access_token or ""
    if not TOKEN_TEXT.fullmatch(text):
        raise RegistryError(f"the answer of {service} has no token that a header can carry")
    lifetime = _seconds(answer.expires_in)
    return Token(f"Bearer {text}", asked_at + lifetime * TOKEN_RENEWAL_SHARE)


def _seconds(expires_in: float | str | None) -> float:
    try:
        seconds = float(expires_in or 0)
    except ValueError:
        seconds = 0.0
    return seconds if 0 < seconds < math.inf else DEFAULT_TOKEN_LIFETIME_SECONDS


class Authorizer:
    """Holds the token of one repository; its requests ask here for what to send.

    Args:
        host: the registry.
        credential: for it, or None.
        repository: the token is for pulling from it.
        ask: sends a TokenRequest, and returns the body of a 200 answer.
    """

    def __init__(
        self,
        host: Host,
        credential: Credential | None,
        repository: str,
        ask: Callable[[TokenRequest], Awaitable[bytes]],
    ) -> None:
        self._host = host
        self._credential = credential
        self._repository = repository
        self._ask = ask
        self._question: TokenRequest | None = None
        self._token: Token | None = None
        if credential is not None and credential.registry_token:
            self._token = Token(f"Bearer {credential.registry_token}")
        self._lock = trio.Lock()
        self._answers = 0
        self._failure: MultiFetchError | None = None

    async def authorization(self) -> str:
        """The header to send, or an empty text while the registry has not asked for one.

        Raises:
            MultiFetchError: the token is about to expire, and there is no new one.
        """
        if self._token is None:
            return ""
        if trio.current_time() >= self._token.renew_at:
            await self._renew(self._token.authorization)
        return self._token.authorization

    async def answer(self, header: str, *, sent: str, is_registry_inside: bool) -> str:
        """The header to send after a 401, or an empty text where nothing else can be sent.

        Args:
            header: WWW-Authenticate.
            sent: the Authorization header that was refused, or empty.
            is_registry_inside: as for ``token_request``.

        Raises:
            MultiFetchError: the challenge cannot be read, or the token service failed.
        """
        challenge = choose_challenge(parse_challenges(header))
        if challenge is None:
            return ""
        if challenge.scheme == "basic":
            if self._credential is None or not self._credential.has_login:
                return ""
            self._token = basic(self._credential)
            return "" if self._token.authorization == sent else self._token.authorization
        self._question = token_request(
            challenge,
            self._credential,
            host=self._host,
            is_registry_inside=is_registry_inside,
            repository=self._repository,
        )
        await self._renew(sent)
        return "" if self._token is None else self._token.authorization

    async def _renew(self, old: str) -> None:
        """Sees to it that the token is another than ``old``: fetches it, or waits for who does.

        Who is cancelled while fetching gives up the lock, and the next in line fetches.
        """
        if self._token is not None and self._token.authorization != old:
            return
        answers = self._answers
        async with self._lock:
            if self._answers != answers:
                if self._failure is not None:
                    raise copy.copy(self._failure) from self._failure
                return
            assert self._question is not None, "a token that expires came by a question"
            asked_at = trio.current_time()
            try:
                body = await self._ask(self._question)
                service = redacted(self._question.url)
                self._token = read_token(body, service=service, asked_at=asked_at)
            except MultiFetchError as error:
                self._answers, self._failure = self._answers + 1, error
                raise
            self._answers, self._failure = self._answers + 1, None
