"""One unfinished file: whose it is, and what of it others ever see."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING

import pytest

from multi_fetch.oci.digest import digest_of
from multi_fetch.store.folder import StoreFolder
from multi_fetch.store.ingest import Busy, Ingest, claim

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
