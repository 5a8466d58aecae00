"""What there is in a store, one after the other: content, entries of index.json, what these name.

All here blocks. What it takes to keep all of it is in catalogue.py.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from multi_fetch.errors import (
    DeniedError,
    InvalidDigestError,
    MultiFetchError,
    NotFoundError,
    RegistryError,
    TooLargeError,
)
from multi_fetch.layout.folder import Folder
from multi_fetch.limits import MAX_LAYOUT_INDEX_BYTES, MAX_MANIFEST_BYTES
from multi_fetch.oci.digest import Digest, parse_digest
from multi_fetch.oci.layout import BLOBS_FOLDER, blob_name, layout_entries
from multi_fetch.oci.manifest import parse_manifest
from multi_fetch.store.beneath import folder_beneath, read_at_most
from multi_fetch.store.blobs import is_intact
from multi_fetch.store.records import Records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from multi_fetch.layout.part import Part
    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.store.folder import StoreFolder


class Kept(msgspec.Struct, frozen=True):
    """Content in a store.

    Attributes:
        digest: of it.
        size: in bytes, as its file has them.
        used: when it was last used, to about an hour, in seconds since 1970.
    """

    digest: Digest
    size: int
    used: float


def kept_in(folder: StoreFolder) -> Iterator[Kept]:
    """All content, in no order.

    Raises:
        OSError: the system cannot list it.
    """
    records = Records(folder)
    with folder_beneath(folder.path, BLOBS_FOLDER) as blobs, os.scandir(blobs) as algorithms:
        for algorithm in (entry.name for entry in algorithms):  # of which there may be any number
            try:
                with (
                    folder_beneath(folder.path, BLOBS_FOLDER, algorithm) as inner,
                    records.uses(algorithm) as used,
                ):
                    yield from _kept_of(algorithm, inner, used)
            except (NotADirectoryError, FileNotFoundError):
                continue  # a link, which may lead anywhere; a file; or it was removed now


def is_used_since(folder: StoreFolder, kept: Kept) -> bool:
    """Whether content was used, or kept anew, since it was listed.

    Raises:
        FileNotFoundError: it is not there.
        OSError: the system does not say.
    """
    *folders, _ = blob_name(kept.digest).split("/")
    with (
        folder_beneath(folder.path, *folders) as inner,
        Records(folder).uses(kept.digest.algorithm) as used,
    ):
        return _one_of(kept.digest, inner, used).used > kept.used


def _kept_of(algorithm: str, fd: int, used: Callable[[str], float]) -> Iterator[Kept]:
    with os.scandir(fd) as entries:
        for entry in entries:
            try:
                digest = parse_digest(f"{algorithm}:{entry.name}")
                yield _one_of(digest, fd, used)
            except (InvalidDigestError, FileNotFoundError):
                continue  # somebody else's file, or it was removed in this moment


def _one_of(digest: Digest, fd: int, used: Callable[[str], float]) -> Kept:
    status = os.stat(digest.encoded, dir_fd=fd, follow_symlinks=False)
    return Kept(digest, status.st_size, max(status.st_mtime, used(digest.encoded)))


def roots_in(folder: StoreFolder) -> Iterator[Descriptor]:
    """What index.json names: type, digest, size and name of each entry.

    Raises:
        RegistryError, TooLargeError: index.json cannot be read.
        OSError: the system cannot read it.
    """
    return layout_entries(read_at_most(folder.index, MAX_LAYOUT_INDEX_BYTES))


def children_in(folder: StoreFolder, digest: Digest) -> Sequence[Descriptor]:
    """What a manifest names that is there; nothing, if it is not there.

    Its type is what somebody says that names it, and another may say otherwise: it tells nothing.

    Raises:
        TooLargeError: it names too much to look into.
        RegistryError: it is damaged, or no manifest.
        MultiFetchError: it may not be read, or cannot be.
        OSError: the system cannot read it.
    """
    try:
        part = _opened(folder, digest)
    except NotFoundError:
        return ()
    try:
        if part.size > MAX_MANIFEST_BYTES:
            raise TooLargeError(f"it has more than {MAX_MANIFEST_BYTES} bytes")
        return parse_manifest(part.read(part.size), "").children()
    finally:
        part.close()


def _opened(folder: StoreFolder, digest: Digest) -> Part:
    return Folder(folder.name, str(folder.path)).open(blob_name(digest))


def is_sound(folder: StoreFolder, digest: Digest) -> bool:
    """Whether content is what its name says; what is not there any more is.

    Raises:
        MultiFetchError: it may not be read, or cannot be.
        OSError: the system cannot read it.
        UnsupportedError: nobody can say.
    """
    try:
        part = _opened(folder, digest)
    except RegistryError:
        return False  # a folder, or a device
    except MultiFetchError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return True
        if isinstance(error, DeniedError) and error.__cause__ is None:
            return False  # a link that leads out of the store, where no content is
        raise
    try:
        return is_intact(digest, part)
    finally:
        part.close()
