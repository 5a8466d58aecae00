"""What a link in a store leads to is not the store's."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from multi_fetch.store.beneath import (
    folder_beneath,
    make_beneath,
    read_at_most,
    regular_file,
    remove_beneath,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_a_folder_is_opened_by_its_own_name_alone(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with folder_beneath(tmp_path, "a", "b") as folder:
        assert os.listdir(folder) == ["file"]  # noqa: PTH208 - of what is open
    with folder_beneath(tmp_path / "link", "b") as folder:
        assert regular_file(folder, "file") is not None
    for names in (("link",), ("link", "b"), ("a", "b", "file")):
        with pytest.raises(NotADirectoryError), folder_beneath(tmp_path, *names):
            pass


def test_what_is_missing_of_folders_is_made_but_not_behind_a_link(tmp_path: Path) -> None:
    for _ in range(2):
        make_beneath(tmp_path, "a", "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(NotADirectoryError, match="link in it is a symbolic link or a file"):
        make_beneath(tmp_path, "link", "c")
    assert not (tmp_path / "a" / "c").exists()


def test_only_regular_files_are_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1234")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    with folder_beneath(tmp_path) as folder:
        status = regular_file(folder, "file")
        assert status is not None
        assert status.st_size == 4
        assert [regular_file(folder, name) for name in ("link", "fifo", "none")] == [None] * 3


def test_what_a_linked_folder_has_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(NotADirectoryError):
        remove_beneath(tmp_path, "link", "file")
    remove_beneath(tmp_path, "a", "file")
    remove_beneath(tmp_path, "a", "file")
    assert list((tmp_path / "a").iterdir()) == []


def test_what_has_taken_a_files_place_is_not_removed_for_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with path.open("rb") as old:
        status = os.fstat(old.fileno())
        inode = (status.st_dev, status.st_ino)
        (tmp_path / "new").write_bytes(b"new")
        (tmp_path / "new").rename(path)
        remove_beneath(tmp_path, "file", inode=inode)
        assert path.read_bytes() == b"new"
        path.unlink()
        remove_beneath(tmp_path, "file", inode=inode)
    (tmp_path / "kept").write_bytes(b"old")
    (tmp_path / "link").symlink_to("kept")
    status = (tmp_path / "link").stat()
    remove_beneath(tmp_path, "link", inode=(status.st_dev, status.st_ino))
    assert [each.name for each in tmp_path.iterdir()] == ["kept"]


def test_what_takes_a_files_place_behind_the_look_at_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, new, look = tmp_path / "file", tmp_path / "new", os.stat
    path.write_bytes(b"old")
    new.write_bytes(b"new")

    def look_too_early(name: str, *, dir_fd: int) -> os.stat_result:
        found = look(name, dir_fd=dir_fd)
        with suppress(FileNotFoundError):  # of the second look
            new.rename(path)
        return found

    with path.open("rb") as old:
        status = os.fstat(old.fileno())
        with monkeypatch.context() as patch:
            patch.setattr("multi_fetch.store.beneath.os.stat", look_too_early)
            remove_beneath(tmp_path, "file", inode=(status.st_dev, status.st_ino))
    assert path.read_bytes() == b"new"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_file_is_read_as_far_as_it_is_wanted_and_a_fifo_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    os.mkfifo(tmp_path / "fifo")
    assert [read_at_most(tmp_path / "file", limit) for limit in (3, 5)] == [b"1234", b"12345"]
    with pytest.raises(OSError, match="no regular file"):
        read_at_most(tmp_path / "fifo", 5)
