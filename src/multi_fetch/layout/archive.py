"""A layout in a tar file, which is read in place.

The file is opened anew for each of its members. Its headers are read when that is done first, and
again once the file is another.
"""

from __future__ import annotations

import os
import posixpath
import stat
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

from multi_fetch.errors import (
    DeniedError,
    NotFoundError,
    RegistryError,
    UnavailableError,
    UnsupportedError,
)
from multi_fetch.layout.part import OPEN_FLAGS, Part, Refusal, part_of, translated
from multi_fetch.layout.tar_index import Kind, Member, index_archive, memory_of, normal
from multi_fetch.limits import MAX_ARCHIVE_MEMORY
from multi_fetch.shelf import Book, Shelf

if TYPE_CHECKING:
    from multi_fetch.layout.part import Stamp

# Linux follows 40 symbolic links in a row.
MAX_LINKS: Final = 40


class Archive:
    """An uncompressed tar file whose members are those of a layout.

    Args:
        name: see ``Source``.
        path: of the file; may be a symbolic link.
        shelf: where its index is kept beside others; None for one of its own.
    """

    def __init__(self, name: str, path: str, shelf: Shelf | None = None) -> None:
        self.name = name
        self._path = str(Path(path).absolute())
        self._lock = Lock()
        self._stamp: Stamp | None = None
        self._members: dict[str, Member] = {}
        self._refusal = Refusal()
        self._shelf = shelf or Shelf(MAX_ARCHIVE_MEMORY)
        self._book = Book(self._forget)

    def open(self, name: str) -> Part:
        """A member; see ``Source``.

        Raises:
            UnsupportedError: the archive is compressed, or the member is a sparse file.
            TooLargeError: the archive has too many members.
            RegistryError: it is no archive, or the member is no regular file.
        """
        whole = self._open_whole()
        try:
            with translated(self.name), self._shelf.using(self._book):
                member = self._find(self._index(whole), name)
        except BaseException:
            whole.close()
            raise
        return whole.cut(member.first, member.size)

    def _open_whole(self) -> Part:
        with translated(self.name):
            try:
                fd = os.open(self._path, OPEN_FLAGS)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise UnavailableError(
                    f"{self.name}: there is no such file: check the path"
                ) from error
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                os.close(fd)
                raise UnavailableError(f"{self.name} is a folder: write oci:<folder>")
            return part_of(fd, self.name)

    def _index(self, whole: Part) -> dict[str, Member]:
        with self._lock:
            if whole.stamp != self._stamp:
                with self._refusal.of(whole.stamp):
                    self._read_headers(whole)
            return self._members

    def _read_headers(self, whole: Part) -> None:
        # A header has 512 bytes, and a name as many as it has letters.
        self._shelf.reserve(self._book, min(whole.size, MAX_ARCHIVE_MEMORY))
        try:
            self._members = index_archive(whole.read, whole.size)
            self._stamp = whole.stamp
        finally:
            self._shelf.settle(self._book, memory_of(self._members))

    def _forget(self) -> None:
        self._stamp, self._members = None, {}

    def _find(self, members: dict[str, Member], name: str) -> Member:
        full_name = f"{name} in {self.name}"
        where: str | None = name
        for _ in range(MAX_LINKS):
            member = None if where is None else members.get(where)
            if member is None:
                raise NotFoundError(f"there is no {full_name}: check that it is a whole image")
            if member.kind is Kind.FILE:
                return member
            if member.kind is Kind.SPARSE:
                raise UnsupportedError(f"{full_name} is a sparse file: pack the archive without -S")
            if member.kind is Kind.OTHER:
                raise RegistryError(f"{full_name} is no regular file: pack it anew")
            assert where is not None
            where = normal(posixpath.join(posixpath.dirname(where), member.target))
            if where is None:
                raise DeniedError(
                    f"{full_name} lies outside, where a symbolic link leads: pack it anew"
                )
        raise DeniedError(
            f"{full_name} may not be read: its symbolic links lead in a circle: pack it anew"
        )
