"""Keeps content: claims its file, writes it while it flows past, and names it once it is verified.

Where that fails, the store is passed by and a warning tells of it, once for each cause; or, if
nothing may be had that is not kept, the request fails.
"""

from __future__ import annotations

import logging
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING

import trio
from msgspec.structs import replace

from multi_fetch.errors import DigestMismatchError, SizeMismatchError, UnavailableError
from multi_fetch.layout.loan import CHUNK_BYTES
from multi_fetch.limits import STORE_STALL_SECONDS
from multi_fetch.remotes import Opened
from multi_fetch.store.ingest import Busy, Ingest, claim
from multi_fetch.store.thread import Handing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager, AsyncExitStack
    from pathlib import Path
    from types import TracebackType
    from typing import Self, TypeAlias

    from multi_fetch.layout.loan import Threads
    from multi_fetch.oci.digest import Chunk, Digest
    from multi_fetch.remotes import Resolved
    from multi_fetch.store.folder import StoreFolder
    from multi_fetch.store.troubles import Troubles
    from multi_fetch.store.writing import WriteThread

    Keep: TypeAlias = Callable[[], Awaitable[Path | None]]

log = logging.getLogger(__name__)

FIRST_POLL_SECONDS = 0.01
LAST_POLL_SECONDS = 0.25


class Keeper:
    """Writes into one store.

    Args:
        folder: the store's.
        threads: where what blocks is done.
        writes: where chunks are written.
        troubles: told of what cannot be kept.
        is_required: whether a request fails if its content cannot be kept.
        remedy: what to do then.
    """

    def __init__(  # noqa: PLR0913 - the last two say what a failure means
        self,
        folder: StoreFolder,
        threads: Threads,
        writes: WriteThread,
        troubles: Troubles,
        *,
        is_required: bool,
        remedy: str,
    ) -> None:
        self._remedy = remedy
        self._folder = folder
        self._threads = threads
        self._writes = writes
        self._is_required = is_required
        self._troubles = troubles

    async def claim(self, digest: Digest, *, is_patient: bool) -> Ingest | Busy | None:
        """The file for content that is about to come; None where there can be none.

        Args:
            digest: of the content.
            is_patient: whether ``Busy`` is an answer.

        Raises:
            UnavailableError: there can be none, and there must be.
        """
        handing = Handing(partial(self._claim, digest, is_patient=is_patient), _give_up)
        try:
            return await handing.take(self._threads)
        except OSError as error:
            self.bear(error)
            return None

    async def chunks(
        self, ingest: Ingest, chunks: AsyncIterator[Chunk]
    ) -> AsyncGenerator[Chunk, None]:
        """Passes content on, and writes it meanwhile.

        Raises:
            UnavailableError: it cannot be written, and must be.
        """
        async for chunk in chunks:
            writing = self._writes.begin(ingest, chunk)
            yield chunk
            await writing.wait()
            if ingest.failure is not None:
                self.bear(ingest.failure)

    async def resumed(
        self,
        ingest: Ingest,
        fetch: Callable[[], AbstractAsyncContextManager[AsyncIterator[Chunk]]],
    ) -> AsyncGenerator[Chunk, None]:
        """Passes on what is there, then what ``fetch`` gives, and writes that.

        Raises:
            MultiFetchError: as the remote does, or the store fails where it must not.
        """
        async with aclosing(self._written(ingest)) as chunks:
            async for chunk in chunks:
                yield chunk
        async with fetch() as rest, aclosing(self.chunks(ingest, rest)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def cut(self, ingest: Ingest) -> None:
        """Throws away what is there.

        Raises:
            UnavailableError: the system cannot, and it must be kept.
        """
        try:
            await self._threads.run(partial(ingest.cut, 0))
        except OSError as error:
            ingest.failure = error
            self.bear(error)

    async def _written(self, ingest: Ingest) -> AsyncGenerator[Chunk, None]:
        """The content that was there when the ingest was claimed.

        Raises:
            UnavailableError: it cannot be read.
        """
        buffer = memoryview(bytearray(CHUNK_BYTES))
        offset, end = 0, ingest.length
        while offset < end:
            read = partial(ingest.read_into, buffer[: end - offset], offset)
            try:
                count = await self._threads.run(read)
            except OSError as error:
                raise self._failed(error) from error
            if not count:
                return  # somebody has cut it, which whoever verifies finds out
            yield buffer[:count]
            offset += count

    async def commit(self, ingest: Ingest, whole: bytes | None) -> Path | None:
        """Keeps verified content.

        Args:
            ingest: what was claimed for it.
            whole: the content, if it did not flow through ``chunks``.

        Raises:
            UnavailableError: it cannot be kept, and must be.
        """

        def commit() -> Path:
            if whole is not None:
                ingest.write(whole)
            return ingest.commit()

        try:
            return await self._threads.run(commit)
        except OSError as error:
            self.bear(error)
            return None

    def end(self, ingest: Ingest, error: BaseException | None) -> None:
        """Lets go of an ingest; nothing, if it was committed."""
        is_wrong = isinstance(error, (DigestMismatchError, SizeMismatchError))
        self._writes.end(ingest, is_wrong=is_wrong)

    def bear(self, error: OSError) -> None:
        """Tells that something is not kept.

        Raises:
            UnavailableError: it must be kept.
        """
        if self._is_required:
            raise self._failed(error) from error
        self._troubles.tell(error)

    def _failed(self, error: OSError) -> UnavailableError:
        return UnavailableError(
            f"{self._folder.name} cannot keep this: {error.strerror or error}; {self._remedy}"
        )

    def _claim(self, digest: Digest, *, is_patient: bool) -> Ingest | Busy:
        try:
            return claim(self._folder, digest, is_patient=is_patient)
        except FileNotFoundError:  # the first ever, or somebody has removed the folder
            self._folder.prepare()
            return claim(self._folder, digest, is_patient=is_patient)


class Slot:
    """A task's place for an unfinished file, which it lets go of when the context ends.

    Args:
        keeper: who claims and writes it.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._ingest: Ingest | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._ingest is not None:
            self._keeper.end(self._ingest, error)

    @property
    def length(self) -> int:
        """Of what is there already, in bytes."""
        return 0 if self._ingest is None else self._ingest.length

    async def claim(self, digest: Digest, *, is_patient: bool) -> Busy | None:
        """Has a file from now on, unless somebody else has it, or there can be none.

        Raises:
            UnavailableError: there can be none, and there must be.
        """
        claimed = await self._keeper.claim(digest, is_patient=is_patient)
        if isinstance(claimed, Busy):
            return claimed
        self._ingest = claimed
        return None

    async def begin_anew(self) -> None:
        """Throws away what is there."""
        if self._ingest is not None and self._ingest.length:
            await self._keeper.cut(self._ingest)

    async def through(self, stack: AsyncExitStack, opened: Opened) -> Opened:
        """What is opened, kept on its way; as it is, if there is no file."""
        ingest = self._ingest
        if ingest is None:
            return opened
        chunks: AsyncIterator[Chunk] = opened.chunks
        if opened.whole is None:
            flow = self._keeper.chunks(ingest, chunks)
            chunks = await stack.enter_async_context(aclosing(flow))
        keep = _behind(opened, partial(self._keeper.commit, ingest, opened.whole))
        # Where it is in a store behind this one is of no matter: here it is not yet.
        return replace(opened, chunks=chunks, keep=keep, kept=None)

    async def commit(self, content: bytes) -> Path | None:
        """Keeps content that is there as a whole; None where there is no file.

        Raises:
            UnavailableError: it cannot be kept, and must be.
        """
        if self._ingest is None:
            return None
        return await self._keeper.commit(self._ingest, content)

    async def resumed(self, stack: AsyncExitStack, name: str, resolved: Resolved) -> Opened:
        """What is there, then the rest of it from the remote."""
        ingest, descriptor = self._ingest, resolved.descriptor
        assert ingest is not None, "there is nothing to go on with"
        log.info(
            "going on with what was begun",
            extra={"digest": descriptor.digest, "size": ingest.length},
        )
        rest = partial(resolved.fetcher.fetch, descriptor, offset=ingest.length)
        flow = self._keeper.resumed(ingest, rest)
        chunks = await stack.enter_async_context(aclosing(flow))
        keep = partial(self._keeper.commit, ingest, None)
        return Opened(name, descriptor, chunks, keep=keep)


class Waiting:
    """Waits for who fetches the same, as long as that gets on."""

    def __init__(self) -> None:
        self._size: int | None = None
        self._since = 0.0
        self._pause_seconds = FIRST_POLL_SECONDS
        self.is_over = False

    async def wait(self, busy: Busy) -> None:
        """Waits for a moment; ``is_over`` says whether it is of no use any more."""
        now = trio.current_time()
        if busy.size != self._size:
            self._size, self._since = busy.size, now
        # Below 0, it is there, and yet was not found: it cannot be read.
        elif busy.size < 0 or now - self._since >= STORE_STALL_SECONDS:
            self.is_over = True
            return
        await trio.sleep(self._pause_seconds)
        self._pause_seconds = min(2 * self._pause_seconds, LAST_POLL_SECONDS)


def _give_up(claimed: Ingest | Busy) -> None:
    if isinstance(claimed, Ingest):
        with suppress(OSError):  # nobody waits for it any more
            claimed.leave(claimed.length)


def kept_at(opened: Opened, path: Path) -> Opened:
    """What is opened, where the store has it already."""

    async def keep() -> Path:
        return path

    return replace(opened, keep=_behind(opened, keep), kept=None)


def _behind(opened: Opened, keep: Keep) -> Keep:
    """Keeps content in a store behind this one too, where there is one."""
    keep_there = opened.keep
    if keep_there is None:
        return keep

    async def keep_twice() -> Path | None:
        await keep_there()
        return await keep()

    return keep_twice
