"""Which files of a store were verified, and what the system said of them then. All here blocks.

A file may be named to others without being read while it is as it was when it was verified. As git
does for its index, a record says how that was: inode, size, times. Whatever is done to a file gives
it a new time of change (ctime), which no program can choose, also where it was opened long before;
and another file in its place has another inode. The device is left out, as in git: its number may
change with every mount.

That holds only if a change behind the look would be seen. So a record is begun before the file is
judged, and its own time, of the same clock, must be later than the file's; that is waited for, some
milliseconds. A record saves a hash and nothing else: one that is missing, torn, of another user or
out of date costs that. So it has no lock, and is not synced.

When a record's own content was last modified says when its file was last used: to set the time of
the file would change that.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.durations import CLOCK_STEP_SECONDS
from multi_fetch.layout.part import OPEN_FLAGS
from multi_fetch.oci.layout import BLOBS_FOLDER
from multi_fetch.store.beneath import folder_beneath, make_beneath, regular_file
from multi_fetch.store.folder import RECORDS_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from multi_fetch.oci.digest import Digest
    from multi_fetch.store.folder import StoreFolder

log = logging.getLogger(__name__)

WRITE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH

# A use is noted again when the last one was noted so long ago.
STAMP_SECONDS: Final = 3600.0

# How often a file is judged that changes meanwhile, as one does that is given a second name.
MAX_LOOKS: Final = 3

POLL_SECONDS: Final = 0.001


class Records:
    """The records of one store.

    Args:
        folder: the store's.
    """

    def __init__(self, folder: StoreFolder) -> None:
        self._path = folder.path

    def vouch_for(self, digest: Digest, fd: int) -> bool:
        """Whether an open file is still what was verified, and only we or root may change it.

        Raises:
            OSError: the system knows nothing of it.
        """
        status = os.fstat(fd)
        return is_guarded(status) and self._has(digest, told_of(digest, status))

    def verify(self, digest: Digest, fd: int, is_right: Callable[[], bool]) -> bool:
        """Has an open file judged, and records it if it is right.

        Args:
            digest: that its content shall have.
            fd: the file.
            is_right: reads all of it.

        Returns:
            Whether it is right, and was left alone meanwhile.

        Raises:
            OSError: as ``is_right`` does.
        """
        for _ in range(MAX_LOOKS):
            with _drafted(self._path, digest, fd) as draft:
                # Mapped memory that was written changes the time once, and again only behind this;
                # and a power cut takes back nothing that is vouched for.
                draft.sync(fd)
                if not is_right():
                    return False
                if told_of(digest, os.fstat(fd)) == draft.content:
                    draft.publish()
                    return True
        return False

    def note(self, digest: Digest, fd: int) -> None:
        """Records a file that we wrote, which is on the disk and has its name by now.

        What is done to it behind this will be seen, whether or not it could be recorded.

        Raises:
            OSError: the system knows nothing of it.
        """
        with _drafted(self._path, digest, fd) as draft:
            if told_of(digest, os.fstat(fd)) == draft.content:
                draft.publish()

    def stamp(self, digest: Digest) -> bool:
        """Notes a use, at most once an hour; gives whether there is a record to note it in."""
        try:
            with folder_beneath(self._path, RECORDS_FOLDER, digest.algorithm) as folder:
                status = regular_file(folder, digest.encoded)
                if status is not None and time.time() - status.st_mtime > STAMP_SECONDS:
                    with suppress(OSError):  # of a store that may only be read
                        os.utime(digest.encoded, dir_fd=folder, follow_symlinks=False)
        except OSError:
            return False
        return status is not None

    @contextmanager
    def uses(self, algorithm: str) -> Iterator[Callable[[str], float]]:
        """Gives when a file was last used, in seconds since 1970, by its name; 0 without a record.

        Raises:
            OSError: the system does not say.
        """
        with self._folder(RECORDS_FOLDER, algorithm) as folder:

            def used(name: str) -> float:
                status = None if folder is None else regular_file(folder, name)
                return 0.0 if status is None else status.st_mtime

            yield used

    def tidy(self) -> None:
        """Removes the records of files that are not there, and what became of no record.

        Raises:
            OSError: the system does not say what there is.
        """
        with ExitStack() as stack:
            folder = stack.enter_context(self._folder(RECORDS_FOLDER))
            algorithms = () if folder is None else stack.enter_context(os.scandir(folder))
            for algorithm in (entry.name for entry in algorithms):
                with (
                    self._folder(RECORDS_FOLDER, algorithm) as records,
                    self._folder(BLOBS_FOLDER, algorithm) as blobs,
                ):
                    if records is not None:
                        _tidy(records, blobs)

    @contextmanager
    def _folder(self, *names: str) -> Iterator[int | None]:
        """A folder of the store, open; None where it is none."""
        with ExitStack() as stack:
            try:
                found: int | None = stack.enter_context(folder_beneath(self._path, *names))
            except (FileNotFoundError, NotADirectoryError):
                found = None
            yield found

    def _has(self, digest: Digest, content: bytes) -> bool:
        """Whether there is a record of this content, which only we or root may have written."""
        try:
            with folder_beneath(self._path, RECORDS_FOLDER, digest.algorithm) as folder:
                fd = os.open(digest.encoded, OPEN_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
            with os.fdopen(fd, "rb") as file:
                return is_guarded(os.fstat(fd)) and file.read(len(content) + 1) == content
        except OSError:
            return False


def _tidy(records: int, blobs: int | None) -> None:
    """Each record comes after its file: one whose file is not there now has none."""
    with os.scandir(records) as entries:
        for entry in entries:
            if blobs is not None and _is_there(blobs, entry.name):
                continue
            with suppress(OSError):  # somebody was faster, or it is a folder, or others'
                os.unlink(entry.name, dir_fd=records)


def _is_there(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def told_of(digest: Digest, status: os.stat_result) -> bytes:
    """A record's content: what the system says of a file.

    With the digest, so that no record counts under another's name.
    """
    told = {
        "digest": str(digest),
        "inode": status.st_ino,
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
    }
    return msgspec.json.encode(told) + b"\n"


def is_guarded(status: os.stat_result) -> bool:
    """Whether it is a regular file that is ours or root's, and that nobody else may write to.

    Of the folders that is not asked: a file that is moved there is another, or has changed.
    """
    is_ours = status.st_uid in {0, os.geteuid()}
    return stat.S_ISREG(status.st_mode) and is_ours and not status.st_mode & OTHERS_MAY_WRITE


class _Draft:
    """A record that may become one. Trouble with it is no trouble of the file's.

    Attributes:
        content: of the record.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self._is_lost = True
        self._fd = self._folder = -1
        self._name = self._final_name = ""

    def begin(self, stack: ExitStack, path: Path, digest: Digest, ctime_ns: int) -> None:
        """Makes the file, for as long as the stack is."""
        with self._trying():
            self._folder = _open_folder(stack, path, digest.algorithm)
            self._name, self._final_name = f".{secrets.token_hex(8)}", digest.encoded
            self._fd = os.open(self._name, WRITE_FLAGS, 0o644, dir_fd=self._folder)
            stack.callback(os.close, self._fd)
            stack.callback(self._remove)
            self._is_lost = not _becomes_later(self._fd, ctime_ns)

    def sync(self, fd: int) -> None:
        """Writes the file of which this is to the disk."""
        if not self._is_lost:
            with self._trying():
                os.fsync(fd)

    def publish(self) -> None:
        """Makes it the record, in place of one that was there."""
        if not self._is_lost:
            with self._trying():
                os.write(self._fd, self.content)
                os.rename(
                    self._name,
                    self._final_name,
                    src_dir_fd=self._folder,
                    dst_dir_fd=self._folder,
                )

    def _remove(self) -> None:
        with suppress(OSError):  # it has its final name, or whoever tidies up removes it
            os.unlink(self._name, dir_fd=self._folder)

    @contextmanager
    def _trying(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._is_lost = True
            log.debug("what was verified is not recorded", extra={"error": str(error)})


@contextmanager
def _drafted(path: Path, digest: Digest, fd: int) -> Iterator[_Draft]:
    """A record of an open file as it is now; it is later than that, or will be none."""
    status = os.fstat(fd)
    with ExitStack() as stack:
        draft = _Draft(told_of(digest, status))
        if is_guarded(status):
            draft.begin(stack, path, digest, status.st_ctime_ns)
        yield draft


def _becomes_later(fd: int, ctime_ns: int) -> bool:
    """Whether a new file's time of change is later than another's, or is so in a moment.

    Then so is that of whatever changes from here on. Clocks of files go in steps.
    """
    end = time.monotonic() + CLOCK_STEP_SECONDS
    while os.fstat(fd).st_ctime_ns <= ctime_ns:
        if time.monotonic() > end:
            return False
        time.sleep(POLL_SECONDS)
        os.utime(fd)
    return True


def _open_folder(stack: ExitStack, path: Path, algorithm: str) -> int:
    """The folder of an algorithm's records, open for as long as the stack is; it may be new."""
    try:
        return stack.enter_context(folder_beneath(path, RECORDS_FOLDER, algorithm))
    except FileNotFoundError:
        make_beneath(path, RECORDS_FOLDER, algorithm)
        return stack.enter_context(folder_beneath(path, RECORDS_FOLDER, algorithm))
