"""Where the files of a tar archive lie in it: only headers are read, each once. No I/O of its own.

POSIX's pax format (with ustar, which it extends) and GNU's: what tar, bsdtar, Python, Go and Rust
write. Python's tarfile reads extensions of any size into memory, and follows chains of them by
recursion; here a hostile archive is refused.
"""

from __future__ import annotations

import re
from enum import Enum
from sys import getsizeof
from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.advice import COPY_AGAIN
from multi_fetch.errors import RegistryError, TooLargeError, UnsupportedError
from multi_fetch.limits import (
    ARCHIVE_FILE_MEMORY,
    MAX_ARCHIVE_FILES,
    MAX_ARCHIVE_MEMORY,
    MAX_TAR_EXTENSION_BYTES,
)
from multi_fetch.oci.manifest import MAX_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BLOCK_BYTES: Final = 512

# What compressed files begin with.
COMPRESSED: Final[Mapping[bytes, str]] = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
}

# pax, "ustar Interchange Format", typeflag; GNU's long names and sparse files
FILE_FLAGS: Final = b"0\0" + b"7"
HARD_LINK: Final = b"1"
SYMBOLIC_LINK: Final = b"2"
FOLDER: Final = b"5"
PAX_NEXT: Final = b"x"
PAX_ALL: Final = b"g"
GNU_LONG_NAME: Final = b"L"
GNU_LONG_LINK: Final = b"K"
GNU_SPARSE: Final = b"S"
EXTENSIONS: Final = frozenset({PAX_NEXT, PAX_ALL, GNU_LONG_NAME, GNU_LONG_LINK})
# No content follows these, whatever size they say: links, devices, folders, FIFOs.
BARE: Final = frozenset({b"1", b"2", b"3", b"4", b"5", b"6"})

OCTAL = re.compile(rb"[ \0]*([0-7]+)[ \0]*")

# pax, "pax Extended Header": "%d %s=%s\n", <length>, <keyword>, <value>
RECORD = re.compile(rb"([0-9]{1,9}) ")


class Kind(Enum):
    """What a member of an archive is."""

    FILE = "file"
    LINK = "symbolic link"
    SPARSE = "sparse file"
    OTHER = "device, FIFO or the like"


class Member(msgspec.Struct, frozen=True):
    """One member of an archive, but for folders.

    Attributes:
        kind: what it is.
        first: the offset, in the archive, of its content.
        size: bytes of content that there should be.
        target: where a symbolic link leads, as it is written.
    """

    kind: Kind
    first: int = 0
    size: int = 0
    target: str = ""


class _Name(msgspec.Struct, frozen=True):
    """A path, and what it comes to: that is found out once of one that is said of all members."""

    text: str
    key: str | None


NAMELESS: Final = _Name("", "")


class _Told(msgspec.Struct):
    """What extensions say of the next member, or of all that follow."""

    path: _Name | None = None
    link: _Name | None = None
    size: int | None = None
    is_sparse: bool = False


def index_archive(read: Callable[[int, int], bytes], size: int) -> dict[str, Member]:
    """Reads the headers of an archive; a later member replaces an earlier one of its name.

    Args:
        read: the bytes from an offset on, so many or as many as there are: ``read(count, offset)``.
        size: of the archive. What lies beyond it is not looked for: a member that was cut is here
            with the size that it should have.

    Raises:
        UnsupportedError: the archive is compressed.
        RegistryError: it is no archive, or a header is damaged.
        TooLargeError: it has too many files, too much of names, or too long an extension.
    """
    _refuse_compressed(read(BLOCK_BYTES, 0))
    members: dict[str, Member] = {}
    offset = memory = 0
    everywhere, following = _Told(), _Told()
    while offset + BLOCK_BYTES <= size:
        header = read(BLOCK_BYTES, offset)
        if len(header) < BLOCK_BYTES or not any(header):
            break
        _check_header(header, offset)
        flag = header[156:157]
        content = offset + BLOCK_BYTES
        length = _number(header[124:136], offset)
        if flag in EXTENSIONS:
            text = _extension(read, content, length)
            _take(everywhere if flag == PAX_ALL else following, flag, text)
        else:
            if following.size is not None and flag not in BARE:
                length = following.size
            memory += _add(members, header, _Place(content, length), everywhere, following)
            _check_memory(memory, len(members))
            following = _Told()
        offset = content + (0 if flag in BARE else -(-length // BLOCK_BYTES) * BLOCK_BYTES)
    if not members and offset == 0:
        raise RegistryError(f"the file is no tar archive: it has no header{COPY_AGAIN}")
    return members


class _Place(msgspec.Struct, frozen=True):
    first: int
    size: int


def _refuse_compressed(start: bytes) -> None:
    for magic, kind in COMPRESSED.items():
        if start.startswith(magic):
            raise UnsupportedError(
                f"the archive is compressed ({kind}), and cannot be read in place: decompress it,"
                " or unpack it and name the folder with oci:<folder>"
            )


def _check_header(header: bytes, offset: int) -> None:
    total = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if _number(header[148:156], offset) != total:
        raise _damaged(offset)


def _number(field: bytes, offset: int) -> int:
    if field[0] == 0x80:  # GNU: base 256
        number = int.from_bytes(field[1:], "big")
        if number > MAX_SIZE:  # no frame could say it
            raise _damaged(offset)
        return number
    match = OCTAL.fullmatch(field)
    if match is None:
        if not field.strip(b" \0"):
            return 0
        raise _damaged(offset)
    return int(match[1], 8)


def _damaged(offset: int) -> RegistryError:
    return RegistryError(
        f"the file is no tar archive, or damaged: no header at byte {offset}{COPY_AGAIN}"
    )


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _name(field: bytes) -> _Name | None:
    """None for an empty one, with which pax takes back what was said before."""
    text = _text(field)
    return _Name(text, normal(text)) if text else None


def _extension(read: Callable[[int, int], bytes], first: int, size: int) -> bytes:
    if size > MAX_TAR_EXTENSION_BYTES:
        raise TooLargeError(
            f"a name or extended header in the archive has {size} bytes, more than"
            f" {MAX_TAR_EXTENSION_BYTES}: unpack it, and write oci:<folder>"
        )
    content = read(size, first)
    if len(content) < size:
        raise RegistryError(f"the archive was cut within a header{COPY_AGAIN}")
    return content


def _take(told: _Told, flag: bytes, content: bytes) -> None:
    if flag == GNU_LONG_NAME:
        told.path = _name(content)
    elif flag == GNU_LONG_LINK:
        told.link = _name(content)
    else:
        _take_pax(told, content)


def _take_pax(told: _Told, content: bytes) -> None:
    position = 0
    while position < len(content) and content[position]:
        match = RECORD.match(content, position)
        end = position + int(match[1]) if match else 0
        if match is None or end > len(content) or content[end - 1 : end] != b"\n":
            raise RegistryError(f"an extended header in the archive is damaged{COPY_AGAIN}")
        keyword, _, value = content[match.end() : end - 1].partition(b"=")
        position = end
        if keyword == b"path":
            told.path = _name(value)
        elif keyword == b"linkpath":
            told.link = _name(value)
        elif keyword == b"size":
            if not value.isdigit() or len(value) > 18:
                raise RegistryError(
                    f"an extended header in the archive has a size that is none{COPY_AGAIN}"
                )
            told.size = int(value)
        elif keyword.startswith(b"GNU.sparse."):
            told.is_sparse = True


def _add(
    members: dict[str, Member], header: bytes, place: _Place, everywhere: _Told, following: _Told
) -> int:
    """Adds a member; what it takes in memory."""
    flag = header[156:157]
    name = following.path or everywhere.path or _own_name(header) or NAMELESS
    target = following.link or everywhere.link or _name(header[157:257]) or NAMELESS
    is_sparse = flag == GNU_SPARSE or following.is_sparse or everywhere.is_sparse
    key = name.key
    if flag == FOLDER or name.text.endswith("/") or key is None:
        return 0
    if flag == HARD_LINK:
        member = members.get(target.key or "", Member(Kind.OTHER))
    elif flag == SYMBOLIC_LINK:
        member = Member(Kind.LINK, target=target.text)
    elif is_sparse:
        member = Member(Kind.SPARSE)
    elif flag in FILE_FLAGS:
        member = Member(Kind.FILE, place.first, place.size)
    else:
        member = Member(Kind.OTHER)
    members[key] = member
    if len(members) > MAX_ARCHIVE_FILES:
        raise TooLargeError(
            f"the archive has more than {MAX_ARCHIVE_FILES} files: unpack it, and write"
            " oci:<folder>"
        )
    return _memory(key, member)


def _own_name(header: bytes) -> _Name | None:
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and (prefix := header[345:500].partition(b"\0")[0]):
        name = prefix + b"/" + name
    return _name(name)


def memory_of(members: dict[str, Member]) -> int:
    """What an index takes."""
    return sum(_memory(name, member) for name, member in members.items())


def _memory(name: str, member: Member) -> int:
    return (
        ARCHIVE_FILE_MEMORY + getsizeof(name) + (getsizeof(member.target) if member.target else 0)
    )


def _check_memory(memory: int, files: int) -> None:
    if memory > MAX_ARCHIVE_MEMORY:
        raise TooLargeError(
            f"the names of the archive's {files} files are too much: unpack it, and write"
            " oci:<folder>"
        )


def normal(path: str) -> str | None:
    """A path without empty and dot components; None for one that is absolute or leads out."""
    if path.startswith("/"):
        return None
    names: list[str] = []
    for each in path.split("/"):
        if each == "..":
            if not names:
                return None
            names.pop()
        elif each not in {"", "."}:
            names.append(each)
    return "/".join(names)
