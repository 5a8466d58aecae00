"""What is in the store, found by digest and read. All here blocks.

Content has its digest's name because it was verified when it was written. What is read whole
anyway, small objects and manifests, is hashed once more before it is given; larger content is
hashed by who consumes it. What is found to be damaged is removed, so that it is fetched anew.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from multi_fetch.errors import NotFoundError, SizeMismatchError, UnavailableError
from multi_fetch.layout.contents import Contents, Found
from multi_fetch.layout.folder import Folder
from multi_fetch.layout.part import translated
from multi_fetch.limits import MAX_DATA_BYTES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import new_hasher
from multi_fetch.oci.media_types import OCTET_STREAM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from multi_fetch.layout.contents import Wanted
    from multi_fetch.layout.part import Part
    from multi_fetch.oci.digest import Digest
    from multi_fetch.store.folder import StoreFolder

log = logging.getLogger(__name__)

# A file's time of modification says when it was last used, as this is not kept on every system
# otherwise; it is set again when it is older than this.
STAMP_SECONDS: Final = 3600.0


class Blobs:
    """Content by digest.

    Args:
        folder: the store's.
        is_checked: whether all content is hashed before it is given.
    """

    def __init__(self, folder: StoreFolder, *, is_checked: bool) -> None:
        self._folder = folder
        self._is_checked = is_checked
        self._contents = Contents(Folder(folder.name, str(folder.path)))

    def find(self, wanted: Wanted) -> Found:
        """Opens an object, which has a digest.

        Raises:
            NotFoundError: it is not there, or was damaged.
            MultiFetchError: as ``Contents.find_blob`` does.
        """
        digest = wanted.digest
        assert digest is not None, "index.json is for names"
        try:
            with self._may_be_new():
                found = self._contents.find_blob(wanted)
        except SizeMismatchError:
            self._recheck(digest)  # it may have been cut; if not, something else was wanted
            raise
        try:
            self._check(digest, found)
        except BaseException:
            found.part.close()
            raise
        self._stamp(digest, found.part)
        return found

    def open(self, descriptor: Descriptor) -> Found:
        """Opens what a descriptor describes.

        Raises:
            MultiFetchError: as for ``find``.
        """
        with self._may_be_new():
            return self._contents.open(descriptor)

    def remove_if_damaged(self, digest: Digest) -> bool:
        """Looks at it as a whole, and removes it if it is not what its name says.

        Raises:
            MultiFetchError: as for ``open``, or it cannot be read.
        """
        octets = Descriptor(media_type=OCTET_STREAM, digest=digest, size=None)
        try:
            part = self.open(octets).part
        except NotFoundError:
            return True
        try:
            with translated(digest):
                is_damaged = not is_intact(digest, part)
            if is_damaged:
                self._remove(digest, part)
        finally:
            part.close()
        return is_damaged

    def path(self, digest: Digest) -> Path | None:
        """Where it is; None where it is not there."""
        path = self.place(digest)
        return path if path.exists() else None

    def sound_path(self, digest: Digest) -> Path | None:
        """Where it is; None where it is not there, or was damaged and is there no more.

        Raises:
            MultiFetchError: as for ``remove_if_damaged``.
        """
        return None if self.remove_if_damaged(digest) else self.place(digest)

    def place(self, digest: Digest) -> Path:
        """Where it is, if it is there. This does not block."""
        return self._folder.blob(digest)

    @contextmanager
    def _may_be_new(self) -> Iterator[None]:
        """A store that nothing was ever kept in has nothing."""
        try:
            yield
        except UnavailableError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise NotFoundError(f"{self._folder.name} is not there") from error
            raise

    def _check(self, digest: Digest, found: Found) -> None:
        if found.content is None and not self._is_checked:
            return
        with translated(digest):
            is_damaged = not is_intact(digest, found.part)
        if is_damaged:
            self._remove(digest, found.part)
            raise NotFoundError(f"{self._folder.name} had {digest} damaged")

    def _recheck(self, digest: Digest) -> None:
        if self.remove_if_damaged(digest):
            raise NotFoundError(f"{self._folder.name} had {digest} damaged")

    def _remove(self, digest: Digest, part: Part) -> None:
        """Removes what was looked at, and not what another has put in its place since then."""
        facts = {"digest": digest}
        try:
            self._folder.remove(digest, inode=part.stamp[:2])
        except OSError as error:
            log.warning(
                "content in the store is damaged, and cannot be removed",
                extra={**facts, "error": str(error)},
            )
        else:
            log.warning("content in the store was damaged, and was removed", extra=facts)

    def _stamp(self, digest: Digest, part: Part) -> None:
        modified_ns = part.stamp[3]
        if time.time() - modified_ns / 1e9 > STAMP_SECONDS:
            with suppress(OSError):  # of a store that may only be read
                os.utime(self._folder.blob(digest))


def is_intact(digest: Digest, part: Part) -> bool:
    """Whether a file has the content that its name says.

    Raises:
        UnsupportedError: nobody can say.
        OSError: the system cannot read it.
    """
    hasher, offset = new_hasher(digest.algorithm), 0
    buffer = memoryview(bytearray(min(part.size, 2 * MAX_DATA_BYTES)))
    while count := part.read_into(buffer, offset):
        hasher.update(buffer[:count])
        offset += count
    return hasher.hexdigest() == digest.encoded
