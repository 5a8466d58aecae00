"""Asks a registry: with authorization, and again for as long as there is patience.

A request that meets trouble which may pass is sent again, to the registry itself and never to
where it was redirected: a signed URL may have expired.
"""

from __future__ import annotations

import logging
import math
import random
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final

import trio

from multi_fetch.durations import RETRY_WARNING_SECONDS
from multi_fetch.errors import MultiFetchError
from multi_fetch.registry.authorizer import Authorizer
from multi_fetch.registry.login import Login
from multi_fetch.registry.refusal import explained
from multi_fetch.registry.retry import (
    delay_seconds,
    is_passing,
    is_passing_status,
    longest_waits,
)
from multi_fetch.registry.token_service import ask_token_service
from multi_fetch.registry.url import Url, join, parse_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from multi_fetch.ceiling import Ceiling
    from multi_fetch.registry.answer import Answer
    from multi_fetch.registry.auth import Grant
    from multi_fetch.registry.credentials import Credential, Keychain
    from multi_fetch.registry.exchange import Exchange
    from multi_fetch.registry.fast_lane import FastLane
    from multi_fetch.registry.hosts import Host
    from multi_fetch.registry.place import Place
    from multi_fetch.registry.standing import Standing
    from multi_fetch.registry.url import Origin

logger = logging.getLogger(__name__)

# Answers to one request's 401s: a token; and another of another login, where there is a newer one.
MAX_AUTHORIZATIONS: Final = 2

# What stores answer to a signed URL that has expired: S3 and CloudFront 403, GCS 400, Azure 403.
EXPIRED: Final = frozenset({400, 401, 403})


class Session:
    """Requests to one repository's registry.

    Args:
        exchange: sends them; its patience counts here too.
        host: the registry.
        credential: for it, or None.
        repository: what tokens are asked for.
        keychain: where a credential is looked for, if there is none.

    Attributes:
        retries: requests that were sent again.
        ratelimit: the headers with which the registry last told its limits.
        is_inside: whether the registry was in a private network when it last had no object.
    """

    def __init__(
        self,
        exchange: Exchange,
        host: Host,
        credential: Credential | None,
        repository: str,
        *,
        keychain: Keychain | None = None,
    ) -> None:
        self.retries = 0
        self.ratelimit: dict[str, str] = {}
        self.is_inside = False
        self._warned_at = -math.inf
        self._exchange = exchange
        self._host = host
        self._origin = parse_url(host.url).origin
        login = Login.of(credential)
        if credential is None and keychain is not None:
            login = Login(partial(keychain.locate, host.authority, repository), keychain.paths)
        self._authorizer = Authorizer(host, login, repository, partial(ask_token_service, exchange))

    @property
    def stall_seconds(self) -> float:
        """How long a connection may be of no use: see ``remotes.Patience``."""
        return self._exchange.patience.stall_seconds

    @property
    def ceiling(self) -> Ceiling:
        """For content that is read to learn its size."""
        return self._exchange.patience.ceiling

    @property
    def standing(self) -> Standing:
        """How the host does, with all of its repositories."""
        return self._exchange.standing

    @property
    def grant(self) -> Grant | None:
        """What is held by way of authorization; None for nothing."""
        return self._authorizer.grant

    @asynccontextmanager
    async def request(
        self, method: str, path: str, headers: Mapping[str, str]
    ) -> AsyncIterator[Answer]:
        """Sends a GET or HEAD; gives the answer, as ``send`` does, and closes it."""
        answer = await self.send(method, path, headers)
        try:
            yield answer
        finally:
            await answer.aclose()

    async def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        attempt: int = 1,
        final: frozenset[int] = frozenset(),
    ) -> Answer:
        """Sends a GET or HEAD, again if need be; gives the answer, whatever its status.

        Args:
            method: GET or HEAD.
            path: the API's, which begins with ``/v2``.
            headers: to send.
            attempt: where its attempts begin to be counted.
            final: statuses after which it is not sent again.

        Raises:
            UnauthorizedError: the registry asks for credentials that there are not.
            MultiFetchError: there is no answer, or none that may be followed.
        """
        url = Url(self._origin, self._host.target(path))
        for number in count(attempt):
            try:
                answer = await self._send_authorized(method, url, headers, number)
            except MultiFetchError as error:
                await self.bear(error, number)
                continue
            answer.attempts = number
            delay = None
            if answer.status not in final and _may_change(answer, url, is_first=number == attempt):
                delay = self._delay(self._exchange.tries_in_vain(answer), answer.retry_after())
            if delay is None:
                return answer
            await self._wait_after(answer, delay)
        raise AssertionError("attempts have an end")

    def note_place(self, answer: Answer) -> None:
        """Takes note of where an answer came from, if it is the registry's own."""
        if answer.url.origin == self._origin:
            self.is_inside = answer.is_from_inside

    def linked(self, path: str, link: str) -> str:
        """The API's path that a link leads to from another one: always at this registry.

        Raises:
            RegistryError: it leads to no http or https URL.
        """
        base = Url(self._origin, self._host.target(path))
        return self._host.path(join(base, link).target)

    async def ask_store(
        self, store: Url, headers: Mapping[str, str], place: Place
    ) -> Answer | None:
        """Sends a GET for a part, once, to where the registry has led before.

        Args:
            store: where an answer came from.
            headers: to send, with a Range.
            place: where that may lead.

        Returns:
            The part; or None, and the registry should be asked: it has not led to another origin,
            or the store gives no part, since a signed URL may have expired.
        """
        if store.origin == self._origin:
            return None
        try:
            answer = await self._exchange.follow("GET", store, headers, "", place=place)
        except MultiFetchError:
            return None
        if answer.status == 206:
            return answer
        await answer.drain()
        return None

    def is_held_back(self, origin: Origin) -> bool:
        """Whether a host has asked to slow down."""
        return self._exchange.is_held_back(origin)

    @property
    def origin(self) -> Origin:
        """The registry's."""
        return self._origin

    def straight_lane(self) -> FastLane | None:
        """The lane that a request of now goes over without waiting; None where it has to wait."""
        return self._exchange.straight_lane()

    def present_authorization(self) -> str | None:
        """The header that a request of now is sent with; None where it has to be asked for."""
        return self._authorizer.present_authorization()

    def request_bytes(self, path: str, headers: Mapping[str, str], authorization: str) -> bytes:
        """A GET as ``send`` sends it.

        Raises:
            RegistryError: it cannot be sent.
        """
        url = Url(self._origin, self._host.target(path))
        return self._exchange.request_bytes(url, headers, authorization)

    async def warm_up(self) -> None:
        """Asks for end-1 of distribution-spec, once: so there is a connection, and maybe a token.

        Raises:
            MultiFetchError: there is no answer, or no token.
        """
        url = Url(self._origin, self._host.target("/v2/"))
        sent = await self._authorizer.authorization()
        answer = await self._exchange.follow("GET", url, {}, sent)
        is_inside = answer.is_from_inside
        await answer.drain()
        if answer.status == 401 and answer.url.origin == url.origin:
            await self._authorizer.prepare(answer.challenges(), is_registry_inside=is_inside)

    async def bear(self, error: MultiFetchError, attempt: int) -> None:
        """Waits until the next attempt, or raises the error where there is none.

        Args:
            error: what went wrong.
            attempt: how often it was tried in a row.
        """
        delay = self._delay(attempt, error.retry_after) if is_passing(error) else None
        if delay is None:
            error.attempts = attempt
            raise error
        self._warn(error.message)
        await self._wait(delay, error.message)

    def _delay(self, attempt: int, retry_after: float | None) -> float | None:
        return delay_seconds(
            attempt,
            retry_after,
            self._exchange.patience,
            jitter=random.random(),  # noqa: S311 - it spreads retries, and guards nothing
        )

    async def _wait_after(self, answer: Answer, seconds: float) -> None:
        await answer.drain()
        why = f"{answer.what}: {answer.status}"
        if is_passing_status(answer.status):  # an expired URL is none of the host's troubles
            self._warn(why)
        await self._wait(seconds, why)

    def _warn(self, why: str) -> None:
        """Says that there is trouble, now and then: whoever waits knows what for, and how long."""
        now = trio.current_time()
        if now < self._warned_at + RETRY_WARNING_SECONDS:
            return
        self._warned_at = now
        patience = self._exchange.patience
        facts = {
            "url": self._host.url,
            "attempts": patience.retries + 1,
            "seconds": round(longest_waits(patience)),
            "error": why,
        }
        words = "a host is in trouble: it is asked so many times, for so many seconds of waits"
        logger.warning(words, extra=facts)

    async def _wait(self, seconds: float, why: str) -> None:
        self.retries += 1
        logger.info("again in %.1f s: %s", seconds, why)
        await trio.sleep(seconds)

    async def _send_authorized(
        self, method: str, url: Url, headers: Mapping[str, str], attempt: int
    ) -> Answer:
        sent = await self._authorizer.authorization()
        answer = await self._exchange.follow(method, url, headers, sent, attempt=attempt)
        for turn in range(MAX_AUTHORIZATIONS):
            if answer.status != 401 or answer.url.origin != url.origin:
                break
            if sent and "Authorization" not in answer.sent:  # another host has led back here
                break
            sent = await self._after_401(answer, sent, is_fresh=turn > 0)
            answer = await self._exchange.follow(method, url, headers, sent, attempt=attempt)
        else:
            if answer.status == 401 and answer.url.origin == url.origin:
                raise self._refused(answer, await _error_of(answer), sent)
        self.ratelimit = answer.ratelimit() or self.ratelimit
        return answer

    async def _after_401(self, answer: Answer, sent: str, *, is_fresh: bool) -> str:
        is_registry_inside = answer.is_from_inside
        refusal = await _error_of(answer)
        authorization = await self._authorizer.answer(
            answer.challenges(),
            sent=sent,
            is_registry_inside=is_registry_inside,
            is_fresh=is_fresh,
        )
        if not authorization:
            raise self._refused(answer, refusal, sent)
        return authorization

    def _refused(self, answer: Answer, error: MultiFetchError, sent: str) -> MultiFetchError:
        """A 401's error, with what was sent, or where that was looked for."""
        why = self._authorizer.why_refused(answer.challenges(), sent=sent)
        return explained(error, why)


async def _error_of(answer: Answer) -> MultiFetchError:
    """The error that an answer stands for, which is closed."""
    try:
        return await answer.error()
    finally:
        await answer.aclose()


def _may_change(answer: Answer, url: Url, *, is_first: bool) -> bool:
    """Whether the registry may answer otherwise, if it is asked again.

    Also where a store refuses a signed URL: that may have expired, and the registry makes another.
    """
    is_redirected = answer.url.origin != url.origin
    may_be_expired = is_first and is_redirected and answer.status in EXPIRED
    return may_be_expired or is_passing_status(answer.status)
