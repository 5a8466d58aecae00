"""What is in the store, by digest."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

import pytest

from multi_fetch.errors import NotFoundError, SizeMismatchError, UnavailableError
from multi_fetch.layout.contents import Wanted
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCI_MANIFEST, OCTET_STREAM
from multi_fetch.store.blobs import Blobs, Check
from multi_fetch.store.folder import RECORDS_FOLDER, StoreFolder
from multi_fetch.store.records import STAMP_SECONDS, Records, told_of
from tests.store.conftest import LARGE, SMALL

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = b'{"schemaVersion":2,"mediaType":"%s","layers":[]}' % OCI_MANIFEST.encode()


@pytest.fixture
def folder(tmp_path: Path) -> StoreFolder:
    made = StoreFolder(str(tmp_path))
    made.prepare()
    return made


def put(folder: StoreFolder, content: bytes) -> Path:
    path = folder.blob(digest_of(content))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def found(blobs: Blobs, content: bytes, media_type: str = "") -> tuple[Descriptor, bytes | None]:
    result = blobs.find(Wanted("", digest_of(content), media_type))
    result.part.close()
    return result.descriptor, result.content


def test_an_object_is_what_the_hint_says_or_its_own_words_and_index_json_is_not_read(
    folder: StoreFolder,
) -> None:
    folder.index.write_text("damaged")
    put(folder, MANIFEST)
    put(folder, LARGE)
    blobs = Blobs(folder, Check.BY_READER)
    assert found(blobs, MANIFEST)[0].media_type == OCI_MANIFEST
    assert found(blobs, MANIFEST)[1] == MANIFEST
    assert found(blobs, LARGE) == (
        Descriptor(media_type=OCTET_STREAM, digest=digest_of(LARGE), size=len(LARGE)),
        None,
    )
    assert found(blobs, LARGE, "text/plain")[0].media_type == "text/plain"


def test_what_was_never_kept_is_not_there_and_neither_is_a_store_that_is_new(
    folder: StoreFolder, tmp_path: Path
) -> None:
    for each in (folder, StoreFolder(str(tmp_path / "new"))):
        blobs = Blobs(each, Check.BY_READER)
        with pytest.raises(NotFoundError):
            found(blobs, SMALL)
        with pytest.raises(NotFoundError):
            blobs.open(Descriptor(media_type=OCTET_STREAM, digest=digest_of(SMALL), size=None))
        assert blobs.path(digest_of(SMALL)) is None
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError):
        found(Blobs(StoreFolder(str(tmp_path / "file")), Check.BY_READER), SMALL)


@pytest.mark.parametrize("damaged", [LARGE[:-1], LARGE[:-1] + b"x", LARGE + b"x"])
def test_what_is_damaged_is_removed_where_all_is_checked(
    folder: StoreFolder, damaged: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = put(folder, LARGE)
    path.write_bytes(damaged)
    assert found(Blobs(folder, Check.BY_READER), LARGE)[0].size == len(damaged)
    with pytest.raises(NotFoundError, match="damaged"):
        found(Blobs(folder, Check.ALWAYS), LARGE)
    assert not path.exists()
    assert vars(caplog.records[0])["digest"] == digest_of(LARGE)


def test_a_size_that_does_not_fit_leads_to_a_second_look(folder: StoreFolder) -> None:
    path = put(folder, LARGE)
    blobs = Blobs(folder, Check.BY_READER)
    with pytest.raises(SizeMismatchError):
        blobs.find(Wanted("", digest_of(LARGE), "", 5))
    assert path.exists()
    path.write_bytes(LARGE[:-1])
    with pytest.raises(NotFoundError):
        blobs.find(Wanted("", digest_of(LARGE), "", len(LARGE)))
    assert not path.exists()


@pytest.mark.parametrize("content", [SMALL, LARGE])
def test_a_broken_disk_is_an_error_of_a_request(
    folder: StoreFolder, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    path, blobs = put(folder, content), Blobs(folder, Check.ALWAYS)
    for name in ("preadv", "pread"):
        monkeypatch.setattr(os, name, refuse)
    with pytest.raises(UnavailableError, match="Input/output"):
        found(blobs, content)
    with pytest.raises(UnavailableError, match="Input/output"):
        blobs.remove_if_damaged(digest_of(content))
    assert path.exists()


def test_only_what_is_damaged_is_removed(folder: StoreFolder) -> None:
    path = put(folder, SMALL)
    blobs = Blobs(folder, Check.BY_READER)
    assert not blobs.remove_if_damaged(digest_of(SMALL))
    assert path.exists()
    path.write_bytes(b"")
    assert blobs.remove_if_damaged(digest_of(SMALL))
    assert not path.exists()
    assert blobs.remove_if_damaged(digest_of(SMALL))


def test_what_another_has_fetched_anew_meanwhile_stays(
    folder: StoreFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parent was told of it by now, and a tag may lead to it."""
    path = put(folder, LARGE)
    path.write_bytes(LARGE[:-1] + b"x")
    real = os.preadv

    def late(fd: int, buffers: list[memoryview], offset: int) -> int:
        count = real(fd, buffers, offset)
        if not count:  # all was looked at
            (folder.path / "new").write_bytes(LARGE)
            (folder.path / "new").rename(path)
        return count

    blobs = Blobs(folder, Check.ALWAYS)
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", late)
        assert blobs.remove_if_damaged(digest_of(LARGE))
    assert path.read_bytes() == LARGE
    assert not blobs.remove_if_damaged(digest_of(LARGE))


def test_a_use_is_stamped_once_an_hour(folder: StoreFolder) -> None:
    path, blobs = put(folder, SMALL), Blobs(folder, Check.BY_READER)
    now = time.time()
    for age, is_stamped in ((STAMP_SECONDS + 60, True), (STAMP_SECONDS - 60, False)):
        os.utime(path, (now - age, now - age))
        found(blobs, SMALL)
        assert (path.stat().st_mtime > now - 10) == is_stamped


class Reads:
    """Counts what is read of files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        real = os.preadv

        def preadv(fd: int, buffers: list[memoryview], offset: int) -> int:
            count = real(fd, buffers, offset)
            self.bytes += count
            return count

        monkeypatch.setattr(os, "preadv", preadv)

    def take(self) -> int:
        count, self.bytes = self.bytes, 0
        return count


def alter(path: Path, content: bytes) -> None:
    """In place, and with its times set back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_is_checked_once_is_read_again_where_it_was_altered_and_then_removed(
    folder: StoreFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, blobs, reads = put(folder, LARGE), Blobs(folder, Check.ONCE), Reads(monkeypatch)
    for expected in (len(LARGE), 0, 0):
        found(blobs, LARGE)
        assert reads.take() == expected
    alter(path, LARGE)
    found(blobs, LARGE)
    assert reads.take() == len(LARGE)
    alter(path, LARGE[:-1] + b"x")
    with pytest.raises(NotFoundError, match="damaged"):
        found(blobs, LARGE)
    assert not path.exists()
    Records(folder).tidy()
    assert not list((folder.path / RECORDS_FOLDER / "sha256").iterdir())


def test_what_is_checked_always_is_recorded_too(
    folder: StoreFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, LARGE)
    reads = Reads(monkeypatch)
    for _ in range(2):
        found(Blobs(folder, Check.ALWAYS), LARGE)
        assert reads.take() == len(LARGE)
    found(Blobs(folder, Check.ONCE), LARGE)
    assert reads.take() == 0


def test_small_content_is_read_each_time_and_needs_no_record(folder: StoreFolder) -> None:
    path, blobs = put(folder, SMALL), Blobs(folder, Check.ONCE)
    found(blobs, SMALL)
    assert not (folder.path / RECORDS_FOLDER).exists()
    alter(path, SMALL[:-1] + b"x")
    with pytest.raises(NotFoundError, match="damaged"):
        found(blobs, SMALL)


def test_only_what_was_verified_here_is_said_to_be(folder: StoreFolder) -> None:
    for content in (SMALL, LARGE):
        path = put(folder, content)
        for check in Check:
            blobs = Blobs(folder, check)
            result = blobs.find(Wanted("", digest_of(content)))
            result.part.close()
            is_left = check is Check.BY_READER and content == LARGE
            assert blobs.verified_path(result) == (None if is_left else path)


def test_a_use_of_what_is_recorded_is_stamped_there_and_the_file_stays_as_it_is(
    folder: StoreFolder,
) -> None:
    path, blobs = put(folder, LARGE), Blobs(folder, Check.ONCE)
    long_ago = time.time() - 2 * STAMP_SECONDS
    found(blobs, LARGE)
    record = folder.path / RECORDS_FOLDER / "sha256" / path.name
    os.utime(record, (long_ago, long_ago))
    before = told_of(digest_of(LARGE), path.stat())
    for check in Check:
        found(Blobs(folder, check), LARGE)
    assert told_of(digest_of(LARGE), path.stat()) == before
    assert record.stat().st_mtime > long_ago + STAMP_SECONDS
