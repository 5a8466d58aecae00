"""Makes an OCI image layout, piece by piece.

Whatever is added is written at once, below its digest, and gives the descriptor that the next
piece names it by; ``finish`` writes ``index.json``. The same calls give the same bytes, always.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from multi_fetch.oci.descriptor import Descriptor, Platform, encode_hook
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.layout import INDEX_FILE, LAYOUT_VERSION, MARKER_FILE, REF_NAME
from multi_fetch.oci.media_types import OCI_INDEX, OCI_MANIFEST, OCTET_STREAM
from multi_fetch.testing.layout import Layout, blob_path, read_layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multi_fetch.oci.digest import Digest

# image-spec, manifest.md, "Guidance for an Empty Descriptor": the config of what has none
EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
EMPTY_CONTENT: Final = b"{}"


class _ImageManifest(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel"):
    # A version is part of the document, and omit_defaults would drop a default.
    schema_version: int
    media_type: str
    artifact_type: str = ""
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = {}


class _ImageIndex(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel"):
    schema_version: int
    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = {}


_encoder = msgspec.json.Encoder(enc_hook=encode_hook)


class LayoutBuilder:
    """A layout in the making.

    Args:
        folder: where it is made; created if it is not there.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._tags: dict[str, Descriptor] = {}
        # Manifests that no index names: index.json has to, or nobody finds them.
        self._roots: dict[Digest, Descriptor] = {}

    def add_blob(
        self, content: bytes, media_type: str = OCTET_STREAM, *, algorithm: str = "sha256"
    ) -> Descriptor:
        """Adds a config, a layer or any other content.

        Raises:
            UnsupportedError: the digest's algorithm cannot be computed here.
        """
        digest = digest_of(content, algorithm)
        path = blob_path(self.folder, digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return Descriptor(media_type=media_type, digest=digest, size=len(content))

    def add_manifest(
        self, content: bytes, media_type: str, *, algorithm: str = "sha256"
    ) -> Descriptor:
        """Adds a manifest of any type, as the bytes that it is; they need not be valid.

        Raises:
            UnsupportedError: the digest's algorithm cannot be computed here.
        """
        descriptor = self.add_blob(content, media_type, algorithm=algorithm)
        self._roots[descriptor.digest] = descriptor
        return descriptor

    def add_image(  # noqa: PLR0913 - these are the spec's fields
        self,
        config: Descriptor,
        layers: Sequence[Descriptor],
        *,
        platform: Platform | None = None,
        artifact_type: str = "",
        subject: Descriptor | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Descriptor:
        """Adds an image manifest (image-spec, manifest.md).

        Args:
            config: from ``add_blob`` or ``add_empty``.
            layers: in their order.
            platform: goes into the descriptor that is returned, for ``add_index``.
            artifact_type: for what is no image.
            subject: the manifest that this one is about.
            annotations: of the manifest.
        """
        manifest = _ImageManifest(
            schema_version=2,
            media_type=OCI_MANIFEST,
            artifact_type=artifact_type,
            config=config,
            layers=tuple(layers),
            subject=subject,
            annotations=annotations or {},
        )
        descriptor = self.add_manifest(_encoder.encode(manifest), OCI_MANIFEST)
        return replace(descriptor, platform=platform)

    def add_empty(self) -> Descriptor:
        """Adds the empty config of an artifact that has none."""
        return self.add_blob(EMPTY_CONTENT, EMPTY_TYPE)

    def add_index(
        self, manifests: Sequence[Descriptor], *, annotations: Mapping[str, str] | None = None
    ) -> Descriptor:
        """Adds an image index (image-spec, image-index.md) over manifests or indexes."""
        index = _ImageIndex(
            schema_version=2,
            media_type=OCI_INDEX,
            manifests=tuple(manifests),
            annotations=annotations or {},
        )
        for each in manifests:
            self._roots.pop(each.digest, None)
        return self.add_manifest(_encoder.encode(index), OCI_INDEX)

    def tag(self, name: str, manifest: Descriptor) -> None:
        """Gives a manifest or index a name; an earlier tag of that name is replaced."""
        self._tags[name] = manifest

    def finish(self) -> Layout:
        """Writes ``oci-layout`` and ``index.json``, and reads the layout back."""
        tagged = [
            replace(each, annotations={**each.annotations, REF_NAME: name})
            for name, each in self._tags.items()
        ]
        named = {each.digest for each in tagged}
        untagged = [each for each in self._roots.values() if each.digest not in named]
        index = _ImageIndex(schema_version=2, media_type=OCI_INDEX, manifests=(*tagged, *untagged))
        (self.folder / "blobs").mkdir(parents=True, exist_ok=True)
        marker = _encoder.encode({"imageLayoutVersion": LAYOUT_VERSION})
        (self.folder / MARKER_FILE).write_bytes(marker)
        (self.folder / INDEX_FILE).write_bytes(_encoder.encode(index))
        return read_layout(self.folder)
