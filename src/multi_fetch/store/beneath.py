"""Folders and files of a store, of which none is reached by a link. All here blocks.

A store may have been unpacked from anywhere, or be others' to write: what a symbolic link in it
leads to is not the store's, and is never written or removed. Nor does anybody wait for who writes
to a FIFO.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import contextmanager, suppress
from errno import EINVAL, ENOTDIR
from typing import TYPE_CHECKING

from multi_fetch.layout.part import OPEN_FLAGS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def folder_beneath(path: Path, *names: str) -> Iterator[int]:
    """A folder below a path, open; the path itself may lead through links.

    Raises:
        NotADirectoryError: a link stands in its place, or a file.
        OSError: it cannot be opened.
    """
    folder = os.open(path, OPEN_FLAGS | os.O_DIRECTORY)
    try:
        for name in names:
            inner = _opened(folder, name)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def _opened(folder: int, name: str) -> int:
    try:
        return os.open(name, OPEN_FLAGS | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    except NotADirectoryError as error:
        words = f"{name} in it is a symbolic link or a file, and should be a folder"
        raise NotADirectoryError(ENOTDIR, words) from error


def make_beneath(path: Path, *names: str) -> None:
    """Makes what is missing of the folders on the way; arguments as for ``folder_beneath``.

    Raises:
        OSError: the system does not let it.
    """
    for depth, name in enumerate(names):
        with folder_beneath(path, *names[:depth]) as folder, suppress(FileExistsError):
            os.mkdir(name, dir_fd=folder)


def regular_file(fd: int, name: str) -> os.stat_result | None:
    """What the system says of a file in an open folder; None for no regular file, or none at all.

    Raises:
        OSError: it says nothing.
    """
    try:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def remove_beneath(path: Path, *names: str, inode: tuple[int, int] | None = None) -> None:
    """Removes a file, if it is there; the other arguments as for ``folder_beneath``.

    Args:
        path: where the first name is.
        names: of folders, then of the file.
        inode: device and inode of the file that is meant, while it is open somewhere: one that has
            taken its name since then stays. None for any.

    Raises:
        OSError: the system does not let it.
    """
    with folder_beneath(path, *names[:-1]) as folder, suppress(FileNotFoundError):
        if inode is None:
            os.unlink(names[-1], dir_fd=folder)
        elif _inode(folder, names[-1]) == inode:
            _take_away(folder, names[-1], inode)


def _inode(folder: int, name: str) -> tuple[int, int]:
    status = os.stat(name, dir_fd=folder)
    return status.st_dev, status.st_ino


def _take_away(folder: int, name: str, inode: tuple[int, int]) -> None:
    """Removes a file; what has taken its name since the last look, however short, has it again."""
    aside = f".{secrets.token_hex(8)}"  # where nobody puts another in its place
    os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=folder)
    if _inode(folder, aside) == inode:
        os.unlink(aside, dir_fd=folder)
    else:
        os.rename(aside, name, src_dir_fd=folder, dst_dir_fd=folder)


def read_at_most(path: Path, limit: int) -> bytes:
    """A regular file's content; of a longer one, a byte more than the limit.

    Raises:
        OSError: it cannot be read, or is something else.
    """
    with os.fdopen(os.open(path, OPEN_FLAGS), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(EINVAL, "it is no regular file", str(path))
        return file.read(limit + 1)
