"""A layout as a remote: the contracts over its contents."""

from __future__ import annotations

import logging
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from multi_fetch.budget import hold, scratch
from multi_fetch.errors import (
    InvalidReferenceError,
    InvalidRequestError,
    ObjectRequiredError,
)
from multi_fetch.layout.contents import Contents, Wanted
from multi_fetch.layout.loan import Loan, Threads
from multi_fetch.layout.referrers import referrers_among
from multi_fetch.limits import MAX_MANIFEST_BYTES, NAME_MEMORY
from multi_fetch.oci.digest import parse_digest
from multi_fetch.oci.reference import TAG, TAG_FORM
from multi_fetch.oci.referrer import REFERRER_TYPES
from multi_fetch.remotes import Opened, Report, Resolved

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from multi_fetch.layout.part import Source
    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.oci.digest import Chunk
    from multi_fetch.oci.reference import Reference
    from multi_fetch.protocol.request import ByteRange
    from multi_fetch.shelf import Shelf

log = logging.getLogger(__name__)

# Manifests that are looked into, one after the other, in one go.
PAGE_MANIFESTS: Final = 64


class LayoutRemote:
    """One layout; see ``remotes.Remote``.

    Args:
        source: where its files are; its name is the locator of the references to it.
        shelf: where its index is kept beside others; None for one of its own.
    """

    def __init__(self, source: Source, shelf: Shelf | None = None) -> None:
        self._locator = source.name
        self._contents = Contents(source, shelf)
        self._threads = Threads()
        self._fetcher = LayoutFetcher(self._contents, self._threads)

    async def resolve(
        self, ref: Reference, *, media_types: Sequence[str] = (), size: int | None = None
    ) -> Resolved:
        """Finds out what the reference stands for; see ``remotes.Resolver``.

        Raises:
            InvalidRequestError: the reference names no object here, or a digest that is none.
            MultiFetchError: there is no such object, it is of another size, or cannot be read.
        """
        wanted = self._want(ref, media_types, size)
        loan = Loan(self._threads)
        with scratch():
            try:
                found = await loan.take(partial(self._contents.find, wanted), _most_content(wanted))
            finally:
                loan.give_back()
        _log("resolved", str(ref), found.descriptor)
        return Resolved(name=str(ref), descriptor=found.descriptor, fetcher=self._fetcher)

    @asynccontextmanager
    async def open(
        self,
        ref: Reference,
        *,
        media_types: Sequence[str] = (),
        size: int | None = None,
        byte_range: ByteRange | None = None,
    ) -> AsyncIterator[Opened]:
        """Resolves and fetches at once; see ``remotes.Remote``.

        Raises:
            InvalidRequestError: the range begins at the object's end or beyond.
            MultiFetchError: as for ``resolve``, on entering or while iterating.
        """
        wanted = self._want(ref, media_types, size)
        loan = Loan(self._threads)
        try:
            found = await loan.take(partial(self._contents.find, wanted), _most_content(wanted))
            _log("opened", str(ref), found.descriptor)
            first, end = bounds(byte_range, found.part.size)
            async with aclosing(loan.chunks(found, first, end)) as chunks:
                yield Opened(str(ref), found.descriptor, chunks)
        finally:
            loan.give_back()

    async def tags(self, ref: Reference) -> AsyncGenerator[Sequence[str], None]:
        """Lists the tags; see ``remotes.Listing``.

        Raises:
            MultiFetchError: the layout's own files cannot be read.
        """
        names = await self._threads.run(self._contents.names)
        await hold(sum(map(len, names)) + NAME_MEMORY * len(names))
        yield names

    async def referrers(
        self, ref: Reference, artifact_type: str = ""
    ) -> AsyncGenerator[Sequence[Descriptor], None]:
        """Lists what refers to a digest; see ``remotes.Listing``.

        Raises:
            MultiFetchError: as for ``tags``.
        """
        digest = parse_digest(ref.digest)
        manifests = await self._threads.run(self._contents.manifests)
        among = [each for each in manifests if each.media_type in REFERRER_TYPES]
        for start in range(0, len(among), PAGE_MANIFESTS):
            some = among[start : start + PAGE_MANIFESTS]
            look = partial(referrers_among, self._contents, some, digest)
            found = await self._threads.run(look)
            yield [each for each in found if artifact_type in {"", each.artifact_type}]

    def report(self) -> Report:
        """Nothing: a folder is asked once, and limits nobody; see ``remotes.Remote``."""
        return Report()

    def _want(self, ref: Reference, media_types: Sequence[str], size: int | None) -> Wanted:
        if ref.locator != self._locator:
            raise InvalidReferenceError(f"{ref} is not in {self._locator}: open its own remote")
        media_type = media_types[0] if media_types else ""
        if ref.digest:
            return Wanted("", parse_digest(ref.digest), media_type, size)
        if not ref.tag:
            raise ObjectRequiredError(f"{ref} names no object: append :<tag> or @<digest>")
        if not TAG.fullmatch(ref.tag):
            raise InvalidReferenceError(
                f"{str(ref)[:300]!r}: {ref.tag[:140]!r} is not a tag: {TAG_FORM}"
            )
        return Wanted(ref.tag, None, media_type, size)


class LayoutFetcher:
    """Fetches the objects of one layout.

    Args:
        contents: the layout's.
        threads: where they are read.
    """

    def __init__(self, contents: Contents, threads: Threads) -> None:
        self._contents = contents
        self._threads = threads

    @asynccontextmanager
    async def fetch(
        self, descriptor: Descriptor, *, offset: int = 0
    ) -> AsyncIterator[AsyncIterator[Chunk]]:
        """The content's raw bytes from ``offset`` on, unverified; see ``remotes.Fetcher``.

        Raises:
            SizeMismatchError: the content has another size.
            MultiFetchError: on entering or while iterating.
        """
        loan = Loan(self._threads)
        try:
            found = await loan.take(partial(self._contents.open, descriptor))
            async with aclosing(loan.chunks(found, offset, found.part.size)) as chunks:
                yield chunks
        finally:
            loan.give_back()


def _most_content(wanted: Wanted) -> int:
    """How much content is read with it at once: all may be manifests, as index.json says."""
    return MAX_MANIFEST_BYTES if wanted.size is None else min(wanted.size, MAX_MANIFEST_BYTES)


def bounds(byte_range: ByteRange | None, size: int) -> tuple[int, int]:
    """Where the wanted bytes of an object begin, and before which offset they end.

    Raises:
        InvalidRequestError: the range begins at the object's end or beyond.
    """
    if byte_range is None:
        return 0, size
    if byte_range.first >= size:
        last = "" if byte_range.last is None else byte_range.last
        raise InvalidRequestError(
            f"the range {byte_range.first}-{last} begins beyond the end of the object, which has"
            f" {size} bytes: ask for an earlier part"
        )
    return byte_range.first, size if byte_range.last is None else min(size, byte_range.last + 1)


def _log(verb: str, name: str, descriptor: Descriptor) -> None:
    if log.isEnabledFor(logging.DEBUG):
        facts = {"ref": name, "digest": descriptor.digest}
        log.debug("%s %s as %s", verb, name, descriptor.media_type, extra=facts)
