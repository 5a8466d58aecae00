"""A layout in a folder.

Names are opened component by component below the folder and no symbolic link is followed on the
way, so that nothing leads out, also while somebody renames. Where a link is met, the system says
where it leads; if that is in the folder, it is opened in the same manner.
"""

from __future__ import annotations

import os
from errno import ELOOP, EMLINK, ENOTDIR
from pathlib import Path
from typing import TYPE_CHECKING, Final

from multi_fetch.advice import COPY_AGAIN
from multi_fetch.errors import DeniedError, UnavailableError
from multi_fetch.layout.part import OPEN_FLAGS, part_of, translated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multi_fetch.layout.part import Part

# What O_NOFOLLOW says of a link: Linux and macOS, for a folder Linux, FreeBSD.
LINK_MET: Final = frozenset({ELOOP, ENOTDIR, EMLINK})


class Folder:
    """A folder with ``oci-layout``, ``index.json`` and ``blobs``.

    Nothing of it is held between two files, so it may be replaced at any time.

    Args:
        name: see ``Source``.
        path: of the folder; may be, or lead through, a symbolic link.
    """

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self._path = str(Path(path).absolute())

    def open(self, name: str) -> Part:
        """A file of the layout; see ``Source``."""
        full_name = f"{name} in {self.name}"
        root = self._open_root()
        try:
            with translated(full_name):
                return part_of(self._open_below(root, name, full_name), full_name)
        finally:
            os.close(root)

    def _open_root(self) -> int:
        with translated(self.name):
            try:
                return os.open(self._path, OPEN_FLAGS | os.O_DIRECTORY)
            except FileNotFoundError as error:
                raise UnavailableError(
                    f"{self.name}: there is no such folder: check the path"
                ) from error
            except NotADirectoryError as error:
                raise UnavailableError(
                    f"{self.name} is no folder: for a tar file, write oci-archive:<file>"
                ) from error

    def _open_below(self, root: int, name: str, full_name: str) -> int:
        try:
            return _walk(root, name.split("/"))
        except OSError as error:
            if error.errno not in LINK_MET:
                raise
        top = os.path.realpath(self._path)
        real = os.path.realpath(os.path.join(top, name))  # noqa: PTH118 - of text
        if os.path.commonpath([top, real]) != top:
            raise DeniedError(f"{full_name} lies outside, where a symbolic link leads{COPY_AGAIN}")
        return _walk(root, os.path.relpath(real, top).split("/"))


def _walk(root: int, names: Sequence[str]) -> int:
    folder = root
    try:
        for each in names[:-1]:
            inner = os.open(each, OPEN_FLAGS | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            if folder != root:
                os.close(folder)
            folder = inner
        return os.open(names[-1], OPEN_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        if folder != root:
            os.close(folder)
