"""Fills a registry through its push API (distribution-spec, "Push") with known content.

All content is derived from the names and sizes below, so two runs push the same digests, and a
test can compare what it fetched byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import httpx

from multi_fetch.testing.layout import blob_path, read_layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.integration.docker_registry import DockerRegistry

REPOSITORY: Final = "library/mixed"

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"

MIB: Final = 1024 * 1024
SMALL_BLOBS: Final = 200
SMALL_BYTES: Final = 4096
MIDDLE_BLOBS: Final = 6
LARGE_BYTES: Final = 64 * MIB
IMAGES_OF_A_KIND: Final = 28
PLATFORMS: Final = ("amd64", "arm64")

# A descriptor as it stands in a manifest's JSON.
Part: TypeAlias = dict[str, object]


@dataclass(frozen=True)
class Manifest:
    """An image manifest or index, as it was pushed."""

    digest: str
    media_type: str
    content: bytes


@dataclass(frozen=True)
class LargeBlob:
    """A blob that is made anew each time it is read, a MiB at a time."""

    digest: str
    size: int
    seed: str

    def chunks(self) -> Iterator[bytes]:
        return _chunks(self.seed, self.size)


@dataclass(frozen=True)
class Filled:
    """What a repository holds.

    Attributes:
        repository: its name, without the registry.
        tags: the manifest that each tag names.
        manifests: by digest; those of an index have no tag.
        blobs: by digest, among them the configs, the empty blob and those of 1 MiB.
        large: the blob that no test should hold in memory.
        sha512: the digest that one of ``blobs`` was pushed under; it has its sha256 as well.
    """

    repository: str
    tags: Mapping[str, Manifest]
    manifests: Mapping[str, Manifest]
    blobs: Mapping[str, bytes]
    large: LargeBlob
    sha512: tuple[str, bytes]


def fill(registry: DockerRegistry, repository: str = REPOSITORY) -> Filled:
    """Pushes everything that ``Filled`` describes.

    Raises:
        httpx.HTTPStatusError: the registry refused a part.
    """
    with _client(registry) as client:
        return _Push(client, repository).everything()


def push_layout(registry: DockerRegistry, folder: Path, repository: str) -> None:
    """Pushes an OCI image layout: each manifest behind what is below it, then the tags.

    Raises:
        httpx.HTTPStatusError: the registry refused a part.
    """
    layout = read_layout(folder)
    with _client(registry) as client:
        push = _Push(client, repository)
        for path in (folder / "blobs" / "sha256").iterdir():
            push.upload(f"sha256:{path.name}", path.read_bytes())
        untagged = [("", each) for each in reversed([*layout.manifests.values()])]
        for tag, each in [*untagged, *layout.tags.items()]:
            content = blob_path(folder, each.digest).read_bytes()
            push.put(Manifest(each.digest, each.media_type, content), tag=tag)


def _client(registry: DockerRegistry) -> httpx.Client:
    account = registry.account
    auth = None if account is None else httpx.BasicAuth(account.username, account.password)
    return httpx.Client(base_url=registry.url, auth=auth, trust_env=False, timeout=30)


class _Push:
    """The push in its order: blobs before the manifests that name them (distribution-spec)."""

    def __init__(self, client: httpx.Client, repository: str) -> None:
        self._client = client
        self._repository = repository
        self._blobs: dict[str, bytes] = {}
        self._manifests: dict[str, Manifest] = {}
        self._tags: dict[str, Manifest] = {}

    def everything(self) -> Filled:
        layers = [self._blob(_small(number)) for number in range(SMALL_BLOBS)]
        self._blob(b"")
        middle = [
            self._blob(b"".join(_chunks(f"middle {number}", MIB))) for number in range(MIDDLE_BLOBS)
        ]
        sha512 = _small(SMALL_BLOBS)
        sha512_digest = f"sha512:{hashlib.sha512(sha512).hexdigest()}"
        self.upload(sha512_digest, sha512)
        large = self._large()
        self._images(layers, large, middle)
        self._index(layers[-2:])
        return Filled(
            repository=self._repository,
            tags=self._tags,
            manifests=self._manifests,
            blobs=self._blobs,
            large=large,
            sha512=(sha512_digest, sha512),
        )

    def _blob(self, content: bytes) -> Part:
        """Pushes a blob and returns its descriptor as a layer."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.upload(digest, content)
        self._blobs[digest] = content
        return _part(OCI_LAYER, digest, len(content))

    def upload(self, digest: str, content: bytes | Iterator[bytes]) -> None:
        """POST, then PUT to the location that it answers."""
        begun = self._client.post(f"/v2/{self._repository}/blobs/uploads/").raise_for_status()
        place = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": digest})
        headers = {"Content-Type": "application/octet-stream"}
        self._client.put(place, content=content, headers=headers).raise_for_status()

    def _large(self) -> LargeBlob:
        seed, hasher = "large", hashlib.sha256()
        for chunk in _chunks(seed, LARGE_BYTES):
            hasher.update(chunk)
        blob = LargeBlob(f"sha256:{hasher.hexdigest()}", LARGE_BYTES, seed)
        self.upload(blob.digest, blob.chunks())
        return blob

    def _images(self, layers: list[Part], large: LargeBlob, middle: list[Part]) -> None:
        config = self._blob(_config("amd64"))
        for number in range(IMAGES_OF_A_KIND):
            pair = layers[2 * number : 2 * number + 2]
            self.put(_oci_image(config, pair), tag=f"oci-{number}")
            self.put(_docker_image(config, pair), tag=f"docker-{number}")
        self.put(_oci_image(config, middle), tag="middle")
        self.put(_oci_image(config, [_part(OCI_LAYER, large.digest, large.size)]), tag="large")

    def _index(self, layers: list[Part]) -> None:
        children = []
        for architecture, layer in zip(PLATFORMS, layers, strict=True):
            child = _oci_image(self._blob(_config(architecture)), [layer])
            self.put(child)
            platform = {"os": "linux", "architecture": architecture}
            part = _part(child.media_type, child.digest, len(child.content))
            children.append(part | {"platform": platform})
        self.put(_manifest(OCI_INDEX, {"manifests": children}), tag="latest")

    def put(self, manifest: Manifest, *, tag: str = "") -> None:
        self._client.put(
            f"/v2/{self._repository}/manifests/{tag or manifest.digest}",
            content=manifest.content,
            headers={"Content-Type": manifest.media_type},
        ).raise_for_status()
        self._manifests[manifest.digest] = manifest
        if tag:
            self._tags[tag] = manifest


def _part(media_type: str, digest: str, size: int) -> Part:
    return {"mediaType": media_type, "digest": digest, "size": size}


def _manifest(media_type: str, document: Mapping[str, object]) -> Manifest:
    content = json.dumps({"schemaVersion": 2, "mediaType": media_type, **document}).encode()
    return Manifest(f"sha256:{hashlib.sha256(content).hexdigest()}", media_type, content)


def _oci_image(config: Part, layers: list[Part]) -> Manifest:
    document = {"config": config | {"mediaType": OCI_CONFIG}, "layers": layers}
    return _manifest(OCI_MANIFEST, document)


def _docker_image(config: Part, layers: list[Part]) -> Manifest:
    layers = [layer | {"mediaType": DOCKER_LAYER} for layer in layers]
    document = {"config": config | {"mediaType": DOCKER_CONFIG}, "layers": layers}
    return _manifest(DOCKER_MANIFEST, document)


def _config(architecture: str) -> bytes:
    rootfs = {"type": "layers", "diff_ids": list[str]()}
    return json.dumps({"architecture": architecture, "os": "linux", "rootfs": rootfs}).encode()


def _small(number: int) -> bytes:
    """A blob of 1 to SMALL_BYTES bytes; every third has just SMALL_BYTES."""
    stream = random.Random(f"small {number}")
    size = SMALL_BYTES if number % 3 == 0 else stream.randint(1, SMALL_BYTES)
    return stream.randbytes(size)


def _chunks(seed: str, size: int) -> Iterator[bytes]:
    stream = random.Random(seed)
    for offset in range(0, size, MIB):
        yield stream.randbytes(min(MIB, size - offset))
