"""Who is asked where nobody may be: knows what names stand for, and has nothing."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from multi_fetch.errors import NotFoundError, UnavailableError, UnsupportedError
from multi_fetch.remotes import Report, Resolved

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    from multi_fetch.layout.loan import Threads
    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.oci.digest import Chunk
    from multi_fetch.oci.reference import Reference
    from multi_fetch.protocol.request import ByteRange
    from multi_fetch.remotes import Opened
    from multi_fetch.store.names import Names


class Nobody:
    """A remote that has nothing; see ``remotes.Remote``.

    Args:
        store_name: for messages.
        names: that it has.
        name_of: what it calls an object that is asked for.
        threads: where these are read.
    """

    def __init__(
        self, store_name: str, names: Names, name_of: Callable[[Reference], str], threads: Threads
    ) -> None:
        self._store_name = store_name
        self._names = names
        self._name_of = name_of
        self._threads = threads

    async def resolve(
        self, ref: Reference, *, media_types: Sequence[str] = (), size: int | None = None
    ) -> Resolved:
        """What the store calls so; its content is not looked for.

        Raises:
            NotFoundError: the store has no such name, or a digest was asked for.
            UnavailableError: its index.json cannot be read.
        """
        try:
            found = await self._threads.run(partial(self._names.find, self._name_of(ref)))
        except OSError as error:
            raise self._unreadable(error) from error
        if ref.digest or found is None:
            raise self._missing(ref)
        return Resolved(str(ref), found, self)

    @asynccontextmanager
    async def open(
        self,
        ref: Reference,
        *,
        media_types: Sequence[str] = (),
        size: int | None = None,
        byte_range: ByteRange | None = None,
    ) -> AsyncIterator[Opened]:
        """Nothing.

        Raises:
            UnavailableError: index.json cannot be read.
            NotFoundError: else.
        """
        if not ref.digest:
            await self.resolve(ref)
        raise self._missing(ref)
        yield

    @asynccontextmanager
    async def fetch(
        self, descriptor: Descriptor, *, offset: int = 0
    ) -> AsyncIterator[AsyncIterator[Chunk]]:
        """Nothing.

        Raises:
            NotFoundError: always.
        """
        raise self._missing(descriptor.digest)
        yield

    async def tags(self, ref: Reference) -> AsyncGenerator[Sequence[str], None]:
        """Those of a repository's tags that the store knows.

        Raises:
            UnavailableError: its index.json cannot be read.
        """
        try:
            yield await self._threads.run(partial(self._names.tags, ref.locator))
        except OSError as error:
            raise self._unreadable(error) from error

    async def referrers(
        self, ref: Reference, artifact_type: str = ""
    ) -> AsyncGenerator[Sequence[Descriptor], None]:
        """Nothing.

        Raises:
            UnsupportedError: always: a store has some of them at best.
        """
        raise UnsupportedError(
            "what refers to an object is not known with --offline: leave that out"
        )
        yield ()

    def report(self) -> Report:
        """Nothing."""
        return Report()

    def _missing(self, what: object) -> NotFoundError:
        return NotFoundError(
            f"{self._store_name} does not have {what}, and --offline asks nobody else:"
            " leave that out"
        )

    def _unreadable(self, error: OSError) -> UnavailableError:
        return UnavailableError(
            f"index.json in {self._store_name} cannot be read: {error.strerror or error}: check"
            " its mode"
        )
