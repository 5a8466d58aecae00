import json
from pathlib import Path

import pytest

from multi_fetch.errors import UnsupportedError
from multi_fetch.oci.descriptor import Descriptor, Platform
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCI_INDEX, OCI_MANIFEST
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.layout import blob_path


def document(folder: Path, descriptor: Descriptor) -> dict[str, object]:
    found: dict[str, object] = json.loads(blob_path(folder, descriptor.digest).read_bytes())
    return found


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_content_lies_under_its_digest(tmp_path: Path, algorithm: str) -> None:
    blob = LayoutBuilder(tmp_path).add_blob(b"abc", "text/plain", algorithm=algorithm)
    assert (blob.media_type, blob.size, blob.digest) == (
        "text/plain",
        3,
        digest_of(b"abc", algorithm),
    )
    path = tmp_path / "blobs" / algorithm / blob.digest.encoded
    assert path.read_bytes() == b"abc"


def test_an_algorithm_that_is_not_known_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(UnsupportedError):
        LayoutBuilder(tmp_path).add_blob(b"abc", algorithm="md5")
    assert list(tmp_path.iterdir()) == []


def test_an_image_manifest_has_the_fields_of_the_spec(tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path)
    config = builder.add_empty()
    layer = builder.add_blob(b"abc", "text/plain")
    subject = builder.add_image(config, [])
    image = builder.add_image(
        config, [layer], artifact_type="a/b", subject=subject, annotations={"k": "v"}
    )
    assert image.media_type == OCI_MANIFEST
    assert document(tmp_path, image) == {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "a/b",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": digest_of(b"{}"),
            "size": 2,
        },
        "layers": [{"mediaType": "text/plain", "digest": layer.digest, "size": 3}],
        "subject": {"mediaType": OCI_MANIFEST, "digest": subject.digest, "size": subject.size},
        "annotations": {"k": "v"},
    }


def test_an_index_names_the_platform_of_each_manifest(tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path)
    platform = Platform(os="linux", architecture="arm", variant="v7")
    image = builder.add_image(builder.add_empty(), [], platform=platform)
    index = builder.add_index([image], annotations={"k": "v"})
    assert document(tmp_path, index) == {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            {
                "mediaType": OCI_MANIFEST,
                "digest": image.digest,
                "size": image.size,
                "platform": {"architecture": "arm", "os": "linux", "variant": "v7"},
            }
        ],
        "annotations": {"k": "v"},
    }


def test_a_manifest_that_no_tag_and_no_index_names_is_found_by_its_digest(tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path)
    alone = builder.add_manifest(b'{"odd":1}', OCI_MANIFEST, algorithm="sha512")
    within = builder.add_image(builder.add_empty(), [])
    tagged = builder.add_index([within])
    builder.tag("latest", tagged)
    layout = builder.finish()
    assert set(layout.manifests) == {alone.digest, within.digest, tagged.digest}
    top = json.loads((tmp_path / "index.json").read_bytes())["manifests"]
    assert [each["digest"] for each in top] == [tagged.digest, alone.digest]


def test_a_tag_can_be_moved(tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path)
    first = builder.add_image(builder.add_empty(), [])
    second = builder.add_index([])
    builder.tag("latest", first)
    builder.tag("latest", second)
    assert builder.finish().tags["latest"].digest == second.digest
