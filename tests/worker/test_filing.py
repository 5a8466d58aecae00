"""Answers that name files, from a remote in memory that keeps what was verified."""

from __future__ import annotations

import base64
import json
import random
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from msgspec.structs import replace

from multi_fetch.errors import DigestMismatchError, SizeMismatchError, UnavailableError
from multi_fetch.limits import MAX_DATA_BYTES
from multi_fetch.oci.digest import Digest, digest_of
from multi_fetch.oci.media_types import OCI_MANIFEST
from multi_fetch.protocol.frames import Begin, End, Error, File, Frame
from multi_fetch.worker.filing import named
from multi_fetch.worker.serve import Settings
from tests.worker.harness import LOCATOR, answers, content, ids, running, terminals
from tests.worker.images import add_image
from tests.worker.memory_remote import MemoryRemote

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence
    from pathlib import Path

    from multi_fetch.oci.reference import Reference
    from multi_fetch.protocol.request import ByteRange
    from multi_fetch.remotes import Opened

SMALL = b"a small layer"
LARGE = random.Random("filing").randbytes(2 * MAX_DATA_BYTES + 5)
PATHS = Settings(software="test", is_content_in_files=True)


class KeepingRemote(MemoryRemote):
    """Writes what it is told to keep into a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.is_broken = False
        self.read: list[str] = []

    @asynccontextmanager
    async def open(
        self,
        ref: Reference,
        *,
        media_types: Sequence[str] = (),
        size: int | None = None,
        byte_range: ByteRange | None = None,
    ) -> AsyncIterator[Opened]:
        opening = super().open(ref, media_types=media_types, size=size, byte_range=byte_range)
        async with opening as opened:
            digest = opened.descriptor.digest
            path = self.path(digest)

            async def keep() -> Path | None:
                return await self.keep(digest, self.objects[digest])

            async def noted() -> AsyncGenerator[bytes, None]:
                self.read.append(digest)
                async for chunk in opened.chunks:
                    yield bytes(chunk)

            kept = path if path.exists() else None
            async with aclosing(noted()) as chunks:
                yield replace(opened, chunks=chunks, keep=keep, kept=kept)

    async def keep(self, digest: Digest, content: bytes) -> Path | None:
        await trio.lowlevel.checkpoint()
        if self.is_broken:
            return None
        self.path(digest).write_bytes(content)
        return self.path(digest)

    def index_memory(self) -> int:
        return 0

    def path(self, digest: Digest) -> Path:
        return self.folder / digest.encoded


@pytest.fixture
def remote(tmp_path: Path) -> KeepingRemote:
    made = KeepingRemote(tmp_path)
    made.add(SMALL, "small")
    made.add(LARGE, "large")
    made.add(b"", "empty")
    add_image(made, "image", SMALL, LARGE, tag="image")
    return made


def shown(frames: list[Frame], number: int) -> list[str]:
    return [type(each).__name__ for each in frames if getattr(each, "id", None) == number]


@pytest.mark.parametrize("name", ["small", "large", "empty", "image"])
@pytest.mark.parametrize("is_ordered", [False, True])
async def test_content_of_any_size_is_in_a_file_by_the_time_that_it_is_told_of(
    remote: KeepingRemote, name: str, is_ordered: bool
) -> None:
    settings = replace(PATHS, is_ordered=is_ordered)
    _, frames = await answers(remote, f"{name}\n".encode(), settings)
    begin, file, end = frames[1:-1]
    whole = remote.objects[name]
    assert isinstance(begin, Begin)
    assert isinstance(file, File)
    assert isinstance(end, End)
    assert file.path == str(remote.path(digest_of(whole)))
    assert remote.path(digest_of(whole)).read_bytes() == whole
    assert (file.size, end.size, end.digest) == (len(whole), len(whole), digest_of(whole))


async def test_what_is_in_a_file_already_is_not_read_again_unless_it_leads_on(
    remote: KeepingRemote,
) -> None:
    lines = b"image children:all\n"
    for _ in range(2):
        remote.read.clear()
        _, frames = await answers(remote, lines, PATHS)
        assert {*ids(frames)} == {1, -1, -2, -3}
        assert all(shown(frames, each) == ["Begin", "File", "End"] for each in ids(frames))
    assert remote.read == [digest_of(remote.objects["image"])]


async def test_wrong_bytes_are_never_named(remote: KeepingRemote) -> None:
    digest = digest_of(LARGE)
    remote.lies[digest] = LARGE[:-1] + b"x"
    _, frames = await answers(remote, b"large\n", PATHS)
    assert shown(frames, 1) == ["Error"]
    error = terminals(frames)[1]
    assert isinstance(error, Error)
    assert (error.code, error.detail["bytes_sent"]) == ("digest-mismatch", 0)
    assert not remote.path(digest).exists()


class TwoHosts(KeepingRemote):
    """Of which the first has wrong bytes, and the second is asked when that is known."""

    @asynccontextmanager
    async def open(
        self,
        ref: Reference,
        *,
        media_types: Sequence[str] = (),
        size: int | None = None,
        byte_range: ByteRange | None = None,
    ) -> AsyncIterator[Opened]:
        opening = super().open(ref, media_types=media_types, size=size, byte_range=byte_range)
        async with opening as opened:
            try:
                yield opened
            except (DigestMismatchError, SizeMismatchError) as error:
                error.has_alternative = self.lies.pop(opened.descriptor.digest, None) is not None
                raise


@pytest.mark.parametrize("lie", [LARGE[:-1] + b"x", LARGE[:-1], LARGE + b"x", b""])
async def test_wrong_bytes_are_anothers_to_mend_as_nobody_was_told_of_them(
    tmp_path: Path, lie: bytes
) -> None:
    remote = TwoHosts(tmp_path)
    digest = remote.add(LARGE, "large")
    remote.lies[digest] = lie
    _, frames = await answers(remote, b"large\n", PATHS)
    assert shown(frames, 1) == ["Begin", "File", "End"]
    assert remote.path(digest).read_bytes() == LARGE
    assert len(remote.opened) == 2


async def test_what_has_been_sent_is_not_mended(tmp_path: Path) -> None:
    remote = TwoHosts(tmp_path)
    remote.lies[remote.add(LARGE, "large")] = LARGE[:-1] + b"x"
    _, frames = await answers(remote, b"large\n", Settings(software="test"))
    assert shown(frames, 1)[-1] == "Error"
    assert len(remote.opened) == 1


async def test_a_pin_that_does_not_hold_is_asked_for_once(tmp_path: Path) -> None:
    remote = TwoHosts(tmp_path)
    remote.add(LARGE, "large")
    _, frames = await answers(remote, f"large digest:{digest_of(SMALL)}\n".encode(), PATHS)
    assert shown(frames, 1) == ["Error"]
    assert len(remote.opened) == 1


async def test_what_cannot_be_kept_is_an_error(remote: KeepingRemote) -> None:
    remote.is_broken = True
    _, frames = await answers(remote, b"small\nlarge\n", PATHS)
    for number in (1, 2):
        error = terminals(frames)[number]
        assert isinstance(error, Error)
        assert (error.code, shown(frames, number)) == ("unavailable", ["Error"])
    with pytest.raises(UnavailableError, match="in no file"):
        named(None)


async def test_a_part_and_a_description_come_as_ever(remote: KeepingRemote) -> None:
    _, frames = await answers(remote, b"large range:1-3\nlarge content:none\n", PATHS)
    assert shown(frames, 1) == ["Begin", "Data", "End"]
    assert content(frames, 1) == LARGE[1:4]
    assert shown(frames, 2) == ["Begin", "End"]


async def test_content_within_a_manifest_is_kept_too_also_where_it_is_sent(
    remote: KeepingRemote,
) -> None:
    """So that what was kept of an image is all of it."""
    inner = b"within"
    layer = {
        "mediaType": "text/plain",
        "digest": digest_of(inner),
        "size": len(inner),
        "data": base64.b64encode(inner).decode(),
    }
    remote.add(json.dumps({"layers": [layer]}).encode(), "embeds", media_type=OCI_MANIFEST)
    for settings, kinds in (
        (PATHS, ["Begin", "File", "End"]),
        (Settings(software="test"), ["Begin", "Data", "End"]),
    ):
        _, frames = await answers(remote, b"embeds children:all\n", settings)
        assert shown(frames, -1) == kinds
        assert remote.path(digest_of(inner)).read_bytes() == inner
        remote.path(digest_of(inner)).unlink()
    assert digest_of(inner) not in remote.read


async def test_requests_may_join_as_long_as_nothing_is_told(remote: KeepingRemote) -> None:
    remote.gates["large"] = trio.Event()
    async with running(remote, replace(PATHS, jobs=2)) as run:
        run.reader.feed(b"large\n")
        await run.writer.wait_frames(1)
        await trio.testing.wait_all_tasks_blocked()
        run.reader.feed(b"large\n")
        await trio.testing.wait_all_tasks_blocked()
        remote.gates["large"].set()
        run.reader.feed_eof()
    assert remote.opened == ["large"]
    frames = run.writer.frames()
    assert shown(frames, 1) == shown(frames, 2) == ["Begin", "File", "End"]
    assert LOCATOR in str(frames[0])
