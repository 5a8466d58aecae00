"""The documents and names of an OCI image layout (image-spec, image-layout.md), without I/O.

A tag is a descriptor of index.json with the annotation ``org.opencontainers.image.ref.name``.
skopeo, oras and docker write the bare tag there, podman the full reference. Both are found by the
bare tag; which tool wrote the layout is of no matter to whoever asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from sys import getsizeof
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from multi_fetch.advice import COPY_AGAIN
from multi_fetch.errors import (
    InvalidReferenceError,
    InvalidRequestError,
    RegistryError,
    TooLargeError,
    UnsupportedError,
)
from multi_fetch.limits import (
    LAYOUT_ENTRY_MEMORY,
    LAYOUT_FIELD_MEMORY,
    LAYOUT_TEXT_MEMORY,
    MAX_LAYOUT_ENTRIES,
    MAX_LAYOUT_INDEX_MEMORY,
    MAX_LAYOUT_KEPT_MEMORY,
    MAX_REFERENCE_CHARACTERS,
)
from multi_fetch.oci.descriptor import NO_ANNOTATIONS, Descriptor, Int64, decode_hook, encode_hook
from multi_fetch.oci.digest import Digest, parse_digest
from multi_fetch.oci.manifest import check_named
from multi_fetch.oci.quote import quote
from multi_fetch.oci.reference import TAG, parse_familiar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from multi_fetch.oci.digest import Chunk

# image-layout.md, "oci-layout file" and "index.json file"
MARKER_FILE: Final = "oci-layout"
INDEX_FILE: Final = "index.json"
BLOBS_FOLDER: Final = "blobs"
LAYOUT_VERSION: Final = "1.0.0"

# annotations.md: the tag of a descriptor in index.json
REF_NAME: Final = "org.opencontainers.image.ref.name"

# RFC 8259, section 7: a character beyond U+FFFF as two escapes of six.
ESCAPED_BYTES: Final = 12


class _Marker(msgspec.Struct, rename="camel"):
    image_layout_version: str


class _Index(msgspec.Struct):
    manifests: tuple[Descriptor, ...] = ()


class _Entries(msgspec.Struct):
    """Each as it is written."""

    manifests: list[msgspec.Raw] = []


class _Name(msgspec.Struct):
    name: msgspec.Raw = msgspec.field(default=msgspec.Raw(b'""'), name=REF_NAME)


class _Entry(msgspec.Struct, rename="camel"):
    media_type: str
    digest: Digest
    size: Int64 | None
    annotations: _Name = msgspec.field(default_factory=_Name)


class LayoutIndex(msgspec.Struct, frozen=True):
    """What ``index.json`` says.

    Attributes:
        manifests: all that it names, in its order.
        tags: each name with what it stands for, as it is written; of two descriptors of one name
            the first, as in skopeo (image-layout.md does not say).
    """

    manifests: tuple[Descriptor, ...]
    tags: Mapping[str, Descriptor]

    def find(self, tag: str) -> Descriptor | None:
        """What a tag stands for: by its bare name, else as the tag of a full reference.

        Raises:
            InvalidRequestError: several full references have this tag, and do not mean the same.
        """
        if tag in self.tags:
            return self.tags[tag]
        found = {name: each for name, each in self.tags.items() if _is_tag_of(tag, name)}
        if len({each.digest for each in found.values()}) > 1:
            names = ", ".join(f"{name} is {each.digest}" for name, each in found.items())
            raise InvalidRequestError(
                f"the tag {tag} is ambiguous here, so ask by digest: {names[:1_000]}"
            )
        return next(iter(found.values()), None)

    def memory(self) -> int:
        """What it takes, about, where all that it names is bare."""
        return sum(map(getsizeof, self.tags)) + sum(map(entry_memory, self.manifests))

    def names(self) -> list[str]:
        """The names to ask by, sorted: tags, also those of full references; or what is neither."""
        return sorted({_bare(name) for name in self.tags})


_marker_decoder = msgspec.json.Decoder(_Marker)
_index_decoder = msgspec.json.Decoder(_Index, dec_hook=decode_hook)
_entries_decoder = msgspec.json.Decoder(_Entries)
_name_decoder = msgspec.json.Decoder(str)
_entry_decoder = msgspec.json.Decoder(_Entry, dec_hook=decode_hook)
_encoder = msgspec.json.Encoder(enc_hook=encode_hook)


def entry_memory(entry: Descriptor) -> int:
    """What a bare descriptor takes, about."""
    texts = getsizeof(entry.digest) + getsizeof(entry.media_type)
    return LAYOUT_ENTRY_MEMORY + max(0, texts - LAYOUT_TEXT_MEMORY)


def check_marker(content: Chunk) -> None:
    """Reads ``oci-layout``.

    Raises:
        RegistryError: it is not what the specification has there.
        UnsupportedError: the layout is of another version.
    """
    try:
        marker = _marker_decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RegistryError(f"{MARKER_FILE} cannot be read: {error}{COPY_AGAIN}") from error
    if marker.image_layout_version != LAYOUT_VERSION:
        raise UnsupportedError(
            f"{MARKER_FILE} says layout version {quote(marker.image_layout_version)},"
            f" not {LAYOUT_VERSION}{COPY_AGAIN}"
        )


def parse_layout_index(content: Chunk, name: str = INDEX_FILE) -> LayoutIndex:
    """Reads ``index.json``, or another index of which the errors say the name.

    Raises:
        RegistryError: it is no index, or a descriptor in it is none.
        TooLargeError: it names more than MAX_LAYOUT_ENTRIES objects, or says too much of them.
    """
    check_memory([content], name)
    try:
        manifests = _index_decoder.decode(content).manifests
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RegistryError(f"{name} cannot be read: {error}{COPY_AGAIN}") from error
    _check_count(len(manifests), name)
    tags: dict[str, Descriptor] = {}
    for each in manifests:
        check_named(each, name)
        tag = each.annotations.get(REF_NAME)
        if tag is not None:
            tags.setdefault(tag, each)
    return LayoutIndex(manifests, tags)


def bare_layout_index(content: Chunk) -> LayoutIndex:
    """What ``index.json`` says, but of each that it names only the three fields that it must have.

    A tenth of the memory of all would be left where each has annotations; so no more is decoded.

    Raises:
        RegistryError, TooLargeError: as for ``parse_layout_index``; or the names take more than
            MAX_LAYOUT_KEPT_MEMORY.
    """
    manifests: list[Descriptor] = []
    tags: dict[str, Descriptor] = {}
    memory = 0
    for each, name in _entries(content):
        manifests.append(each)
        if name:
            tags.setdefault(name, each)
        memory += entry_memory(each) + getsizeof(name)
        if memory > MAX_LAYOUT_KEPT_MEMORY:  # and the text is still there
            raise TooLargeError(
                f"the names in {INDEX_FILE} are too much: split the layout, and ask each of the"
                " parts"
            )
    return LayoutIndex(tuple(manifests), tags)


def layout_entries(content: Chunk) -> Iterator[Descriptor]:
    """What index.json names, one after the other: for who could not bear all of it at a time.

    Of each there are the three fields that it must have, and its name, of which one that is longer
    than any that can be asked for is cut.

    Raises:
        RegistryError, TooLargeError: as for ``parse_layout_index``; while iterating too.
    """
    for each, name in _entries(content):
        yield replace(each, annotations={REF_NAME: name}) if name else each


def index_pieces(
    document: Mapping[str, msgspec.Raw], entries: Iterable[msgspec.Raw | Descriptor]
) -> Iterator[bytes]:
    """An ``index.json`` as it is written: all of it, beside the one that it was, would be too much.

    Args:
        document: its fields.
        entries: what is in ``manifests`` now.
    """
    others = {field: value for field, value in document.items() if field != "manifests"}
    yield _encoder.encode({**others, "manifests": []}).removesuffix(b"]}")
    comma = b""
    for entry in entries:
        yield comma
        yield _encoder.encode(entry)
        comma = b","
    yield b"]}"


def _entries(content: Chunk) -> Iterator[tuple[Descriptor, str]]:
    check_memory([content])
    types: dict[str, str] = {}
    try:
        entries = _entries_decoder.decode(content).manifests
        _check_count(len(entries), INDEX_FILE)
        for each in map(_entry_decoder.decode, entries):
            bare = Descriptor(
                media_type=types.setdefault(each.media_type, each.media_type),
                digest=each.digest,
                size=each.size,
                annotations=NO_ANNOTATIONS,
            )
            check_named(bare, INDEX_FILE)
            yield bare, _decoded_name(bytes(each.annotations.name))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RegistryError(f"{INDEX_FILE} cannot be read: {error}{COPY_AGAIN}") from error


def _decoded_name(written: bytes) -> str:
    if len(written) <= MAX_REFERENCE_CHARACTERS * ESCAPED_BYTES:
        return _name_decoder.decode(written)
    return f"{written[1:MAX_REFERENCE_CHARACTERS].decode('utf-8', 'replace')}..."


def _check_count(count: int, name: str) -> None:
    if count > MAX_LAYOUT_ENTRIES:
        raise TooLargeError(
            f"{name} names {count} objects, more than {MAX_LAYOUT_ENTRIES}: make several layouts"
            " of it"
        )


def check_memory(pieces: Iterable[Chunk], name: str = INDEX_FILE) -> None:
    """Refuses an index that might take too much memory, before it is decoded.

    Args:
        pieces: of its text, none of which cuts an escaped character.
        name: for the error.

    Raises:
        TooLargeError: it might take more than MAX_LAYOUT_INDEX_MEMORY.
    """
    length = colons = commas = 0
    width = 1
    for text in map(bytes, pieces):
        length += len(text)
        colons += text.count(b":")
        commas += text.count(b",")
        # Python keeps a text with one rare character in four bytes for each; an escaped one is
        # copied.
        if not text.isascii() or b"\\u" in text:
            width = 5
    fields = max(colons, commas)
    if (1 + width) * length + LAYOUT_FIELD_MEMORY * fields > MAX_LAYOUT_INDEX_MEMORY:
        raise TooLargeError(
            f"{name} has {fields} fields in {length} bytes, which is too much: split the layout"
        )


def most_memory(size: int) -> int:
    """The most that one of so many bytes might take, if it is not refused."""
    return min(MAX_LAYOUT_INDEX_MEMORY, (6 + LAYOUT_FIELD_MEMORY) * size)


def blob_name(digest: str) -> str:
    """Where a layout keeps the content of a digest: ``blobs/<algorithm>/<encoded>``.

    Raises:
        InvalidDigestError: it is none. (One that is parsed has neither slashes nor two dots.)
    """
    parsed = parse_digest(digest)
    return f"{BLOBS_FOLDER}/{parsed.algorithm}/{parsed.encoded}"


def _bare(name: str) -> str:
    if TAG.fullmatch(name):
        return name
    try:
        return parse_familiar(name).tag or name
    except InvalidReferenceError:
        return name


def _is_tag_of(tag: str, name: str) -> bool:
    if not name.endswith(f":{tag}"):
        return False
    try:
        return parse_familiar(name).tag == tag
    except InvalidReferenceError:
        return False
