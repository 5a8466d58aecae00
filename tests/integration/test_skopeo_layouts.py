"""skopeo writes layouts and archives, multi-fetch reads them."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING, Final

import pytest

from multi_fetch.oci.descriptor import Platform
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from multi_fetch.testing.builder import LayoutBuilder
from tests.integration.conftest import require
from tests.layout.process import ask
from tests.loopback import loopback

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from multi_fetch.oci.descriptor import Descriptor

pytestmark = pytest.mark.integration

COMMAND: Final = "skopeo"

OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class Images:
    """A repository with an index over two OCI images, ``multi``, and a Docker image, ``docker``."""

    def __init__(self, folder: Path) -> None:
        self.builder = LayoutBuilder(folder)
        images = [self._oci_image(architecture) for architecture in ("amd64", "arm64")]
        self.builder.tag("multi", self.builder.add_index(images))
        self.builder.tag("docker", self._docker_image())
        self.layout = self.builder.finish()

    def _parts(self, architecture: str, config_type: str, layer_type: str) -> list[Descriptor]:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            entry = tarfile.TarInfo(f"{architecture}.txt")
            entry.size = 200_000
            tar.addfile(entry, io.BytesIO(os.urandom(entry.size)))
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(packed.getvalue())]},
            "history": [{"created_by": "a test"}],
        }
        return [
            self.builder.add_blob(json.dumps(config).encode(), config_type),
            self.builder.add_blob(gzip.compress(packed.getvalue()), layer_type),
        ]

    def _oci_image(self, architecture: str) -> Descriptor:
        config, layer = self._parts(architecture, OCI_CONFIG, OCI_LAYER)
        platform = Platform(architecture=architecture, os="linux")
        return self.builder.add_image(config, [layer], platform=platform)

    def _docker_image(self) -> Descriptor:
        config, layer = self._parts("amd64", DOCKER_CONFIG, DOCKER_LAYER)
        document = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": {"mediaType": DOCKER_CONFIG, "digest": config.digest, "size": config.size},
            "layers": [{"mediaType": DOCKER_LAYER, "digest": layer.digest, "size": layer.size}],
        }
        return self.builder.add_manifest(json.dumps(document).encode(), DOCKER_MANIFEST)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return Images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def repository(images: Images) -> Iterator[str]:
    require(COMMAND)
    with loopback(images.layout) as registry:
        yield f"{registry.address}/demo/app"


def copy(source: str, target: str, *flags: str) -> None:
    words = [COMMAND, "copy", "--quiet", "--insecure-policy", "--src-tls-verify=false"]
    subprocess.run([*words, *flags, source, target], check=True, capture_output=True)


def fetched(remote: str, *lines: str) -> dict[str, tuple[str, bytes]]:
    """Type and verified content of all that came, by digest."""
    answers, status = ask(remote, *lines)
    assert status == 0, answers
    found = {}
    for answer in answers.values():
        assert answer.descriptor is not None
        assert answer.digest == answer.descriptor.digest
        found[answer.digest] = (answer.descriptor.media_type, bytes(answer.content))
    return found


@pytest.mark.parametrize("scheme", ["oci", "oci-archive"])
def test_an_index_that_skopeo_copied_has_all_that_the_registry_has(
    repository: str, tmp_path: Path, scheme: str
) -> None:
    target = f"{scheme}:{tmp_path}/copied"
    copy(f"docker://{repository}:multi", f"{target}:v1", "--all", "--preserve-digests")
    there = fetched(repository, "multi children:all")
    here = fetched(target, "v1 children:all")
    assert here == there
    assert [kind for kind, _ in here.values()].count(OCI_MANIFEST) == 2
    # Without hints, by digest alone: manifests are known, all else is octets.
    again = fetched(target, *here)
    assert {digest: content for digest, (_, content) in again.items()} == {
        digest: content for digest, (_, content) in here.items()
    }
    assert {kind for kind, _ in again.values()} == {
        OCI_INDEX,
        OCI_MANIFEST,
        "application/octet-stream",
    }


@pytest.mark.parametrize("scheme", ["oci", "oci-archive"])
def test_a_docker_image_that_skopeo_copied_is_an_oci_image(
    repository: str, tmp_path: Path, scheme: str
) -> None:
    """skopeo writes no other into layouts; the layers stay what they are."""
    target = f"{scheme}:{tmp_path}/copied"
    copy(f"docker://{repository}:docker", f"{target}:v1")
    here = fetched(target, "v1 children:all")
    assert {kind for kind, _ in here.values()} == {OCI_MANIFEST, OCI_CONFIG, OCI_LAYER}
    there = fetched(repository, "docker children:all")
    layers = {digest for digest, (kind, _) in there.items() if kind == DOCKER_LAYER}
    assert layers == {digest for digest, (kind, _) in here.items() if kind == OCI_LAYER}


def test_a_docker_image_in_a_layout_keeps_its_types(images: Images) -> None:
    """Docker and crane write such layouts."""
    found = fetched(f"oci:{images.layout.folder}", "docker children:all")
    kinds = {kind for kind, _ in found.values()}
    assert kinds == {DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER}


def test_two_images_that_skopeo_copied_into_one_layout_are_both_there(
    repository: str, tmp_path: Path
) -> None:
    target = f"oci:{tmp_path}/copied"
    copy(f"docker://{repository}:multi", f"{target}:one", "--all")
    copy(f"docker://{repository}:docker", f"{target}:two")
    copy(f"docker://{repository}:docker", f"{target}:registry.test/app:three")
    answers, status = ask(target, "one platform:linux/arm64", "two", "three")
    assert status == 0
    assert answers[2].content == answers[3].content != answers[1].content
