"""Keeps content: claims its file, writes it while it flows past, and names it once it is verified.

Where that fails, the store is passed by and a warning tells of it, once for each cause; or, if
nothing may be had that is not kept, the request fails.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from multi_fetch.errors import (
    DigestMismatchError,
    SizeMismatchError,
    TooLargeError,
    UnavailableError,
)
from multi_fetch.layout.loan import CHUNK_BYTES
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
        self._is_prepared = False
        # Who wants what, in the order in which they came.
        self.queues: dict[Digest, deque[Slot]] = {}

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
        """Lets go of an ingest; nothing, if it was committed.

        What was refused is thrown away: nobody is to go on with that.
        """
        is_wrong = isinstance(error, (DigestMismatchError, SizeMismatchError, TooLargeError))
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
        if not self._is_prepared:  # who began to may have been killed, and have left a half
            self._folder.prepare()
            self._is_prepared = True
        try:
            return claim(self._folder, digest, is_patient=is_patient)
        except FileNotFoundError:  # somebody has removed the folder
            self._folder.prepare()
            return claim(self._folder, digest, is_patient=is_patient)


class Slot:
    """A task's place for an unfinished file, which it lets go of when the context ends.

    Of the tasks of one run that want the same, the first to come is the one that fetches it: where
    answers are ordered, it is the first that is answered too, and waits for none of the others.

    Args:
        keeper: who claims and writes it.
        digest: of the content, where that is known beforehand.
    """

    def __init__(self, keeper: Keeper, digest: Digest | None = None) -> None:
        self._keeper = keeper
        self._digest = digest
        self._ingest: Ingest | None = None

    def __enter__(self) -> Self:
        if self._digest is not None:
            self._keeper.queues.setdefault(self._digest, deque()).append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave_queue()
        if self._ingest is not None:
            self._keeper.end(self._ingest, error)

    def _leave_queue(self) -> None:
        queue = None if self._digest is None else self._keeper.queues.get(self._digest)
        if self._digest is None or queue is None or self not in queue:
            return
        queue.remove(self)
        if not queue:
            del self._keeper.queues[self._digest]

    @property
    def length(self) -> int:
        """Of what is there already, in bytes."""
        return 0 if self._ingest is None else self._ingest.length

    async def claim(self, digest: Digest, *, is_patient: bool) -> Busy | None:
        """Has a file from now on, unless somebody else has it, or there can be none.

        Raises:
            UnavailableError: there can be none, and there must be.
        """
        queue = self._keeper.queues.get(digest)
        if is_patient and queue and queue[0] is not self:
            return Busy(queue[0].length)
        claimed = await self._keeper.claim(digest, is_patient=is_patient)
        if isinstance(claimed, Busy):
            return claimed
        self._ingest = claimed
        if claimed is None:
            self._leave_queue()  # nothing grows that others could wait for
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
