"""What there is in a store: its content, and what index.json reaches of it. All here blocks."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import msgspec

from multi_fetch.errors import InvalidDigestError, MultiFetchError, RegistryError
from multi_fetch.layout.folder import Folder
from multi_fetch.limits import MAX_LAYOUT_INDEX_BYTES, MAX_MANIFEST_BYTES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import Digest, parse_digest
from multi_fetch.oci.layout import BLOBS_FOLDER, REF_NAME, parse_layout_index
from multi_fetch.oci.manifest import is_manifest, parse_manifest
from multi_fetch.store.beneath import folder_beneath, read_at_most
from multi_fetch.store.blobs import is_intact
from multi_fetch.store.records import Records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from multi_fetch.store.folder import StoreFolder

log = logging.getLogger(__name__)


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


class Root(msgspec.Struct, frozen=True):
    """An entry of index.json.

    Attributes:
        descriptor: what it names.
        reached: its digest, and those of all that is there below it.
    """

    descriptor: Descriptor
    reached: frozenset[Digest]

    @property
    def name(self) -> str:
        """What it is called; empty for nothing."""
        return self.descriptor.annotations.get(REF_NAME, "")


def kept_in(folder: StoreFolder) -> Iterator[Kept]:
    """All content, in the order of its digests.

    Raises:
        OSError: the system cannot list it.
    """
    with folder_beneath(folder.path, BLOBS_FOLDER) as blobs:
        algorithms = sorted(os.listdir(blobs))  # noqa: PTH208 - of what is open
    records = Records(folder)
    for algorithm in algorithms:
        try:
            with folder_beneath(folder.path, BLOBS_FOLDER, algorithm) as inner:
                kept = list(_kept_of(algorithm, inner, records.uses(algorithm)))
        except (NotADirectoryError, FileNotFoundError):
            continue  # a link, which may lead anywhere; a file; or it was removed in this moment
        yield from kept


def _kept_of(algorithm: str, fd: int, uses: Mapping[str, float]) -> Iterator[Kept]:
    for name in sorted(os.listdir(fd)):
        try:
            digest = parse_digest(f"{algorithm}:{name}")
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except (InvalidDigestError, FileNotFoundError):
            continue  # somebody else's file, or it was removed in this moment
        used = max(status.st_mtime, uses.get(name, 0.0))
        yield Kept(digest, status.st_size, used)


def roots_in(folder: StoreFolder) -> list[Root]:
    """What index.json names, with all that each entry reaches.

    Raises:
        RegistryError, TooLargeError: index.json cannot be read.
        OSError: the system cannot read it.
    """
    index = parse_layout_index(read_at_most(folder.index, MAX_LAYOUT_INDEX_BYTES))
    below: dict[Digest, tuple[Descriptor, ...]] = {}
    return [Root(each, frozenset(_reached(folder, each, below))) for each in index.manifests]


def _reached(
    folder: StoreFolder, root: Descriptor, below: dict[Digest, tuple[Descriptor, ...]]
) -> set[Digest]:
    seen: set[Digest] = set()
    left = [root]
    while left:
        each = left.pop()
        if each.digest in seen:
            continue
        seen.add(each.digest)
        if is_manifest(each.media_type):
            if each.digest not in below:
                below[each.digest] = _children(folder, each)
            left.extend(below[each.digest])
    return seen


def _children(folder: StoreFolder, manifest: Descriptor) -> tuple[Descriptor, ...]:
    try:
        content = read_at_most(folder.blob(manifest.digest), MAX_MANIFEST_BYTES)
        if len(content) > MAX_MANIFEST_BYTES:
            return ()
        return tuple(parse_manifest(content, manifest.media_type).children())
    except FileNotFoundError:
        return ()
    except MultiFetchError as error:
        facts = {"digest": manifest.digest, "error": error.message}
        log.warning("a manifest in the store cannot be read", extra=facts)
        return ()


def is_sound(folder: StoreFolder, digest: Digest) -> bool:
    """Whether content is what its name says; what is not there any more is.

    Raises:
        OSError: the system cannot read it.
        UnsupportedError: nobody can say.
    """
    try:
        part = Folder(folder.name, str(folder.path)).open(
            f"{BLOBS_FOLDER}/{digest.algorithm}/{digest.encoded}"
        )
    except RegistryError:
        return False  # a folder, or a device
    except MultiFetchError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return True
        raise
    try:
        return is_intact(digest, part)
    finally:
        part.close()
