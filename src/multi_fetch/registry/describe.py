"""What was asked and what was answered, made into a descriptor. No I/O.

A manifest says its type twice, in Content-Type and in ``mediaType``; distribution-spec ("Pulling
manifests") wants the answer rejected where they differ. Some servers know no better than
``application/json``: then the body decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.advice import PUSH_AGAIN
from multi_fetch.errors import (
    RegistryError,
    SizeMismatchError,
    TooLargeError,
    UnsupportedError,
)
from multi_fetch.limits import MAX_MANIFEST_BYTES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import Digest, digest_of, new_hasher
from multi_fetch.oci.manifest_type import Fields, declared_type, fields_of, type_by_shape
from multi_fetch.oci.media_types import OCTET_STREAM, SCHEMA1_TYPES
from multi_fetch.registry.api import Endpoint, content_digest, content_length, content_type

if TYPE_CHECKING:
    from collections.abc import Mapping

# What servers send that know nothing of a manifest's type.
VAGUE_TYPES: Final = frozenset({"", OCTET_STREAM, "text/plain", "application/json"})

# What stands in for a manifest where a proxy or a portal answers in a registry's place.
PAGE_TYPES: Final = frozenset({"text/html", "application/xhtml+xml"})


# A HEAD that is answered from nowhere may say 0, which only these can have.
EMPTY_DIGESTS: Final = frozenset(
    digest_of(b"", algorithm) for algorithm in ("sha256", "sha384", "sha512")
)


class Wanted(msgspec.Struct, frozen=True):
    """An object that is asked for.

    Attributes:
        tag: empty where there is a digest.
        digest: None where there is a tag.
        media_types: what it is expected to be.
        size: the bytes that it is expected to have, or None.
    """

    tag: str
    digest: Digest | None
    media_types: tuple[str, ...] = ()
    size: int | None = None

    @property
    def blob_type(self) -> str:
        """What its bytes are taken for, where the registry has only stored them."""
        return self.media_types[0] if self.media_types else ""


def describe_head(
    wanted: Wanted, endpoint: Endpoint, headers: Mapping[str, str]
) -> Descriptor | None:
    """The descriptor that the headers alone give; None where they do not say enough.

    Raises:
        RegistryError: a header is wrong.
        SizeMismatchError: it is not of the size that was expected.
        TooLargeError: it is a manifest beyond the limit.
        UnsupportedError: it is of Docker's schema 1.
    """
    if endpoint is Endpoint.BLOBS:
        size = content_length(headers)
        if size is None or (size == 0 and wanted.digest not in EMPTY_DIGESTS):
            return None
        check_size(wanted, size)
        return describe_blob(wanted, headers, size)
    size, media_type = content_length(headers), content_type(headers)
    digest = wanted.digest or _known_digest(headers)
    _refuse_schema1(media_type)
    if not size or digest is None or media_type in VAGUE_TYPES | PAGE_TYPES:
        return None
    check_size(wanted, size)
    if size > MAX_MANIFEST_BYTES:
        raise TooLargeError(
            f"the manifest has {size} bytes; the limit is {MAX_MANIFEST_BYTES}{PUSH_AGAIN}"
        )
    return Descriptor(media_type=media_type, digest=digest, size=size)


def describe_blob(wanted: Wanted, headers: Mapping[str, str], size: int | None) -> Descriptor:
    """The descriptor of a blob whose body is still to come; its size may be unknown."""
    assert wanted.digest is not None, "tags are no blobs"
    media_type = wanted.blob_type or content_type(headers) or OCTET_STREAM
    return Descriptor(media_type=media_type, digest=wanted.digest, size=size)


def describe_manifest(wanted: Wanted, headers: Mapping[str, str], body: bytes) -> Descriptor:
    """The descriptor of a manifest whose body has come. Its digest is not verified here.

    Raises:
        RegistryError: a header is wrong, the types differ, or a tag's content is no manifest.
        SizeMismatchError: it is not of the size that was expected.
        UnsupportedError: it is of Docker's schema 1.
    """
    check_size(wanted, len(body))
    media_type = content_type(headers)
    _refuse_schema1(media_type)
    if wanted.digest is None and media_type in PAGE_TYPES:
        raise RegistryError(
            f"the registry answered a page ({media_type}), not a manifest: check the host's name"
        )
    fields = fields_of(body)
    if fields is None:
        if wanted.digest is None:
            raise RegistryError(
                "the registry answered something that is no manifest's JSON: check the host's name"
            )
        own_type = ""
    else:
        own_type = declared_type(fields)
    if own_type and media_type not in VAGUE_TYPES and own_type != media_type:
        raise RegistryError(
            f"the manifest is of mediaType {own_type}, but was sent as {media_type}:"
            f" distribution-spec wants it rejected{PUSH_AGAIN}"
        )
    if media_type in VAGUE_TYPES:
        media_type = own_type or type_by_shape(fields or Fields()) or media_type or OCTET_STREAM
        _refuse_schema1(media_type)
    digest = wanted.digest or _known_digest(headers) or digest_of(body)
    return Descriptor(media_type=media_type, digest=digest, size=len(body))


def check_size(wanted: Wanted, size: int | None) -> None:
    """Compares with what was expected, as far as both are known.

    Raises:
        SizeMismatchError: they differ.
    """
    if wanted.size is not None and size is not None and wanted.size != size:
        raise SizeMismatchError(want=wanted.size, got=size)


def _known_digest(headers: Mapping[str, str]) -> Digest | None:
    """Docker-Content-Digest, if its algorithm can be computed here."""
    digest = content_digest(headers)
    if digest is not None:
        try:
            new_hasher(digest.algorithm)
        except UnsupportedError:
            return None
    return digest


def _refuse_schema1(media_type: str) -> None:
    if media_type in SCHEMA1_TYPES:
        raise UnsupportedError(
            "the registry has this only as Docker image manifest version 2, schema 1, which is"
            " deprecated and not supported: push it again with a current tool"
        )
