"""The content of the bench: blobs, written straight into the servers' storage.

docker-registry's layout is that of distribution's filesystem driver (registry/storage/paths.go): a
blob is a file under ``blobs/``, and a link under the repository makes it a part of that. For a web
server that knows no registries, the same files are linked under the very paths of the pull API.
"""

from __future__ import annotations

import hashlib
import json
import os
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


FULL: Final = (Shape("small", 5000, 4 * KIB), Shape("mid", 400, MIB), Shape("large", 8, 256 * MIB))
QUICK: Final = (Shape("small", 600, 4 * KIB), Shape("mid", 40, MIB), Shape("large", 2, 64 * MIB))


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

    def first(self, count: int | None) -> Workload:
        """So many blobs of it, or all: a slow client is given less, and rates are compared."""
        return Workload(self.name, self.blobs[:count])


class Storage:
    """The root directory of a filesystem driver, with one repository.

    Args:
        root: of docker-registry's storage.
        static: of a web server; None where there is none. On the same file system.
    """

    def __init__(self, root: Path, static: Path | None = None) -> None:
        self._static = None if static is None else static / "v2" / REPOSITORY
        if self._static is not None:
            (self._static / "blobs").mkdir(parents=True)
            (self._static / "manifests").mkdir()
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
        if self._static is not None:
            blob = self._static / "blobs" / manifest.digest
            for name in (TAG, manifest.digest):
                os.link(blob, self._static / "manifests" / name)

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
        if self._static is not None:
            os.link(place / "data", self._static / "blobs" / blob.digest)
        return blob

    def add_static(self, shape: Shape) -> Workload:
        """Blobs for the web server alone: files, and nothing around them."""
        assert self._static is not None
        blobs = []
        for number in range(shape.count):
            content = b"".join(_content(f"{shape.name} {number}", shape.size))
            blob = Blob(f"sha256:{hashlib.sha256(content).hexdigest()}", shape.size)
            (self._static / "blobs" / blob.digest).write_bytes(content)
            blobs.append(blob)
        return Workload(shape.name, tuple(blobs))

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
