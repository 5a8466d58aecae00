"""A store before a registry: what is asked of whom, and what is in the folder afterwards."""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING

import pytest
import trio

from multi_fetch.durations import STORE_STALL_SECONDS
from multi_fetch.errors import (
    DeniedError,
    DigestMismatchError,
    InvalidRequestError,
    MultiFetchError,
    NotFoundError,
    SizeMismatchError,
    UnavailableError,
)
from multi_fetch.layout.folder import Folder
from multi_fetch.layout.remote import LayoutRemote
from multi_fetch.limits import MAX_DATA_BYTES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import Digest, digest_of
from multi_fetch.oci.media_types import OCI_MANIFEST, OCTET_STREAM
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.request import ByteRange
from multi_fetch.remotes import Foreign
from multi_fetch.store import StoreSettings, open_offline
from multi_fetch.store.blobs import Check
from multi_fetch.store.folder import StoreFolder
from multi_fetch.store.ingest import Ingest, claim
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.faults import Fault, close_after, flip_byte, ignore_range, set_header
from multi_fetch.testing.registry import serve_layout
from tests.store.conftest import LARGE, SMALL, Sample, consume, serving

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("content", [SMALL, LARGE])
async def test_what_was_fetched_once_is_not_asked_for_again(
    sample: Sample, tmp_path: Path, content: bytes
) -> None:
    digest = digest_of(content)
    async with serving(sample, tmp_path) as place:
        async with place.stored() as stored:
            assert await consume(stored, place.ref(digest)) == (content, place.path(digest))
        assert place.path(digest).read_bytes() == content
        before = place.asked()
        for check in Check:
            async with place.stored(check=check) as stored:
                assert await consume(stored, place.ref(digest)) == (content, place.path(digest))
        assert place.asked() == before
        assert place.unfinished() == []


async def test_a_new_tag_is_one_get_and_a_known_one_is_a_head(
    sample: Sample, tmp_path: Path
) -> None:
    """A HEAD is no pull where pulls are counted, and brings nothing that is there."""
    async with serving(sample, tmp_path) as place:
        for _ in range(2):
            async with place.stored() as stored:
                _, path = await consume(stored, place.ref("latest"))
                assert path == place.path(sample.image.digest)
                assert (await stored.resolve(place.ref("latest"))).descriptor.size
        asked = ["GET latest", "HEAD latest", "HEAD latest", "HEAD latest"]
        assert place.asked() == asked


@pytest.mark.parametrize("told", ["1", "100000"])
async def test_a_size_that_a_head_tells_wrongly_is_not_held_against_what_is_there(
    sample: Sample, tmp_path: Path, told: str
) -> None:
    fault = Fault(set_header("content-length", told), method="HEAD")
    async with serving(sample, tmp_path, fault) as place:
        for _ in range(2):
            async with place.stored() as stored:
                content, path = await consume(stored, place.ref("latest"))
            assert (digest_of(content), path) == (
                sample.image.digest,
                place.path(sample.image.digest),
            )
        assert place.asked() == ["GET latest", "HEAD latest"]


async def test_a_known_tag_that_has_moved_brings_what_it_stands_for_now(
    sample: Sample, tmp_path: Path
) -> None:
    async with serving(sample, tmp_path) as place:
        folder = StoreFolder(str(place.folder))
        folder.prepare()
        old = LayoutBuilder(tmp_path / "old")
        manifest = old.add_manifest(b'{"schemaVersion":2,"layers":[]}', OCI_MANIFEST)
        place.put(
            old.finish().folder.joinpath("blobs/sha256", manifest.digest.encoded).read_bytes()
        )
        async with place.stored() as stored:
            stored._names.add(str(place.ref("latest")), manifest)
            content, path = await consume(stored, place.ref("latest"))
        assert digest_of(content) == sample.image.digest
        assert path is not None
        assert place.asked() == ["HEAD latest", f"GET {sample.image.digest}"]
        async with open_offline(StoreSettings(path=str(place.folder))) as offline:
            assert (await consume(offline, place.ref("latest")))[0] == content


async def test_other_readers_of_layouts_find_it_by_tag(sample: Sample, tmp_path: Path) -> None:
    async with serving(sample, tmp_path) as place:
        async with place.stored() as stored:
            content, _ = await consume(stored, place.ref("latest"))
        locator = f"oci:{place.folder}"
        layout = LayoutRemote(Folder(locator, str(place.folder)))
        assert (await consume(layout, Reference(locator, "latest")))[0] == content


async def test_offline_serves_what_is_there_and_says_what_is_not(
    sample: Sample, tmp_path: Path
) -> None:
    async with serving(sample, tmp_path) as place:
        async with place.stored() as stored:
            content, _ = await consume(stored, place.ref("latest"))
            await consume(stored, place.ref(sample.small))
        before = place.asked()
        async with open_offline(StoreSettings(path=str(place.folder))) as offline:
            assert (await consume(offline, place.ref("latest")))[0] == content
            assert (await consume(offline, place.ref(sample.small)))[0] == SMALL
            resolved = await offline.resolve(place.ref("latest"))
            assert resolved.descriptor.digest == sample.image.digest
            for missing in ("v2", sample.large):
                with pytest.raises(NotFoundError, match="--offline"):
                    await consume(offline, place.ref(missing))
                with pytest.raises(NotFoundError, match="--offline"):
                    await offline.resolve(place.ref(missing))
        assert place.asked() == before
        assert place.unfinished() == []


async def test_offline_what_cannot_be_read_is_not_told_as_missing(
    sample: Sample, tmp_path: Path
) -> None:
    async with serving(sample, tmp_path) as place:
        async with place.stored() as stored:
            await consume(stored, place.ref("latest"))
        path = place.path(sample.small)
        path.unlink(missing_ok=True)
        path.symlink_to(path)  # nobody can read it, whoever asks
        async with open_offline(StoreSettings(path=str(place.folder))) as offline:
            with pytest.raises(DeniedError, match=f"{path.name} in the store .*: Too many"):
                await consume(offline, place.ref(sample.small))
            with pytest.raises(DeniedError, match=f"{path.name} in the store .*: Too many"):
                await offline.resolve(place.ref(sample.small))
        index = place.folder / "index.json"
        index.unlink()
        index.mkdir()
        async with open_offline(StoreSettings(path=str(place.folder))) as offline:
            with pytest.raises(UnavailableError, match=r"index\.json"):
                await consume(offline, place.ref("latest"))


async def test_a_description_of_what_is_there_asks_nobody(sample: Sample, tmp_path: Path) -> None:
    async with serving(sample, tmp_path) as place:
        place.put(LARGE)
        async with place.stored() as stored:
            resolved = await stored.resolve(place.ref(sample.large), size=len(LARGE))
            assert resolved.descriptor == Descriptor(
                media_type=OCTET_STREAM, digest=sample.large, size=len(LARGE)
            )
            async with resolved.fetcher.fetch(resolved.descriptor, offset=7) as chunks:
                assert b"".join([bytes(chunk) async for chunk in chunks]) == LARGE[7:]
            assert place.asked() == []
            place.path(sample.large).unlink()
            async with resolved.fetcher.fetch(resolved.descriptor, offset=7) as chunks:
                assert b"".join([bytes(chunk) async for chunk in chunks]) == LARGE[7:]
            assert place.asked() == [f"HEAD {sample.large}", f"GET {sample.large} bytes=7-"]


async def test_a_part_comes_from_the_store_and_is_never_kept(
    sample: Sample, tmp_path: Path
) -> None:
    part = ByteRange(10, 19)
    async with serving(sample, tmp_path) as place, place.stored() as stored:
        for _ in range(2):
            async with stored.open(place.ref(sample.small), byte_range=part) as opened:
                assert b"".join([bytes(chunk) async for chunk in opened.chunks]) == SMALL[10:20]
                assert opened.keep is None
            assert place.asked() == [f"GET {sample.small} bytes=10-19"]
            place.put(SMALL)
        with pytest.raises(InvalidRequestError, match="beyond the end"):
            async with stored.open(place.ref(sample.small), byte_range=ByteRange(1_000)):
                pass


async def test_listings_are_the_remotes(sample: Sample, tmp_path: Path) -> None:
    async with serving(sample, tmp_path) as place, place.stored() as stored:
        assert [page async for page in stored.tags(place.ref(""))] == [["latest"]]
        found = [page async for page in stored.referrers(place.ref(sample.image.digest))]
        assert not any(found)


async def test_content_that_came_otherwise_is_kept_once(sample: Sample, tmp_path: Path) -> None:
    async with serving(sample, tmp_path) as place:
        digest = digest_of(SMALL)
        async with place.stored() as stored:
            await unfinished(place.folder, b"a rest", digest)
            for _ in range(2):
                assert await stored.keep(digest, SMALL) == place.path(digest)
            assert place.path(digest).read_bytes() == SMALL
            async with stored.open(place.ref(digest)) as opened:
                assert opened.kept == place.path(digest)
        async with open_offline(StoreSettings(path=str(place.folder))) as offline:
            assert await offline.keep(digest, SMALL) == place.path(digest)
            assert await offline.keep(digest_of(LARGE), LARGE) is None
        assert place.unfinished() == []


async def test_a_tag_whose_manifest_was_begun_is_kept_whole(sample: Sample, tmp_path: Path) -> None:
    async with serving(sample, tmp_path) as place, place.stored() as stored:
        await unfinished(place.folder, b"a rest", sample.image.digest)
        content, path = await consume(stored, place.ref("latest"))
        assert path is not None
        assert path.read_bytes() == content


# --- what is wrong --------------------------------------------------------------------------


@pytest.mark.parametrize("content", [SMALL, LARGE])
async def test_wrong_bytes_are_never_kept(sample: Sample, tmp_path: Path, content: bytes) -> None:
    digest = digest_of(content)
    fault = Fault(flip_byte(len(content) - 1), method="GET", path="*/blobs/*", times=1)
    async with serving(sample, tmp_path, fault) as place:
        async with place.stored() as stored:
            with pytest.raises(DigestMismatchError):
                await consume(stored, place.ref(digest))
        assert place.unfinished() == []
        assert not place.path(digest).exists()
        async with place.stored() as stored:
            assert await consume(stored, place.ref(digest)) == (content, place.path(digest))


async def test_a_small_object_that_is_damaged_is_fetched_anew(
    sample: Sample, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(sample, tmp_path) as place:
        path = place.put(SMALL)
        for damaged in (SMALL[:-1] + b"x", SMALL[:-1], SMALL + b"x", b""):
            path.write_bytes(damaged)
            async with (
                place.stored() as stored,
                stored.open(place.ref(sample.small), size=len(SMALL)) as opened,
            ):
                assert opened.whole == SMALL
                assert opened.keep is not None
                await opened.keep()
            assert path.read_bytes() == SMALL
    assert "was damaged, and was removed" in caplog.text


@pytest.mark.parametrize("damaged", [b"x", b""])
async def test_content_in_hand_is_not_said_to_be_in_a_file_that_is_damaged(
    sample: Sample, tmp_path: Path, damaged: bytes
) -> None:
    async with serving(sample, tmp_path) as place:
        manifest, small = place.path(sample.image.digest), place.put(SMALL)
        manifest.write_bytes(damaged)
        small.write_bytes(damaged)
        async with place.stored() as stored:
            content, path = await consume(stored, place.ref("latest"))
            assert path == manifest
            assert manifest.read_bytes() == content
            assert await stored.keep(digest_of(SMALL), SMALL) == small
        assert small.read_bytes() == SMALL


async def test_a_large_object_that_is_damaged_is_found_out_by_who_reads_and_then_mended(
    sample: Sample, tmp_path: Path
) -> None:
    async with serving(sample, tmp_path) as place, place.stored() as stored:
        path = place.put(LARGE)
        path.write_bytes(LARGE[:-1] + b"x")
        with pytest.raises(DigestMismatchError):
            await consume(stored, place.ref(sample.large))
        assert place.asked() == []
        assert await consume(stored, place.ref(sample.large)) == (LARGE, path)


async def test_with_a_check_before_it_is_mended_at_once(sample: Sample, tmp_path: Path) -> None:
    async with serving(sample, tmp_path) as place, place.stored(check=Check.ALWAYS) as stored:
        place.put(LARGE).write_bytes(LARGE[:-1] + b"x")
        content, path = await consume(stored, place.ref(sample.large))
        assert (content, path) == (LARGE, place.path(sample.large))


async def test_what_was_altered_since_it_was_verified_is_mended_before_it_is_named(
    sample: Sample, tmp_path: Path
) -> None:
    async with serving(sample, tmp_path) as place, place.stored(check=Check.ONCE) as stored:
        path = place.path(sample.large)
        for _ in range(3):
            async with stored.open(place.ref(sample.large)) as opened:
                assert opened.kept is None
                assert b"".join([bytes(chunk) async for chunk in opened.chunks]) == LARGE
                assert opened.keep is not None
                assert await opened.keep() == path
            async with stored.open(place.ref(sample.large)) as opened:
                assert opened.kept == path
            before = path.stat()
            path.write_bytes(LARGE[:-1] + b"x")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert place.asked() == [f"GET {sample.large}"] * 3


async def test_a_wrong_size_in_the_request_removes_nothing(sample: Sample, tmp_path: Path) -> None:
    async with serving(sample, tmp_path) as place, place.stored() as stored:
        path = place.put(SMALL)
        with pytest.raises(SizeMismatchError):
            await stored.resolve(place.ref(sample.small), size=5)
        assert path.exists()


# --- what is unfinished ---------------------------------------------------------------------


@pytest.mark.parametrize("times", [None, 0])
async def test_what_broke_off_goes_on_by_range(
    sample: Sample, tmp_path: Path, times: int | None
) -> None:
    """Also at a registry that knows no ranges."""
    cut_at = 3 * MAX_DATA_BYTES + 5
    faults = [
        Fault(close_after(cut_at), method="GET", path="*/blobs/*", times=1),
        Fault(ignore_range(), method="GET", times=times),
    ]
    async with serving(sample, tmp_path, *faults) as place:
        async with place.stored() as stored:
            with pytest.raises(UnavailableError):
                await consume(stored, place.ref(sample.large))
        (rest,) = place.unfinished()
        length = rest.stat().st_size
        assert MAX_DATA_BYTES < length <= cut_at
        assert rest.read_bytes() == LARGE[:length]
        async with place.stored() as stored:
            content, path = await consume(stored, place.ref(sample.large))
        assert (content, path) == (LARGE, place.path(sample.large))
        assert place.asked()[1:] == [f"HEAD {sample.large}", f"GET {sample.large} bytes={length}-"]
        assert place.unfinished() == []


async def unfinished(folder: Path, content: bytes, digest: Digest) -> None:
    """Leaves a rest as a process does that was killed."""
    store = StoreFolder(str(folder))
    store.prepare()
    claimed = claim(store, digest, is_patient=True)
    assert isinstance(claimed, Ingest)
    claimed.write(content)
    claimed.leave(len(content))


@pytest.mark.parametrize(
    ("rest", "asked"),
    [
        (LARGE[:100], ["GET {}"]),  # not worth two questions
        (LARGE, ["HEAD {}"]),  # killed before it got its name
        (LARGE + b"x", ["HEAD {}", "GET {}"]),  # of no use
    ],
    ids=["short", "whole", "too long"],
)
async def test_a_rest_of_any_length_leads_to_the_whole(
    sample: Sample, tmp_path: Path, rest: bytes, asked: list[str]
) -> None:
    async with serving(sample, tmp_path) as place, place.stored() as stored:
        await unfinished(place.folder, rest, sample.large)
        assert await consume(stored, place.ref(sample.large)) == (LARGE, place.path(sample.large))
        assert place.asked() == [each.format(sample.large) for each in asked]
        assert place.unfinished() == []


async def test_a_rest_that_is_wrong_fails_once_and_is_gone(sample: Sample, tmp_path: Path) -> None:
    async with serving(sample, tmp_path) as place, place.stored() as stored:
        await unfinished(place.folder, bytes(2 * MAX_DATA_BYTES), sample.large)
        with pytest.raises(DigestMismatchError):
            await consume(stored, place.ref(sample.large))
        assert (await consume(stored, place.ref(sample.large)))[0] == LARGE


async def test_who_leaves_in_the_middle_leaves_right_bytes(sample: Sample, tmp_path: Path) -> None:
    async with serving(sample, tmp_path) as place:
        async with place.stored() as stored:
            with trio.CancelScope() as scope:
                async with stored.open(place.ref(sample.large)) as opened:
                    count = 0
                    async for chunk in opened.chunks:
                        count += len(chunk)
                        if count > 2 * MAX_DATA_BYTES:
                            scope.cancel()
        (rest,) = place.unfinished()
        content = rest.read_bytes()
        assert content == LARGE[: len(content)]


# --- several at the same time -----------------------------------------------------------------


@pytest.mark.parametrize("content", [SMALL, LARGE])
async def test_the_same_is_fetched_once_by_all(
    sample: Sample, tmp_path: Path, content: bytes
) -> None:
    """Stores in one process are like processes: a lock is of an opening of the file."""
    digest = digest_of(content)
    async with serving(sample, tmp_path) as place:

        async def run() -> None:
            async with place.stored() as stored:
                assert await consume(stored, place.ref(digest)) == (content, place.path(digest))

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(run)
        assert place.asked() == [f"GET {digest}"]


async def test_who_waits_for_a_fetch_that_fails_fetches(sample: Sample, tmp_path: Path) -> None:
    fault = Fault(close_after(len(LARGE) - 1), method="GET", path="*/blobs/*", times=1)
    async with serving(sample, tmp_path, fault) as place:
        failures: list[MultiFetchError] = []

        async def run() -> None:
            async with place.stored() as stored:
                try:
                    await consume(stored, place.ref(sample.large))
                except UnavailableError as error:
                    failures.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(run)
        assert len(failures) == 1
        assert place.path(sample.large).read_bytes() == LARGE


async def test_who_waits_and_sees_nothing_come_goes_alone(
    sample: Sample, tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    """A process that was stopped holds its lock for ever; nobody hangs for it."""
    async with serving(sample, tmp_path) as place:
        store = StoreFolder(str(place.folder))
        store.prepare()
        held = claim(store, sample.large, is_patient=True)
        assert isinstance(held, Ingest)
        began = trio.current_time()
        async with place.stored() as stored:
            assert await consume(stored, place.ref(sample.large)) == (
                LARGE,
                place.path(sample.large),
            )
        assert trio.current_time() - began >= STORE_STALL_SECONDS
        held.leave(0)
        assert place.unfinished() == []


# --- a store that cannot be written -----------------------------------------------------------


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system says that the disk is full; a real full disk is in test_crashes.py."""

    def refuse(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", refuse)


@pytest.mark.usefixtures("full")
async def test_on_a_full_disk_content_comes_and_one_warning(
    sample: Sample, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(sample, tmp_path) as place, place.stored() as stored:
        for content in (SMALL, LARGE):
            assert await consume(stored, place.ref(digest_of(content))) == (content, None)
        assert (await consume(stored, place.ref("latest")))[1] is None
    warnings = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "No space left" in str(vars(warnings[0])["error"])
    assert place.unfinished() == []


@pytest.mark.usefixtures("full")
async def test_on_a_full_disk_what_must_be_kept_fails(sample: Sample, tmp_path: Path) -> None:
    async with serving(sample, tmp_path) as place, place.stored(is_required=True) as stored:
        for asked in (sample.small, sample.large, "latest"):
            with pytest.raises(UnavailableError, match=r"No space left.*--store-only"):
                await consume(stored, place.ref(asked))


async def test_where_no_folder_can_be_content_comes_and_one_warning(
    sample: Sample, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(sample, tmp_path) as place:
        place.folder.parent.joinpath("file").write_text("")
        place.folder = place.folder.parent / "file" / "store"
        async with place.stored() as stored:
            for asked in (sample.small, sample.large, "latest"):
                assert (await consume(stored, place.ref(asked)))[1] is None
        warnings = [each.message for each in caplog.records if each.levelno >= logging.WARNING]
        assert warnings == ["the store cannot be used: what is wanted is fetched, and not kept"]
        async with place.stored(is_required=True) as stored:
            with pytest.raises(UnavailableError, match="Not a directory"):
                await consume(stored, place.ref(sample.small))


@pytest.mark.parametrize("content", [SMALL, LARGE])
async def test_from_a_broken_disk_nothing_is_read_and_the_registry_has_it(
    sample: Sample, tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with serving(sample, tmp_path) as place, place.stored(check=Check.ALWAYS) as stored:
        place.put(content)
        for name in ("preadv", "pread"):
            monkeypatch.setattr(os, name, refuse)
        assert (await consume(stored, place.ref(digest_of(content))))[0] == content


async def test_a_folder_that_vanishes_is_made_again(sample: Sample, tmp_path: Path) -> None:
    async with serving(sample, tmp_path) as place, place.stored() as stored:
        await consume(stored, place.ref(sample.small))
        place.folder.rename(tmp_path / "gone")
        assert (await consume(stored, place.ref(sample.small)))[1] == place.path(sample.small)
        async with stored.open(place.ref(sample.large)) as opened:
            chunks = [bytes(chunk) async for chunk in opened.chunks]
            assert b"".join(chunks) == LARGE
            place.folder.rename(tmp_path / "gone too")
            assert opened.keep is not None
            assert await opened.keep() is None


# --- foreign URLs -----------------------------------------------------------------------------


async def test_what_is_elsewhere_is_kept_too(sample: Sample, tmp_path: Path) -> None:
    elsewhere = LayoutBuilder(tmp_path / "elsewhere")
    blob = elsewhere.add_blob(b"elsewhere")
    async with (
        serve_layout(elsewhere.finish()) as files,
        serving(sample, tmp_path) as place,
        place.stored(foreign_urls=True) as stored,
    ):
        assert isinstance(stored, Foreign)
        ref, urls = place.ref(blob.digest), [f"http://{files.address}/v2/x/blobs/{blob.digest}"]
        with pytest.raises(NotFoundError):
            await consume(stored, ref)
        async with stored.open_foreign(ref, urls, size=blob.size) as opened:
            chunks = [bytes(chunk) async for chunk in opened.chunks]
            assert b"".join(chunks) == b"elsewhere"
            assert opened.keep is not None
            assert await opened.keep() == place.path(blob.digest)
        assert (await consume(stored, ref))[0] == b"elsewhere"
        assert len(files.requests) == 1
        assert place.unfinished() == []


async def test_a_remote_that_is_not_foreign_does_not_become_so(
    sample: Sample, tmp_path: Path
) -> None:
    async with serving(sample, tmp_path) as place, place.stored() as stored:
        assert not isinstance(stored, Foreign)
