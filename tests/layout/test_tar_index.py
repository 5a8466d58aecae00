"""Archives' headers: what tar, Python and hostile hands write."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.errors import RegistryError, TooLargeError, UnsupportedError
from multi_fetch.layout.tar_index import BLOCK_BYTES, Kind, Member, index_archive, normal
from multi_fetch.limits import MAX_ARCHIVE_FILES, MAX_TAR_EXTENSION_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONG = "deep/" * 60 + "x" * 200
FILES = {"oci-layout": b"{}", "blobs/sha256/abc": b"content" * 100, "empty": b"", LONG: b"long"}


def archive(
    files: dict[str, bytes] | None = None,
    tar_format: int = tarfile.PAX_FORMAT,
    change: Callable[[tarfile.TarInfo], None] | None = None,
) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tar_format) as tar:
        for name, content in (FILES if files is None else files).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            if change is not None:
                change(entry)
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def index(content: bytes) -> dict[str, Member]:
    return index_archive(lambda count, offset: content[offset : offset + count], size=len(content))


def contents(content: bytes) -> dict[str, bytes]:
    found = index(content)
    assert {member.kind for member in found.values()} <= {Kind.FILE}
    return {name: content[each.first : each.first + each.size] for name, each in found.items()}


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_each_file_is_found_where_it_lies(tar_format: int) -> None:
    """Also by a name that is too long for a header."""
    assert contents(archive(tar_format=tar_format)) == FILES


def test_a_ustar_name_is_made_of_its_two_parts() -> None:
    name = "blobs/" + "a" * 90 + "/" + "b" * 60
    assert contents(archive({name: b"x"}, tarfile.USTAR_FORMAT)) == {name: b"x"}


@pytest.mark.parametrize(
    "option", ["--format=gnu", "--format=pax", "--format=ustar", "--format=v7"]
)
def test_what_tar_packs_is_found(option: str, tmp_path: Path) -> None:
    if shutil.which("tar") is None:
        pytest.skip("there is no tar")
    (tmp_path / "blobs/sha256").mkdir(parents=True)
    (tmp_path / "index.json").write_bytes(b"{}")
    (tmp_path / "blobs/sha256/abc").write_bytes(b"abc" * 1000)
    (tmp_path / "blobs/sha256/def").hardlink_to(tmp_path / "blobs/sha256/abc")
    done = subprocess.run(
        ["tar", "-C", tmp_path, option, "-cf", "-", "."], capture_output=True, check=True
    )
    expected = {"index.json": b"{}", "blobs/sha256/abc": b"abc" * 1000}
    assert contents(done.stdout) == {**expected, "blobs/sha256/def": b"abc" * 1000}


def test_sizes_beyond_a_headers_digits_are_read() -> None:
    """By GNU's base 256, and by pax's extended header."""
    size = 1 << 40
    for tar_format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        entry = tarfile.TarInfo("huge")
        entry.size = size
        header = entry.tobuf(tar_format)
        assert index(header)["huge"] == Member(Kind.FILE, len(header), size)


def test_a_size_that_no_frame_can_say_is_refused() -> None:
    """image-spec, descriptor.md: a size is an int64; a base 256 of tar has 88 bits."""

    def header(size: int) -> bytes:
        entry = tarfile.TarInfo("huge")
        entry.size = size
        return entry.tobuf(tarfile.GNU_FORMAT)

    most = (1 << 63) - 1
    assert index(header(most))["huge"].size == most
    for size in (most + 1, 1 << 64, 1 << 87):
        with pytest.raises(RegistryError, match="no header at byte 0"):
            index(header(size))


def test_a_later_member_replaces_an_earlier_one() -> None:
    both = archive({"a": b"old"})[: 2 * BLOCK_BYTES] + archive({"./a": b"new"})
    assert contents(both) == {"a": b"new"}


def test_links_and_odd_members_are_told_apart() -> None:
    def change(entry: tarfile.TarInfo) -> None:
        entry.type = {"l": tarfile.SYMTYPE, "d": tarfile.DIRTYPE, "f": tarfile.FIFOTYPE}.get(
            entry.name, tarfile.REGTYPE
        )
        entry.linkname = "../x" if entry.name == "l" else ""

    found = index(archive(dict.fromkeys(["l", "d", "f", "r"], b""), change=change))
    assert {name: each.kind for name, each in found.items()} == {
        "l": Kind.LINK,
        "f": Kind.OTHER,
        "r": Kind.FILE,
    }
    assert found["l"].target == "../x"


def test_a_sparse_file_is_known_as_one(tmp_path: Path) -> None:
    if shutil.which("tar") is None:
        pytest.skip("there is no tar")
    with (tmp_path / "sparse").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"x")
    for option in ("gnu", "pax"):
        done = subprocess.run(
            ["tar", "-C", tmp_path, f"--format={option}", "-Scf", "-", "sparse"],
            capture_output=True,
            check=True,
        )
        kinds = {name: each.kind for name, each in index(done.stdout).items()}
        assert Kind.SPARSE in kinds.values(), kinds


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh9", "bzip2"),
    ],
)
def test_a_compressed_archive_is_refused_with_what_to_do(start: bytes, kind: str) -> None:
    for content in (start, start + bytes(1024)):
        with pytest.raises(UnsupportedError, match=rf"{kind}.*oci:<folder>"):
            index(content)


@pytest.mark.parametrize("content", [b"", b"x" * 511, b"x" * 512, bytes(1024), b"{}" * 512])
def test_what_is_no_archive_is_refused(content: bytes) -> None:
    with pytest.raises(RegistryError, match="no tar archive"):
        index(content)


def test_a_damaged_header_is_refused_with_its_place() -> None:
    content = bytearray(archive({"a": b"a", "b": b"b"}))
    content[2 * BLOCK_BYTES] ^= 1
    with pytest.raises(RegistryError, match="no header at byte 1024"):
        index(bytes(content))


def test_an_archive_that_was_cut_has_what_begins_in_it() -> None:
    """At each length: the members found are a prefix of all, or there is an error."""
    whole = archive()
    names = list(index(whole))
    for length in range(0, len(whole), 100):
        with suppress(RegistryError):
            found = list(index(whole[:length]))
            assert found == names[: len(found)]


def test_an_extension_beyond_the_limit_is_not_read() -> None:
    """Whatever a header says, no more is read than the limit."""
    entry = tarfile.TarInfo("pax")
    entry.type, entry.size = tarfile.XHDTYPE, 1 << 33
    header = entry.tobuf(tarfile.GNU_FORMAT)
    asked: list[int] = []

    def read(count: int, offset: int) -> bytes:
        asked.append(count)
        return header[offset : offset + count]

    with pytest.raises(TooLargeError, match=str(MAX_TAR_EXTENSION_BYTES)):
        index_archive(read, 1 << 40)
    assert max(asked) == BLOCK_BYTES


def test_a_chain_of_extensions_is_followed_without_recursion() -> None:
    entry = tarfile.TarInfo("pax")
    entry.type, entry.size = tarfile.XHDTYPE, 0
    chain = entry.tobuf(tarfile.USTAR_FORMAT) * 5_000
    assert list(index(chain + archive({"a": b"a"}))) == ["a"]


@pytest.mark.parametrize(
    "record", [b"x", b"5 a=b", b"99 path=a\n", b"0 a=b\n", b"12 size=-1234\n", b"11 size=1e5\n"]
)
def test_a_damaged_extension_is_refused(record: bytes) -> None:
    entry = tarfile.TarInfo("pax")
    entry.type, entry.size = tarfile.XHDTYPE, len(record)
    content = entry.tobuf(tarfile.USTAR_FORMAT) + record.ljust(BLOCK_BYTES, b"\0")
    with pytest.raises(RegistryError, match="extended header"):
        index(content + archive({"a": b"a"}))


def test_more_files_than_the_limit_are_refused() -> None:
    """The index's memory has a bound; here the same header comes under ever new names."""
    names = (f"{number}" for number in range(MAX_ARCHIVE_FILES + 2))

    def read(count: int, offset: int) -> bytes:
        if offset == 0 and count == BLOCK_BYTES and not started:
            started.append(True)
            return bytes(BLOCK_BYTES)
        return tarfile.TarInfo(next(names)).tobuf(tarfile.USTAR_FORMAT)

    started: list[bool] = []
    with pytest.raises(TooLargeError, match=str(MAX_ARCHIVE_FILES)):
        index_archive(read, 1 << 40)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE])
def test_names_beyond_the_memory_for_them_are_refused(kind: bytes) -> None:
    """Of 4 KiB each; of links it is where they lead."""

    def entry(number: int) -> bytes:
        long = f"{number:0200}/" * 20 + "x"
        info = tarfile.TarInfo(long if kind == tarfile.REGTYPE else f"{number}")
        info.type, info.linkname = kind, long
        return info.tobuf(tarfile.GNU_FORMAT)

    size = len(entry(0))

    def read(count: int, offset: int) -> bytes:
        number, start = divmod(offset, size)
        return entry(number)[start : start + count]

    with pytest.raises(TooLargeError, match=r"names of the archive's [0-9]{4,5} files"):
        index_archive(read, 1 << 40)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("./blobs//sha256/./abc", "blobs/sha256/abc"),
        ("blobs/sha256/../sha512/abc", "blobs/sha512/abc"),
        ("../index.json", None),
        ("a/../../index.json", None),
        ("/index.json", None),
        (".", ""),
    ],
)
def test_a_path_is_normal_or_leads_out(path: str, expected: str | None) -> None:
    assert normal(path) == expected


@given(st.binary(max_size=3 * BLOCK_BYTES))
def test_any_bytes_are_an_archive_or_an_error(content: bytes) -> None:
    with suppress(RegistryError, UnsupportedError, TooLargeError):
        index(content)


@given(st.data())
def test_an_altered_archive_is_an_archive_or_an_error(data: st.DataObject) -> None:
    """With its checksum made good again, so that each field is reached."""
    content = bytearray(archive({"a": b"a", LONG: b"b"}, data.draw(st.sampled_from([1, 2]))))
    position = data.draw(st.integers(0, len(content) // BLOCK_BYTES - 1)) * BLOCK_BYTES
    for _ in range(data.draw(st.integers(1, 4))):
        content[position + data.draw(st.integers(0, 511))] = data.draw(st.integers(0, 255))
    header = content[position : position + BLOCK_BYTES]
    total = sum(header) - sum(header[148:156]) + 256
    content[position + 148 : position + 156] = b"%06o\0 " % total
    with suppress(RegistryError, UnsupportedError, TooLargeError):
        index(bytes(content))


@pytest.mark.parametrize("keyword", ["path", "linkpath"])
def test_a_name_that_is_said_of_all_members_is_looked_at_once(keyword: str) -> None:
    """One of 64 KiB took 2 ms for each header of 512 bytes: 100 MB took minutes."""
    name = "a/../" * 13_000
    told = tarfile.TarInfo.create_pax_global_header({keyword: name})
    link = tarfile.TarInfo("x")
    link.type = tarfile.LNKTYPE
    content = told + link.tobuf(tarfile.USTAR_FORMAT) * 5_000
    start = time.process_time()
    index(content)
    assert time.process_time() - start < 2


def test_an_empty_name_takes_back_what_was_said_of_all_members() -> None:
    """POSIX, pax, "pax Extended Header Keyword/Value Pairs": a value of no length deletes."""
    said = tarfile.TarInfo.create_pax_global_header({"path": "all"})
    taken_back = tarfile.TarInfo.create_pax_global_header({"path": ""})
    own = tarfile.TarInfo("own").tobuf(tarfile.USTAR_FORMAT)
    assert set(index(said + own)) == {"all"}
    assert set(index(said + taken_back + own)) == {"own"}
