"""Where unpacked objects go, and that no name leads out of the folder."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from multi_fetch.cli.unpack_session import Unpacker
from multi_fetch.cli.unpack_sinks import Folder, Listing, NameBy, path_of, write_all
from multi_fetch.oci.digest import digest_of
from multi_fetch.protocol.frames import Data, End
from tests.cli.unpack_streams import HELLO, NOT_FOUND, begin, frames_of, session, whole

if TYPE_CHECKING:
    from pathlib import Path

    from multi_fetch.protocol.frames import Begin

BLOB = digest_of(b"abcd")


def fill(folder: Path, stream: bytes, by: NameBy = "digest") -> list[str]:
    """Unpacks a stream, which may be cut; returns what was complained of."""
    said: list[str] = []
    with closing(Folder(str(folder), by)) as sink:
        unpacker = Unpacker(sink, said.append)
        for frame in frames_of(stream):
            unpacker.take(frame)
        unpacker.cut()
    return said


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize(
    ("by", "path"),
    [("digest", f"blobs/sha256/{BLOB.encoded}"), ("id", "ids/7"), ("tag", "tags/v1.2-x")],
)
@pytest.mark.parametrize("name", ["v1.2-x", f"v1.2-x@{BLOB}"])
def test_a_file_is_named_as_was_asked(tmp_path: Path, by: NameBy, path: str, name: str) -> None:
    assert fill(tmp_path, session(*whole(7, b"abcd", name)), by) == []
    assert files(tmp_path) == {path: b"abcd"}


@pytest.mark.parametrize(
    "name",
    [
        "../../up",
        "/etc/passwd",
        "a/b",
        "..",
        ".",
        ".hidden",
        "",
        "v1\n",
        "v1\x00",
        "ä",
        "-x",
        "t" * 129,
    ],
)
def test_what_is_no_tag_is_named_by_its_digest(name: str) -> None:
    assert path_of(begin(1, b"abcd", name), BLOB, "tag") == ["blobs", "sha256", BLOB.encoded]


@pytest.mark.parametrize("opened", [begin(-3, b"abcd"), begin(-3, b"abcd", "latest", parent=1)])
@pytest.mark.parametrize("by", ["digest", "id", "tag"])
def test_what_is_not_verified_is_named_by_its_id(opened: Begin, by: NameBy) -> None:
    assert path_of(opened, None, by) == ["ids", "-3"]


def test_no_content_is_no_file_and_empty_content_is_an_empty_one(tmp_path: Path) -> None:
    empty = digest_of(b"").encoded
    stream = session(begin(1, b"abcd"), End(1, 0, None, 0), *whole(2, b""))
    assert fill(tmp_path, stream) == []
    assert files(tmp_path) == {f"blobs/sha256/{empty}": b""}


def test_a_stream_that_is_cut_anywhere_leaves_whole_files_alone(tmp_path: Path) -> None:
    stream = session(
        begin(1, b"abcd"),
        Data(1, 0, b"ab"),
        *whole(2, b"xy"),
        Data(1, 2, b"cd"),
        End(1, 4, BLOB, 0),
        NOT_FOUND,
    )
    whole_files = {"ids/1": b"abcd", "ids/2": b"xy"}
    counts = []
    for cut in range(len(stream) + 1):
        folder = tmp_path / str(cut)
        fill(folder, stream[:cut], "id")
        found = files(folder)
        assert found.items() <= whole_files.items()
        counts.append(len(found))
    assert counts == sorted(counts)
    assert set(counts) == {0, 1, 2}


def test_while_content_comes_it_stands_under_a_temporary_name(tmp_path: Path) -> None:
    with closing(Folder(str(tmp_path), "digest")) as folder:
        said: list[str] = []
        unpacker = Unpacker(folder, said.append)
        for frame in (HELLO, begin(1, b"abcd"), Data(1, 0, b"ab")):
            unpacker.take(frame)
        (part,) = tmp_path.iterdir()
        assert part.name.startswith(".")
        assert part.suffix == ".part"
        assert part.read_bytes() == b"ab"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_replaced_also_by_what_has_the_same_digest(tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / "sha256" / BLOB.encoded
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"damaged")
    assert fill(tmp_path, session(*whole(1, b"abcd"), *whole(2, b"abcd"))) == []
    assert files(tmp_path) == {f"blobs/sha256/{BLOB.encoded}": b"abcd"}


def test_a_link_in_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    tags = tmp_path / "into" / "tags"
    tags.mkdir(parents=True)
    (tags / "latest").symlink_to(outside)
    assert fill(tmp_path / "into", session(*whole(1, b"abcd", "latest")), "tag") == []
    assert outside.read_bytes() == b"precious"
    assert not (tags / "latest").is_symlink()
    assert (tags / "latest").read_bytes() == b"abcd"


@pytest.mark.parametrize("link", ["blobs", "blobs/sha256"])
def test_a_link_in_place_of_a_folder_is_refused(tmp_path: Path, link: str) -> None:
    outside, into = tmp_path / "outside", tmp_path / "into"
    outside.mkdir()
    (into / link).parent.mkdir(parents=True)
    (into / link).symlink_to(outside)
    (said,) = fill(into, session(*whole(1, b"abcd")))
    assert link.rpartition("/")[2] in said
    assert list(outside.iterdir()) == []
    assert [path.name for path in into.rglob("*.part")] == []


def test_a_folder_in_place_of_a_file_costs_that_object_alone(tmp_path: Path) -> None:
    (tmp_path / "ids" / "1").mkdir(parents=True)
    (said,) = fill(tmp_path, session(*whole(1, b"abcd"), *whole(2, b"xy")), "id")
    assert said == f"1 ({BLOB}): internal: 1: Is a directory; check where it leads"
    assert files(tmp_path) == {"ids/2": b"xy"}


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert fill(tmp_path / "link", session(*whole(1, b"x")), "id") == []
    assert files(tmp_path / "real") == {"ids/1": b"x"}


def test_lines_begin_with_the_keys_that_scripts_rely_on(capfd: pytest.CaptureFixture[str]) -> None:
    listing = Listing()
    said: list[str] = []
    unpacker = Unpacker(listing, said.append)
    above = whole(5, b"above", children=1)
    for frame in frames_of(session(*above, *whole(-1, b"abcd", "latest", parent=5), NOT_FOUND)):
        unpacker.take(frame)
    assert capfd.readouterr().out == ""
    listing.flush()
    _, good, bad = capfd.readouterr().out.splitlines()
    assert good.startswith(f'{{"id":-1,"digest":"{BLOB}","error":null,"size":4,')
    assert bad.startswith('{"id":9,"digest":null,"error":"not-found","size":0,')
    assert json.loads(good) == {
        "id": -1,
        "digest": str(BLOB),
        "error": None,
        "size": 4,
        "object": "latest",
        "name": "registry.example/app:x",
        "parent": 5,
        "children": 0,
        "descriptor": {"mediaType": "text/plain", "digest": str(BLOB), "size": 4},
        "message": None,
        "retryable": None,
        "detail": None,
    }
    assert json.loads(bad)["detail"] == {"status": 404}


def test_a_descriptor_that_is_non_blocking_is_written_to_all_the_same() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    content = os.urandom(300_000)
    with os.fdopen(reading, "rb") as stream, ThreadPoolExecutor(1) as pool:
        taken = pool.submit(stream.read)
        write_all(writing, content)
        os.close(writing)
        assert taken.result() == content
