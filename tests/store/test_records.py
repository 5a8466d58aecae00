"""Which files need not be read again, and which always are."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import stat
import time
from typing import TYPE_CHECKING, Final

import pytest

from multi_fetch.durations import CLOCK_STEP_SECONDS
from multi_fetch.oci.digest import Digest, digest_of
from multi_fetch.store.folder import RECORDS_FOLDER, StoreFolder
from multi_fetch.store.records import MAX_LOOKS, STAMP_SECONDS, Records, told_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CONTENT: Final = b"some content that was verified"
DIGEST: Final = digest_of(CONTENT)


class Place:
    """A store with one file, open for writing, as whoever fetched it may have it."""

    def __init__(self, folder: StoreFolder) -> None:
        self.folder = folder
        self.records = Records(folder)
        self.path = folder.blob(DIGEST)
        self.path.parent.mkdir()
        self.path.write_bytes(CONTENT)
        self.path.chmod(0o644)
        self.record = folder.path / RECORDS_FOLDER / "sha256" / DIGEST.encoded
        self.fd = os.open(self.path, os.O_RDWR)

    def vouch(self) -> bool:
        """As for whoever opens it now."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            return self.records.vouch_for(DIGEST, fd)
        finally:
            os.close(fd)

    def verify(self) -> bool:
        return self.records.verify(DIGEST, self.fd, lambda: self.path.read_bytes() == CONTENT)

    def drafts(self) -> list[Path]:
        return [path for path in self.record.parent.glob("*") if path != self.record]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    folder = StoreFolder(str(tmp_path / "store"))
    folder.prepare()
    made = Place(folder)
    yield made
    os.close(made.fd)


def note(place: Place) -> None:
    place.records.note(DIGEST, place.fd)


def verify(place: Place) -> None:
    assert place.verify()


def set_times_back(place: Place, before: os.stat_result) -> None:
    """As tools do that copy a file with its times."""
    os.utime(place.path, ns=(before.st_atime_ns, before.st_mtime_ns))


def write_in_place(place: Place, before: os.stat_result) -> None:
    os.pwrite(place.fd, b"S", 0)
    set_times_back(place, before)


def copy_over(place: Place, before: os.stat_result) -> None:
    other = place.folder.path / "other"
    other.write_bytes(CONTENT.upper())
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    shutil.copy2(other, place.path)


def replace(place: Place, before: os.stat_result) -> None:
    other = place.folder.path / "other"
    other.write_bytes(CONTENT.upper())
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(place.path)


def cut_and_mend(place: Place, before: os.stat_result) -> None:
    os.ftruncate(place.fd, 3)
    os.pwrite(place.fd, CONTENT[3:].upper(), 3)
    set_times_back(place, before)


def link(place: Place, before: os.stat_result) -> None:
    assert before.st_nlink == 1
    (place.folder.path / "second").hardlink_to(place.path)


def let_others_write(place: Place, before: os.stat_result) -> None:
    assert not before.st_mode & stat.S_IWOTH
    place.path.chmod(0o646)


@pytest.mark.parametrize("record", [note, verify])
def test_what_was_verified_is_vouched_for_and_nothing_else_is(
    place: Place, record: Callable[[Place], None]
) -> None:
    assert not place.vouch()
    record(place)
    assert place.vouch()
    assert not place.drafts()
    assert place.record.read_bytes() == told_of(DIGEST, os.fstat(place.fd))


@pytest.mark.parametrize("record", [note, verify])
@pytest.mark.parametrize(
    "alter", [write_in_place, copy_over, replace, cut_and_mend, link, let_others_write]
)
def test_whatever_was_done_to_a_file_since_it_is_read_again(
    place: Place,
    record: Callable[[Place], None],
    alter: Callable[[Place, os.stat_result], None],
) -> None:
    """Whoever does it at once, has it open from before, or sets its times back."""
    for _ in range(20):
        place.path.chmod(0o644)
        os.pwrite(place.fd, CONTENT, 0)
        record(place)
        alter(place, os.fstat(place.fd))
        assert not place.vouch()
        os.close(place.fd)
        (place.folder.path / "second").unlink(missing_ok=True)
        place.path.write_bytes(CONTENT)
        place.fd = os.open(place.path, os.O_RDWR)


def coarsen(monkeypatch: pytest.MonkeyPatch, step_ns: int) -> None:
    """Lets the clock of files go in steps, as that of most kernels does."""
    real = os.fstat

    def fstat(fd: int) -> os.stat_result:
        found = real(fd)
        times = {
            f"st_{which}_ns": getattr(found, f"st_{which}_ns") // step_ns * step_ns
            for which in ("atime", "mtime", "ctime")
        }
        return os.stat_result(tuple(found), times)

    monkeypatch.setattr(os, "fstat", fstat)


@pytest.mark.parametrize("record", [note, verify])
def test_a_clock_that_goes_in_steps_hides_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, record: Callable[[Place], None]
) -> None:
    coarsen(monkeypatch, 10_000_000)
    for _ in range(20):
        place.path.write_bytes(CONTENT)
        record(place)
        assert place.vouch()
        write_in_place(place, os.fstat(place.fd))
        assert not place.vouch()


@pytest.mark.parametrize("record", [note, verify])
def test_what_a_coarse_clock_would_hide_is_not_recorded(
    place: Place, monkeypatch: pytest.MonkeyPatch, record: Callable[[Place], None]
) -> None:
    coarsen(monkeypatch, 3600 * 10**9)
    began = time.monotonic()
    record(place)
    assert time.monotonic() - began < 100 * CLOCK_STEP_SECONDS
    assert not place.vouch()
    assert not place.record.exists()


def test_what_is_written_by_way_of_mapped_memory_is_seen_too(place: Place) -> None:
    """That memory was written before, so the system would not look at the clock for it."""
    with mmap.mmap(place.fd, len(CONTENT)) as memory:
        memory[:] = CONTENT
        os.fsync(place.fd)
        before = told_of(DIGEST, os.fstat(place.fd))
        memory[:] = CONTENT
        if told_of(DIGEST, os.fstat(place.fd)) == before:
            pytest.skip("on this file system mapped memory changes times but once, as on tmpfs")
        assert place.verify()
        assert place.vouch()
        memory[:] = CONTENT.upper()
        assert not place.vouch()


def test_what_is_wrong_is_said_to_be_and_not_recorded(place: Place) -> None:
    place.path.write_bytes(CONTENT.upper())
    assert not place.verify()
    assert not place.record.exists()
    assert not place.drafts()


def test_a_file_that_changes_while_it_is_judged_is_judged_again_and_not_for_ever(
    place: Place,
) -> None:
    looks = 0

    def judge(times: int) -> bool:
        nonlocal looks
        looks += 1
        if looks <= times:
            os.utime(place.path)
        return True

    assert place.records.verify(DIGEST, place.fd, lambda: judge(1))
    assert looks == 2
    assert place.vouch()
    looks = 0
    assert not place.records.verify(DIGEST, place.fd, lambda: judge(1000))
    assert looks == MAX_LOOKS
    assert not place.vouch()


@pytest.mark.parametrize("length", range(0, 170, 7))
def test_a_torn_record_is_none(place: Place, length: int) -> None:
    place.verify()
    whole = place.record.read_bytes()
    assert len(whole) > 170
    place.record.write_bytes(whole[:length])
    assert not place.vouch()
    place.record.write_bytes(whole + b" ")
    assert not place.vouch()
    place.record.write_bytes(b"\xff" * len(whole))
    assert not place.vouch()


def test_what_takes_a_records_place_is_none_and_holds_nobody_up(place: Place) -> None:
    place.verify()
    whole = place.record.read_bytes()
    elsewhere = place.folder.path / "record"
    elsewhere.write_bytes(whole)
    place.record.unlink()
    place.record.symlink_to(elsewhere)
    assert not place.vouch()
    place.record.unlink()
    os.mkfifo(place.record)
    assert not place.vouch()
    place.record.unlink()
    place.record.mkdir()
    assert not place.vouch()


def test_a_record_counts_for_its_own_digest_alone(place: Place) -> None:
    place.verify()
    other = Digest(f"sha256:{'0' * 64}")
    place.record.rename(place.record.with_name(other.encoded))
    assert not place.records.vouch_for(other, place.fd)


@pytest.mark.parametrize("mode", [0o664, 0o646])
@pytest.mark.parametrize("is_record", [False, True])
def test_what_others_may_write_is_read_each_time(place: Place, is_record: bool, mode: int) -> None:
    if is_record:
        place.verify()
        place.record.chmod(mode)
    else:
        place.path.chmod(mode)
        assert place.verify()
        assert not place.record.exists()
    assert not place.vouch()


@pytest.mark.parametrize("is_record", [False, True])
def test_what_belongs_to_others_is_read_each_time_and_what_is_roots_is_not(
    place: Place, monkeypatch: pytest.MonkeyPatch, is_record: bool
) -> None:
    place.verify()
    if os.geteuid() == 0:
        os.chown(place.record if is_record else place.path, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert not place.vouch()
    assert place.verify()
    assert place.vouch() == (is_record and os.geteuid() == 0)
    if os.geteuid() == 0:
        os.chown(place.path, 0, -1)
        assert place.verify()
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert place.vouch()


@pytest.mark.parametrize("name", ["mkdir", "open", "write", "rename", "fsync"])
def test_trouble_with_a_record_is_none_of_the_files(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    real_open = os.open

    def refuse(*arguments: object, **named: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse_new(path: str, flags: int, *rest: int, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT:
            refuse()
        return real_open(path, flags, *rest, dir_fd=dir_fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, refuse_new if name == "open" else refuse)
        assert place.verify()
        if name != "fsync":
            note(place)
    assert not place.record.exists()
    assert not place.drafts()


@pytest.mark.parametrize("name", [RECORDS_FOLDER, f"{RECORDS_FOLDER}/sha256"])
def test_no_record_is_written_read_or_removed_where_a_link_leads_out(
    place: Place, tmp_path: Path, name: str
) -> None:
    place.verify()
    home = tmp_path / "home"
    inner = place.folder.path / name
    inner.rename(home)
    inner.symlink_to(home, target_is_directory=True)
    before = sorted(home.rglob("*"))
    assert not place.vouch()
    assert place.verify()
    place.path.unlink()
    place.records.tidy()
    place.folder.forget(DIGEST)
    assert not place.records.stamp(DIGEST)
    assert used(place.records) == 0.0
    assert sorted(home.rglob("*")) == before


def used(records: Records) -> float:
    with records.uses("sha256") as used_at:
        return used_at(DIGEST.encoded)


def test_a_use_is_noted_in_the_record_and_leaves_the_file_alone(place: Place) -> None:
    assert not place.records.stamp(DIGEST)
    place.verify()
    before, now = told_of(DIGEST, os.fstat(place.fd)), time.time()
    for age, is_stamped in ((STAMP_SECONDS + 60, True), (STAMP_SECONDS - 60, False)):
        os.utime(place.record, (now - age, now - age))
        assert place.records.stamp(DIGEST)
        assert (used(place.records) > now - 10) == is_stamped
    assert told_of(DIGEST, os.fstat(place.fd)) == before
    assert place.vouch()


def test_records_of_what_is_gone_go_and_the_others_stay(place: Place) -> None:
    place.verify()
    for name in ("sha256/.draft", f"sha512/{'0' * 128}"):
        path = place.folder.path / RECORDS_FOLDER / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    place.records.tidy()
    left = [path for path in (place.folder.path / RECORDS_FOLDER).rglob("*") if path.is_file()]
    assert left == [place.record]
    place.path.unlink()
    place.records.tidy()
    assert not place.record.exists()


def test_a_folder_in_the_place_of_a_record_keeps_nothing_from_going(place: Place) -> None:
    records = place.folder.path / RECORDS_FOLDER / DIGEST.algorithm
    for name in (DIGEST.encoded, "other"):
        (records / name / "more").mkdir(parents=True)
    place.folder.remove(DIGEST)
    assert not place.path.exists()
    place.records.tidy()
    assert len(list(records.iterdir())) == 2


def test_a_store_without_records_has_nothing_to_tidy(tmp_path: Path) -> None:
    folder = StoreFolder(str(tmp_path))
    folder.prepare()
    records = Records(folder)
    records.tidy()
    folder.forget(DIGEST)
    assert used(records) == 0.0
    assert not (tmp_path / RECORDS_FOLDER).exists()
