"""Where a store's files are, and how its folder comes to be. All that touches a disk blocks.

A store is an OCI image layout, so other tools read it: ``oci-layout``, ``index.json`` and
``blobs``. Beside these it has ``ingest`` for what is unfinished, and ``verified`` for what is known
of large content (records.py); no other tool looks at these.
"""

from __future__ import annotations

import logging
import os
import secrets
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from multi_fetch.errors import InvalidRequestError
from multi_fetch.oci.layout import BLOBS_FOLDER, INDEX_FILE, MARKER_FILE, blob_name
from multi_fetch.store.beneath import folder_beneath, remove_beneath

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from multi_fetch.oci.digest import Digest

log = logging.getLogger(__name__)

INGEST_FOLDER: Final = "ingest"
RECORDS_FOLDER: Final = "verified"
# Within ingest: held by whoever changes index.json.
INDEX_LOCK: Final = "index.lock"

# image-layout.md, "oci-layout file" and "index.json file"
MARKER: Final = b'{"imageLayoutVersion":"1.0.0"}'
EMPTY_INDEX: Final = (
    b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
)

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class StoreFolder:
    """The names in a store.

    Args:
        path: of the folder; it need not be there yet.
        noun: what messages call it.

    Attributes:
        path: the same, absolute.
        name: for messages.
    """

    def __init__(self, path: str, noun: str = "store") -> None:
        self.path = Path(path).absolute()
        self.name = f"the {noun} {path}"

    def blob(self, digest: Digest) -> Path:
        """Where the content of a digest is, once it is whole and verified."""
        return self.path / blob_name(digest)

    def remove(self, digest: Digest, inode: tuple[int, int] | None = None) -> None:
        """Removes content, if it is there; but nothing that a symbolic link leads to.

        Args:
            digest: of the content.
            inode: as for ``remove_beneath``.

        Raises:
            OSError: the system does not let it.
        """
        remove_beneath(self.path, *blob_name(digest).split("/"), inode=inode)
        self.forget(digest)

    def try_remove(self, digest: Digest) -> bool:
        """Removes content; warns of a folder of its name, and of a file that is not ours to remove.

        Returns:
            Whether it is there no more.

        Raises:
            OSError: the system does not let it, for another reason.
        """
        try:
            self.remove(digest)
        except (IsADirectoryError, PermissionError) as error:
            facts = {"error": f"{self.blob(digest)}: {error.strerror}"}
            log.warning("this cannot be removed from the store: remove it yourself", extra=facts)
            return False
        return True

    def may_remove(self, digest: Digest) -> bool:
        """Whether ``try_remove`` would remove it, as far as can be seen beforehand."""
        path = self.blob(digest)
        is_folder = path.is_dir() and not path.is_symlink()
        return not is_folder and os.access(path.parent, os.W_OK | os.X_OK)

    def forget(self, digest: Digest) -> None:
        """Removes what is known of content, if anything is and the system lets it."""
        with suppress(OSError):  # what stays counts for the very file alone that was there
            remove_beneath(self.path, RECORDS_FOLDER, digest.algorithm, digest.encoded)

    def shared_ingest(self, digest: Digest) -> Path:
        """Where it grows: to be written by who holds the file's lock, and by one machine alone.

        A machine is one run of a kernel. What was not written to the disk before that one went
        down may be garbage, and a lock over a network may be no lock.
        """
        return self._ingest(f"{digest.algorithm}-{digest.encoded}.{machine()}")

    def private_ingest(self, name: str) -> Path:
        """A name that nobody else has."""
        unique = f"{machine()}.{os.getpid()}.{secrets.token_hex(6)}"
        return self._ingest(f"{name.replace(':', '-')}.{unique}")

    @property
    def ingests(self) -> Path:
        """The folder of what is unfinished."""
        return self.path / INGEST_FOLDER

    @property
    def index(self) -> Path:
        """index.json."""
        return self.path / INDEX_FILE

    @property
    def index_lock(self) -> Path:
        """The file that is locked by who changes index.json."""
        return self._ingest(INDEX_LOCK)

    def check(self, *, may_be_new: bool) -> None:
        """Refuses a folder that is something else.

        Args:
            may_be_new: whether it need not be there.

        Raises:
            InvalidRequestError: it is no folder, or has files and is no layout.
        """
        try:
            names = os.listdir(self.path)  # noqa: PTH208 - names alone
        except NotADirectoryError as error:
            raise InvalidRequestError(f"{self.name} is a file: name a folder") from error
        except FileNotFoundError as error:
            if not may_be_new:
                raise InvalidRequestError(f"{self.name} is not there") from error
            return
        except OSError:
            return  # whoever reads or writes will say why not
        if names and MARKER_FILE not in names and not {INGEST_FOLDER, BLOBS_FOLDER} & set(names):
            raise InvalidRequestError(
                f"{self.name} is a folder with other files: name a new one, or an OCI image layout"
            )

    def prepare(self) -> None:
        """Makes what is missing; may be done by many at a time, and over again.

        Raises:
            OSError: the system does not let it.
        """
        self.ingests.mkdir(parents=True, exist_ok=True)
        (self.path / BLOBS_FOLDER).mkdir(exist_ok=True)
        marker = self.path / MARKER_FILE
        if not _has_content(marker):
            self.replace(marker, [MARKER])
        # By a link, as somebody else may have written one with names in it by now.
        if not _has_content(self.index):
            self._write_first_index()

    def replace(self, path: Path, content: Iterable[bytes]) -> None:
        """Writes a file anew, so that it is the old one or the new one at any instant.

        Args:
            path: of the file, in the folder itself.
            content: the pieces of it.

        Raises:
            OSError: the system does not let it.
        """
        new = self.private_ingest(path.name).name
        with self._opened() as (root, ingests):
            try:
                write_out(new, content, ingests)
                os.replace(new, path.name, src_dir_fd=ingests, dst_dir_fd=root)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(new, dir_fd=ingests)
                raise

    def sync(self, folder: Path) -> None:
        """Writes to the disk which files a folder has.

        Raises:
            OSError: the system cannot.
        """
        fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _write_first_index(self) -> None:
        new = self.private_ingest(INDEX_FILE).name
        with self._opened() as (root, ingests):
            write_out(new, [EMPTY_INDEX], ingests)
            try:
                os.link(new, INDEX_FILE, src_dir_fd=ingests, dst_dir_fd=root)
            except FileExistsError:
                if not _has_content(self.index):  # of a tool that was stopped, and writes in place
                    os.replace(new, INDEX_FILE, src_dir_fd=ingests, dst_dir_fd=root)
            except OSError:  # without links: nobody is that fast
                os.replace(new, INDEX_FILE, src_dir_fd=ingests, dst_dir_fd=root)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(new, dir_fd=ingests)

    @contextmanager
    def _opened(self) -> Iterator[tuple[int, int]]:
        """The folder, and that of what is unfinished."""
        with folder_beneath(self.path) as root, folder_beneath(self.path, INGEST_FOLDER) as ingests:
            yield root, ingests

    def _ingest(self, name: str) -> Path:
        return self.ingests / name


def write_out(name: str, content: Iterable[bytes], folder: int) -> None:
    """Writes a new file in an open folder, and to the disk.

    Raises:
        OSError: the system does not let it.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o666, dir_fd=folder), "wb") as file:
        file.writelines(content)
        file.flush()
        os.fsync(file.fileno())


@cache
def machine() -> str:
    """What tells this machine, since it was started, from others that see the same folder."""
    try:
        return BOOT_ID.read_text("ascii").replace("-", "")[:12]
    except OSError:
        # Not Linux. Characters that have no place in a file's name have none in a host's either.
        return os.uname().nodename.replace("/", "-")[:64]


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
