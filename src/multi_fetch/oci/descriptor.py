"""Descriptors, as image-spec's descriptor.md defines them, in JSON and on the wire."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from multi_fetch.errors import InvalidDigestError
from multi_fetch.oci.digest import Digest, parse_digest

# image-spec, descriptor.md: a size is an int64; so is every integer of a frame.
Int64: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


# One for all that have none, where many are kept.
NO_ANNOTATIONS: Final[dict[str, str]] = {}


class Platform(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The platform of a manifest (image-spec, image-index.md)."""

    architecture: str
    os: str
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: tuple[str, ...] = msgspec.field(default=(), name="os.features")
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What content is, by type, digest and size; field names outside are the spec's.

    Attributes:
        media_type: of the content, without parameters.
        digest: over the raw bytes.
        size: in bytes; None while it is not known, which only a ``begin`` frame may say.
        data: the content itself, in base64, where the spec allows to embed it.
    """

    media_type: str
    digest: Digest
    size: Int64 | None
    urls: tuple[str, ...] = ()
    annotations: dict[str, str] = {}
    data: str = ""
    artifact_type: str = ""
    platform: Platform | None = None

    def bare(self) -> Descriptor:
        """The three fields that each one has, alone."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=self.size)


def encode_hook(value: object) -> str:
    """For msgspec, the one type here that it does not know: a Digest is its text."""
    if isinstance(value, Digest):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} has no place in a frame or document")


def decode_hook(kind: type, value: object) -> Digest:
    """For msgspec, the other way. An InvalidDigestError becomes its ValidationError."""
    if kind is Digest:
        if not isinstance(value, str):
            raise InvalidDigestError(f"a digest is text, not {type(value).__name__}")
        return parse_digest(value)
    raise NotImplementedError(f"{kind.__name__} has no place in a frame or document")
