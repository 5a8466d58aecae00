"""Foreign URLs: where content is that a registry does not have (image-spec, descriptor.md).

A manifest's author wrote them, so they are trusted less than a redirect of the registry's. They are
asked over connections of their own, which know no login, no header and no certificate of anyone;
a 401 is an answer like any other. Where they lead into is judged as for redirects (exchange.py).
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from multi_fetch.errors import (
    DeadlineExceededError,
    NotFoundError,
    RegistryError,
    UnavailableError,
    UnsupportedError,
)
from multi_fetch.limits import MAX_FOREIGN_URLS
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import parse_digest
from multi_fetch.oci.media_types import OCTET_STREAM
from multi_fetch.registry.api import ANY_TYPE, Candidate, Endpoint
from multi_fetch.registry.errcode import OF_A_FOREIGN_URL
from multi_fetch.registry.exchanges import open_exchange
from multi_fetch.registry.fetcher import first_answer
from multi_fetch.registry.hosts import NOBODY, Host, is_inside, is_loopback, without_port
from multi_fetch.registry.mirrors import MirroredRemote
from multi_fetch.registry.place import Place, place_of, refused_inside
from multi_fetch.registry.resume import Download
from multi_fetch.registry.session import Session
from multi_fetch.registry.source import Source
from multi_fetch.registry.standing import Standing, Standings
from multi_fetch.registry.url import Url, parse_url, shown
from multi_fetch.remotes import Opened, Patience, Remote, Report, Resolved, Warmable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from multi_fetch.oci.reference import Reference
    from multi_fetch.protocol.request import ByteRange
    from multi_fetch.registry.answer import Answer
    from multi_fetch.registry.exchange import Exchange
    from multi_fetch.registry.proxies import Proxies


def stranger(host: Host) -> Host:
    """What a registry's settings say of places that have nothing to do with it.

    Its authorities are trusted there too, and who may be inside may be so; who is not verified,
    certificates to show, headers and a proxy of its own are its own matter.
    """
    tls = replace(host.tls, client_pairs=(), is_verified=True)
    return Host(host.scheme, host.authority, tls=tls, may_name=host.may_name)


def allowed_url(text: str, registry: Host, place: Place = Place.OUTSIDE) -> Url:
    """A foreign URL that may be asked: over https, and from outside never inside, unless allowed.

    For a registry on this machine that speaks plain http, so may they.

    Args:
        text: the URL.
        registry: whose name may be one inside, and which may name others there.
        place: where its address lets the URL lead.

    Raises:
        RegistryError: it is none.
    """
    url = parse_url(text)
    own, there = without_port(registry.authority), url.origin.host
    may_be_inside = place is Place.ANYWHERE or is_inside(own)
    place = place_of(url.origin, registry.may_name, may_be_inside=may_be_inside)
    if place is Place.OUTSIDE and is_inside(there):
        raise refused_inside(
            f"the foreign URL leads to a private network: {shown(text)!r}", url.origin
        )
    is_local = registry.scheme == "http" and is_loopback(own) and is_loopback(there)
    if url.origin.scheme != "https" and not is_local:
        raise RegistryError(
            f"the foreign URL is without https: {shown(text)!r}: ask who made the image"
        )
    return url


@asynccontextmanager
async def open_foreign_urls(  # noqa: PLR0913 - as for open_registry
    remote: Remote,
    registry: Host,
    session: Session | None,
    *,
    jobs: int,
    patience: Patience,
    proxies: Proxies | None,
) -> AsyncIterator[ForeignRemote]:
    """A remote that asks foreign URLs too; arguments as for ``ForeignRemote`` and the exchange."""
    opening = partial(
        open_exchange, stranger(registry), jobs=jobs, patience=patience, proxies=proxies
    )
    async with opening() as patient, opening(is_last=False) as hasty:
        yield ForeignRemote(remote, (patient, hasty), registry, session)


@asynccontextmanager
async def open_beside(
    layout: Remote,
    *,
    hosts: Sequence[Host],
    jobs: int,
    patience: Patience,
    proxies: Proxies | None,
) -> AsyncIterator[ForeignRemote]:
    """A layout that asks foreign URLs too; arguments as for ``remotes.open_remote``.

    Whoever made it is nobody that the user has named, so these never lead inside.
    """
    nobody = hosts[0] if hosts else NOBODY
    async with open_foreign_urls(
        layout, nobody, None, jobs=jobs, patience=patience, proxies=proxies
    ) as both:
        yield both


class ForeignSession(Session):
    """Requests to one foreign origin, none of them with authorization."""

    def __init__(self, exchange: Exchange, url: Url, place: Place) -> None:
        super().__init__(exchange, Host(url.origin.scheme, url.origin.authority), None, "")
        self._place = place

    async def _send_authorized(
        self, method: str, url: Url, headers: Mapping[str, str], attempt: int
    ) -> Answer:
        answer = await self._exchange.follow(
            method, url, headers, "", attempt=attempt, place=self._place
        )
        answer.advice = OF_A_FOREIGN_URL
        return answer


class ForeignUrl:
    """One URL as a remote, which has one object.

    Args:
        exchange: sends the requests.
        text: the URL, as it is written.
        registry: for ``allowed_url``.
        place: the same.
    """

    def __init__(self, exchange: Exchange, text: str, registry: Host, place: Place) -> None:
        self.text = text
        self._exchange = exchange
        self._registry = registry
        self._place = place
        self._retries = 0

    async def resolve(
        self, ref: Reference, *, media_types: Sequence[str] = (), size: int | None = None
    ) -> Resolved:
        """Refuses: what a URL has is known once it is read.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(f"{ref}: {shown(self.text)!r} has content alone: fetch it")

    @asynccontextmanager
    async def open(
        self,
        ref: Reference,
        *,
        media_types: Sequence[str] = (),
        size: int | None = None,
        byte_range: ByteRange | None = None,
    ) -> AsyncIterator[Opened]:
        """Opens what is there, which should be the reference's object; see ``remotes.Remote``."""
        url = allowed_url(self.text, self._registry, self._place)
        may_be_inside = self._place is Place.ANYWHERE
        place = place_of(url.origin, self._registry.may_name, may_be_inside=may_be_inside)
        session = ForeignSession(self._exchange, url, place)
        digest = parse_digest(ref.digest)
        asked = [Candidate(Endpoint.BLOBS, url.target, ANY_TYPE)]
        try:
            async with first_answer(session, "GET", asked, byte_range) as (candidate, answer):
                download = Download(session, candidate, answer, byte_range, size)
                media_type = media_types[0] if media_types else OCTET_STREAM
                descriptor = Descriptor(media_type=media_type, digest=digest, size=download.size)
                async with aclosing(download.stored(digest)) as chunks:
                    yield Opened(str(ref), descriptor, chunks)
        finally:
            self._retries += session.retries

    def tags(self, ref: Reference) -> AsyncGenerator[Sequence[str], None]:
        """Refuses, as ``resolve`` does.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(f"{ref}: {shown(self.text)!r} has no lists: ask the registry")

    def referrers(
        self, ref: Reference, artifact_type: str = ""
    ) -> AsyncGenerator[Sequence[Descriptor], None]:
        """Refuses, as ``tags`` does.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(f"{ref}: {shown(self.text)!r} has no lists: ask the registry")

    known_referrers = referrers

    def report(self) -> Report:
        """The retries alone."""
        return Report(self._retries)


class UrlSource(Source):
    """A foreign URL among others of its object."""

    trouble = "a foreign URL failed: asking the next one"
    is_lasting = False

    def __init__(self, url: ForeignUrl, standing: Standing) -> None:
        super().__init__(NOBODY, url, standing)
        self._url = url

    def is_ready(self, digest: str) -> bool:
        """Always: none of the URLs stands in for all others, as a registry does for mirrors."""
        self._standing.take_turn()
        return True

    @property
    def label(self) -> str:
        """The URL, fit for logs."""
        return shown(self._url.text)


class ForeignRemote:
    """A repository, and what its manifests name elsewhere; see ``remotes.Foreign``.

    Args:
        remote: the repository.
        both: exchanges with foreign places, as ``stranger`` says: with all the patience, and with
            as little as for mirrors.
        registry: whose place decides where foreign URLs may lead.
        session: the registry's, which knows where it was reached; None if it is not asked at all.
    """

    def __init__(
        self, remote: Remote, both: Sequence[Exchange], registry: Host, session: Session | None
    ) -> None:
        self._remote = remote
        self._patient, self._hasty = both
        self._standings = Standings()
        self._registry = registry
        self._session = session
        self._retries = 0

    async def warm_up(self) -> None:
        """The remote's own; see ``remotes.Warmable``. Who is behind foreign URLs is not asked."""
        if isinstance(self._remote, Warmable):
            await self._remote.warm_up()

    async def resolve(
        self, ref: Reference, *, media_types: Sequence[str] = (), size: int | None = None
    ) -> Resolved:
        """Asks the repository alone."""
        return await self._remote.resolve(ref, media_types=media_types, size=size)

    def open(
        self,
        ref: Reference,
        *,
        media_types: Sequence[str] = (),
        size: int | None = None,
        byte_range: ByteRange | None = None,
    ) -> AbstractAsyncContextManager[Opened]:
        """Asks the repository alone."""
        return self._remote.open(ref, media_types=media_types, size=size, byte_range=byte_range)

    def tags(self, ref: Reference) -> AsyncGenerator[Sequence[str], None]:
        """Asks the repository alone."""
        return self._remote.tags(ref)

    def referrers(
        self, ref: Reference, artifact_type: str = ""
    ) -> AsyncGenerator[Sequence[Descriptor], None]:
        """Asks the repository alone."""
        return self._remote.referrers(ref, artifact_type)

    def report(self) -> Report:
        """The repository's, with the retries of foreign requests."""
        report = self._remote.report()
        return Report(report.retries + self._retries, report.ratelimit)

    @asynccontextmanager
    async def open_foreign(
        self,
        ref: Reference,
        urls: Sequence[str],
        *,
        media_types: Sequence[str] = (),
        size: int | None = None,
    ) -> AsyncIterator[Opened]:
        """Opens an object at the first URL that has it; see ``remotes.Foreign``.

        A URL that breaks down, or has wrong bytes of what is held anyway, gives way to the next, as
        a mirror does (mirrors.py).

        Raises:
            MultiFetchError: the last URL's, on entering or while iterating.
        """
        if not urls:
            raise NotFoundError("there are no foreign URLs: name one")
        sources = self._sources(urls[:MAX_FOREIGN_URLS])
        together = MirroredRemote(sources, ref.locator)
        try:
            async with together.open(ref, media_types=media_types, size=size) as opened:
                yield opened
        except (UnavailableError, DeadlineExceededError) as error:
            sources[-1].note(error, ref.digest)
            raise
        finally:
            self._retries += together.report().retries

    def _sources(self, urls: Sequence[str]) -> list[UrlSource]:
        """The URLs, those of hosts in trouble last; the last before them gets all the patience."""
        named = [(text, self._standings.of(text)) for text in urls]
        left = sum(not standing.is_resting for _, standing in named)
        sources: list[UrlSource] = []
        for text, standing in sorted(named, key=lambda each: each[1].is_resting):
            left, exchange = left - 1, self._hasty
            if left == 0:
                standing.take_turn()
                exchange = self._patient
            url = ForeignUrl(exchange, text, self._registry, self._place())
            sources.append(UrlSource(url, standing))
        return sources

    def _place(self) -> Place:
        is_there = self._session is not None and self._session.is_inside
        is_inside_by_name = is_inside(without_port(self._registry.authority))
        return Place.ANYWHERE if is_there or is_inside_by_name else Place.OUTSIDE
