"""Objects out of the store, in tasks."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from multi_fetch.errors import (
    DeniedError,
    DigestMismatchError,
    MultiFetchError,
    NotFoundError,
    RegistryError,
    SizeMismatchError,
    UnavailableError,
)
from multi_fetch.layout.contents import Wanted
from multi_fetch.layout.loan import Loan
from multi_fetch.layout.remote import bounds
from multi_fetch.limits import MAX_DATA_BYTES, MAX_MANIFEST_BYTES
from multi_fetch.oci.digest import parse_digest
from multi_fetch.oci.manifest import is_manifest
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.request import ByteRange
from multi_fetch.remotes import Opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from multi_fetch.layout.contents import Found
    from multi_fetch.layout.loan import Threads
    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.oci.digest import Chunk, Digest
    from multi_fetch.remotes import Remote
    from multi_fetch.store.blobs import Blobs
    from multi_fetch.store.troubles import Troubles


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """An object that is asked for, as ``Remote.open`` has it.

    Attributes:
        ref: which one.
        name: what the answer calls it.
        media_types: what it is expected to be.
        size: the bytes that it is expected to have.
        byte_range: what is wanted of it.
    """

    ref: Reference
    name: str
    media_types: tuple[str, ...]
    size: int | None
    byte_range: ByteRange | None = None

    @property
    def digest(self) -> Digest:
        """Of a reference that has one."""
        return parse_digest(self.ref.digest)

    def wanted(self) -> Wanted:
        """The same, as a layout has it."""
        media_type = self.media_types[0] if self.media_types else ""
        return Wanted("", self.digest, media_type, self.size)


class Reading:
    """Reads one store.

    Args:
        blobs: what is there.
        threads: where it is read.
        troubles: told of what cannot be read.
        is_last: whether nobody else is asked, so that what cannot be read is an error.
    """

    def __init__(
        self, blobs: Blobs, threads: Threads, troubles: Troubles, *, is_last: bool = False
    ) -> None:
        self._blobs = blobs
        self._threads = threads
        self._troubles = troubles
        self._is_last = is_last

    async def open(self, stack: AsyncExitStack, asked: Asked) -> Opened | None:
        """Opens an object for as long as the stack is; None where it is not there.

        Raises:
            InvalidRequestError: the range begins at the object's end or beyond.
            MultiFetchError: as ``Contents.find_blob`` does; for trouble with the disk only where
                nobody else is asked.
        """
        wanted = asked.wanted()
        found = await self._take(
            stack,
            lambda loan: self._blobs.find(wanted, loan.require_interest),
            _most_content(wanted),
        )
        if found is None:
            return None
        loan, found_here = found
        digest = found_here.descriptor.digest
        first, end = bounds(asked.byte_range, found_here.part.size)
        stack.push_async_exit(partial(self._doubt, digest))
        chunks = await stack.enter_async_context(aclosing(loan.chunks(found_here, first, end)))
        if asked.byte_range is not None:
            return Opened(asked.name, found_here.descriptor, chunks)

        return Opened(
            asked.name,
            found_here.descriptor,
            chunks,
            whole=found_here.content,
            keep=partial(self.path, digest),
            kept=self._blobs.verified_path(found_here),
        )

    async def path(self, digest: Digest) -> Path | None:
        """Where an object is; None where it is not there, or may not be seen."""
        try:
            return await self._threads.run(partial(self._blobs.path, digest))
        except OSError as error:
            self._troubles.tell(error)
            return None

    async def sound_path(self, digest: Digest) -> Path | None:
        """The same, once all of it was looked at; None too where it was damaged."""
        try:
            return await self._threads.run(partial(self._blobs.sound_path, digest))
        except MultiFetchError as error:
            self._troubles.tell(error)
            return None

    async def fetch(
        self, stack: AsyncExitStack, descriptor: Descriptor, offset: int
    ) -> AsyncIterator[Chunk] | None:
        """Opens what a descriptor describes, from an offset on; None where it is not there.

        Raises:
            SizeMismatchError: it has another size.
            MultiFetchError: it cannot be read, and nobody else is asked.
        """
        found = await self._take(stack, lambda _: self._blobs.open(descriptor))
        if found is None:
            return None
        loan, found_here = found
        stack.push_async_exit(partial(self._doubt, descriptor.digest))
        chunks = loan.chunks(found_here, offset, found_here.part.size)
        return await stack.enter_async_context(aclosing(chunks))

    async def _take(
        self, stack: AsyncExitStack, find: Callable[[Loan], Found], most_bytes: int = 0
    ) -> tuple[Loan, Found] | None:
        loan = Loan(self._threads)
        with ExitStack() as unless_found:
            unless_found.callback(loan.give_back)
            try:
                found = await loan.take(partial(find, loan), most_bytes)
            except NotFoundError:
                return None
            except (DeniedError, UnavailableError, RegistryError) as error:
                if self._is_last:
                    raise
                self._troubles.tell(error)
                return None
            unless_found.pop_all()
        stack.callback(loan.give_back)
        return loan, found

    async def _doubt(
        self,
        digest: Digest,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: object,
    ) -> None:
        """Looks again at content with which something was wrong, so that the next finds better."""
        if isinstance(error, (DigestMismatchError, SizeMismatchError)):
            try:
                await self._threads.run(partial(self._blobs.remove_if_damaged, digest))
            except MultiFetchError as trouble:
                self._troubles.tell(trouble)


def _most_content(wanted: Wanted) -> int:
    """How much content is read with it at once: small objects and what is asked for as a manifest.

    Larger content may be hashed for long, while nothing of it is held.
    """
    most = MAX_MANIFEST_BYTES if is_manifest(wanted.media_type) else MAX_DATA_BYTES
    if wanted.size is None:
        return most
    return wanted.size if wanted.size <= most else 0


class StoredFetcher:
    """See ``remotes.Fetcher``.

    Args:
        reading: of the store.
        remote: what is asked where the store has it no more.
        locator: of the remote.
    """

    def __init__(self, reading: Reading, remote: Remote, locator: str) -> None:
        self._reading = reading
        self._remote = remote
        self._locator = locator

    @asynccontextmanager
    async def fetch(
        self, descriptor: Descriptor, *, offset: int = 0
    ) -> AsyncIterator[AsyncIterator[Chunk]]:
        """The content's raw bytes from ``offset`` on, unverified, and not kept on the way.

        Raises:
            MultiFetchError: as the remote does, on entering or while iterating.
        """
        async with AsyncExitStack() as stack:
            chunks = await self._reading.fetch(stack, descriptor, offset)
            if chunks is None:
                ref = Reference(self._locator, f"@{descriptor.digest}")
                resolved = await self._remote.resolve(
                    ref, media_types=(descriptor.media_type,), size=descriptor.size
                )
                fetching = resolved.fetcher.fetch(descriptor, offset=offset)
                chunks = await stack.enter_async_context(fetching)
            yield chunks
