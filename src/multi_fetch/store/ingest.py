"""Content on its way into the store: one file, written by one task. All here blocks.

A file grows under ``ingest`` and gets its digest's name only when it is whole, verified and on
the disk; of a large one that is recorded. Of a shared one a rest may stay, for who goes on with it;
the lock says whose it is.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from errno import EBADF, ESTALE
from threading import RLock
from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.limits import MAX_DATA_BYTES
from multi_fetch.oci.layout import blob_name
from multi_fetch.store.beneath import folder_beneath, make_beneath
from multi_fetch.store.lock import FLAGS, Lock, is_at, try_lock
from multi_fetch.store.records import OTHERS_MAY_WRITE, Records

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from multi_fetch.oci.digest import Chunk, Digest
    from multi_fetch.store.folder import StoreFolder

# How often a file may turn out to be another's by now, before one takes a name of one's own.
MAX_TRIES: Final = 8


class Busy(msgspec.Struct, frozen=True):
    """Somebody else writes the same content.

    Attributes:
        size: how far that is, in bytes; -1 where it is done in this moment.
    """

    size: int


class Ingest:
    """An unfinished file that is ours.

    Args:
        fd: open for reading and writing, and locked if it is shared.
        path: its name.
        folder: the store's.
        digest: of the content.
        is_shared: whether others know its name.

    Attributes:
        length: of the content that is known to be written right.
        failure: why no more can be written, or None.
    """

    def __init__(
        self, fd: int, path: Path, folder: StoreFolder, digest: Digest, *, is_shared: bool
    ) -> None:
        self.is_shared = is_shared
        self.length = os.fstat(fd).st_size
        self.failure: OSError | None = None
        self._fd = fd
        self._path = path
        self._folder = folder
        self._digest = digest
        # A task that is cancelled lets go of it while a thread may still write or commit it. What
        # is closed then must not be used: another file may have its number.
        self._lock = RLock()

    def write(self, chunk: Chunk) -> None:
        """Appends; after a failure, which is kept, nothing."""
        with self._lock:
            if self.failure is not None or self._fd < 0:
                return
            view, offset = memoryview(chunk), self.length
            try:
                while view:
                    count = os.pwrite(self._fd, view, offset)
                    view, offset = view[count:], offset + count
            except OSError as error:
                self.failure = error
                return
            self.length = offset

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Reads what was there before; returns how much, 0 at its end.

        Raises:
            OSError: the system cannot.
        """
        with self._lock:
            self._require_ours()
            return os.preadv(self._fd, [buffer], offset)

    def cut(self, length: int) -> None:
        """Throws away what is beyond.

        Raises:
            OSError: the system cannot.
        """
        with self._lock:
            self._require_ours()
            os.ftruncate(self._fd, length)
            self.length = length

    def commit(self) -> Path:
        """Gives verified content its digest's name; the ingest is over then, also by a failure.

        Raises:
            OSError: the system cannot keep it.
        """
        with self._lock:
            try:
                self._name_it()
            except OSError:
                self.discard()
                raise
            self._close()
            return self._folder.blob(self._digest)

    def _name_it(self) -> None:
        self._require_ours()
        if self.failure is not None:
            raise self.failure
        os.fsync(self._fd)
        if os.fstat(self._fd).st_size != self.length:
            raise OSError(ESTALE, "somebody else has written to it")
        *folders, blob = blob_name(self._digest).split("/")
        try:
            self._rename(folders, blob)
        except FileNotFoundError:
            make_beneath(self._folder.path, *folders)
            self._rename(folders, blob)
        if self.length > MAX_DATA_BYTES:  # what is smaller is hashed whenever it is read
            self._record()

    def _rename(self, folders: Sequence[str], blob: str) -> None:
        name = self._path.name
        with self._ingests() as ingests, folder_beneath(self._folder.path, *folders) as blobs:
            # Somebody may have removed it, and another have begun a file of that name.
            if not is_at(self._fd, name, ingests):
                raise OSError(ESTALE, "another file has its name by now")
            os.rename(name, blob, src_dir_fd=ingests, dst_dir_fd=blobs)

    def _record(self) -> None:
        """Has it known as verified, and written by nobody else from now on."""
        mode = stat.S_IMODE(os.fstat(self._fd).st_mode)
        if mode & OTHERS_MAY_WRITE:  # as they may while it grows, so that they can go on with it
            with suppress(OSError):  # it is theirs, or has no mode of its own: hashed each time
                os.fchmod(self._fd, mode & ~OTHERS_MAY_WRITE)
        Records(self._folder).note(self._digest, self._fd)

    def _ingests(self) -> AbstractContextManager[int]:
        return folder_beneath(self._folder.path, self._path.parent.name)

    def _require_ours(self) -> None:
        if self._fd < 0:
            raise OSError(EBADF, "it was let go of")

    def discard(self) -> None:
        """Removes it.

        Raises:
            OSError: the system cannot; it is given up all the same.
        """
        with self._lock:
            try:
                if self._fd >= 0:
                    self._remove()
            finally:
                self._close()

    def leave(self, length: int) -> None:
        """Lets go of it: what is there, up to a length, stays for who comes next.

        Raises:
            OSError: as for ``discard``.
        """
        with self._lock:
            if self._fd < 0:
                return
            if not self.is_shared or not length or self.failure is not None:
                self.discard()
                return
            try:
                # Where it was cut meanwhile, there is no more of it.
                os.ftruncate(self._fd, min(length, self.length))
            finally:
                self._close()

    def _remove(self) -> None:
        name = self._path.name
        with suppress(FileNotFoundError), self._ingests() as ingests:
            if is_at(self._fd, name, ingests):
                os.unlink(name, dir_fd=ingests)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def claim(folder: StoreFolder, digest: Digest, *, is_patient: bool) -> Ingest | Busy:
    """Makes the unfinished file of a digest ours.

    Args:
        folder: the store's.
        digest: of the content.
        is_patient: whether ``Busy`` is an answer; if not, it is a file of our own then.

    Raises:
        OSError: the system does not let it.
    """
    with folder_beneath(folder.path, folder.ingests.name) as ingests:
        return _claim(folder, digest, ingests, is_patient=is_patient)


def _claim(folder: StoreFolder, digest: Digest, ingests: int, *, is_patient: bool) -> Ingest | Busy:
    path = folder.shared_ingest(digest)
    for _ in range(MAX_TRIES):
        fd = os.open(path.name, FLAGS, 0o666, dir_fd=ingests)
        lock, size = _lock_of(fd, path.name, ingests)
        if lock is Lock.HELD:
            ingest = Ingest(fd, path, folder, digest, is_shared=True)
            if is_patient and folder.blob(digest).exists():
                ingest.discard()
                return Busy(-1)
            return ingest
        os.close(fd)
        if lock is Lock.TAKEN and is_patient:
            return Busy(size)
        if lock is Lock.UNKNOWN:
            with suppress(FileNotFoundError):  # opened, and never written by anybody here
                os.unlink(path.name, dir_fd=ingests)
            break
    path = folder.private_ingest(digest)
    fd = os.open(path.name, FLAGS | os.O_EXCL, 0o666, dir_fd=ingests)
    try_lock(fd)  # for who tidies up
    return Ingest(fd, path, folder, digest, is_shared=False)


def _lock_of(fd: int, name: str, ingests: int) -> tuple[Lock, int]:
    """What became of an attempt, and the file's size; the file is closed if that fails.

    A file that was moved or removed meanwhile is another's. So is one that has another name too, in
    the store or outside, which loses the one here.
    """
    try:
        lock, status = try_lock(fd), os.fstat(fd)
        if lock is Lock.HELD and not is_at(fd, name, ingests):
            return Lock.MOVED, status.st_size
        if lock is Lock.HELD and (status.st_nlink > 1 or not stat.S_ISREG(status.st_mode)):
            os.unlink(name, dir_fd=ingests)
            return Lock.MOVED, status.st_size
    except BaseException:
        os.close(fd)
        raise
    return lock, status.st_size
