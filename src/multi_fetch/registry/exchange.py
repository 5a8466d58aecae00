"""One request and its answer: redirects, connections that had gone stale, hosts that are busy.

Redirects are followed by hand, since each one is a matter of trust: the Authorization header stays
with the registry's own origin, https never becomes http, nobody else has us use our certificate,
and a public registry cannot send us into a private network.
"""

from __future__ import annotations

import logging
import math
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import unquote

import trio

from multi_fetch import __version__
from multi_fetch.advice import MAY_NEED_TLS, TELL_OPERATOR, TRY_LATER
from multi_fetch.errors import RegistryError, UnavailableError
from multi_fetch.limits import MAX_REDIRECTS
from multi_fetch.registry.api import redacted
from multi_fetch.registry.errcode import OF_A_REDIRECT, OF_THE_HOST, printable
from multi_fetch.registry.fast_lane import request_bytes
from multi_fetch.registry.hosts import is_inside
from multi_fetch.registry.pace import Paces
from multi_fetch.registry.place import OR_TELL, Place, place_of, refused_inside
from multi_fetch.registry.proxies import MAX_KNOWN_ORIGINS, NO_PROXIES, Proxies
from multi_fetch.registry.url import join

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from multi_fetch.registry.answer import Answer
    from multi_fetch.registry.fast_lane import FastLane
    from multi_fetch.registry.hosts import PrivateHost
    from multi_fetch.registry.standing import Standing
    from multi_fetch.registry.tls import Trust
    from multi_fetch.registry.url import Origin, Url
    from multi_fetch.remotes import Patience

logger = logging.getLogger(__name__)

# RFC 9110, section 15.4: those with a Location to go to.
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

NAMED_IN_CONFIDENCE: Final = (
    f"; let no password, nor header in hosts.toml, be a part of its URLs{OR_TELL}"
)

# Refusals of one request, while others get through, that count as one.
ATTEMPTS_OF_BAD_LUCK: Final = 4

# The digest is over the bytes as stored, so no encoding may touch them.
_ALWAYS: Final = {"User-Agent": f"multi-fetch/{__version__}", "Accept-Encoding": "identity"}


class Lane(Protocol):
    """What sends one request over one connection."""

    async def send(
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        form: str | None = None,
        place: Place = Place.ANYWHERE,
    ) -> Answer:
        """Sends a request as it is, to that place; gives the answer, whatever its status.

        Raises:
            MultiFetchError: there is no answer.
        """


class Exchange:
    """Sends requests.

    Args:
        general: the lane for everything.
        fast: the lane for what it can take; None where there is none.
        jobs: requests to a host at the same time, at most, while it is not busy.
        patience: how busy hosts are borne.
        proxies: what goes through one takes the general lane.
        own: an origin, and headers that are for it alone.
        trust: which certificates are shown, and where; None for none.
        may_name: who may be inside though others name them.
    """

    def __init__(  # noqa: PLR0913 - each can be left out
        self,
        general: Lane,
        *,
        jobs: int,
        patience: Patience,
        fast: FastLane | None = None,
        proxies: Proxies = NO_PROXIES,
        own: tuple[Origin, Mapping[str, str]] | None = None,
        trust: Trust | None = None,
        may_name: Sequence[PrivateHost] = (),
    ) -> None:
        self._may_name = may_name
        self._general = general
        self._fast = fast
        self._proxy_of = lru_cache(MAX_KNOWN_ORIGINS)(proxies.of)
        self._proxy_login = lru_cache(MAX_KNOWN_ORIGINS)(proxies.login)
        self._own = own
        self._trust = trust
        self.patience = patience
        self._paces = Paces(jobs)

    @cached_property
    def standing(self) -> Standing:
        """How the host does that this is for, in whose place another may be asked."""
        from multi_fetch.registry.standing import Standing

        return Standing()

    async def follow(  # noqa: PLR0913 - a request's parts
        self,
        method: str,
        url: Url,
        headers: Mapping[str, str],
        authorization: str,
        *,
        attempt: int = 1,
        form: str | None = None,
        place: Place = Place.ANYWHERE,
    ) -> Answer:
        """Sends a request, and again to wherever the answer points; a form is sent only once.

        Args:
            method: GET, HEAD or POST.
            url: where to.
            headers: without those that are always the same.
            authorization: the header's value, until it leads to another origin; or empty.
            attempt: which of its request it is, from 1.
            form: a body to POST.
            place: where the URL may lead; where a redirect may, its answer's address decides.

        Raises:
            MultiFetchError: there is no answer, or none that may be followed.
        """
        target, there, sent = url, place, self._headers(url.origin, headers, authorization)
        for redirects in range(MAX_REDIRECTS + 1):
            if target.origin != url.origin:  # nor on the way back: others chose what is asked there
                sent = dict(headers, **_ALWAYS)
            answer = await self._send_in_turn(method, target, sent, form, attempt, there)
            answer.was_led(there, OF_THE_HOST if target.origin == url.origin else OF_A_REDIRECT)
            if answer.status not in REDIRECTS or form:
                return answer
            try:
                target, there = self._next_target(answer, redirects)
                there = place if target.origin == url.origin else there
                await answer.first_bytes()  # and no more, so that the connection is used again
            finally:
                await answer.aclose()
        raise AssertionError("the last redirect is refused")

    def _next_target(self, answer: Answer, redirects: int) -> tuple[Url, Place]:
        """Where an answer leads to, and where that may be."""
        target = _target_of(answer, redirects)
        if target.origin != answer.url.origin and self._trust and self._trust.is_own(target.origin):
            location = answer.headers["location"]
            raise _refused(answer, "a host that we show our certificate to", location)
        place = place_of(target.origin, self._may_name, may_be_inside=answer.may_name_inside)
        if place is Place.OUTSIDE and is_inside(target.origin.host):
            raise refused_inside(
                f"{answer.what}: the redirect leads to a private network: {str(target.origin)!r}",
                target.origin,
                status=answer.status,
            )
        return target, place

    def _headers(
        self, origin: Origin, headers: Mapping[str, str], authorization: str
    ) -> dict[str, str]:
        sent = dict(headers, **_ALWAYS)
        if self._own is not None and origin == self._own[0]:
            sent.update(self._own[1])
        if authorization:
            sent["Authorization"] = authorization
        return sent

    def straight_lane(self) -> FastLane | None:
        """The fast lane, where a request would take it now without waiting for anything.

        Of an origin that is reached through a proxy the lane has no idle connection.
        """
        if self._paces or self._fast is None or not self._fast.is_open():
            return None
        return self._fast

    def request_bytes(self, url: Url, headers: Mapping[str, str], authorization: str) -> bytes:
        """A GET, as ``follow`` sends it over the fast lane.

        Raises:
            RegistryError: it cannot be sent.
        """
        return request_bytes("GET", url, self._headers(url.origin, headers, authorization))

    async def _send_in_turn(  # noqa: PLR0913, PLR0917 - a request's parts
        self,
        method: str,
        url: Url,
        headers: dict[str, str],
        form: str | None,
        attempt: int,
        place: Place,
    ) -> Answer:
        """Sends a request when its host has room for it, and learns from the answer."""
        lane: Lane = self._general
        if self._fast is not None and form is None and self._fast.is_open():
            lane = self._general if self._proxy_of(url.origin) else self._fast
        pace = self._paces.of(url.origin) if self._paces else None
        # Without a pace it was sent before the host first asked to slow down.
        sent_at = -math.inf
        if pace is None or (lane is self._fast and self._fast.has_begun(method, url, headers)):
            answer = await _send(lane, method, url, headers, form, place)
        else:
            await (pace.wait_turn() if attempt == 1 else pace.wait_again())
            try:
                sent_at = trio.current_time()
                answer = await _send(lane, method, url, headers, form, place)
            finally:
                pace.done()
        # The fast lane goes through no proxy.
        login = {} if lane is self._fast else self._proxy_login(url.origin)
        answer.was_asked(headers | login, form or "")
        if logger.isEnabledFor(logging.DEBUG):
            _log(answer)
        if answer.status == 429:
            self._slow_down(url.origin, answer, sent_at)
        elif self._paces:
            self._paces.speed_up(url.origin)
        return answer

    def _slow_down(self, origin: Origin, answer: Answer, sent_at: float) -> None:
        if not self.patience.retries:  # then it is the caller who paces
            return
        asked = answer.retry_after() or 0.0
        if asked > self.patience.max_wait_seconds:  # the request fails; others may fare better
            return
        pace = self._paces.get_or_start(origin)
        pace.slow_down(sent_at=sent_at, retry_after=asked, patience=self.patience)

    def is_held_back(self, origin: Origin) -> bool:
        """Whether a host answered 429, and has not been set free since."""
        return self._paces.of(origin) is not None

    def tries_in_vain(self, answer: Answer) -> int:
        """How often, of its attempts, a request was sent and nothing moved.

        At a busy host the attempts of all requests count as one, until one of them gets through:
        who is refused then had bad luck, and that is counted for less.
        """
        pace = None
        if answer.status == 429:
            pace = self._paces.of(answer.url.origin)
        if pace is None:
            return answer.attempts
        return max(pace.refusals, answer.attempts // ATTEMPTS_OF_BAD_LUCK)


async def _send(  # noqa: PLR0913, PLR0917 - a request's parts
    lane: Lane, method: str, url: Url, headers: dict[str, str], form: str | None, place: Place
) -> Answer:
    """Sends a request; of plain http whose connection breaks is said what else it may be."""
    try:
        return await lane.send(method, url, headers, form, place)
    except UnavailableError as error:
        is_broken = "the connection broke" in error.message and error.message.endswith(TRY_LATER)
        if url.origin.scheme == "http" and is_broken:
            error.advice = MAY_NEED_TLS
            error.message = f"{error.message.removesuffix(TRY_LATER)}; {MAY_NEED_TLS}"
            error.args = (error.message,)
        raise


def _target_of(answer: Answer, redirects: int) -> Url:
    if redirects == MAX_REDIRECTS:
        raise RegistryError(
            f"{answer.what}: more than {MAX_REDIRECTS} redirects{TELL_OPERATOR}",
            status=answer.status,
        )
    location = answer.headers.get("location", "")
    if not location:
        raise _refused(answer, "nowhere, as it has no Location", location)
    try:
        target = join(answer.url, location)
    except RegistryError as error:
        raise _refused(answer, "no http URL", location) from error
    if answer.url.origin.scheme == "https" and target.origin.scheme == "http":
        raise _refused(answer, "a place without https", location)
    if answer.repeats_a_secret(unquote(location)):
        where = "a place whose name has what we sent in confidence"
        raise _refused(answer, where, location, NAMED_IN_CONFIDENCE)
    return target


def _refused(
    answer: Answer, where: str, location: str, advice: str = TELL_OPERATOR
) -> RegistryError:
    shown = answer.concealed(unquote(location.partition("?")[0].rpartition("@")[2]))
    shown = printable(shown, 200)
    return RegistryError(
        f"{answer.what}: the redirect leads to {where}: {shown!r}{advice}",
        status=answer.status,
    )


def _log(answer: Answer) -> None:
    facts = {
        "url": redacted(str(answer.url)),
        "status": answer.status,
        "digest": answer.concealed(answer.headers.get("docker-content-digest", "")),
    }
    logger.debug("answer: %s", answer.what, extra=facts)
