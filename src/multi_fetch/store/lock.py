"""Advisory locks on files: the kernel lets go of them when a process dies, so none gets stale.

Not every file system has them. Who is told so must do without: by a file of its own.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from enum import Enum
from errno import EACCES, EAGAIN, EINVAL, ENOLCK, ENOSYS, ENOTSUP, EOPNOTSUPP, EPERM, EWOULDBLOCK
from typing import TYPE_CHECKING, Final

from multi_fetch.store.beneath import folder_beneath

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# flock(2), and fcntl(2) where NFS does one by the other
TAKEN: Final = frozenset({EWOULDBLOCK, EAGAIN, EACCES})
# EPERM: some file systems over a network, and sandboxes, refuse all locks so.
UNKNOWN: Final = frozenset({ENOLCK, ENOTSUP, EOPNOTSUPP, EINVAL, ENOSYS, EPERM})

POLL_SECONDS: Final = 0.01

FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Lock(Enum):
    """What became of an attempt."""

    HELD = "held"
    TAKEN = "taken"
    MOVED = "held, of a file that has another name by now"
    UNKNOWN = "unknown here"


def try_lock(fd: int) -> Lock:
    """Tries to lock an open file, until it is closed; two openings exclude each other.

    Raises:
        OSError: the system failed.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in TAKEN:
            return Lock.TAKEN
        if error.errno in UNKNOWN:
            return Lock.UNKNOWN
        raise
    return Lock.HELD


def is_at(fd: int, name: str, folder: int) -> bool:
    """Whether an open file is still the one of that name in an open folder.

    It may have been moved or removed, and another may be there by now.
    """
    try:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    own = os.fstat(fd)
    return (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino)


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Holds the lock of a file that is never removed, if it can be had in time. This blocks.

    Neither the file nor its folder may be a symbolic link. Where there are no locks, it goes on
    without.

    Raises:
        TimeoutError: another process holds it all the time.
        OSError: the file cannot be opened.
    """
    with folder_beneath(path.parent.parent, path.parent.name) as folder:
        fd = os.open(path.name, FLAGS, 0o666, dir_fd=folder)
    try:
        end = time.monotonic() + seconds
        while try_lock(fd) is Lock.TAKEN:
            if time.monotonic() > end:
                raise TimeoutError(f"{path} is locked by another process")
            time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(fd)
