"""A remote with a store before it: what is there comes from it, what is not is kept.

A digest that the store has is not asked for elsewhere. A tag is always asked of the remote: by one
GET, as ever, where it is new; and by a HEAD, which registries do not count as a pull, where the
store knows the name and so most likely has the content.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, TypeVar

import msgspec
import trio
from msgspec.structs import replace

from multi_fetch.durations import STORE_FLUSH_SECONDS
from multi_fetch.errors import MultiFetchError, UnavailableError
from multi_fetch.layout.loan import Threads
from multi_fetch.limits import MAX_DATA_BYTES
from multi_fetch.oci.reference import Reference
from multi_fetch.remotes import Foreign, Opened, Remote, Resolved
from multi_fetch.store.ingest import Busy
from multi_fetch.store.keeper import Keeper, Slot, kept_at
from multi_fetch.store.names import Names
from multi_fetch.store.reading import Asked, Reading, StoredFetcher
from multi_fetch.store.troubles import Troubles
from multi_fetch.store.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.oci.digest import Digest
    from multi_fetch.protocol.request import ByteRange
    from multi_fetch.remotes import Report

    Ask: TypeAlias = Callable[[], AbstractAsyncContextManager[Opened]]

T = TypeVar("T")

# Of an unfinished file: with less, nobody goes on. To ask for all again costs no more.
LEAST_RESUMED_BYTES: Final = MAX_DATA_BYTES


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What a store is made of.

    Attributes:
        reading: gives what is there.
        names: what index.json calls it.
        name_of: what it calls an object that is asked for by a tag.
        is_gathering: whether names are given by ``enter`` alone, and not to all that is kept.
        keeper: puts more there; None where nothing is to be written.
        threads: where what blocks is done.
        troubles: told of what cannot be done.
    """

    reading: Reading
    names: Names
    name_of: Callable[[Reference], str]
    is_gathering: bool
    keeper: Keeper | None
    threads: Threads
    troubles: Troubles


class ForeignToo(Foreign, Remote, Protocol):
    """A remote that is both."""


class StoredRemote:
    """See ``remotes.Remote``.

    Args:
        remote: what is asked for what is not there.
        parts: the store's.
    """

    def __init__(self, remote: Remote, parts: Parts) -> None:
        self._remote = remote
        self._reading = parts.reading
        self._names = parts.names
        self._name_of = parts.name_of
        self._is_gathering = parts.is_gathering
        self._keeper = parts.keeper
        self._threads = parts.threads
        self._troubles = parts.troubles
        self._flushed = -STORE_FLUSH_SECONDS

    async def resolve(
        self, ref: Reference, *, media_types: Sequence[str] = (), size: int | None = None
    ) -> Resolved:
        """Finds out what the reference stands for; see ``remotes.Resolver``.

        Raises:
            MultiFetchError: as the remote does.
        """
        if ref.digest:
            asked = Asked(ref=ref, name=str(ref), media_types=tuple(media_types), size=size)
            async with AsyncExitStack() as stack:
                found = await self._reading.open(stack, asked)
                if found is not None:
                    fetcher = StoredFetcher(self._reading, self._remote, ref.locator)
                    return Resolved(found.name, found.descriptor, fetcher)
        return await self._remote.resolve(ref, media_types=media_types, size=size)

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
            MultiFetchError: as the remote does, on entering or while iterating.
        """
        asked = Asked(
            ref=ref,
            name=str(ref),
            media_types=tuple(media_types),
            size=size,
            byte_range=byte_range,
        )
        async with AsyncExitStack() as stack:
            if ref.digest:
                yield await self._open_digest(stack, asked, partial(self._ask, asked))
            else:
                yield await self._open_tag(stack, asked)

    async def keep(self, digest: Digest, content: bytes) -> Path | None:
        """Keeps content that came otherwise; see ``keeping.Keeping``.

        Raises:
            UnavailableError: it could not be kept, and must be.
        """
        path = await self._reading.sound_path(digest)
        if path is not None or self._keeper is None:
            return path
        with Slot(self._keeper) as slot:
            await slot.claim(digest, is_patient=False)
            await slot.begin_anew()
            return await slot.commit(content)

    def tags(self, ref: Reference) -> AsyncGenerator[Sequence[str], None]:
        """The remote's; see ``remotes.Listing``."""
        return self._remote.tags(ref)

    def referrers(
        self, ref: Reference, artifact_type: str = ""
    ) -> AsyncGenerator[Sequence[Descriptor], None]:
        """The remote's; see ``remotes.Listing``."""
        return self._remote.referrers(ref, artifact_type)

    def report(self) -> Report:
        """The remote's."""
        return self._remote.report()

    async def enter(self, roots: Sequence[tuple[Reference, Descriptor]]) -> None:
        """Enters objects in index.json; see ``keeping.Gathering``.

        Raises:
            UnavailableError: it cannot be written.
            MultiFetchError: it is damaged, or full.
        """
        entries = [
            (self._name_of(ref), replace(found, urls=(), data="", annotations={}))
            for ref, found in roots
        ]
        try:
            await self._threads.run(partial(self._names.enter, entries))
        except OSError as error:
            raise UnavailableError(
                f"index.json cannot be written: {error.strerror or error}; mend that, and run the"
                " same again"
            ) from error

    def index_memory(self) -> int:
        """Of the names; see ``keeping.Keeping``."""
        return self._names.memory

    async def flush(self) -> None:
        """Writes the names that are new; what cannot be written is warned of."""
        self._flushed = trio.current_time()
        await self._on_names(self._names.flush)

    async def _open_tag(self, stack: AsyncExitStack, asked: Asked) -> Opened:
        if not await self._is_known(self._name_of(asked.ref)):
            return self._named(await self._open_new(stack, asked))
        resolved = await self._remote.resolve(
            asked.ref, media_types=asked.media_types, size=asked.size
        )
        found = resolved.descriptor
        exact = Asked(
            # By its digest: the tag may move in this moment.
            ref=Reference(asked.ref.locator, f"@{found.digest}"),
            name=asked.name,
            media_types=(found.media_type,),
            size=asked.size,
            byte_range=asked.byte_range,
        )
        return self._named(await self._open_digest(stack, exact, partial(self._ask, exact)))

    async def _open_new(self, stack: AsyncExitStack, asked: Asked) -> Opened:
        """Asks the remote what a tag is, which gives the content with it."""
        slot = self._slot(stack, asked)
        opened = await stack.enter_async_context(self._ask(asked))
        if slot is None:
            return opened
        if (path := await self._reading.sound_path(opened.descriptor.digest)) is not None:
            return kept_at(opened, path)
        await slot.claim(opened.descriptor.digest, is_patient=False)
        await slot.begin_anew()
        return await slot.through(stack, opened)

    async def _open_digest(
        self, stack: AsyncExitStack, asked: Asked, ask: Ask, *, may_resume: bool = True
    ) -> Opened:
        """From the store or by ``ask``; waits where another task or process fetches the same."""
        slot, waiting = self._slot(stack, asked, asked.digest), Waiting()
        while True:
            opened = await self._reading.open(stack, asked)
            if opened is not None:
                return opened
            if slot is None:
                return replace(await stack.enter_async_context(ask()), name=asked.name)
            claimed = await slot.claim(asked.digest, is_patient=not waiting.is_over)
            if not isinstance(claimed, Busy):
                break
            await waiting.wait(claimed)
        if may_resume and slot.length > LEAST_RESUMED_BYTES:
            resolved = await self._remote.resolve(
                asked.ref, media_types=asked.media_types, size=asked.size
            )
            if slot.length <= (resolved.descriptor.size or 0):
                return await slot.resumed(stack, asked.name, resolved)
        await slot.begin_anew()
        opened = await stack.enter_async_context(ask())
        return replace(await slot.through(stack, opened), name=asked.name)

    def _slot(
        self, stack: AsyncExitStack, asked: Asked, digest: Digest | None = None
    ) -> Slot | None:
        """A place for what will be kept; a part of an object never is."""
        if self._keeper is None or asked.byte_range is not None:
            return None
        return stack.enter_context(Slot(self._keeper, digest))

    def _ask(self, asked: Asked) -> AbstractAsyncContextManager[Opened]:
        return self._remote.open(
            asked.ref,
            media_types=asked.media_types,
            size=asked.size,
            byte_range=asked.byte_range,
        )

    async def _is_known(self, name: str) -> bool:
        return await self._on_names(partial(self._names.find, name)) is not None

    def _named(self, opened: Opened) -> Opened:
        """The same; once it is kept, index.json has its name."""
        keep = opened.keep
        if keep is None or self._keeper is None or self._is_gathering:
            return opened

        async def keep_with_name() -> Path | None:
            path = await keep()
            if path is not None:
                await self._on_names(partial(self._names.add, opened.name, opened.descriptor))
                if trio.current_time() - self._flushed >= STORE_FLUSH_SECONDS:
                    await self.flush()
            return path

        return replace(opened, keep=keep_with_name)

    async def _on_names(self, work: Callable[[], T]) -> T | None:
        """Does something with index.json in a thread; a request does not fail for it."""
        try:
            return await self._threads.run(work)
        except (OSError, MultiFetchError) as error:
            self._troubles.tell(error)
            return None


class StoredForeignRemote(StoredRemote):
    """The same before a remote that is ``remotes.Foreign``."""

    def __init__(self, remote: ForeignToo, parts: Parts) -> None:
        super().__init__(remote, parts)
        self._foreign = remote

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
            MultiFetchError: as the remote does.
        """
        asked = Asked(ref=ref, name=str(ref), media_types=tuple(media_types), size=size)
        ask = partial(self._foreign.open_foreign, ref, urls, media_types=media_types, size=size)
        async with AsyncExitStack() as stack:
            yield await self._open_digest(stack, asked, ask, may_resume=False)
