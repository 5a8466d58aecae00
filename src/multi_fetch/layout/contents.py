"""What a layout's objects are: by index.json, the indexes below it, the hint, or their own words.

All here blocks: it is for threads, several at a time. What is known comes from index.json, which is
looked at anew for each object and read again where it has changed. Content is not verified, but
for what something is concluded from.
"""

from __future__ import annotations

from contextlib import closing
from threading import Lock
from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.advice import COPY_AGAIN
from multi_fetch.errors import (
    NotFoundError,
    RegistryError,
    SizeMismatchError,
    TooLargeError,
    UnsupportedError,
)
from multi_fetch.layout.nested import add_nested, is_intact
from multi_fetch.layout.part import Part, Refusal, Stamp, translated
from multi_fetch.limits import (
    MAX_DATA_BYTES,
    MAX_LAYOUT_INDEX_BYTES,
    MAX_LAYOUT_INDEX_MEMORY,
    MAX_MANIFEST_BYTES,
    MAX_MARKER_BYTES,
    MAX_WALKED_MEMORY,
)
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import Digest
from multi_fetch.oci.layout import (
    INDEX_FILE,
    MARKER_FILE,
    LayoutIndex,
    bare_layout_index,
    blob_name,
    check_marker,
    most_memory,
)
from multi_fetch.oci.manifest import is_manifest
from multi_fetch.oci.manifest_type import declared_type, fields_of, schema_version, type_by_shape
from multi_fetch.oci.media_types import INDEX_TYPES, OCTET_STREAM, SCHEMA1_TYPES
from multi_fetch.shelf import Book, Shelf

if TYPE_CHECKING:
    from collections.abc import Iterable

    from multi_fetch.layout.part import Source

# Tags that a message lists.
MAX_TOLD_TAGS: Final = 10


class Wanted(msgspec.Struct, frozen=True):
    """An object that is asked for.

    Attributes:
        tag: empty where there is a digest.
        digest: None where there is a tag.
        media_type: what it is expected to be, or empty.
        size: the bytes that it is expected to have, or None.
    """

    tag: str
    digest: Digest | None
    media_type: str = ""
    size: int | None = None


class Found(msgspec.Struct, frozen=True):
    """An object that is there.

    Attributes:
        descriptor: of it, with its size.
        part: where its content is; to be closed by who gets this.
        content: of small objects and manifests all that there is; None for others.
    """

    descriptor: Descriptor
    part: Part
    content: bytes | None


class _Known(msgspec.Struct):
    """What one version of index.json tells."""

    stamp: Stamp
    memory: int
    index: LayoutIndex
    named: dict[Digest, Descriptor]
    is_walked: bool


class Contents:
    """The objects of one layout.

    Args:
        source: where its files are.
        shelf: where its index is kept beside others; None for one of its own.
    """

    def __init__(self, source: Source, shelf: Shelf | None = None) -> None:
        self._source = source
        self._shelf = shelf or Shelf(MAX_LAYOUT_INDEX_MEMORY)
        self._book = Book(self._forget)
        self._lock = Lock()
        self._known: _Known | None = None
        self._refusal = Refusal()

    def find(self, wanted: Wanted) -> Found:
        """Opens an object.

        Raises:
            NotFoundError: no such tag, or no such content.
            InvalidRequestError: the tag is ambiguous.
            SizeMismatchError: it is not of the size that was expected, or that index.json says.
            TooLargeError: it is a manifest beyond the limit.
            UnsupportedError: it is of Docker's schema 1.
            RegistryError: the layout's own files are damaged, or index.json says another type than
                the manifest itself.
            DeniedError, UnavailableError: it cannot be read.
        """
        with self._shelf.using(self._book):
            named = self._named(wanted)
        digest = wanted.digest if named is None else named.digest
        assert digest is not None, "a tag is named, or not found"
        return self._find(wanted, named, digest)

    def find_blob(self, wanted: Wanted) -> Found:
        """The same by a digest, and index.json is not asked what it is.

        Raises:
            MultiFetchError: as for ``find``.
        """
        assert wanted.digest is not None, "only index.json knows tags"
        return self._find(wanted, None, wanted.digest)

    def _find(self, wanted: Wanted, named: Descriptor | None, digest: Digest) -> Found:
        part = self._open_blob(digest)
        try:
            with translated(f"{digest} in {self._source.name}"):
                return _describe(wanted, named, digest, part)
        except BaseException:
            part.close()
            raise

    def open(self, descriptor: Descriptor) -> Found:
        """Opens what a descriptor describes, whatever it is.

        Raises:
            SizeMismatchError: it is not of its size.
            MultiFetchError: as for ``find``.
        """
        part = self._open_blob(descriptor.digest)
        if descriptor.size not in {None, part.size}:
            part.close()
            assert descriptor.size is not None
            raise SizeMismatchError(want=descriptor.size, got=part.size)
        return Found(descriptor, part, None)

    def names(self) -> list[str]:
        """What index.json has names for.

        Raises:
            RegistryError: the layout's own files are damaged.
            MultiFetchError: they cannot be read.
        """
        with self._shelf.using(self._book):
            return self._read_index().index.names()

    def manifests(self) -> list[Descriptor]:
        """All that index.json leads to; raises as ``names`` does."""
        with self._shelf.using(self._book):
            return list(self._read_index(is_walked=True).named.values())

    def _open_blob(self, digest: Digest) -> Part:
        name = blob_name(digest)
        try:
            return self._source.open(name)
        except NotFoundError as error:
            raise NotFoundError(
                f"{self._source.name} has no {digest}: no file {name}{COPY_AGAIN}"
            ) from error

    def _named(self, wanted: Wanted) -> Descriptor | None:
        known = self._read_index()
        if wanted.digest is None:
            found = known.index.find(wanted.tag)
            if found is None:
                raise NotFoundError(
                    f"{self._source.name} has no tag {wanted.tag}; it has {_told(known.index.tags)}"
                )
            return found
        if wanted.digest not in known.named and not wanted.media_type:
            known = self._read_index(is_walked=True)
        return known.named.get(wanted.digest)

    def _read_index(self, *, is_walked: bool = False) -> _Known:
        """What index.json tells; where asked for, with what the indexes below it do."""
        with self._lock, closing(self._open(INDEX_FILE)) as part:
            known = self._known
            if known is None or known.stamp != part.stamp or is_walked > known.is_walked:
                with closing(self._open(MARKER_FILE)) as marker:
                    check_marker(self._read(marker, MARKER_FILE, MAX_MARKER_BYTES))
                with self._refusal.of(part.stamp):
                    known = self._read_anew(part, is_walked=is_walked)
            return known

    def _read_anew(self, part: Part, *, is_walked: bool) -> _Known:
        # Read again to be walked: who waits for more room while it has some may wait for ever.
        room = MAX_WALKED_MEMORY if is_walked else 0
        self._shelf.reserve(self._book, max(room, most_memory(part.size)))
        try:
            self._known = known = self._known_from(part)
            if not known.is_walked and is_walked:
                known.is_walked = True
                known.memory += add_nested(self._source, known.named, known.memory)
        finally:
            self._shelf.settle(self._book, 0 if self._known is None else self._known.memory)
        return known

    def _known_from(self, part: Part) -> _Known:
        content = self._read(part, INDEX_FILE, MAX_LAYOUT_INDEX_BYTES)
        index = bare_layout_index(content)
        named = {each.digest: each for each in reversed(index.manifests)}
        is_flat = not any(each.media_type in INDEX_TYPES for each in index.manifests)
        return _Known(part.stamp, index.memory(), index, named, is_walked=is_flat)

    def _forget(self) -> None:
        self._known = None

    def _open(self, name: str) -> Part:
        try:
            return self._source.open(name)
        except NotFoundError as error:
            raise RegistryError(
                f"{self._source.name} is no OCI image layout: there is no {name}: check the path"
            ) from error

    def _read(self, part: Part, name: str, limit: int) -> bytes:
        if part.size > limit:
            raise TooLargeError(
                f"{name} in {self._source.name} has {part.size} bytes, more than"
                f" {limit}{COPY_AGAIN}"
            )
        with translated(f"{name} in {self._source.name}"):
            return part.read(part.size)


def _describe(wanted: Wanted, named: Descriptor | None, digest: Digest, part: Part) -> Found:
    """What the content is; it is read if it is small, or a manifest."""
    for expected in (wanted.size, None if named is None else named.size):
        if expected is not None and expected != part.size:
            raise SizeMismatchError(want=expected, got=part.size)
    media_type = wanted.media_type if named is None else named.media_type
    content: bytes | None = None
    if is_manifest(media_type):
        if part.size > MAX_MANIFEST_BYTES:
            raise TooLargeError(
                f"the manifest has {part.size} bytes; the limit is {MAX_MANIFEST_BYTES}{COPY_AGAIN}"
            )
        content = part.read(part.size)
        media_type = _checked_type(media_type, digest, content, is_hint=named is None)
    elif part.size <= MAX_DATA_BYTES:
        content = part.read(part.size)
        media_type = media_type or _guessed_type(content)
    descriptor = Descriptor(media_type=media_type or OCTET_STREAM, digest=digest, size=part.size)
    return Found(descriptor, part, content)


def _checked_type(media_type: str, digest: Digest, content: bytes, *, is_hint: bool) -> str:
    """A manifest's type by index.json or a hint, held against its own words."""
    fields = fields_of(content)
    own_type = declared_type(fields) if fields and is_intact(digest, content) else ""
    if own_type and own_type != media_type:
        if not is_hint:
            raise RegistryError(
                f"the manifest is of mediaType {own_type}, but the layout's index says"
                f" {media_type}: image-spec wants them to be the same{COPY_AGAIN}"
            )
        media_type = own_type
    if media_type in SCHEMA1_TYPES:
        raise UnsupportedError(
            "the layout has this only as Docker image manifest version 2, schema 1, which is"
            " deprecated and not supported: copy it again with a current tool"
        )
    return media_type


def _guessed_type(content: bytes) -> str:
    """The type of what nothing is known of: of a manifest of version 2 its own, else none."""
    fields = fields_of(content) if content[:1] == b"{" else None
    if fields is None or schema_version(fields) != b"2":
        return ""
    try:
        media_type = declared_type(fields) or type_by_shape(fields)
    except RegistryError:  # it is no manifest, then
        return ""
    return media_type if is_manifest(media_type) else ""


def _told(tags: Iterable[str]) -> str:
    """Some tags, for a message."""
    names = sorted(tags)
    more = "" if len(names) <= MAX_TOLD_TAGS else f" and {len(names) - MAX_TOLD_TAGS} more"
    return ", ".join(name[:128] for name in names[:MAX_TOLD_TAGS]) + more if names else "none"
