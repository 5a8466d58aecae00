"""Manifests: what they name.

image-spec's image-index.md and manifest.md, Docker's manifest v2 schema 2 and manifest list, and
the artifact manifest of image-spec 1.1's release candidates. The subject of a manifest is not
below it: it points the other way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.advice import PUSH_AGAIN
from multi_fetch.errors import InvalidDigestError, RegistryError, TooLargeError, UnsupportedError
from multi_fetch.limits import (
    MAX_CHILDREN,
    MAX_MANIFEST_ANNOTATIONS,
    MAX_MANIFEST_COLONS,
    MAX_MEDIA_TYPE_CHARACTERS,
)
from multi_fetch.oci.descriptor import Descriptor, decode_hook
from multi_fetch.oci.media_types import MANIFEST_TYPES, SCHEMA1_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from multi_fetch.oci.digest import Chunk, Digest


# image-spec, descriptor.md: a size is an int64.
MAX_SIZE: Final = (1 << 63) - 1


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a manifest of any kind names; what its kind does not have is empty."""

    schema_version: int = 2
    media_type: str = ""
    manifests: tuple[Descriptor, ...] | None = None
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] | None = None
    blobs: tuple[Descriptor, ...] | None = None

    def children(self) -> list[Descriptor]:
        """All that it names, in the order of the document, each digest once."""
        config = () if self.config is None else (self.config,)
        named = (*(self.manifests or ()), *config, *(self.layers or ()), *(self.blobs or ()))
        first: dict[Digest, Descriptor] = {}
        for descriptor in named:
            first.setdefault(descriptor.digest, descriptor)
        return list(first.values())


def is_manifest(media_type: str) -> bool:
    """Whether content of this type is a manifest, and so may have children."""
    return media_type in MANIFEST_TYPES


def parse_manifest(content: Chunk, media_type: str) -> Manifest:
    """Reads a manifest or an index.

    Raises:
        UnsupportedError: it is of schema 1.
        RegistryError: it is no manifest, or a descriptor in it is none.
        TooLargeError: it names more than MAX_CHILDREN objects, or says too much of them.
    """
    if media_type in SCHEMA1_TYPES:
        raise UnsupportedError(
            f"{media_type} is Docker's schema 1, which is not supported{PUSH_AGAIN}"
        )
    text = bytes(content)
    if max(text.count(b":"), text.count(b",")) > MAX_MANIFEST_COLONS:
        raise TooLargeError(f"the manifest has more than {MAX_MANIFEST_COLONS} fields{PUSH_AGAIN}")
    try:
        manifest = _decoder.decode(content)
    except (msgspec.DecodeError, InvalidDigestError, UnicodeDecodeError, RecursionError) as error:
        raise RegistryError(f"the manifest cannot be read: {error}{PUSH_AGAIN}") from error
    children = manifest.children()
    if len(children) > MAX_CHILDREN:
        raise TooLargeError(
            f"the manifest names {len(children)} objects, more than {MAX_CHILDREN}{PUSH_AGAIN}"
        )
    if extras_of(children) > MAX_MANIFEST_ANNOTATIONS:
        raise TooLargeError(
            f"the manifest has more than {MAX_MANIFEST_ANNOTATIONS} annotations of what it names"
            f"{PUSH_AGAIN}"
        )
    for child in children:
        check_named(child, "the manifest")
    return manifest


def extras_of(children: Iterable[Descriptor]) -> int:
    """How much descriptors say in lists of any length: annotations, URLs, features."""
    return sum(
        len(child.annotations)
        + len(child.urls)
        + (0 if child.platform is None else len(child.platform.os_features))
        for child in children
    )


def check_named(descriptor: Descriptor, where: str) -> None:
    """Holds a descriptor in a document to its bounds.

    Raises:
        RegistryError: its size is none, or its media type too long; the message says where.
    """
    if descriptor.size is None or not 0 <= descriptor.size <= MAX_SIZE:
        raise RegistryError(f"{where} names {descriptor.digest} with no size{PUSH_AGAIN}")
    if len(descriptor.media_type) > MAX_MEDIA_TYPE_CHARACTERS:
        raise RegistryError(
            f"{where} names {descriptor.digest} with too long a media type{PUSH_AGAIN}"
        )


_decoder = msgspec.json.Decoder(Manifest, dec_hook=decode_hook)
