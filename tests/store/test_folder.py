"""The folder of a store: how it comes to be, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from multi_fetch.errors import InvalidRequestError
from multi_fetch.oci.digest import digest_of
from multi_fetch.store.folder import EMPTY_INDEX, RECORDS_FOLDER, StoreFolder, machine
from multi_fetch.testing.layout import read_layout

if TYPE_CHECKING:
    from pathlib import Path


def test_a_new_store_is_a_layout_and_a_second_preparation_changes_nothing(tmp_path: Path) -> None:
    folder = StoreFolder(str(tmp_path / "deep" / "store"))
    folder.prepare()
    assert read_layout(folder.path).tags == {}
    folder.index.write_text('{"schemaVersion":2,"manifests":[],"somebody":"else"}')
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}
    folder.prepare()
    assert json.loads(folder.index.read_text())["somebody"] == "else"
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")} == before
    assert list(folder.ingests.iterdir()) == []


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
def test_what_a_tool_that_was_killed_left_empty_is_written(tmp_path: Path, name: str) -> None:
    folder = StoreFolder(str(tmp_path))
    (tmp_path / name).write_bytes(b"")
    folder.prepare()
    assert read_layout(tmp_path).tags == {}
    assert folder.index.read_bytes() == EMPTY_INDEX


def test_a_file_is_the_old_or_the_new_one_and_never_a_part(tmp_path: Path) -> None:
    folder = StoreFolder(str(tmp_path))
    folder.prepare()
    with folder.index.open("rb") as old:
        folder.replace(folder.index, [b"n", b"ew"])
        assert old.read() == EMPTY_INDEX
    assert folder.index.read_bytes() == b"new"


def test_names_of_unfinished_files_tell_the_machine_and_private_ones_are_unique(
    tmp_path: Path,
) -> None:
    folder, digest = StoreFolder(str(tmp_path)), digest_of(b"")
    shared = folder.shared_ingest(digest)
    assert shared == StoreFolder(str(tmp_path)).shared_ingest(digest)
    assert shared.name == f"sha256-{digest.encoded}.{machine()}"
    private = {folder.private_ingest(digest).name for _ in range(100)}
    assert len(private) == 100
    assert all(name.startswith(f"{shared.name}.") for name in private)


def test_what_is_no_store_is_refused_before_anything_is_written_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequestError, match="other files"):
        StoreFolder(str(tmp_path)).check(may_be_new=True)
    with pytest.raises(InvalidRequestError, match="is a file"):
        StoreFolder(str(tmp_path / "notes.txt")).check(may_be_new=True)
    for name in ("empty", "new"):
        StoreFolder(str(tmp_path / name)).check(may_be_new=True)
    with pytest.raises(InvalidRequestError, match="not there"):
        StoreFolder(str(tmp_path / "new")).check(may_be_new=False)


def test_layouts_of_others_and_half_made_stores_are_stores(tmp_path: Path) -> None:
    for name in ("oci-layout", "blobs", "ingest"):
        (tmp_path / name / name).mkdir(parents=True)
        StoreFolder(str(tmp_path / name)).check(may_be_new=False)


def test_nothing_is_written_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "ingest").symlink_to(tmp_path / "outside")
    folder = StoreFolder(str(tmp_path / "store"))
    with pytest.raises(NotADirectoryError):
        folder.prepare()
    with pytest.raises(NotADirectoryError):
        folder.replace(folder.index, [b"n", b"ew"])
    assert list((tmp_path / "outside").iterdir()) == []


def test_what_is_known_of_content_goes_with_it_or_alone(tmp_path: Path) -> None:
    folder, digest = StoreFolder(str(tmp_path)), digest_of(b"")
    record = tmp_path / RECORDS_FOLDER / "sha256" / digest.encoded
    for path in (folder.blob(digest), record):
        path.parent.mkdir(parents=True)
        path.touch()
    folder.forget(digest)
    assert (folder.blob(digest).exists(), record.exists()) == (True, False)
    folder.forget(digest)
    record.touch()
    folder.remove(digest)
    assert (folder.blob(digest).exists(), record.exists()) == (False, False)
