"""All repositories as one remote: each is opened when something of it is first asked for.

A reference says which repository is meant, so this is a Remote like any other.
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from multi_fetch.errors import UnsupportedError
from multi_fetch.leases import Leases
from multi_fetch.limits import MAX_IDLE_REPOSITORIES
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.request import ByteRange
from multi_fetch.remotes import Foreign, Opened, Report, Resolved

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.oci.digest import Chunk
    from multi_fetch.remotes import Remote


@asynccontextmanager
async def open_anywhere(
    open_one: Callable[[Reference], AbstractAsyncContextManager[Remote]],
    *,
    foreign_urls: bool = False,
) -> AsyncIterator[Remote]:
    """The remote of all repositories.

    Args:
        open_one: opens that of one; see ``leases`` for what it must not do.
        foreign_urls: whether these are each a ``Foreign`` too.
    """
    made = ForeignAnywhere(open_one) if foreign_urls else AnywhereRemote(open_one)
    async with made.repositories:
        yield made


class AnywhereRemote:
    """All repositories; see ``remotes.Remote``.

    Args:
        open_one: as for ``open_anywhere``.

    Attributes:
        repositories: those that are open, by their locators.
    """

    def __init__(
        self, open_one: Callable[[Reference], AbstractAsyncContextManager[Remote]]
    ) -> None:
        self.repositories: Leases[str, Remote] = Leases(self._open, idle=MAX_IDLE_REPOSITORIES)
        self._open_one = open_one
        # By identity: one that is being closed may have a successor already.
        self._live: dict[int, Remote] = {}
        self._retries = 0

    async def resolve(
        self, ref: Reference, *, media_types: Sequence[str] = (), size: int | None = None
    ) -> Resolved:
        """Asks the reference's repository; see ``remotes.Resolver``."""
        async with self.repositories.lend(ref.locator) as remote:
            found = await remote.resolve(ref, media_types=media_types, size=size)
        return Resolved(found.name, found.descriptor, RepositoryFetcher(self, ref.locator))

    @asynccontextmanager
    async def open(
        self,
        ref: Reference,
        *,
        media_types: Sequence[str] = (),
        size: int | None = None,
        byte_range: ByteRange | None = None,
    ) -> AsyncIterator[Opened]:
        """Asks the reference's repository; see ``remotes.Remote``."""
        async with (
            self.repositories.lend(ref.locator) as remote,
            remote.open(ref, media_types=media_types, size=size, byte_range=byte_range) as opened,
        ):
            yield opened

    async def tags(self, ref: Reference) -> AsyncGenerator[Sequence[str], None]:
        """Asks the reference's repository; see ``remotes.Listing``."""
        async with (
            self.repositories.lend(ref.locator) as remote,
            aclosing(remote.tags(ref)) as pages,
        ):
            async for page in pages:
                yield page

    async def referrers(
        self, ref: Reference, artifact_type: str = ""
    ) -> AsyncGenerator[Sequence[Descriptor], None]:
        """Asks the reference's repository; see ``remotes.Listing``."""
        async with (
            self.repositories.lend(ref.locator) as remote,
            aclosing(remote.referrers(ref, artifact_type)) as pages,
        ):
            async for page in pages:
                yield page

    def report(self) -> Report:
        """The retries of all; limits are each registry's own, so nothing is said of them."""
        return Report(self._retries + sum(each.report().retries for each in self._live.values()))

    @asynccontextmanager
    async def _open(self, locator: str) -> AsyncIterator[Remote]:
        async with self._open_one(Reference(locator)) as remote:
            self._live[id(remote)] = remote
            try:
                yield remote
            finally:
                del self._live[id(remote)]
                self._retries += remote.report().retries


class ForeignAnywhere(AnywhereRemote):
    """All repositories, and what their manifests name elsewhere; see ``remotes.Foreign``."""

    @asynccontextmanager
    async def open_foreign(
        self,
        ref: Reference,
        urls: Sequence[str],
        *,
        media_types: Sequence[str] = (),
        size: int | None = None,
    ) -> AsyncIterator[Opened]:
        """Asks by way of the reference's repository.

        Raises:
            UnsupportedError: that asks for nothing elsewhere.
            MultiFetchError: the last URL's, on entering or while iterating.
        """
        async with self.repositories.lend(ref.locator) as remote:
            if not isinstance(remote, Foreign):
                raise UnsupportedError(f"{ref}: nothing is asked of foreign URLs here")
            async with remote.open_foreign(ref, urls, media_types=media_types, size=size) as opened:
                yield opened


class RepositoryFetcher:
    """Fetches the objects of one repository among all; see ``remotes.Fetcher``.

    Args:
        remote: all.
        locator: the one.
    """

    def __init__(self, remote: AnywhereRemote, locator: str) -> None:
        self._remote = remote
        self._locator = locator

    @asynccontextmanager
    async def fetch(
        self, descriptor: Descriptor, *, offset: int = 0
    ) -> AsyncIterator[AsyncIterator[Chunk]]:
        """The content's raw bytes from ``offset`` on, unverified."""
        async with self._remote.open(
            Reference(self._locator, f"@{descriptor.digest}"),
            media_types=(descriptor.media_type,),
            size=descriptor.size,
            byte_range=ByteRange(offset) if offset else None,
        ) as opened:
            yield opened.chunks
