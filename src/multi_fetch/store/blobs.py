"""What is in the store, found by digest and read. All here blocks.

Content has its digest's name because it was verified when it was written. What is read whole
anyway, small objects and manifests, is hashed once more before it is given; larger content is
hashed by who consumes it, or here, unless a record says that it need not be (records.py). What is
found to be damaged is removed, so that it is fetched anew.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import contextmanager, suppress
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING

from multi_fetch.errors import NotFoundError, SizeMismatchError, UnavailableError
from multi_fetch.layout.contents import Contents, Found
from multi_fetch.layout.folder import Folder
from multi_fetch.layout.part import translated
from multi_fetch.limits import MAX_DATA_BYTES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import new_hasher
from multi_fetch.oci.media_types import OCTET_STREAM
from multi_fetch.store.records import STAMP_SECONDS, Records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from multi_fetch.layout.contents import Wanted
    from multi_fetch.layout.part import Part
    from multi_fetch.oci.digest import Digest
    from multi_fetch.store.folder import StoreFolder

log = logging.getLogger(__name__)


def always() -> None:
    """Goes on."""


class Check(Enum):
    """When large content is hashed before it is given; small objects and manifests always are.

    Attributes:
        BY_READER: never: whoever reads it hashes it.
        ONCE: where it is not known to be as it was when it was last verified. For whoever tells
            others which file it is in.
        ALWAYS: each time.
    """

    BY_READER = auto()
    ONCE = auto()
    ALWAYS = auto()


class Blobs:
    """Content by digest.

    Args:
        folder: the store's.
        check: when it is hashed.
    """

    def __init__(self, folder: StoreFolder, check: Check) -> None:
        self._folder = folder
        self._check = check
        self._records = Records(folder)
        self._contents = Contents(Folder(folder.name, str(folder.path)))

    def find(self, wanted: Wanted, go_on: Callable[[], None] = always) -> Found:
        """Opens an object, which has a digest.

        Args:
            wanted: which one.
            go_on: is called again and again while it is hashed; to end that, it raises OSError.

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
            self._require_right(digest, found, go_on)
        except BaseException:
            found.part.close()
            raise
        self._stamp(digest, found)
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
        path = self._folder.blob(digest)
        return path if path.exists() else None

    def sound_path(self, digest: Digest) -> Path | None:
        """Where it is; None where it is not there, or was damaged and is there no more.

        Raises:
            MultiFetchError: as for ``remove_if_damaged``.
        """
        return None if self.remove_if_damaged(digest) else self._folder.blob(digest)

    def verified_path(self, found: Found) -> Path | None:
        """Where what was found is; None where it is left to its reader to verify; not blocking."""
        if found.content is None and self._check is Check.BY_READER:
            return None
        return self._folder.blob(found.descriptor.digest)

    @contextmanager
    def _may_be_new(self) -> Iterator[None]:
        """A store that nothing was ever kept in has nothing."""
        try:
            yield
        except UnavailableError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise NotFoundError(f"{self._folder.name} is not there") from error
            raise

    def _require_right(self, digest: Digest, found: Found, go_on: Callable[[], None]) -> None:
        with translated(digest):
            is_right = self._is_right(digest, found, go_on)
        if not is_right:
            self._remove(digest, found.part)
            raise NotFoundError(f"{self._folder.name} had {digest} damaged")

    def _is_right(self, digest: Digest, found: Found, go_on: Callable[[], None]) -> bool:
        if found.content is not None:
            return is_intact(digest, found.part)
        if self._check is Check.BY_READER:
            return True
        fd = found.part.fileno()
        if self._check is Check.ONCE and self._records.vouch_for(digest, fd):
            return True
        return self._records.verify(digest, fd, partial(is_intact, digest, found.part, go_on))

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

    def _stamp(self, digest: Digest, found: Found) -> None:
        """Notes a use: by the file's time of modification, unless there is a record to say it."""
        if found.content is None and self._records.stamp(digest):
            return
        modified_ns = found.part.stamp[3]
        if time.time() - modified_ns / 1e9 > STAMP_SECONDS:
            with suppress(OSError):  # of a store that may only be read
                os.utime(self._folder.blob(digest))


def is_intact(digest: Digest, part: Part, go_on: Callable[[], None] = always) -> bool:
    """Whether a file has the content that its name says.

    Args:
        digest: that its name says.
        part: the file.
        go_on: as for ``Blobs.find``.

    Raises:
        UnsupportedError: nobody can say.
        OSError: the system cannot read it, or ``go_on`` does not want it to.
    """
    hasher, offset = new_hasher(digest.algorithm), 0
    buffer = memoryview(bytearray(min(part.size, 2 * MAX_DATA_BYTES)))
    while count := part.read_into(buffer, offset):
        go_on()
        hasher.update(buffer[:count])
        offset += count
    return hasher.hexdigest() == digest.encoded
