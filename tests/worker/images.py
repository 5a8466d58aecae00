"""Small images in a memory remote: an index of two platforms that share a layer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from multi_fetch.oci.media_types import OCI_INDEX, OCI_MANIFEST

if TYPE_CHECKING:
    from multi_fetch.oci.digest import Digest
    from tests.worker.memory_remote import MemoryRemote

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def described(remote: MemoryRemote, digest: Digest, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest, "size": len(remote.objects[digest])}


def add_image(remote: MemoryRemote, name: str, *layers: bytes, tag: str = "") -> Digest:
    """A config of its own, and the layers."""
    config = remote.add(json.dumps({"name": name}).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described(remote, config, CONFIG),
        "layers": [described(remote, remote.add(layer), LAYER) for layer in layers],
    }
    return remote.add(
        json.dumps(manifest).encode(), *([tag] if tag else []), media_type=OCI_MANIFEST
    )


def add_index(remote: MemoryRemote, tag: str, platforms: dict[str, Digest]) -> Digest:
    """An index; platforms are written ``os/architecture[/variant]``."""
    manifests = []
    for platform, digest in platforms.items():
        os, architecture, variant = (*platform.split("/"), "")[:3]
        named = {"os": os, "architecture": architecture} | ({"variant": variant} if variant else {})
        media_type = remote.types[digest]
        manifests.append({**described(remote, digest, media_type), "platform": named})
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    return remote.add(json.dumps(index).encode(), tag, media_type=OCI_INDEX)
