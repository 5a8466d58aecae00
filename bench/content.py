"""The content of the bench: blobs, written straight into docker-registry's storage.

The layout is that of distribution's filesystem driver (registry/storage/paths.go): a blob is a
file under ``blobs/``, and a link under the repository makes it a part of that.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

REPOSITORY: Final = "bench"
TAG: Final = "image"
KIB: Final = 1024
MIB: Final = 1024 * KIB

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Shape:
    """How many blobs of how many bytes a workload has."""

    name: str
    count: int
    size: int


FULL: Final = (Shape("small", 2000, 4 * KIB), Shape("mid", 200, MIB), Shape("large", 4, 256 * MIB))
QUICK: Final = (Shape("small", 200, 4 * KIB), Shape("mid", 20, MIB), Shape("large", 2, 64 * MIB))


@dataclass(frozen=True)
class Blob:
    """A blob that the registry holds; ``digest`` is ``sha256:<hex>``."""

    digest: str
    size: int

    @property
    def hex(self) -> str:
        return self.digest.removeprefix("sha256:")


@dataclass(frozen=True)
class Workload:
    """Blobs that each client fetches, all in one run."""

    name: str
    blobs: tuple[Blob, ...]

    @property
    def total_bytes(self) -> int:
        return sum(blob.size for blob in self.blobs)


class Storage:
    """The root directory of a filesystem driver, with one repository."""

    def __init__(self, root: Path) -> None:
        self._root = root / "docker" / "registry" / "v2"
        self._repository = self._root / "repositories" / REPOSITORY
        self._root.mkdir(parents=True)

    def add_workload(self, shape: Shape) -> Workload:
        blobs = [
            self._add(_content(f"{shape.name} {number}", shape.size))
            for number in range(shape.count)
        ]
        return Workload(shape.name, tuple(blobs))

    def add_image(self) -> None:
        """A tiny image with the tag TAG, for clients that fetch blobs only through an image."""
        layer = self._add([b"layer"])
        rootfs = {"type": "layers", "diff_ids": [layer.digest]}
        config_document = {"architecture": "amd64", "os": "linux", "rootfs": rootfs}
        config = self._add([json.dumps(config_document).encode()])
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(CONFIG_TYPE, config),
            "layers": [_descriptor(LAYER_TYPE, layer)],
        }
        manifest = self._add([json.dumps(document).encode()])
        manifests = self._repository / "_manifests"
        self._link(manifests / "revisions" / "sha256" / manifest.hex, manifest)
        self._link(manifests / "tags" / TAG / "current", manifest)

    def _add(self, chunks: Iterable[bytes]) -> Blob:
        hasher, size, unnamed = hashlib.sha256(), 0, self._root / "unnamed"
        with unnamed.open("wb") as file:
            for chunk in chunks:
                hasher.update(chunk)
                size += file.write(chunk)
        blob = Blob(f"sha256:{hasher.hexdigest()}", size)
        place = self._root / "blobs" / "sha256" / blob.hex[:2] / blob.hex
        place.mkdir(parents=True)
        unnamed.rename(place / "data")
        self._link(self._repository / "_layers" / "sha256" / blob.hex, blob)
        return blob

    def _link(self, place: Path, blob: Blob) -> None:
        place.mkdir(parents=True)
        (place / "link").write_text(blob.digest)


def _descriptor(media_type: str, blob: Blob) -> dict[str, str | int]:
    return {"mediaType": media_type, "digest": blob.digest, "size": blob.size}


def _content(seed: str, size: int) -> Iterator[bytes]:
    """The same bytes for the same seed, a MiB at a time: the bench's own memory stays small."""
    stream = random.Random(seed)
    for offset in range(0, size, MIB):
        yield stream.randbytes(min(MIB, size - offset))
