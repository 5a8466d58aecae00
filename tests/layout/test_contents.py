"""What a layout's objects are taken for, and what is said of a damaged one."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multi_fetch.errors import (
    DeniedError,
    InvalidRequestError,
    MultiFetchError,
    NotFoundError,
    RegistryError,
    SizeMismatchError,
    TooLargeError,
    UnavailableError,
    UnsupportedError,
)
from multi_fetch.layout.contents import Contents, Wanted
from multi_fetch.layout.folder import Folder
from multi_fetch.limits import MAX_DATA_BYTES, MAX_LAYOUT_INDEX_BYTES, MAX_MANIFEST_BYTES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import Digest, digest_of
from multi_fetch.oci.layout import REF_NAME
from multi_fetch.oci.media_types import (
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
    DOCKER_SCHEMA1_SIGNED,
    OCI_INDEX,
    OCI_MANIFEST,
    OCTET_STREAM,
)
from tests.layout.conftest import LARGE, SMALL, Sample

if TYPE_CHECKING:
    from pathlib import Path

    from multi_fetch.layout.part import Source

ABSENT = digest_of(b"nobody wrote this")


def look(
    contents: Contents, what: str | Digest, media_type: str = "", size: int | None = None
) -> Descriptor:
    """Finds a tag or digest, and closes it again."""
    tag, digest = ("", what) if isinstance(what, Digest) else (what, None)
    found = contents.find(Wanted(tag, digest, media_type, size))
    found.part.close()
    return found.descriptor


@pytest.fixture
def contents(sample: Sample) -> Contents:
    return Contents(Folder(sample.locator, str(sample.folder)))


def rewrite_index(sample: Sample, *entries: dict[str, Any]) -> None:
    (sample.folder / "index.json").write_text(json.dumps({"manifests": entries}))


def entry(descriptor: Descriptor, **more: object) -> dict[str, Any]:
    named = {"digest": descriptor.digest, "size": descriptor.size}
    return {"mediaType": descriptor.media_type, **named, **more}


def test_everything_is_found_with_its_type_and_size(sample: Sample, source: Source) -> None:
    """By tag and by digest; manifests through indexes in indexes; blobs are octets."""
    contents = Contents(source)
    for named in (sample.outer, sample.inner, sample.image):
        assert look(contents, named.digest) == named
    assert look(contents, "latest") == sample.outer
    for blob in (sample.small, sample.large):
        found = look(contents, blob.digest)
        assert (found.media_type, found.size) == (OCTET_STREAM, blob.size)


def test_a_hint_says_what_a_blob_is(sample: Sample, contents: Contents) -> None:
    assert look(contents, sample.small.digest, "a/b").media_type == "a/b"
    assert look(contents, sample.large.digest, "a/b").media_type == "a/b"


def test_a_manifests_own_type_comes_before_a_hint(sample: Sample, contents: Contents) -> None:
    """What index.json names is known already; for others the document decides."""
    assert look(contents, sample.outer.digest, "a/b").media_type == OCI_INDEX
    assert look(contents, sample.image.digest, DOCKER_MANIFEST).media_type == OCI_MANIFEST


def test_small_content_and_manifests_are_read_at_once(sample: Sample, contents: Contents) -> None:
    for digest, expected in ((sample.small.digest, SMALL), (sample.large.digest, None)):
        found = contents.find(Wanted("", digest))
        found.part.close()
        assert found.content == expected


@pytest.mark.parametrize(
    ("document", "media_type"),
    [
        ({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "layers": []}, DOCKER_MANIFEST),
        ({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST_LIST}, DOCKER_MANIFEST_LIST),
        ({"schemaVersion": 2, "config": {}, "layers": []}, OCI_MANIFEST),
        ({"schemaVersion": 2, "manifests": []}, OCI_INDEX),
        ({"schemaVersion": 1, "layers": []}, OCTET_STREAM),
        ({"schemaVersion": 2, "mediaType": "a/b", "layers": []}, OCTET_STREAM),
        ({"schemaVersion": 2, "mediaType": 5, "layers": []}, OCTET_STREAM),
        ({"layers": [], "manifests": []}, OCTET_STREAM),
        ({"architecture": "amd64", "rootfs": {}}, OCTET_STREAM),
        ([1, 2], OCTET_STREAM),
    ],
)
def test_a_small_document_that_nothing_names_is_known_by_its_own_words(
    sample: Sample, contents: Contents, document: object, media_type: str
) -> None:
    blob = sample.builder.add_blob(json.dumps(document).encode())
    assert look(contents, blob.digest).media_type == media_type


def test_a_large_document_that_nothing_names_is_a_blob(sample: Sample, contents: Contents) -> None:
    document = {"schemaVersion": 2, "manifests": [], "filling": "x" * MAX_DATA_BYTES}
    blob = sample.builder.add_blob(json.dumps(document).encode())
    assert look(contents, blob.digest).media_type == OCTET_STREAM
    assert look(contents, blob.digest, OCI_INDEX).media_type == OCI_INDEX


def test_docker_types_are_what_index_json_says(sample: Sample, contents: Contents) -> None:
    document = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": {}, "layers": []}
    manifest = sample.builder.add_manifest(json.dumps(document).encode(), DOCKER_MANIFEST)
    sample.builder.tag("docker", manifest)
    sample.builder.finish()
    assert look(contents, "docker") == look(contents, manifest.digest) == manifest


def test_a_new_tag_is_seen_at_once(sample: Sample, contents: Contents) -> None:
    with pytest.raises(NotFoundError, match="has no tag new; it has latest"):
        look(contents, "new")
    sample.builder.tag("new", sample.image)
    sample.builder.finish()
    assert look(contents, "new").digest == sample.image.digest


def test_a_message_lists_a_few_tags_only(sample: Sample, contents: Contents) -> None:
    rewrite_index(
        sample,
        *(entry(sample.image, annotations={REF_NAME: f"v{number:02}"}) for number in range(30)),
    )
    with pytest.raises(NotFoundError, match=r"v00, .*v09 and 20 more$"):
        look(contents, "none")
    rewrite_index(sample)
    with pytest.raises(NotFoundError, match=r"it has none$"):
        look(contents, "none")


def test_an_ambiguous_tag_is_an_invalid_request(sample: Sample, contents: Contents) -> None:
    rewrite_index(
        sample,
        entry(sample.image, annotations={REF_NAME: "a.io/x:v1"}),
        entry(sample.inner, annotations={REF_NAME: "b.io/x:v1"}),
    )
    with pytest.raises(InvalidRequestError, match="ambiguous"):
        look(contents, "v1")


# --- damage -----------------------------------------------------------------------------------


def test_content_that_is_missing_is_not_found(sample: Sample, source: Source) -> None:
    contents = Contents(source)
    with pytest.raises(NotFoundError, match=ABSENT.encoded):
        look(contents, ABSENT)


def test_a_tag_whose_content_is_missing_is_not_found(sample: Sample, contents: Contents) -> None:
    sample.path(sample.outer.digest).unlink()
    with pytest.raises(NotFoundError, match=sample.outer.digest.encoded):
        look(contents, "latest")
    assert look(contents, sample.small.digest).size == len(SMALL)


def test_content_of_another_size_is_told_before_it_comes(
    sample: Sample, contents: Contents
) -> None:
    with pytest.raises(SizeMismatchError) as by_hint:
        look(contents, sample.small.digest, size=3)
    assert (by_hint.value.want, by_hint.value.got) == (3, len(SMALL))
    with sample.path(sample.outer.digest).open("ab") as file:
        file.write(b"x")
    with pytest.raises(SizeMismatchError) as by_index:
        look(contents, "latest")
    assert by_index.value.want == sample.outer.size


def test_altered_content_is_given_as_it_is_for_others_to_judge(
    sample: Sample, contents: Contents
) -> None:
    """A manifest too: what an altered one says of its type does not count."""
    path = sample.path(sample.outer.digest)
    altered = path.read_bytes().replace(b"vnd.oci.image.index", b"vnd.oci.image.indey")
    path.write_bytes(altered)
    found = contents.find(Wanted("latest", None))
    found.part.close()
    assert (found.descriptor, found.content) == (sample.outer, altered)


def test_an_altered_index_is_not_believed(sample: Sample, contents: Contents) -> None:
    """It may say anything of what lies below it; the others are known all the same."""
    path = sample.path(sample.inner.digest)
    path.write_bytes(path.read_bytes().replace(b"image.manifest", b"image.manifesd"))
    assert look(contents, sample.inner.digest).media_type == OCI_INDEX
    assert look(contents, sample.image.digest).media_type == OCI_MANIFEST


def test_an_index_that_says_another_type_than_the_manifest_is_damaged(
    sample: Sample, contents: Contents
) -> None:
    rewrite_index(
        sample, {**entry(sample.image, annotations={REF_NAME: "v1"}), "mediaType": OCI_INDEX}
    )
    with pytest.raises(RegistryError, match="image-spec wants them to be the same"):
        look(contents, "v1")


def test_schema_1_is_not_supported(sample: Sample, contents: Contents) -> None:
    old = sample.builder.add_manifest(b'{"schemaVersion":1}', DOCKER_SCHEMA1_SIGNED)
    sample.builder.finish()
    with pytest.raises(UnsupportedError, match="schema 1"):
        look(contents, old.digest)


def test_a_manifest_beyond_the_limit_is_too_large(sample: Sample, contents: Contents) -> None:
    blob = sample.builder.add_blob(b"x" * (MAX_MANIFEST_BYTES + 1))
    with pytest.raises(TooLargeError, match=str(MAX_MANIFEST_BYTES)):
        look(contents, blob.digest, OCI_MANIFEST)


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
@pytest.mark.parametrize("content", [None, b"", b"[]", b"{", b"\xff", b"x" * 100_000])
def test_a_layout_without_its_own_files_says_so_for_each_object(
    sample: Sample, contents: Contents, name: str, content: bytes | None
) -> None:
    path = sample.folder / name
    path.unlink() if content is None else path.write_bytes(content)
    for what in ("latest", sample.small.digest):
        with pytest.raises((RegistryError, TooLargeError), match=name):
            look(contents, what)


def test_an_index_json_beyond_the_limit_is_not_read(sample: Sample, contents: Contents) -> None:
    with (sample.folder / "index.json").open("r+b") as file:
        file.truncate(MAX_LAYOUT_INDEX_BYTES + 1)
    with pytest.raises(TooLargeError, match=r"index\.json in oci:"):
        look(contents, "latest")


def test_another_layout_version_is_not_supported(sample: Sample, contents: Contents) -> None:
    (sample.folder / "oci-layout").write_text('{"imageLayoutVersion":"3.0.0"}')
    with pytest.raises(UnsupportedError, match=r"3\.0\.0"):
        look(contents, "latest")


def test_a_blob_behind_a_link_that_leads_out_is_denied(sample: Sample, contents: Contents) -> None:
    path = sample.path(sample.small.digest)
    path.rename(sample.folder.parent / "outside")
    path.symlink_to("../../../outside")
    with pytest.raises(DeniedError, match="lies outside"):
        look(contents, sample.small.digest)
    assert look(contents, "latest") == sample.outer


def test_a_folder_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    contents = Contents(Folder("oci:none", str(tmp_path / "none")))
    with pytest.raises(UnavailableError, match="oci:none: there is no such folder"):
        look(contents, "latest")


def test_what_a_descriptor_describes_is_opened_if_it_has_that_size(
    sample: Sample, contents: Contents
) -> None:
    found = contents.open(sample.large)
    assert found.part.read(found.part.size) == LARGE
    found.part.close()
    with pytest.raises(SizeMismatchError):
        contents.open(
            Descriptor(media_type=OCTET_STREAM, digest=sample.large.digest, size=len(LARGE) - 1)
        )


PIECES = st.sampled_from(
    [b"{", b"}", b"[", b"]", b'"manifests"', b":", b",", b'"digest"', b'"size"', b"1", b"\xff"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.binary() | st.lists(PIECES).map(b"".join), st.data())
def test_any_index_json_gives_an_answer_or_an_error(
    sample: Sample, content: bytes, data: st.DataObject
) -> None:
    """Any bytes, and the real ones with some of them altered or cut away."""
    path = sample.folder / "index.json"
    sample.builder.finish()
    real = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        start = data.draw(st.integers(0, len(real)))
        real[start : start + data.draw(st.integers(0, 20))] = content[:20]
        content = bytes(real)
    path.write_bytes(content)
    contents = Contents(Folder(sample.locator, str(sample.folder)))
    for what in ("latest", sample.image.digest, sample.small.digest):
        try:
            found = look(contents, what)
        except MultiFetchError:
            continue
        assert found.size == sample.path(found.digest).stat().st_size


def test_a_refused_index_is_not_read_again_until_it_is_another(
    contents: Contents, sample: Sample
) -> None:
    index = sample.folder / "index.json"
    good = index.read_bytes()
    index.write_bytes(b"x" * len(good))
    before = index.stat()
    with pytest.raises(RegistryError, match="cannot be read"):
        contents.names()
    index.write_bytes(good)
    os.utime(index, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(RegistryError, match="cannot be read"):
        contents.names()
    os.utime(index, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert contents.names()
