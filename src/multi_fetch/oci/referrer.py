"""A manifest that refers to another: whom to, and what a list of referrers says of it.

image-spec, manifest.md and image-index.md, ``subject``; distribution-spec, "Listing Referrers".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.advice import PUSH_AGAIN
from multi_fetch.errors import RegistryError
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.media_types import OCI_ARTIFACT_MANIFEST, OCI_INDEX, OCI_MANIFEST

if TYPE_CHECKING:
    from multi_fetch.oci.digest import Chunk

# Those that may have a subject.
REFERRER_TYPES: Final = frozenset({OCI_MANIFEST, OCI_INDEX, OCI_ARTIFACT_MANIFEST})


class _Subject(msgspec.Struct):
    digest: str = ""


class _Config(msgspec.Struct, rename="camel"):
    media_type: str = ""


class Referrer(msgspec.Struct, frozen=True, rename="camel"):
    """What a manifest says of itself, as far as it matters to who lists referrers."""

    subject: _Subject | None = None
    artifact_type: str = ""
    config: _Config | None = None
    annotations: dict[str, str] | None = None

    def refers_to(self, digest: str) -> bool:
        """Whether its subject has this digest."""
        return self.subject is not None and self.subject.digest == digest

    def describe(self, manifest: Descriptor) -> Descriptor:
        """Its entry in a list; an image manifest without an artifact type has its config's type."""
        artifact_type = self.artifact_type
        if not artifact_type and manifest.media_type == OCI_MANIFEST and self.config is not None:
            artifact_type = self.config.media_type
        return Descriptor(
            media_type=manifest.media_type,
            digest=manifest.digest,
            size=manifest.size,
            artifact_type=artifact_type,
            annotations=self.annotations or {},
        )


def parse_referrer(content: Chunk) -> Referrer:
    """Reads a manifest or an index.

    Raises:
        RegistryError: it is none.
    """
    try:
        return _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RegistryError(f"the manifest cannot be read: {error}{PUSH_AGAIN}") from error


_decoder = msgspec.json.Decoder(Referrer)
