"""A repository at a registry as a remote: reference -> descriptor, with or without the content.

``open`` is one GET, since a registry answers type, digest, size and content all at once.
``resolve`` is a HEAD; where that is refused or does not say enough, it is a GET that hashes and
counts (distribution-spec, "Pulling manifests": Docker-Content-Digest may be missing).
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from multi_fetch.budget import scratch
from multi_fetch.errors import (
    DeniedError,
    InvalidReferenceError,
    MultiFetchError,
    NotFoundError,
    ObjectRequiredError,
    RegistryError,
    SizeMismatchError,
)
from multi_fetch.limits import MAX_MANIFEST_BYTES
from multi_fetch.oci.digest import parse_digest
from multi_fetch.oci.reference import TAG, TAG_FORM
from multi_fetch.registry.api import (
    Candidate,
    Endpoint,
    candidates_for_digest,
    candidates_for_tag,
    content_length,
    likely_endpoint,
)
from multi_fetch.registry.describe import (
    Wanted,
    check_size,
    describe_blob,
    describe_head,
    describe_manifest,
)
from multi_fetch.registry.direct import open_direct_lane
from multi_fetch.registry.extent import extent_of_whole
from multi_fetch.registry.fetcher import RegistryFetcher, find, first_answer
from multi_fetch.registry.resume import Download, read_whole
from multi_fetch.remotes import Opened, Report, Resolved
from multi_fetch.verify import Verifier

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from types import TracebackType
    from typing import Self

    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.oci.digest import Chunk
    from multi_fetch.oci.reference import Reference
    from multi_fetch.protocol.request import ByteRange
    from multi_fetch.registry.answer import Answer
    from multi_fetch.registry.direct import RegistryDirectLane
    from multi_fetch.registry.ranges import Ranges
    from multi_fetch.registry.session import Session


logger = logging.getLogger(__name__)


class RegistryRemote:
    """One repository; see ``remotes.Remote``.

    Args:
        session: sends the requests.
        locator: host and repository, as the references to it write them.
        ranges: for large blobs; None for one connection each.
    """

    def __init__(self, session: Session, locator: Reference, ranges: Ranges | None = None) -> None:
        self._session = session
        self._locator = locator.locator
        self._repository = locator.repository
        self._fetcher = RegistryFetcher(session, locator.repository, ranges)
        # Where the last digest without a media type was found: the next is likely there too.
        self._last_endpoint = Endpoint.MANIFESTS

    async def resolve(
        self, ref: Reference, *, media_types: Sequence[str] = (), size: int | None = None
    ) -> Resolved:
        """Finds out what the reference stands for; see ``remotes.Resolver``.

        Raises:
            InvalidRequestError: the reference names no object here, or a digest that is none.
            MultiFetchError: there is no such object, it is of another size, or the remote failed.
        """
        wanted = self._want(ref, media_types, size)
        descriptor = await self._by_head(wanted) or await self._by_get(wanted, str(ref))
        _log("resolved", str(ref), descriptor)
        return Resolved(name=str(ref), descriptor=descriptor, fetcher=self._fetcher)

    def open(
        self,
        ref: Reference,
        *,
        media_types: Sequence[str] = (),
        size: int | None = None,
        byte_range: ByteRange | None = None,
    ) -> Opening:
        """Resolves and fetches at once; see ``remotes.Remote``.

        Raises:
            TooLargeError: it is a manifest beyond the limit.
            InvalidRequestError: the range begins at the object's end or beyond.
            MultiFetchError: as for ``resolve``, on entering or while iterating.
        """
        return Opening(self, self._want(ref, media_types, size), str(ref), byte_range)

    async def warm_up(self) -> None:
        """Has a connection and a token ready; see ``remotes.Warmable``."""
        try:
            await self._session.warm_up()
        except MultiFetchError as error:
            logger.debug("not warmed up: %s", error.message)

    def report(self) -> Report:
        """What there is to say so far; see ``remotes.Remote``."""
        return Report(self._session.retries, dict(self._session.ratelimit))

    def tags(self, ref: Reference) -> AsyncGenerator[Sequence[str], None]:
        """Lists the tags; see ``remotes.Listing``."""
        from multi_fetch.registry.listing import tag_pages

        return tag_pages(self._session, ref.repository)

    def referrers(
        self, ref: Reference, artifact_type: str = ""
    ) -> AsyncGenerator[Sequence[Descriptor], None]:
        """Lists what refers to a digest; see ``remotes.Listing``."""
        from multi_fetch.registry.listing import none_for_nothing

        return none_for_nothing(self.known_referrers(ref, artifact_type))

    def known_referrers(
        self, ref: Reference, artifact_type: str = ""
    ) -> AsyncGenerator[Sequence[Descriptor], None]:
        """The same, but where the registry knows nothing of referrers, that is an error.

        Raises:
            NotFoundError: it has neither the API nor the tag that stands in for it.
        """
        from multi_fetch.registry.listing import referrer_pages

        return referrer_pages(self, self._session, ref, artifact_type)

    def direct_lane(self) -> AbstractContextManager[RegistryDirectLane | None]:
        """For small blobs; see ``lanes.Direct``."""
        return open_direct_lane(self._session, self._repository, self._is_blob)

    def _is_blob(self, media_types: Sequence[str]) -> bool:
        return (likely_endpoint(media_types) or self._last_endpoint) is Endpoint.BLOBS

    async def find(self, wanted: Wanted, byte_range: ByteRange | None) -> tuple[Candidate, Answer]:
        """The answer that has an object, and where it was; the caller closes it."""
        candidates = self._candidates(wanted)
        candidate, answer = await find(self._session, "GET", candidates, byte_range)
        self._remember(wanted, candidate)
        return candidate, answer

    @asynccontextmanager
    async def opened(
        self,
        wanted: Wanted,
        name: str,
        byte_range: ByteRange | None,
        found: tuple[Candidate, Answer],
    ) -> AsyncIterator[Opened]:
        """An object of any kind and size; the answer that has it is closed."""
        candidate, answer = found
        try:
            if candidate.endpoint is Endpoint.BLOBS:
                download = Download(self._session, candidate, answer, byte_range, wanted.size)
                descriptor = describe_blob(wanted, answer.headers, download.size)
                content = self._fetcher.content(candidate, answer, download, descriptor.digest)
                async with content as chunks:
                    yield Opened(name, descriptor, chunks)
                return
            check_size(wanted, content_length(answer.headers))
            answer, body = await read_whole(self._session, candidate, answer, MAX_MANIFEST_BYTES)
        finally:
            await answer.aclose()
        descriptor = describe_manifest(wanted, answer.headers, body)
        extent = extent_of_whole(byte_range, len(body))
        part = body if extent.count is None else body[extent.first : extent.first + extent.count]
        yield Opened(name, descriptor, OneChunk(part), part)

    async def _by_head(self, wanted: Wanted) -> Descriptor | None:
        candidates = self._candidates(wanted)
        try:
            async with first_answer(self._session, "HEAD", candidates) as (candidate, answer):
                self._remember(wanted, candidate)
                return describe_head(wanted, candidate.endpoint, answer.headers)
        except (NotFoundError, DeniedError, RegistryError, SizeMismatchError):
            # Some registries refuse HEAD alone, or count what they would compress; if not, a GET's
            # body says why.
            return None

    async def _by_get(self, wanted: Wanted, name: str) -> Descriptor:
        with scratch():
            async with Opening(self, wanted, name, None) as opened:
                descriptor = opened.descriptor
                if descriptor.size is not None:
                    return descriptor
                verifier = Verifier(descriptor.digest, None, self._session.ceiling.untold)
                async for chunk in opened.chunks:
                    verifier.update(chunk)
                verifier.finish()
                return replace(descriptor, size=verifier.received)

    def _want(self, ref: Reference, media_types: Sequence[str], size: int | None) -> Wanted:
        if ref.locator != self._locator:
            raise InvalidReferenceError(f"{ref} is not in {self._locator}: open its own remote")
        if ref.digest:
            return Wanted("", parse_digest(ref.digest), tuple(media_types), size)
        if not ref.tag:
            raise ObjectRequiredError(f"{ref} names no object: append :<tag> or @<digest>")
        if not TAG.fullmatch(ref.tag):
            raise InvalidReferenceError(
                f"{str(ref)[:300]!r}: {ref.tag[:140]!r} is not a tag: {TAG_FORM}"
            )
        return Wanted(ref.tag, None, tuple(media_types), size)

    def _candidates(self, wanted: Wanted) -> tuple[Candidate, ...]:
        if wanted.digest is None:
            return candidates_for_tag(self._repository, wanted.tag, wanted.media_types)
        first = likely_endpoint(wanted.media_types) or self._last_endpoint
        return candidates_for_digest(self._repository, wanted.digest, first, wanted.media_types)

    def _remember(self, wanted: Wanted, candidate: Candidate) -> None:
        if wanted.digest is not None and not wanted.media_types:
            self._last_endpoint = candidate.endpoint


def _log(verb: str, name: str, descriptor: Descriptor) -> None:
    if logger.isEnabledFor(logging.DEBUG):
        facts = {"ref": name, "digest": descriptor.digest}
        logger.debug("%s %s as %s", verb, name, descriptor.media_type, extra=facts)


class Opening:
    """The context of an object that is opened, short where the object is: see ``remotes.Remote``.

    A small blob is received as a whole before anything else is set up for it.
    """

    def __init__(
        self, remote: RegistryRemote, wanted: Wanted, name: str, byte_range: ByteRange | None
    ) -> None:
        self._remote = remote
        self._wanted = wanted
        self._name = name
        self._byte_range = byte_range
        self._general: AbstractAsyncContextManager[Opened] | None = None

    async def __aenter__(self) -> Opened:
        wanted, byte_range = self._wanted, self._byte_range
        found = candidate, answer = await self._remote.find(wanted, byte_range)
        if candidate.endpoint is Endpoint.BLOBS and byte_range is None:
            try:
                check_size(wanted, content_length(answer.headers))
                body = await answer.take_small()
            except BaseException:
                await answer.aclose()
                raise
            if body is not None:
                await answer.aclose()
                descriptor = describe_blob(wanted, answer.headers, len(body))
                _log("opened", self._name, descriptor)
                return Opened(self._name, descriptor, OneChunk(body), body)
        self._general = self._remote.opened(wanted, self._name, byte_range, found)
        opened = await self._general.__aenter__()
        _log("opened", opened.name, opened.descriptor)
        return opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if self._general is None:
            return None
        return await self._general.__aexit__(kind, error, traceback)


class OneChunk:
    """Content that is there as a whole, as chunks."""

    def __init__(self, content: bytes) -> None:
        self._content: bytes | None = content

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        content, self._content = self._content, None
        if content is None:
            raise StopAsyncIteration
        return content
