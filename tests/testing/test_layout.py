import json
from pathlib import Path

import pytest

from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCI_MANIFEST
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.layout import blob_path, read_layout


@pytest.fixture
def builder(tmp_path: Path) -> LayoutBuilder:
    return LayoutBuilder(tmp_path)


def test_tags_and_manifests_are_found_through_nested_indexes(builder: LayoutBuilder) -> None:
    image = builder.add_image(builder.add_empty(), [])
    inner = builder.add_index([image])
    outer = builder.add_index([inner, image])
    builder.tag("latest", outer)
    builder.finish()
    layout = read_layout(builder.folder)
    assert list(layout.tags) == ["latest"]
    assert layout.tags["latest"].digest == outer.digest
    for each in (outer, inner, image):
        found = layout.find_manifest(each.digest)
        assert found is not None
        assert (found.digest, found.media_type) == (each.digest, each.media_type)


def test_a_manifest_is_no_blob_and_a_blob_no_manifest(builder: LayoutBuilder) -> None:
    blob = builder.add_blob(b"abc")
    image = builder.add_image(builder.add_empty(), [blob])
    layout = builder.finish()
    assert layout.find_blob(image.digest) is None
    assert layout.find_manifest(blob.digest) is None
    path = layout.find_blob(blob.digest)
    assert path is not None
    assert path.read_bytes() == b"abc"


def test_what_is_not_there_is_not_found(builder: LayoutBuilder) -> None:
    layout = builder.finish()
    assert layout.find_manifest("latest") is None
    assert layout.find_blob(digest_of(b"abc")) is None


def test_content_that_was_removed_is_not_found_any_more(builder: LayoutBuilder) -> None:
    image = builder.add_image(builder.add_empty(), [])
    index = builder.add_index([image])
    builder.tag("latest", index)
    layout = builder.finish()
    blob_path(builder.folder, index.digest).unlink()
    assert layout.find_manifest("latest") is None
    assert read_layout(builder.folder).manifests.keys() == {index.digest}


def test_a_descriptor_of_a_type_that_is_no_manifests_leads_to_no_manifest(
    builder: LayoutBuilder,
) -> None:
    builder.tag("blob", builder.add_blob(b"abc"))
    assert builder.finish().manifests == {}


def test_a_folder_that_is_no_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="oci-layout"):
        read_layout(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("oci-layout", b"{}"),
        ("oci-layout", b'{"imageLayoutVersion":"2.0.0"}'),
        ("oci-layout", b"\xff"),
        ("index.json", b"[]"),
        ("index.json", b"{"),
        ("index.json", b'{"manifests":[{"mediaType":"a/b","digest":"../../etc","size":1}]}'),
    ],
)
def test_a_file_that_breaks_the_spec_is_named(
    builder: LayoutBuilder, name: str, content: bytes
) -> None:
    builder.finish()
    (builder.folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        read_layout(builder.folder)


def test_an_index_below_that_cannot_be_read_is_named(builder: LayoutBuilder) -> None:
    index = builder.add_index([])
    builder.tag("latest", index)
    builder.finish()
    blob_path(builder.folder, index.digest).write_bytes(b"{")
    with pytest.raises(ValueError, match=index.digest.encoded):
        read_layout(builder.folder)


def test_a_layout_of_another_tool_is_read(tmp_path: Path) -> None:
    content = json.dumps({"schemaVersion": 2}).encode()
    digest = digest_of(content)
    path = blob_path(tmp_path, digest)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}\n')
    descriptor = {
        "mediaType": OCI_MANIFEST,
        "digest": digest,
        "size": len(content),
        "annotations": {"org.opencontainers.image.ref.name": "v1", "other": "x"},
    }
    (tmp_path / "index.json").write_text(
        json.dumps({"schemaVersion": 2, "manifests": [descriptor], "annotations": {}})
    )
    assert read_layout(str(tmp_path)).tags["v1"].digest == digest
