"""Parts of files, and the system's errors."""

from __future__ import annotations

import errno
import os
import weakref
from typing import TYPE_CHECKING

import pytest

from multi_fetch.errors import (
    DeniedError,
    MultiFetchError,
    NotFoundError,
    RegistryError,
    TooLargeError,
    UnavailableError,
)
from multi_fetch.layout.part import OPEN_FLAGS, Part, Refusal, part_of, translated

if TYPE_CHECKING:
    from pathlib import Path

    from multi_fetch.layout.part import Stamp

CONTENT = b"0123456789"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def open_part(path: Path) -> Part:
    return part_of(os.open(path, OPEN_FLAGS), "the file")


@pytest.mark.parametrize("first", range(len(CONTENT) + 2))
def test_a_part_has_its_own_bytes_and_no_others(path: Path, first: int) -> None:
    """From each offset, read whole and into a buffer, of a part in the middle of a file."""
    part = open_part(path).cut(2, 6)
    try:
        expected = CONTENT[2:8][first:]
        assert part.read(100, first) == expected
        assert part.read(3, first) == expected[:3]
        buffer = bytearray(100)
        count = part.read_into(memoryview(buffer), first)
        assert bytes(buffer[:count]) == expected
    finally:
        part.close()


def test_of_a_file_that_was_cut_there_is_what_is_left(path: Path) -> None:
    part = open_part(path)
    os.truncate(path, 4)
    assert part.size == len(CONTENT)
    assert part.read(part.size) == CONTENT[:4]
    part.close()


def test_a_file_is_closed_once_and_a_cut_part_has_it(path: Path) -> None:
    whole = open_part(path)
    part = whole.cut(0, 3)
    whole.close()
    assert part.read(3) == CONTENT[:3]
    part.close()
    part.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        part.read(1)


def test_a_file_that_changes_has_another_stamp(path: Path) -> None:
    first = open_part(path)
    first.close()
    path.write_bytes(b"another")
    second = open_part(path)
    second.close()
    assert first.stamp != second.stamp


def test_what_is_no_regular_file_is_refused_and_closed(tmp_path: Path) -> None:
    """Also a FIFO that nobody writes to, which is not waited for."""
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "."):
        fd = os.open(tmp_path / name, OPEN_FLAGS)
        with pytest.raises(RegistryError, match="the file is no regular file"):
            part_of(fd, "the file")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOENT, NotFoundError),
        (errno.ENOTDIR, NotFoundError),
        (errno.ENAMETOOLONG, NotFoundError),
        (errno.EACCES, DeniedError),
        (errno.ELOOP, DeniedError),
        (errno.ENXIO, RegistryError),
        (errno.EIO, UnavailableError),
        (errno.EMFILE, UnavailableError),
        (errno.ESTALE, UnavailableError),
    ],
)
def test_the_systems_errors_are_said_as_a_requests(
    number: int, error: type[MultiFetchError]
) -> None:
    with pytest.raises(error, match="the file"), translated("the file"):
        raise OSError(number, os.strerror(number))


def look(refusal: Refusal, stamp: Stamp, error: MultiFetchError) -> None:
    with refusal.of(stamp):
        raise error


def test_a_refusal_holds_for_one_file_and_none_for_trouble_that_may_pass() -> None:
    refusal, one, other = Refusal(), (1, 1, 1, 1), (1, 1, 1, 2)
    with pytest.raises(UnavailableError, match="later"):
        look(refusal, one, UnavailableError("later"))
    with pytest.raises(RegistryError, match="damaged"):
        look(refusal, one, RegistryError("damaged"))
    with pytest.raises(RegistryError, match="damaged"):
        look(refusal, one, RegistryError("not looked at"))
    with pytest.raises(TooLargeError, match="large"):
        look(refusal, other, TooLargeError("large"))


def test_of_what_is_refused_nothing_is_kept_that_was_read() -> None:
    """The error goes on to whoever asked, with its traceback; meanwhile another may be read."""
    read: list[weakref.ref[Refusal]] = []

    def look_through() -> None:
        large = Refusal()
        read.append(weakref.ref(large))
        raise RegistryError("damaged")

    with pytest.raises(RegistryError) as caught, Refusal().of((1, 1, 1, 1)):
        look_through()
    assert caught.value.__traceback__ is not None
    assert read[0]() is None
