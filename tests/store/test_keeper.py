"""What a keeper does with content, and with those who fetch the same."""

from __future__ import annotations

import errno
import os
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from multi_fetch.errors import UnavailableError
from multi_fetch.layout.loan import Threads
from multi_fetch.limits import MAX_DATA_BYTES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCTET_STREAM
from multi_fetch.remotes import Opened, Resolved
from multi_fetch.store.folder import StoreFolder
from multi_fetch.store.ingest import Busy, Ingest
from multi_fetch.store.keeper import Keeper, Slot
from multi_fetch.store.troubles import Troubles
from multi_fetch.store.writing import WriteThread
from multi_fetch.testing.layout import read_layout
from tests.store.conftest import LARGE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from multi_fetch.oci.digest import Chunk

FOUND = Descriptor(media_type=OCTET_STREAM, digest=digest_of(LARGE), size=len(LARGE))


@pytest.fixture
def folder(tmp_path: Path) -> StoreFolder:
    return StoreFolder(str(tmp_path / "store"))


@pytest.fixture
async def writes() -> AsyncIterator[WriteThread]:
    with WriteThread() as entered:
        yield entered


@pytest.fixture
async def keeper(folder: StoreFolder, writes: WriteThread) -> Keeper:
    return Keeper(
        folder, Threads(), writes, Troubles(folder.name), is_required=False, remedy="mend it"
    )


async def pieces(content: bytes) -> AsyncGenerator[Chunk, None]:
    """From one piece of memory, as a connection gives them."""
    memory = bytearray(100_000)
    for start in range(0, len(content), len(memory)):
        piece = content[start : start + len(memory)]
        memory[: len(piece)] = piece
        await trio.lowlevel.checkpoint()
        yield memoryview(memory)[: len(piece)]


class Fetcher:
    """Gives the content from an offset on, and notes it."""

    def __init__(self) -> None:
        self.offsets: list[int] = []

    @asynccontextmanager
    async def fetch(
        self, descriptor: Descriptor, *, offset: int = 0
    ) -> AsyncIterator[AsyncIterator[Chunk]]:
        self.offsets.append(offset)
        async with aclosing(pieces(LARGE[offset:])) as chunks:
            yield chunks


async def test_content_flows_through_unchanged_and_is_there_once_it_is_kept(
    keeper: Keeper, folder: StoreFolder
) -> None:
    async with AsyncExitStack() as stack:
        slot = stack.enter_context(Slot(keeper))
        assert await slot.claim(FOUND.digest, is_patient=True) is None
        opened = await slot.through(stack, Opened("x", FOUND, pieces(LARGE)))
        assert b"".join([bytes(chunk) async for chunk in opened.chunks]) == LARGE
        assert not folder.blob(FOUND.digest).exists()
        assert opened.keep is not None
        assert await opened.keep() == folder.blob(FOUND.digest)
    assert folder.blob(FOUND.digest).read_bytes() == LARGE


async def test_a_folder_that_somebody_was_killed_over_is_a_layout_once_content_is_in_it(
    keeper: Keeper, folder: StoreFolder
) -> None:
    folder.ingests.mkdir(parents=True)
    assert isinstance(await keeper.claim(FOUND.digest, is_patient=True), Ingest)
    assert read_layout(folder.path).tags == {}


async def test_what_is_there_comes_first_and_the_fetch_begins_behind_it(
    keeper: Keeper, folder: StoreFolder, writes: WriteThread
) -> None:
    """Not before it was read: a connection that nobody reads breaks."""
    begun = 2 * MAX_DATA_BYTES + 3
    fetcher = Fetcher()
    async with AsyncExitStack() as stack:
        ingest = await keeper.claim(FOUND.digest, is_patient=True)
        assert ingest is not None
        assert not isinstance(ingest, Busy)
        ingest.write(LARGE[:begun])
        ingest.leave(begun)
        slot = stack.enter_context(Slot(keeper))
        await slot.claim(FOUND.digest, is_patient=True)
        assert slot.length == begun
        opened = await slot.resumed(stack, "x", Resolved("x", FOUND, fetcher))
        content = b""
        async for chunk in opened.chunks:
            content += chunk
            assert bool(fetcher.offsets) == (len(content) > begun)
        assert (content, fetcher.offsets) == (LARGE, [begun])
        assert opened.keep is not None
        assert await opened.keep() is not None
    assert folder.blob(FOUND.digest).read_bytes() == LARGE


async def test_without_a_file_what_is_opened_stays_as_it_is(keeper: Keeper) -> None:
    async with AsyncExitStack() as stack:
        slot = stack.enter_context(Slot(keeper))
        opened = Opened("x", FOUND, pieces(LARGE))
        assert await slot.through(stack, opened) is opened
        await slot.begin_anew()


async def test_a_claim_that_nobody_waits_for_any_more_is_free_again(keeper: Keeper) -> None:
    for _ in range(20):
        with trio.CancelScope() as scope:
            scope.cancel()
            await keeper.claim(FOUND.digest, is_patient=True)
    with trio.fail_after(10):
        while isinstance(claimed := await keeper.claim(FOUND.digest, is_patient=True), Busy):
            await trio.lowlevel.checkpoint()
    assert claimed is not None
    claimed.discard()


async def test_what_must_be_kept_fails_in_the_middle(
    folder: StoreFolder, writes: WriteThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only at the end of what may be large."""

    def refuse(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    keeper = Keeper(
        folder, Threads(), writes, Troubles(folder.name), is_required=True, remedy="mend it"
    )
    monkeypatch.setattr(os, "pwrite", refuse)
    async with AsyncExitStack() as stack:
        slot = stack.enter_context(Slot(keeper))
        await slot.claim(FOUND.digest, is_patient=True)
        chunks = await stack.enter_async_context(aclosing(pieces(LARGE)))
        opened = await slot.through(stack, Opened("x", FOUND, chunks))
        assert len(await anext(opened.chunks)) == 100_000
        with pytest.raises(UnavailableError, match="No space left"):
            await anext(opened.chunks)


async def test_of_one_runs_tasks_the_first_to_come_fetches(keeper: Keeper) -> None:
    with Slot(keeper, FOUND.digest) as first, Slot(keeper, FOUND.digest) as second:
        assert await second.claim(FOUND.digest, is_patient=True) == Busy(0)
        assert await first.claim(FOUND.digest, is_patient=True) is None
        assert await second.claim(FOUND.digest, is_patient=True) == Busy(0)
        assert len(keeper.queues) == 1
    assert keeper.queues == {}


async def test_who_cannot_keep_lets_the_next_go_on(tmp_path: Path, writes: WriteThread) -> None:
    (tmp_path / "file").write_text("")
    folder = StoreFolder(str(tmp_path / "file" / "store"))
    keeper = Keeper(
        folder, Threads(), writes, Troubles(folder.name), is_required=False, remedy="mend it"
    )
    with Slot(keeper, FOUND.digest) as first, Slot(keeper, FOUND.digest) as second:
        for slot in (first, second):
            assert await slot.claim(FOUND.digest, is_patient=True) is None
        assert keeper.queues == {}
