"""Who asks for tokens, and when: one of all the requests of a repository, and before it is late.

However many requests want a token, one of them fetches it and the others take what it got, be
that a token or an error. A login that the token service refuses is looked for once more, since a
credential helper may have a newer one; then the way is anonymous, as public repositories stay
public for who has a stale login. A warning tells.
"""

from __future__ import annotations

import copy
import logging
import math
from typing import TYPE_CHECKING, Final

import trio
from msgspec.structs import replace

from multi_fetch.errors import MultiFetchError
from multi_fetch.limits import MAX_TOKEN_SCOPES
from multi_fetch.registry.api import redacted
from multi_fetch.registry.auth import (
    Grant,
    Token,
    basic,
    choose_challenge,
    granted_by,
    read_token,
    scopes_of,
    token_requests,
)
from multi_fetch.registry.refusal import (
    ANONYMOUS_REFUSED,
    explained,
    login_refused,
    login_unfit,
    none_found,
    token_refused,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from multi_fetch.registry.auth import TokenRequest
    from multi_fetch.registry.challenge import Challenge
    from multi_fetch.registry.credentials import Credential
    from multi_fetch.registry.hosts import Host
    from multi_fetch.registry.login import Login
    from multi_fetch.registry.refusal import Reason

logger = logging.getLogger(__name__)

# How token services refuse a login: OAuth 2's invalid_grant, and what HTTP has.
REFUSALS: Final = frozenset({400, 401, 403})

# The one that was held, and the one that a credential helper then has.
MAX_LOGINS: Final = 2


class Authorizer:
    """Holds the token of one repository; its requests ask here for what to send.

    Args:
        host: the registry.
        login: for it.
        repository: the token is for pulling from it.
        ask: sends a TokenRequest, and returns the body of a 200 answer.
    """

    def __init__(
        self,
        host: Host,
        login: Login,
        repository: str,
        ask: Callable[[TokenRequest], Awaitable[bytes]],
    ) -> None:
        self._host = host
        self._login = login
        self._repository = repository
        self._ask = ask
        # What the registry asked for last, and whether it is in a network of its own.
        self._challenge: tuple[Challenge, bool] | None = None
        self._scopes: tuple[str, ...] = ()
        self._token: Token | None = None
        self._token_scopes: frozenset[str] = frozenset()
        self._token_credential: Credential | None = None
        # Why the token is an anonymous one, where there is a login.
        self._refusal: MultiFetchError | None = None
        self._refused_registry_token = ""
        self._is_form_taken: bool | None = None
        self._lock = trio.Lock()
        self._answers = 0
        self._failure: MultiFetchError | None = None

    def present_authorization(self) -> str | None:
        """What ``authorization`` returns, where that is known without asking for a new token."""
        token = self._token
        if token is None:
            return ""
        return token.authorization if trio.current_time() < token.renew_at else None

    @property
    def grant(self) -> Grant | None:
        """What is held at present; None for nothing."""
        token = self._token
        if token is None:
            return None
        scheme = token.authorization.partition(" ")[0]
        # A token that expires came from a token service, with a login or without.
        is_fetched = scheme == "Bearer" and token.expires_at < math.inf
        return Grant(
            scheme=scheme,
            scopes=tuple(sorted(self._token_scopes)) if is_fetched else (),
            granted=granted_by(token.authorization) if scheme == "Bearer" else None,
            expires_at=token.expires_at,
            is_anonymous=is_fetched and self._token_credential is None,
            refusal=self._refusal,
        )

    async def authorization(self) -> str:
        """The header to send, or an empty text while the registry has not asked for one.

        Raises:
            MultiFetchError: the token has expired, and there is no new one.
        """
        token = self._token
        if token is None:
            return ""
        now = trio.current_time()
        if now >= token.renew_at:
            try:
                await self._renew(token.authorization)
            except MultiFetchError as error:
                if not error.retryable or now >= token.expires_at:
                    raise
                self._token = replace(token, renew_at=(now + token.expires_at) / 2)
        return self._token.authorization if self._token is not None else ""

    async def answer(
        self,
        challenges: Sequence[Challenge],
        *,
        sent: str,
        is_registry_inside: bool,
        is_fresh: bool = False,
    ) -> str:
        """The header to send after a 401, or an empty text where nothing else can be sent.

        Args:
            challenges: of its WWW-Authenticate.
            sent: the Authorization header that was refused, or empty.
            is_registry_inside: as for ``token_requests``.
            is_fresh: whether this had an answer for the same request already, which was ``sent``.

        Raises:
            MultiFetchError: there is no reading the user's credentials, the token service failed,
                or it refused the login and the registry refuses to answer without one.
        """
        challenge = choose_challenge(challenges)
        if challenge is None:
            return ""
        return await self._answer(
            challenge, sent=sent, is_registry_inside=is_registry_inside, is_fresh=is_fresh
        )

    def why_refused(self, challenges: Sequence[Challenge], *, sent: str) -> Reason | None:
        """Why a 401 cannot be answered, after ``answer`` had its say; None where nobody knows.

        Args:
            challenges: of its WWW-Authenticate.
            sent: the Authorization header that was refused, or empty.
        """
        if choose_challenge(challenges) is None:
            return None
        host, held = self._host, self._login.held
        if held is None:
            more = f"; {ANONYMOUS_REFUSED}" if sent else ""
            return none_found(host, self._login.places, more)
        if not sent:
            return login_unfit(host, held)
        if sent.startswith("Bearer ") and self._token_credential is not None:
            return token_refused(host, held)
        return login_refused(host, held, "the registry")

    async def prepare(self, challenges: Sequence[Challenge], *, is_registry_inside: bool) -> None:
        """Gets what requests will need, by the 401 to one that was about no repository.

        What it says of scopes is of no use: registries write an example there.

        Raises:
            MultiFetchError: as for ``answer``.
        """
        challenge = choose_challenge(challenges)
        if challenge is not None and self._token is None:
            params = {name: text for name, text in challenge.params.items() if name != "scope"}
            own = replace(challenge, params=params)
            await self._answer(own, sent="", is_registry_inside=is_registry_inside, is_fresh=False)

    async def _answer(
        self, challenge: Challenge, *, sent: str, is_registry_inside: bool, is_fresh: bool
    ) -> str:
        credential = await self._login.credential()
        if challenge.scheme == "basic":
            return await self._answer_basic(credential, sent)
        if token := await self._registry_token(credential, sent):
            return token
        self._want(challenge, is_registry_inside=is_registry_inside)
        if self._is_final(challenge, sent, is_fresh=is_fresh):
            if self._refusal is not None:
                raise copy.copy(self._refusal) from self._refusal
            if not await self._has_other_credential():
                return ""
        await self._renew(sent)
        return "" if self._token is None else self._token.authorization

    async def _answer_basic(self, credential: Credential | None, sent: str) -> str:
        if credential is not None and basic(credential).authorization == sent:
            credential = await self._login.after_refusal(credential)
        if credential is None or not credential.has_login:
            return ""
        self._token = basic(credential)
        return self._token.authorization

    async def _registry_token(self, credential: Credential | None, sent: str) -> str:
        """The registry's own token, unless it has been refused."""
        if credential is not None and sent == f"Bearer {credential.registry_token}":
            if self._refused_registry_token != credential.registry_token:
                facts = {"url": self._host.url}
                logger.warning("the registry token was refused: going on without it", extra=facts)
            self._refused_registry_token = credential.registry_token
            credential = await self._login.after_refusal(credential)
        if credential is None or credential.registry_token in {"", self._refused_registry_token}:
            return ""
        self._token = Token(f"Bearer {credential.registry_token}")
        return self._token.authorization

    def _want(self, challenge: Challenge, *, is_registry_inside: bool) -> None:
        """Keeps what is asked for; scopes add up, so that no two requests take turns in tokens."""
        self._challenge = challenge, is_registry_inside
        scopes = scopes_of(challenge, self._repository)
        wanted = tuple(dict.fromkeys((*self._scopes, *scopes)))
        self._scopes = wanted if len(wanted) <= MAX_TOKEN_SCOPES else scopes

    def _is_final(self, challenge: Challenge, sent: str, *, is_fresh: bool) -> bool:
        """Whether another token of the same login would be refused as this one was."""
        if self._token is None or self._token.authorization != sent or not self._is_covered():
            return False
        error = challenge.params.get("error")  # RFC 6750, section 3.1
        is_anonymous = self._refusal is not None and error != "invalid_token"
        return is_fresh or is_anonymous or error == "insufficient_scope"

    def _is_covered(self) -> bool:
        return self._token_scopes.issuperset(self._scopes)

    async def _has_other_credential(self) -> bool:
        used = self._token_credential
        return used is not None and await self._login.after_refusal(used) is not None

    async def _renew(self, old: str) -> None:
        """Sees to it that the token is another than ``old``: fetches it, or waits for who does.

        Who is cancelled while fetching gives up the lock, and the next in line fetches.
        """
        if self._token is not None and self._token.authorization != old and self._is_covered():
            return
        answers = self._answers
        async with self._lock:
            if self._answers != answers:
                if self._failure is not None:
                    raise copy.copy(self._failure) from self._failure
                if self._is_covered():
                    return
            try:
                await self._fetch()
            except MultiFetchError as error:
                self._answers, self._failure = self._answers + 1, error
                raise
            self._answers, self._failure = self._answers + 1, None

    async def _fetch(self) -> None:
        """Fetches a token with the login, or a newer login, or none."""
        credential, refusal = await self._login.credential(), None
        for _ in range(MAX_LOGINS):
            if credential is None or not (credential.has_login or credential.identity_token):
                break
            try:
                await self._fetch_with(credential)
            except MultiFetchError as error:
                if error.status not in REFUSALS:
                    raise
                refusal = self._explained(error, "the token service")
                credential = await self._login.after_refusal(credential)
            else:
                self._refusal = None
                return
        try:
            await self._fetch_with(None)
        except MultiFetchError as error:
            if error.status not in REFUSALS:
                raise
            # A login that is still there is one for the registry itself, which had it before.
            raise refusal or self._explained(error, "the registry") from error
        self._refusal = refusal
        if refusal is not None:
            facts = {"status": refusal.status, "error": refusal.message}
            logger.warning("the login was refused: going on anonymously", extra=facts)

    def _explained(self, error: MultiFetchError, refused_by: str) -> MultiFetchError:
        """A token service's refusal, with what was sent, and who refused that."""
        host, held = self._host, self._login.held
        if held is None:
            return explained(error, none_found(host, self._login.places))
        return explained(error, login_refused(host, held, refused_by))

    async def _fetch_with(self, credential: Credential | None) -> None:
        assert self._challenge is not None, "a token that expires came by a challenge"
        challenge, is_inside = self._challenge
        scopes = self._scopes
        requests = token_requests(
            challenge, credential, scopes, host=self._host, is_registry_inside=is_inside
        )
        if self._is_form_taken is not None:
            requests = tuple(
                sorted(requests, key=lambda each: bool(each.form) != self._is_form_taken)
            )
        failures: list[MultiFetchError] = []
        for request in requests:
            asked_at = trio.current_time()
            try:
                body = await self._ask(request)
            except MultiFetchError as error:
                failures.append(error)
                if not request.is_misunderstood(error.status):
                    break
                continue
            self._token = read_token(body, service=redacted(request.url), asked_at=asked_at)
            self._token_scopes, self._token_credential = frozenset(scopes), credential
            if credential is not None:
                self._is_form_taken = bool(request.form)
            return
        # that a form is not known says less than that the login is refused
        raise next((each for each in failures if each.status in REFUSALS), failures[-1])
