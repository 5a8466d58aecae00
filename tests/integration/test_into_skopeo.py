"""multi-fetch writes layouts with --into; skopeo reads them, and a docker-registry takes them back.

What comes back has the same digests: nothing was lost, and nothing converted.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any, Final

import pytest

from multi_fetch.oci.descriptor import Platform
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.layout import REF_NAME
from multi_fetch.oci.media_types import DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_INDEX
from multi_fetch.testing.builder import LayoutBuilder
from tests.end_to_end.conftest import MULTI_FETCH
from tests.integration.conftest import require
from tests.integration.docker_registry import COMMAND, docker_registry
from tests.loopback import loopback

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from multi_fetch.oci.descriptor import Descriptor

pytestmark = pytest.mark.integration

OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
FOREIGN_LAYER: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
# A frame of one raw block (RFC 8878), so that no library is needed to make it.
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"


def tar_of(name: str, size: int = 50_000) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = size
        tar.addfile(entry, io.BytesIO(hashlib.shake_256(name.encode()).digest(size)))
    return packed.getvalue()


def zstd_of(content: bytes) -> bytes:
    """Raw blocks of up to 128 KiB: RFC 8878, sections 3.1.1.1 and 3.1.1.2."""
    head = ZSTD_MAGIC + bytes([0b10100000]) + len(content).to_bytes(4, "little")
    pieces = [content[start : start + 0x10000] for start in range(0, len(content), 0x10000)]
    blocks = [
        ((len(piece) << 3) | (index == len(pieces) - 1)).to_bytes(3, "little") + piece
        for index, piece in enumerate(pieces)
    ]
    return head + b"".join(blocks)


class Images:
    """A repository with a tag for each kind of image."""

    def __init__(self, folder: Path) -> None:
        self.builder = builder = LayoutBuilder(folder)
        images = [self._image(name, gzip.compress, "+gzip") for name in ("amd64", "arm64")]
        builder.tag("multi", builder.add_index(images))
        builder.tag("zstd", self._image("amd64", zstd_of, "+zstd"))
        builder.tag("empty", self._image("amd64", lambda _: b"", "", diff=b""))
        builder.tag("docker", docker := self._docker())
        builder.tag("list", self._docker_list(docker))
        self.subject = images[0]
        artifact = builder.add_image(
            builder.add_empty(),
            [builder.add_blob(b"an SBOM", "application/spdx+json")],
            artifact_type="application/spdx+json",
            subject=images[0],
        )
        builder.tag("artifact", artifact)
        builder.tag("foreign", self._foreign())
        self.layout = builder.finish()

    def _config(self, diffs: list[bytes], architecture: str, media_type: str) -> Descriptor:
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(diff) for diff in diffs]},
            "history": [{"created_by": "a test"} for _ in diffs],
        }
        return self.builder.add_blob(json.dumps(config).encode(), media_type)

    def _image(
        self, architecture: str, pack: Any, suffix: str, diff: bytes | None = None
    ) -> Descriptor:
        diff = tar_of(f"{architecture}{suffix}") if diff is None else diff
        layer = self.builder.add_blob(pack(diff), OCI_LAYER + suffix)
        config = self._config([diff], architecture, OCI_CONFIG)
        platform = Platform(architecture=architecture, os="linux")
        return self.builder.add_image(config, [layer], platform=platform)

    def _docker(self) -> Descriptor:
        diff = tar_of("docker")
        layer = self.builder.add_blob(gzip.compress(diff), DOCKER_LAYER)
        config = self._config([diff], "amd64", DOCKER_CONFIG)
        document = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": {"mediaType": DOCKER_CONFIG, "digest": config.digest, "size": config.size},
            "layers": [{"mediaType": DOCKER_LAYER, "digest": layer.digest, "size": layer.size}],
        }
        return self.builder.add_manifest(json.dumps(document).encode(), DOCKER_MANIFEST)

    def _docker_list(self, docker: Descriptor) -> Descriptor:
        entry = {
            "mediaType": DOCKER_MANIFEST,
            "digest": docker.digest,
            "size": docker.size,
            "platform": {"architecture": "amd64", "os": "linux"},
        }
        document = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST_LIST,
            "manifests": [entry],
        }
        return self.builder.add_manifest(json.dumps(document).encode(), DOCKER_MANIFEST_LIST)

    def _foreign(self) -> Descriptor:
        """An image with a layer that no registry has."""
        here, there = tar_of("here"), tar_of("there")
        layer = self.builder.add_blob(gzip.compress(here), OCI_LAYER + "+gzip")
        packed = gzip.compress(there)
        config = self._config([here, there], "amd64", OCI_CONFIG)
        self.foreign = digest_of(packed)
        document = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": OCI_CONFIG, "digest": config.digest, "size": config.size},
            "layers": [
                {
                    "mediaType": OCI_LAYER + "+gzip",
                    "digest": layer.digest,
                    "size": layer.size,
                },
                {
                    "mediaType": FOREIGN_LAYER,
                    "digest": self.foreign,
                    "size": len(packed),
                    "urls": ["https://layers.example/there"],
                },
            ],
        }
        media_type = str(document["mediaType"])
        return self.builder.add_manifest(json.dumps(document).encode(), media_type)

    def digest(self, tag: str) -> str:
        return str(self.layout.tags[tag].digest)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return Images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def repository(images: Images) -> Iterator[str]:
    """Where multi-fetch fetches from."""
    require("skopeo")
    with loopback(images.layout) as registry:
        yield f"{registry.address}/demo/app"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real registry, empty, where skopeo copies to."""
    require(COMMAND)
    with docker_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield f"{registry.address}/back"


def gather(folder: Path, remote: str, *lines: str, status: int = 0) -> list[dict[str, Any]]:
    done = subprocess.run(
        [MULTI_FETCH, "--into", str(folder), remote],
        input="".join(f"{line}\n" for line in lines).encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == status, done
    return [json.loads(line) for line in done.stdout.splitlines()]


def copy(source: str, target: str, *flags: str) -> None:
    words = ["skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]
    done = subprocess.run(
        [*words, *flags, source, target], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def kept(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "blobs" / "sha256").iterdir()}


@pytest.mark.parametrize("tag", ["multi", "zstd", "empty"])
def test_skopeo_reads_what_into_wrote_and_a_registry_takes_it_back(
    images: Images, repository: str, target: str, tmp_path: Path, tag: str
) -> None:
    gather(tmp_path / "d", repository, f"{tag} children:all")
    copy(f"oci:{tmp_path}/d:{tag}", f"dir:{tmp_path}/x", "--all", "--preserve-digests")
    copy(f"oci:{tmp_path}/d:{tag}", f"docker://{target}:{tag}", "--all", "--preserve-digests")
    lines = gather(tmp_path / "again", target, f"{tag} children:all")
    assert lines[-1]["digest"] == images.digest(tag)
    assert kept(tmp_path / "again") == kept(tmp_path / "d")


@pytest.mark.parametrize(("tag", "digest_of_it"), [("multi", True), ("zstd", False)])
def test_skopeo_reads_the_only_image_of_a_layout_without_a_tag(
    images: Images, repository: str, tmp_path: Path, tag: str, digest_of_it: bool
) -> None:
    asked = images.digest(tag) if digest_of_it else tag
    gather(tmp_path / "d", repository, f"{asked} children:all")
    copy(f"oci:{tmp_path}/d", f"dir:{tmp_path}/x", "--all")
    assert json.loads((tmp_path / "x" / "manifest.json").read_bytes())["schemaVersion"] == 2


def test_a_platforms_image_is_what_skopeo_finds_under_the_tag(
    images: Images, repository: str, tmp_path: Path
) -> None:
    gather(tmp_path / "d", repository, "multi platform:linux/arm64 children:all")
    copy(f"oci:{tmp_path}/d:multi", f"dir:{tmp_path}/x")
    manifest = (tmp_path / "x" / "manifest.json").read_bytes()
    (entry,) = json.loads((tmp_path / "d" / "index.json").read_bytes())["manifests"]
    assert digest_of(manifest) == entry["digest"] != images.digest("multi")


def test_many_tags_are_each_found(repository: str, tmp_path: Path) -> None:
    tags = ("multi", "zstd", "empty")
    gather(tmp_path / "d", repository, *(f"{tag} children:all" for tag in tags))
    for tag in tags:
        copy(f"oci:{tmp_path}/d:{tag}", f"dir:{tmp_path}/{tag}", "--all")
    copy(f"oci:{tmp_path}/d:multi", f"oci-archive:{tmp_path}/a.tar:multi", "--all")
    lines = gather(tmp_path / "e", f"oci-archive:{tmp_path}/a.tar", "multi children:all")
    assert lines[-1]["mediaType"] == OCI_INDEX


def test_into_and_skopeo_write_into_one_layout(
    images: Images, repository: str, tmp_path: Path
) -> None:
    source = f"oci:{images.layout.folder}"
    copy(f"{source}:zstd", f"oci:{tmp_path}/d:theirs")
    gather(tmp_path / "d", repository, "multi children:all")
    copy(f"{source}:empty", f"oci:{tmp_path}/d:more")
    entries = json.loads((tmp_path / "d" / "index.json").read_bytes())["manifests"]
    assert [each["annotations"][REF_NAME] for each in entries] == ["theirs", "multi", "more"]
    for tag in ("theirs", "multi", "more"):
        copy(f"oci:{tmp_path}/d:{tag}", f"dir:{tmp_path}/{tag}")


@pytest.mark.parametrize("tag", ["docker", "list"])
def test_dockers_types_stay_as_they_are_and_a_registry_takes_them_back(
    images: Images, repository: str, target: str, tmp_path: Path, tag: str
) -> None:
    """skopeo finds them as the only entry of a layout; by a tag it looks for OCI's types alone."""
    gather(tmp_path / "d", repository, f"{tag} children:all")
    copy(f"oci:{tmp_path}/d", f"docker://{target}:{tag}", "--all", "--preserve-digests")
    lines = gather(tmp_path / "again", target, f"{tag} children:all")
    assert lines[-1]["digest"] == images.digest(tag)
    assert kept(tmp_path / "again") == kept(tmp_path / "d")
    with pytest.raises(AssertionError, match="no descriptor found for reference"):
        copy(f"oci:{tmp_path}/d:{tag}", f"dir:{tmp_path}/x")


def test_an_artifact_with_a_subject_and_an_empty_config_is_copied(
    images: Images, repository: str, target: str, tmp_path: Path
) -> None:
    gather(tmp_path / "d", repository, "artifact children:all")
    copy(f"oci:{tmp_path}/d:artifact", f"docker://{target}:artifact", "--preserve-digests")
    lines = gather(tmp_path / "again", target, "artifact children:all")
    assert lines[-1]["digest"] == images.digest("artifact")


def test_a_foreign_layer_may_be_missing_and_the_image_is_entered(
    images: Images, repository: str, tmp_path: Path
) -> None:
    """As in the layouts that skopeo writes itself, which leaves such layers where they are."""
    lines = gather(tmp_path / "d", repository, "foreign children:all", status=1)
    (missing,) = [line for line in lines if "error" in line]
    assert missing["object"] == images.foreign
    assert "--foreign-urls" in missing["error"]["message"]
    assert lines[-1]["object"] == "foreign"
    copy(f"oci:{tmp_path}/d:foreign", f"oci:{tmp_path}/e:foreign", "--preserve-digests")
    assert kept(tmp_path / "e") == kept(tmp_path / "d")
    assert images.foreign.encoded not in kept(tmp_path / "d")


# --- the other way round ------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["oci", "oci-archive"])
@pytest.mark.parametrize("tag", ["multi", "zstd", "empty", "artifact", "docker", "foreign"])
def test_what_skopeo_wrote_goes_into_a_layout_as_it_is(
    images: Images, repository: str, tmp_path: Path, tag: str, scheme: str
) -> None:
    source = f"{scheme}:{tmp_path}/theirs"
    flags = ("--all", "--preserve-digests", "--src-tls-verify=false")
    copy(f"docker://{repository}:{tag}", f"{source}:{tag}", *flags)
    status = 1 if tag == "foreign" else 0  # skopeo leaves such layers where they are, too
    lines = gather(tmp_path / "d", source, f"{tag} children:all", status=status)
    assert lines[-1]["digest"] == images.digest(tag)
    gather(tmp_path / "straight", repository, f"{tag} children:all", status=status)
    assert kept(tmp_path / "d") == kept(tmp_path / "straight")
    entries = json.loads((tmp_path / "d" / "index.json").read_bytes())["manifests"]
    assert [each["annotations"][REF_NAME] for each in entries] == [tag]


def test_skopeo_converts_dockers_lists_for_a_layout(
    images: Images, repository: str, tmp_path: Path
) -> None:
    """So it refuses to keep their digests; and what it makes of them is read."""
    words = (f"docker://{repository}:list", f"oci:{tmp_path}/theirs:list", "--all")
    with pytest.raises(AssertionError, match="Manifest list must be converted"):
        copy(*words, "--preserve-digests", "--src-tls-verify=false")
    copy(*words, "--src-tls-verify=false")
    lines = gather(tmp_path / "d", f"oci:{tmp_path}/theirs", "list children:all")
    assert lines[-1]["mediaType"] == OCI_INDEX
    assert lines[-1]["digest"] != images.digest("list")
