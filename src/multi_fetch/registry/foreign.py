"""Foreign URLs: where content is that a registry does not have (image-spec, descriptor.md).

A manifest's author wrote them, so they are trusted less than a redirect of the registry's. They are
asked over connections of their own, which know no login, no header and no certificate of anyone;
a 401 is an answer like any other. Where they lead into is judged as for redirects (exchange.py).
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from multi_fetch.errors import MultiFetchError, NotFoundError, RegistryError
from multi_fetch.limits import MAX_FOREIGN_URLS
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import parse_digest
from multi_fetch.oci.media_types import OCTET_STREAM
from multi_fetch.registry.api import ANY_TYPE, Candidate, Endpoint
from multi_fetch.registry.exchanges import open_exchange
from multi_fetch.registry.hosts import Host, is_inside, is_loopback, without_port
from multi_fetch.registry.place import Place
from multi_fetch.registry.resume import Download
from multi_fetch.registry.session import Session
from multi_fetch.registry.url import parse_url, shown
from multi_fetch.remotes import Opened, Report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from multi_fetch.oci.reference import Reference
    from multi_fetch.protocol.request import ByteRange
    from multi_fetch.registry.answer import Answer
    from multi_fetch.registry.exchange import Exchange
    from multi_fetch.registry.proxies import Proxies
    from multi_fetch.registry.url import Url
    from multi_fetch.remotes import Patience, Remote, Resolved

logger = logging.getLogger(__name__)


def stranger(host: Host) -> Host:
    """What a registry's settings say of places that have nothing to do with it.

    Its authorities are trusted there too; who is not verified, certificates to show, headers and a
    proxy of its own are its own matter.
    """
    tls = replace(host.tls, client_pairs=(), is_verified=True)
    return Host(host.scheme, host.authority, tls=tls)


def allowed_url(text: str, registry: Host, place: Place = Place.OUTSIDE) -> Url:
    """A foreign URL that may be asked: over https, and from outside never inside.

    For a registry on this machine that speaks plain http, so may they.

    Args:
        text: the URL.
        registry: whose name may be one inside.
        place: where its address lets the URL lead.

    Raises:
        RegistryError: it is none.
    """
    url = parse_url(text)
    own, there = without_port(registry.authority), url.origin.host
    if place is Place.OUTSIDE and is_inside(there) and not is_inside(own):
        raise RegistryError(f"the foreign URL leads to a private network: {shown(text)!r}")
    is_local = registry.scheme == "http" and is_loopback(own) and is_loopback(there)
    if url.origin.scheme != "https" and not is_local:
        raise RegistryError(f"the foreign URL is without https: {shown(text)!r}")
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
    async with open_exchange(
        stranger(registry), jobs=jobs, patience=patience, proxies=proxies
    ) as exchange:
        yield ForeignRemote(remote, exchange, registry, session)


class ForeignSession(Session):
    """Requests to one foreign origin, none of them with authorization."""

    def __init__(self, exchange: Exchange, url: Url, place: Place) -> None:
        super().__init__(exchange, Host(url.origin.scheme, url.origin.authority), None, "")
        self._place = place

    async def _send_authorized(
        self, method: str, url: Url, headers: Mapping[str, str], attempt: int
    ) -> Answer:
        return await self._exchange.follow(
            method, url, headers, "", attempt=attempt, place=self._place
        )


class ForeignRemote:
    """A repository, and what its manifests name elsewhere; see ``remotes.Foreign``.

    Args:
        remote: the repository.
        exchange: sends requests to foreign places, as ``stranger`` says.
        registry: whose place decides where foreign URLs may lead.
        session: the registry's, which knows where it was reached; None if it is not asked at all.
    """

    def __init__(
        self, remote: Remote, exchange: Exchange, registry: Host, session: Session | None
    ) -> None:
        self._remote = remote
        self._exchange = exchange
        self._registry = registry
        self._session = session
        self._retries = 0

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

        Raises:
            MultiFetchError: the last URL's, on entering or while iterating.
        """
        digest = parse_digest(ref.digest)
        session, download = await self._first(urls, size)
        try:
            media_type = media_types[0] if media_types else OCTET_STREAM
            descriptor = Descriptor(media_type=media_type, digest=digest, size=download.size)
            async with aclosing(download.stored(digest)) as chunks:
                yield Opened(str(ref), descriptor, chunks)
        finally:
            self._count(session)
            await download.aclose()

    async def _first(
        self, urls: Sequence[str], size: int | None
    ) -> tuple[ForeignSession, Download]:
        failure: MultiFetchError = NotFoundError("there are no foreign URLs")
        place = self._place()
        for text in urls[:MAX_FOREIGN_URLS]:
            try:
                url = allowed_url(text, self._registry, place)
                session = ForeignSession(self._exchange, url, place)
                return session, await self._ask(session, url, size)
            except MultiFetchError as error:
                failure = error
                facts = {"url": shown(text), "code": error.code, "error": error.message}
                logger.info("a foreign URL failed", extra=facts)
        raise failure

    def _place(self) -> Place:
        is_there = self._session is not None and self._session.is_inside
        is_inside_by_name = is_inside(without_port(self._registry.authority))
        return Place.ANYWHERE if is_there or is_inside_by_name else Place.OUTSIDE

    async def _ask(self, session: ForeignSession, url: Url, size: int | None) -> Download:
        candidate = Candidate(Endpoint.BLOBS, url.target, ANY_TYPE)
        async with AsyncExitStack() as stack:
            stack.callback(self._count, session)
            answer = await session.send("GET", candidate.path, {"Accept": candidate.accept})
            stack.push_async_callback(answer.aclose)
            if answer.status != 200:
                raise await answer.error()
            download = Download(session, candidate, answer, None, size)
            stack.pop_all()
            return download

    def _count(self, session: ForeignSession) -> None:
        self._retries += session.retries
