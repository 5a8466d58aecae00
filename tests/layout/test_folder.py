"""A folder, and all the ways that lead out of one."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from pathlib import Path

import pytest

from multi_fetch.errors import (
    DeniedError,
    MultiFetchError,
    NotFoundError,
    RegistryError,
    UnavailableError,
)
from multi_fetch.layout.folder import Folder

NAME = "blobs/sha256/abc"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "layout"
    (root / "blobs/sha256").mkdir(parents=True)
    (root / NAME).write_bytes(b"inside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "abc").write_bytes(b"outside")
    return root


def read(root: Path, name: str = NAME) -> bytes:
    with closing(Folder("oci:layout", str(root)).open(name)) as part:
        return part.read(part.size)


def open_files() -> set[str]:
    return {path.name for path in Path("/dev/fd").iterdir()}


def test_a_file_is_read_by_its_name(root: Path) -> None:
    assert read(root) == b"inside"


def test_nothing_stays_open(root: Path) -> None:
    before = open_files()
    read(root)
    for name in ("blobs/sha256/none", "blobs/none/abc", "blobs", "blobs/sha256/abc/more"):
        with pytest.raises(MultiFetchError):
            read(root, name)
    assert open_files() == before


@pytest.mark.parametrize("name", ["none", "blobs/sha512/abc", "blobs/sha256/abc/x", "x" * 300])
def test_what_is_not_there_is_not_found(root: Path, name: str) -> None:
    with pytest.raises(NotFoundError, match="in oci:layout"):
        read(root, name)


def test_a_folder_that_is_not_there_is_unavailable(root: Path) -> None:
    with pytest.raises(UnavailableError, match="there is no such folder"):
        read(root / "none")
    with pytest.raises(UnavailableError, match="oci-archive:"):
        read(root / NAME)


def test_a_folder_may_come_later_and_be_replaced(root: Path) -> None:
    folder = Folder("oci:layout", str(root))
    root.rename(root.with_name("other"))
    with pytest.raises(UnavailableError):
        folder.open(NAME)
    root.with_name("other").rename(root)
    folder.open(NAME).close()


def test_a_relative_folder_stays_where_it_was(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    folder = Folder("oci:layout", "outside/../layout")
    monkeypatch.chdir("/")
    folder.open(NAME).close()


def test_the_folder_itself_may_be_a_link(root: Path) -> None:
    (root.parent / "link").symlink_to(root)
    assert read(root.parent / "link") == b"inside"


@pytest.mark.parametrize("target", ["abc", "./abc", "../sha256/abc", "{root}/blobs/sha256/abc"])
def test_a_link_within_the_folder_is_followed(root: Path, target: str) -> None:
    (root / "blobs/sha256/link").symlink_to(target.format(root=root))
    assert read(root, "blobs/sha256/link") == b"inside"


def test_a_linked_folder_within_is_followed(root: Path) -> None:
    (root / "blobs").rename(root / "store")
    (root / "blobs").symlink_to("store")
    (root / "store/sha512").symlink_to("sha256")
    assert read(root) == b"inside"
    assert read(root, "blobs/sha512/abc") == b"inside"


@pytest.mark.parametrize(
    "target", ["../../../outside/abc", "{root}/../outside/abc", "/etc/passwd", "/nowhere/at/all"]
)
def test_a_link_that_leads_out_is_denied(root: Path, target: str) -> None:
    (root / "blobs/sha256/link").symlink_to(target.format(root=root))
    with pytest.raises(DeniedError, match="lies outside"):
        read(root, "blobs/sha256/link")


@pytest.mark.parametrize("linked", ["blobs", "blobs/sha256"])
def test_a_linked_folder_that_leads_out_is_denied(root: Path, linked: str) -> None:
    (root / linked).rename(root / "away")
    outside = root.parent / "outside"
    (outside / "sha256").mkdir()
    (outside / "sha256/abc").write_bytes(b"outside")
    (root / linked).symlink_to(outside)
    with pytest.raises(DeniedError, match="lies outside"):
        read(root)


def test_a_neighbour_with_the_folders_name_in_front_is_outside(root: Path) -> None:
    root.with_name("layout-2").mkdir()
    (root.with_name("layout-2") / "abc").write_bytes(b"outside")
    (root / "blobs/sha256/link").symlink_to("../../../layout-2/abc")
    with pytest.raises(DeniedError):
        read(root, "blobs/sha256/link")


def test_links_in_a_circle_are_denied_and_a_broken_one_is_not_found(root: Path) -> None:
    (root / "blobs/sha256/a").symlink_to("b")
    (root / "blobs/sha256/b").symlink_to("a")
    (root / "blobs/sha256/c").symlink_to("none")
    with pytest.raises(DeniedError):
        read(root, "blobs/sha256/a")
    with pytest.raises(NotFoundError):
        read(root, "blobs/sha256/c")


def test_what_is_no_file_is_refused_without_waiting(root: Path) -> None:
    """A FIFO without a writer, a folder, a socket, and a link to a device outside."""
    os.mkfifo(root / "fifo")
    (root / "device").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(root / "socket"))
        for name in ("fifo", "blobs", "socket"):
            with pytest.raises(RegistryError, match="no regular file"):
                read(root, name)
    with pytest.raises(DeniedError):
        read(root, "device")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_denied(root: Path) -> None:
    (root / NAME).chmod(0)
    with pytest.raises(DeniedError, match="may not be read"):
        read(root)
