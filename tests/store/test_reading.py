"""Objects out of the store, in tasks; what is around it is in test_remote."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
import trio

from multi_fetch.errors import DigestMismatchError
from multi_fetch.layout.loan import Threads
from multi_fetch.limits import MAX_READ_THREADS
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.request import ByteRange
from multi_fetch.store.blobs import Blobs, Check
from multi_fetch.store.folder import StoreFolder
from multi_fetch.store.reading import Asked, Reading
from multi_fetch.store.troubles import Troubles
from tests.store.conftest import LARGE, SMALL

if TYPE_CHECKING:
    from pathlib import Path

    from multi_fetch.oci.digest import Digest


@pytest.fixture
def folder(tmp_path: Path) -> StoreFolder:
    made = StoreFolder(str(tmp_path))
    made.prepare()
    for content in (SMALL, LARGE):
        path = made.blob(digest_of(content))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return made


@pytest.fixture
def reading(folder: StoreFolder) -> Reading:
    return Reading(Blobs(folder, Check.BY_READER), Threads(), Troubles(folder.name))


def asked(digest: Digest, byte_range: ByteRange | None = None) -> Asked:
    ref = Reference("a.example/a", f"@{digest}")
    return Asked(ref=ref, name="the name", media_types=(), size=None, byte_range=byte_range)


@pytest.mark.parametrize("content", [SMALL, LARGE])
async def test_an_object_is_given_under_the_name_that_it_was_asked_by(
    reading: Reading, folder: StoreFolder, content: bytes
) -> None:
    digest = digest_of(content)
    async with AsyncExitStack() as stack:
        opened = await reading.open(stack, asked(digest))
        assert opened is not None
        assert (opened.name, opened.descriptor.size) == ("the name", len(content))
        assert b"".join([bytes(chunk) async for chunk in opened.chunks]) == content
        assert opened.keep is not None
        assert await opened.keep() == folder.blob(digest)
        part = await reading.open(stack, asked(digest, ByteRange(5, 9)))
        assert part is not None
        assert b"".join([bytes(chunk) async for chunk in part.chunks]) == content[5:10]


async def test_what_is_not_there_is_none(reading: Reading) -> None:
    async with AsyncExitStack() as stack:
        assert await reading.open(stack, asked(digest_of(b"nowhere"))) is None
    assert await reading.path(digest_of(b"nowhere")) is None


async def test_a_hash_that_nobody_waits_for_any_more_ends(folder: StoreFolder) -> None:
    """Otherwise those of a few large files would keep the threads from all that comes later."""
    digest = digest_of(b"large")
    path = folder.blob(digest)
    path.touch()
    os.truncate(path, 1 << 42)  # sparse: nothing has so much, and it takes half an hour
    reading = Reading(Blobs(folder, Check.ONCE), Threads(), Troubles(folder.name))
    for _ in range(4 * MAX_READ_THREADS):  # some are cancelled before their thread begins
        with trio.move_on_after(0.01) as scope:
            async with AsyncExitStack() as stack:
                await reading.open(stack, asked(digest))
        assert scope.cancelled_caught
    with trio.fail_after(10):
        assert await reading.path(digest_of(SMALL)) is not None
    assert path.exists()


@pytest.mark.parametrize("is_damaged", [False, True])
async def test_a_mismatch_of_the_consumers_removes_what_is_damaged_alone(
    reading: Reading, folder: StoreFolder, is_damaged: bool
) -> None:
    digest = digest_of(LARGE)
    if is_damaged:
        folder.blob(digest).write_bytes(LARGE[:-1] + b"x")

    async def read() -> None:
        async with AsyncExitStack() as stack:
            await reading.open(stack, asked(digest))
            raise DigestMismatchError(want=digest, got="another, by a pin perhaps")

    with pytest.raises(DigestMismatchError):
        await read()
    assert folder.blob(digest).exists() != is_damaged
