"""An archive that is read in place."""

from __future__ import annotations

import io
import os
import tarfile
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from multi_fetch.errors import (
    DeniedError,
    NotFoundError,
    RegistryError,
    UnavailableError,
    UnsupportedError,
)
from multi_fetch.layout.archive import Archive

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"index.json": b"{}", "blobs/sha256/abc": b"inside"}
LINKS = {
    "near": "blobs/sha256/abc",
    "blobs/far": "../near",
    "out": "../outside",
    "absolute": "/etc/passwd",
    "circle": "./circle",
    "broken": "none",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "layout.tar"
    write(path, FILES)
    return path


def write(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for name, target in LINKS.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
        fifo = tarfile.TarInfo("fifo")
        fifo.type = tarfile.FIFOTYPE
        tar.addfile(fifo)


def read(archive: Archive, name: str) -> bytes:
    with closing(archive.open(name)) as part:
        return part.read(part.size)


def test_members_are_read_by_their_names_and_through_links_within(path: Path) -> None:
    archive = Archive("oci-archive:layout.tar", str(path))
    for name in ("blobs/sha256/abc", "near", "blobs/far"):
        assert read(archive, name) == b"inside"


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("none", NotFoundError, "there is no none in oci-archive:layout.tar"),
        ("blobs", NotFoundError, "there is no"),
        ("broken", NotFoundError, "there is no"),
        ("out", DeniedError, "lies outside"),
        ("absolute", DeniedError, "lies outside"),
        ("circle", DeniedError, "in a circle"),
        ("fifo", RegistryError, "no regular file"),
    ],
)
def test_what_cannot_be_had_says_why(
    path: Path, name: str, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        Archive("oci-archive:layout.tar", str(path)).open(name)


def test_a_sparse_member_is_not_supported(path: Path) -> None:
    entry = tarfile.TarInfo("sparse")
    entry.type = tarfile.GNUTYPE_SPARSE
    path.write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(UnsupportedError, match="without -S"):
        Archive("a", str(path)).open("sparse")


def test_an_archive_that_is_not_there_or_is_a_folder_is_unavailable(path: Path) -> None:
    with pytest.raises(UnavailableError, match="there is no such file"):
        Archive("oci-archive:x", str(path.with_name("none"))).open("index.json")
    with pytest.raises(UnavailableError, match="is a folder: write oci:"):
        Archive("oci-archive:x", str(path.parent)).open("index.json")


def test_a_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(RegistryError, match="no regular file"):
        Archive("oci-archive:fifo", str(tmp_path / "fifo")).open("index.json")


def test_its_headers_are_read_once_and_again_when_it_is_another(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive("a", str(path))
    assert read(archive, "index.json") == b"{}"
    held = archive.open("blobs/sha256/abc")
    members = archive._members
    assert read(archive, "blobs/sha256/abc") == b"inside"
    assert archive._members is members
    write(path.with_name("new"), {"more": b"of it", "blobs/sha256/abc": b"changed"})
    path.with_name("new").replace(path)
    assert read(archive, "more") == b"of it"
    assert read(archive, "blobs/sha256/abc") == b"changed"
    with closing(held):
        assert held.read(held.size) == b"inside"


def test_a_refused_archive_is_not_looked_through_again_until_it_is_another(path: Path) -> None:
    good, archive = path.read_bytes(), Archive("a", str(path))
    path.write_bytes(b"x" * len(good))
    before = path.stat()
    with pytest.raises(RegistryError, match="no tar archive"):
        archive.open("index.json")
    path.write_bytes(good)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(RegistryError, match="no tar archive"):
        archive.open("index.json")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert read(archive, "index.json") == b"{}"


def test_a_member_that_was_cut_has_its_full_size_and_what_is_left(path: Path) -> None:
    write(path, {"last": b"x" * 10_000})
    os.truncate(path, 2 * 512 + 100)
    with closing(Archive("a", str(path)).open("last")) as part:
        assert part.size == 10_000
        assert part.read(part.size) == b"x" * (2 * 512 + 100 - 512)
