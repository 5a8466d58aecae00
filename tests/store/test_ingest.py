"""One unfinished file: whose it is, and what of it others ever see."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from typing import TYPE_CHECKING

import pytest

from multi_fetch.oci.digest import digest_of
from multi_fetch.store.folder import RECORDS_FOLDER, StoreFolder
from multi_fetch.store.ingest import Busy, Ingest, claim
from multi_fetch.store.records import Records
from tests.store.conftest import LARGE

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = b"some content"
DIGEST = digest_of(CONTENT)


@pytest.fixture
def folder(tmp_path: Path) -> StoreFolder:
    made = StoreFolder(str(tmp_path / "store"))
    made.prepare()
    return made


def mine(folder: StoreFolder, *, is_patient: bool = True) -> Ingest:
    claimed = claim(folder, DIGEST, is_patient=is_patient)
    assert isinstance(claimed, Ingest)
    return claimed


def names(folder: StoreFolder) -> list[str]:
    return sorted(path.name for path in folder.ingests.iterdir())


def test_content_has_its_name_when_it_is_committed_and_not_before(folder: StoreFolder) -> None:
    ingest = mine(folder)
    for byte in CONTENT:
        ingest.write(bytes([byte]))
        assert not folder.blob(DIGEST).exists()
    assert ingest.commit() == folder.blob(DIGEST)
    assert folder.blob(DIGEST).read_bytes() == CONTENT
    assert names(folder) == []
    ingest.leave(0)
    ingest.discard()
    assert folder.blob(DIGEST).exists()


def test_who_is_patient_learns_how_far_the_other_is_and_who_is_not_has_a_file_of_its_own(
    folder: StoreFolder,
) -> None:
    first = mine(folder)
    first.write(b"some")
    assert claim(folder, DIGEST, is_patient=True) == Busy(4)
    second = mine(folder, is_patient=False)
    assert not second.is_shared
    second.write(CONTENT)
    second.commit()
    first.write(CONTENT[4:])
    first.commit()
    assert folder.blob(DIGEST).read_bytes() == CONTENT
    assert names(folder) == []


def test_who_is_patient_and_comes_too_late_finds_it_done(folder: StoreFolder) -> None:
    ingest = mine(folder)
    ingest.write(CONTENT)
    ingest.commit()
    assert claim(folder, DIGEST, is_patient=True) == Busy(-1)
    assert names(folder) == []


def test_a_rest_stays_up_to_the_length_that_is_right(folder: StoreFolder) -> None:
    ingest = mine(folder)
    ingest.write(CONTENT)
    ingest.leave(4)
    again = mine(folder)
    assert again.length == 4
    buffer = memoryview(bytearray(100))
    assert bytes(buffer[: again.read_into(buffer, 1)]) == CONTENT[1:4]
    again.cut(2)
    again.write(CONTENT[2:])
    assert again.commit().read_bytes() == CONTENT


def test_a_private_rest_and_one_of_nothing_do_not_stay(folder: StoreFolder) -> None:
    shared = mine(folder)
    private = mine(folder, is_patient=False)
    private.write(CONTENT)
    private.leave(len(CONTENT))
    shared.leave(0)
    assert names(folder) == []


def test_a_file_that_another_moved_while_one_waited_for_its_lock_is_not_written(
    folder: StoreFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a blob by then: to write it would damage what is verified."""
    first = mine(folder)
    first.write(CONTENT)
    real = fcntl.flock

    def late(fd: int, operation: int) -> None:
        if not folder.blob(DIGEST).exists():
            first.commit()
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    second = claim(folder, DIGEST, is_patient=False)
    assert isinstance(second, Ingest)
    second.write(b"other")
    assert folder.blob(DIGEST).read_bytes() == CONTENT
    second.discard()


def test_without_locks_each_has_a_file_of_its_own(
    folder: StoreFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    two = [mine(folder), mine(folder)]
    for each in two:
        assert not each.is_shared
        each.write(CONTENT)
    assert len(names(folder)) == 2
    for each in two:
        assert each.commit().read_bytes() == CONTENT
    assert names(folder) == []


def test_after_a_failure_nothing_more_is_written_and_nothing_stays(
    folder: StoreFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = mine(folder)
    ingest.write(b"some")
    with monkeypatch.context() as patch:

        def refuse(*arguments: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(os, "pwrite", refuse)
        ingest.write(b" ")
    ingest.write(b"content")
    assert ingest.length == 4
    with pytest.raises(OSError, match="No space left"):
        ingest.commit()
    assert names(folder) == []


def test_what_is_written_in_parts_by_the_system_is_whole(
    folder: StoreFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:3], offset))
    ingest = mine(folder)
    ingest.write(CONTENT)
    assert ingest.commit().read_bytes() == CONTENT


def test_one_that_was_let_go_of_cannot_be_committed(folder: StoreFolder) -> None:
    ingest = mine(folder)
    ingest.write(CONTENT)
    ingest.leave(len(CONTENT))
    with pytest.raises(OSError, match="let go"):
        ingest.commit()
    assert not folder.blob(DIGEST).exists()
    assert len(names(folder)) == 1


def test_what_has_another_name_too_is_not_written(folder: StoreFolder, tmp_path: Path) -> None:
    """In the store that would damage a blob, and outside anything."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    folder.shared_ingest(DIGEST).hardlink_to(outside)
    ingest = mine(folder)
    assert ingest.length == 0
    ingest.write(CONTENT)
    assert ingest.commit().read_bytes() == CONTENT
    assert outside.read_bytes() == b"precious"
    assert names(folder) == []


def test_what_is_no_file_gives_way_to_one(folder: StoreFolder) -> None:
    os.mkfifo(folder.shared_ingest(DIGEST))
    ingest = mine(folder)
    ingest.write(CONTENT)
    assert ingest.commit().read_bytes() == CONTENT


@pytest.mark.parametrize("linked", ["blobs", "blobs/sha256"])
def test_nothing_gets_its_name_where_a_link_leads(
    folder: StoreFolder, tmp_path: Path, linked: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    if linked == "blobs":
        (folder.path / linked).rmdir()
    (folder.path / linked).symlink_to(outside)
    ingest = mine(folder)
    ingest.write(CONTENT)
    with pytest.raises(NotADirectoryError, match="is a symbolic link"):
        ingest.commit()
    assert list(outside.iterdir()) == []
    assert names(folder) == []


def test_nothing_is_begun_where_a_link_leads(folder: StoreFolder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    folder.ingests.rmdir()
    folder.ingests.symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        claim(folder, DIGEST, is_patient=True)
    assert list(outside.iterdir()) == []


def test_what_another_has_begun_in_its_place_never_gets_a_digests_name(folder: StoreFolder) -> None:
    """Somebody has tidied up, and thought that nobody wrote it."""
    first = mine(folder)
    first.write(CONTENT)
    folder.shared_ingest(DIGEST).unlink()
    second = mine(folder)
    second.write(b"some")
    with pytest.raises(OSError, match="another file has its name"):
        first.commit()
    assert not folder.blob(DIGEST).exists()
    second.write(CONTENT[4:])
    assert second.commit().read_bytes() == CONTENT


@pytest.mark.parametrize("size", [4, 100])
def test_what_somebody_else_has_written_to_is_not_kept(folder: StoreFolder, size: int) -> None:
    ingest = mine(folder)
    ingest.write(CONTENT)
    os.truncate(folder.shared_ingest(DIGEST), size)
    with pytest.raises(OSError, match="somebody else"):
        ingest.commit()
    assert not folder.blob(DIGEST).exists()


def test_what_was_let_go_of_is_not_touched_though_another_file_has_its_number(
    folder: StoreFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that is cancelled lets go of it while a thread may be about to write."""
    ingest = mine(folder)
    other = tmp_path / "other"
    others: list[int] = []
    real = os.pwrite

    def late(fd: int, content: memoryview, offset: int) -> int:
        leaving.start()
        leaving.join(0.2)
        others.append(os.open(other, os.O_RDWR | os.O_CREAT))
        return real(fd, content, offset)

    leaving = threading.Thread(target=ingest.leave, args=(0,))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", late)
        ingest.write(CONTENT)
    leaving.join()
    assert other.read_bytes() == b""
    for touch in (lambda: ingest.cut(0), lambda: ingest.read_into(memoryview(bytearray(9)), 0)):
        with pytest.raises(OSError, match="let go"):
            touch()
    os.close(*others)


def test_a_rest_that_was_cut_meanwhile_has_no_hole(folder: StoreFolder) -> None:
    """Zeros would be taken for content that was written right."""
    ingest = mine(folder)
    ingest.write(CONTENT)
    length = ingest.length
    ingest.cut(2)
    ingest.leave(length)
    assert mine(folder).length == 2


def test_large_content_is_known_as_verified_from_then_on_and_small_content_is_not(
    folder: StoreFolder,
) -> None:
    for content in (CONTENT, LARGE):
        digest = digest_of(content)
        ingest = claim(folder, digest, is_patient=True)
        assert isinstance(ingest, Ingest)
        ingest.write(content)
        with ingest.commit().open("r+b") as file:
            assert Records(folder).vouch_for(digest, file.fileno()) == (content == LARGE)
            file.write(b"x")
            file.flush()
            assert not Records(folder).vouch_for(digest, file.fileno())


def test_who_kept_an_unfinished_file_open_alters_nothing_unseen(folder: StoreFolder) -> None:
    digest = digest_of(LARGE)
    for _ in range(20):
        ingest = claim(folder, digest, is_patient=False)
        assert isinstance(ingest, Ingest)
        (path,) = folder.ingests.iterdir()
        with path.open("r+b", buffering=0) as kept:
            ingest.write(LARGE)
            ingest.commit()
            before = os.fstat(kept.fileno())
            kept.write(b"x")
            os.utime(kept.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))
            assert not Records(folder).vouch_for(digest, kept.fileno())


def test_others_may_write_large_content_while_it_grows_and_not_behind(folder: StoreFolder) -> None:
    digest = digest_of(LARGE)
    before = os.umask(0o002)
    try:
        ingest = claim(folder, digest, is_patient=True)
    finally:
        os.umask(before)
    assert isinstance(ingest, Ingest)
    assert folder.shared_ingest(digest).stat().st_mode & 0o777 == 0o664
    ingest.write(LARGE)
    with ingest.commit().open("rb") as file:
        assert os.fstat(file.fileno()).st_mode & 0o777 == 0o644
        assert Records(folder).vouch_for(digest, file.fileno())


def test_what_cannot_be_recorded_is_kept_all_the_same(
    folder: StoreFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, mode: int) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    ingest = claim(folder, digest_of(LARGE), is_patient=True)
    assert isinstance(ingest, Ingest)
    ingest.write(LARGE)
    folder.shared_ingest(digest_of(LARGE)).chmod(0o666)
    (folder.path / RECORDS_FOLDER).touch()
    monkeypatch.setattr(os, "fchmod", refuse)
    with ingest.commit().open("rb") as file:
        assert file.read() == LARGE
        assert not Records(folder).vouch_for(digest_of(LARGE), file.fileno())
