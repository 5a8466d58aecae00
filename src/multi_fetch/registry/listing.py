"""Lists a repository's tags, and what refers to a digest: page after page, none of them kept.

distribution-spec, "Listing Tags", "Listing Referrers" and "Unavailable Referrers API". A Link says
where the next page is; its path and query are asked of the registry itself, whatever host it names:
behind proxies that is often a wrong one, and no other host is to get the credentials.
"""

from __future__ import annotations

import logging
from contextlib import aclosing
from itertools import count
from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.advice import TELL_OPERATOR
from multi_fetch.budget import hold, let_go
from multi_fetch.errors import MultiFetchError, NotFoundError, RegistryError, TooLargeError
from multi_fetch.limits import (
    DESCRIBED_MEMORY,
    MAX_LISTING_PAGES,
    MAX_PAGE_BYTES,
    NAME_MEMORY,
    TAGS_OF_PAGE,
)
from multi_fetch.oci.digest import parse_digest
from multi_fetch.oci.media_types import INDEX_TYPES, OCI_INDEX
from multi_fetch.oci.reference import Reference
from multi_fetch.registry.api import content_type
from multi_fetch.registry.pages import (
    fallback_tag,
    is_filtered,
    names_of_page,
    next_link,
    referrers_of_page,
    referrers_path,
    tags_path,
)
from multi_fetch.verify import Verifier

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.registry.resolver import RegistryRemote
    from multi_fetch.registry.session import Session

logger = logging.getLogger(__name__)

# What registries answer that have no referrers API: 404 by the spec; go-containerregistry and its
# users have met the others too.
NO_REFERRERS_API: Final = frozenset({400, 404, 405, 406})

# What says that the repository itself is not there.
NAME_UNKNOWN: Final = "NAME_UNKNOWN"


class Page(msgspec.Struct, frozen=True):
    """One answer.

    Attributes:
        status: of it.
        media_type: of its body.
        body: all of it.
        link: to the next page, as the registry wrote it; None where it names none.
        is_filtered: whether it has only what is of the artifact type.
        error: what it stands for, where the status is not 200.
    """

    status: int
    media_type: str = ""
    body: bytes = b""
    link: str | None = None
    is_filtered: bool = False
    error: MultiFetchError | None = None

    def required(self) -> Page:
        """The page itself.

        Raises:
            MultiFetchError: it is none.
        """
        if self.error is not None:
            raise self.error
        return self


async def tag_pages(session: Session, repository: str) -> AsyncGenerator[Sequence[str], None]:
    """The names of a repository's tags; see ``remotes.Listing``.

    A registry may cut a page at the number that was asked for and say nothing of the next one: so
    behind a full page without a Link it is asked what comes behind the last name.

    Raises:
        MultiFetchError: the registry's error, or it goes round in circles.
    """
    trail = _Trail(session, tags_path(repository, count=TAGS_OF_PAGE))
    page = await trail.get()
    if page.status == 400:  # some have a lower limit than the spec's clients commonly ask for
        trail.path = tags_path(repository)
        page = await trail.get()
    names, link = await _names(trail, page)
    del page
    while True:
        yield names
        if link is not None:
            trail.follow(link)
            names, link = await _names(trail, await trail.get())
            continue
        if len(names) != TAGS_OF_PAGE:
            return
        trail.go_on(tags_path(repository, count=TAGS_OF_PAGE, last=names[-1]))
        page = await trail.get()
        if page.status in NO_REFERRERS_API:
            return
        first = names[0]
        names, link = await _names(trail, page)
        del page
        if names[:1] == [first]:  # it knows nothing of "last", and that was all
            return


async def _names(trail: _Trail, page: Page) -> tuple[list[str], str | None]:
    """The names on a page, and the next one's Link; the page itself is of no use any more.

    Raises:
        MultiFetchError: as for ``Page.required`` and ``names_of_page``.
    """
    body = page.required().body
    await trail.hold(NAME_MEMORY * body.count(b","))
    return names_of_page(body), page.link


async def referrer_pages(
    remote: RegistryRemote, session: Session, ref: Reference, artifact_type: str
) -> AsyncGenerator[Sequence[Descriptor], None]:
    """What refers to a digest; see ``remotes.Listing``.

    Raises:
        NotFoundError: there is no referrers API, nor the tag that stands in for it.
        MultiFetchError: the registry's error, or it goes round in circles.
    """
    digest = parse_digest(ref.digest)
    trail = _Trail(session, referrers_path(ref.repository, digest, artifact_type), OCI_INDEX)
    page = await trail.get()
    # A portal's page, after redirects, is no list either, though its status is 200.
    if page.status in NO_REFERRERS_API or (page.error is None and page.media_type != OCI_INDEX):
        named = await _by_fallback_tag(remote, Reference(ref.locator, fallback_tag(digest)))
        yield [each for each in named if artifact_type in {"", each.artifact_type}]
        return
    while True:
        named, link = await _referrers(trail, page, artifact_type)
        del page
        yield named
        if link is None:
            return
        trail.follow(link)
        page = await trail.get()


async def _referrers(
    trail: _Trail, page: Page, artifact_type: str
) -> tuple[list[Descriptor], str | None]:
    """The descriptors on a page, and the next one's Link; as ``_names``."""
    body = page.required().body
    await trail.hold(DESCRIBED_MEMORY * body.count(b'"digest"') + len(body))
    return referrers_of_page(body, "" if page.is_filtered else artifact_type), page.link


async def none_for_nothing(
    pages: AsyncGenerator[Sequence[Descriptor], None],
) -> AsyncGenerator[Sequence[Descriptor], None]:
    """The pages of ``referrer_pages``; none where nothing has ever referred to the digest.

    Raises:
        NotFoundError: the repository is not there, as far as the registry tells.
        MultiFetchError: as for the pages.
    """
    try:
        async with aclosing(pages):
            async for page in pages:
                yield page
    except NotFoundError as error:
        if error.registry_code == NAME_UNKNOWN:
            raise


async def _by_fallback_tag(remote: RegistryRemote, ref: Reference) -> Sequence[Descriptor]:
    async with remote.open(ref) as opened:
        if opened.descriptor.media_type not in INDEX_TYPES:
            # distribution-spec: then a client should assume that there are none
            logger.warning("the tag for referrers names no index", extra={"ref": str(ref)})
            return ()
        assert opened.whole is not None, "a tag's manifest comes as a whole"
        verifier = Verifier(opened.descriptor.digest, opened.descriptor.size)
        verifier.update(opened.whole)
        verifier.finish()
        return referrers_of_page(opened.whole, "")


class _Trail:
    """From page to page, and never in circles.

    Args:
        session: sends the requests.
        path: of the first page.
        accept: the type that is asked for.
    """

    def __init__(self, session: Session, path: str, accept: str = "application/json") -> None:
        self.path = path
        self._session = session
        self._headers = {"Accept": accept}
        # Hashes, as a registry may make its paths long.
        self._seen = {hash(path)}
        self._held = 0

    async def hold(self, count: int) -> None:
        """Counts what the page takes beside its text, until the next one is asked for."""
        self._held += count
        await hold(count)

    def follow(self, link: str) -> None:
        """Goes where a Link leads."""
        self.go_on(self._session.linked(self.path, link))

    def go_on(self, path: str) -> None:
        """Goes to another page.

        Raises:
            RegistryError: it was there before.
            TooLargeError: there are too many.
        """
        if hash(path) in self._seen:
            raise RegistryError(
                f"the registry's pages lead in a circle: a Link to an earlier one{TELL_OPERATOR}"
            )
        if len(self._seen) >= MAX_LISTING_PAGES:
            raise TooLargeError(
                f"the listing has more than {MAX_LISTING_PAGES} pages: ask for what is known by"
                " name"
            )
        self._seen.add(hash(path))
        self.path = path

    async def get(self) -> Page:
        """The page, or the error in its place; asked for again while its body breaks off.

        Raises:
            MultiFetchError: there is no answer, or its body never comes whole.
        """
        let_go(self._held)
        self._held = 0
        for attempt in count(1):
            answer = await self._session.send("GET", self.path, self._headers, attempt=attempt)
            try:
                if answer.status != 200:
                    return Page(answer.status, error=await answer.error())
                body = await answer.read(MAX_PAGE_BYTES)
                self._held = len(body)
                return Page(
                    200,
                    content_type(answer.headers),
                    body,
                    next_link(answer.headers.get("link", "")),
                    is_filtered(answer.headers),
                )
            except MultiFetchError as error:
                broken = error
            finally:
                await answer.aclose()
            await self._session.bear(broken, attempt)
        raise AssertionError("attempts have an end")
