"""Descriptors from what was asked and what was answered."""

from __future__ import annotations

import json

import pytest

from multi_fetch.errors import RegistryError, SizeMismatchError, TooLargeError, UnsupportedError
from multi_fetch.limits import MAX_MANIFEST_BYTES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import Digest, digest_of
from multi_fetch.oci.media_types import (
    DOCKER_MANIFEST,
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
    OCI_INDEX,
    OCI_MANIFEST,
    OCTET_STREAM,
)
from multi_fetch.registry.api import Endpoint
from multi_fetch.registry.describe import (
    Wanted,
    describe_blob,
    describe_head,
    describe_manifest,
)

DIGEST = Digest(f"sha256:{'a' * 64}")
TAG = Wanted("v1", None)
BY_DIGEST = Wanted("", DIGEST)
HEADERS = {
    "content-type": OCI_MANIFEST,
    "content-length": "12",
    "docker-content-digest": str(DIGEST),
}


def manifest(**fields: object) -> bytes:
    return json.dumps({"schemaVersion": 2, **fields}).encode()


def test_a_tags_head_tells_type_digest_and_size() -> None:
    assert describe_head(TAG, Endpoint.MANIFESTS, HEADERS) == Descriptor(
        media_type=OCI_MANIFEST, digest=DIGEST, size=12
    )


@pytest.mark.parametrize(
    "change",
    [
        {"content-length": None},
        {"docker-content-digest": None},
        {"docker-content-digest": "other:abc"},
        {"content-type": None},
        {"content-type": "application/json"},
        {"content-type": "text/html; charset=utf-8"},
    ],
)
def test_a_head_that_says_too_little_is_no_descriptor(change: dict[str, str | None]) -> None:
    headers = {name: value for name, value in {**HEADERS, **change}.items() if value is not None}
    assert describe_head(TAG, Endpoint.MANIFESTS, headers) is None


def test_a_digests_head_needs_no_digest_header() -> None:
    headers = {"content-type": OCI_MANIFEST, "content-length": "12"}
    described = describe_head(BY_DIGEST, Endpoint.MANIFESTS, headers)
    assert described == Descriptor(media_type=OCI_MANIFEST, digest=DIGEST, size=12)


def test_the_digest_that_was_asked_for_is_the_descriptors() -> None:
    headers = {**HEADERS, "docker-content-digest": f"sha512:{'b' * 128}"}
    described = describe_head(BY_DIGEST, Endpoint.MANIFESTS, headers)
    assert described is not None
    assert described.digest == DIGEST


def test_a_head_of_another_size_or_beyond_the_limit_is_an_error() -> None:
    with pytest.raises(SizeMismatchError):
        describe_head(Wanted("v1", None, size=13), Endpoint.MANIFESTS, HEADERS)
    headers = {**HEADERS, "content-length": str(MAX_MANIFEST_BYTES + 1)}
    with pytest.raises(TooLargeError):
        describe_head(TAG, Endpoint.MANIFESTS, headers)


@pytest.mark.parametrize("media_type", [DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED])
def test_schema_1_is_unsupported_and_says_so(media_type: str) -> None:
    headers = {**HEADERS, "content-type": f"{media_type}; charset=utf-8"}
    with pytest.raises(UnsupportedError, match="schema 1"):
        describe_head(TAG, Endpoint.MANIFESTS, headers)
    with pytest.raises(UnsupportedError, match="schema 1"):
        describe_manifest(TAG, headers, b"{}")


def test_schema_1_is_recognised_by_its_shape() -> None:
    with pytest.raises(UnsupportedError, match="schema 1"):
        describe_manifest(TAG, {"content-type": "text/plain"}, b'{"schemaVersion": 1 }')


def test_a_blobs_type_is_the_hints_then_the_headers_then_octets() -> None:
    headers = {"content-type": "application/x"}
    hinted = Wanted("", DIGEST, ("application/y", "application/z"))
    assert describe_blob(hinted, headers, 5).media_type == "application/y"
    assert describe_blob(BY_DIGEST, headers, 5).media_type == "application/x"
    assert describe_blob(BY_DIGEST, {}, None).media_type == OCTET_STREAM


def test_a_blobs_size_at_a_head_must_be_what_was_expected() -> None:
    expected = Wanted("", DIGEST, size=5)
    found = describe_head(expected, Endpoint.BLOBS, {"content-length": "5"})
    assert found is not None
    assert found.size == 5
    with pytest.raises(SizeMismatchError) as caught:
        describe_head(expected, Endpoint.BLOBS, {"content-length": "6"})
    assert (caught.value.want, caught.value.got) == (5, 6)


def test_a_blobs_head_without_a_length_says_too_little() -> None:
    assert describe_head(BY_DIGEST, Endpoint.BLOBS, {}) is None


def test_a_manifests_digest_is_the_header_or_is_computed() -> None:
    body = manifest(mediaType=OCI_MANIFEST)
    assert describe_manifest(TAG, HEADERS, body).digest == DIGEST
    bare = {"content-type": OCI_MANIFEST}
    assert describe_manifest(TAG, bare, body).digest == digest_of(body)
    foreign = {**HEADERS, "docker-content-digest": "other:abc"}
    assert describe_manifest(TAG, foreign, body).digest == digest_of(body)
    assert describe_manifest(BY_DIGEST, bare, body).digest == DIGEST


def test_a_manifests_size_is_counted_and_compared() -> None:
    body = manifest()
    assert describe_manifest(TAG, HEADERS, body).size == len(body)
    with pytest.raises(SizeMismatchError):
        describe_manifest(Wanted("v1", None, size=3), HEADERS, body)


def test_types_that_differ_are_rejected() -> None:
    with pytest.raises(RegistryError, match="rejected"):
        describe_manifest(TAG, HEADERS, manifest(mediaType=DOCKER_MANIFEST))
    with pytest.raises(RegistryError, match="rejected"):
        describe_manifest(BY_DIGEST, HEADERS, manifest(mediaType=OCI_INDEX))


@pytest.mark.parametrize(
    ("content_type", "body", "media_type"),
    [
        (OCI_INDEX, manifest(), OCI_INDEX),
        (f"{OCI_INDEX}; charset=utf-8", manifest(mediaType=OCI_INDEX), OCI_INDEX),
        ("application/vnd.own+json", manifest(manifests=[]), "application/vnd.own+json"),
        ("", manifest(mediaType=OCI_INDEX), OCI_INDEX),
        ("application/json", manifest(mediaType=OCI_INDEX), OCI_INDEX),
        ("text/plain", manifest(mediaType=DOCKER_MANIFEST), DOCKER_MANIFEST),
        (OCTET_STREAM, manifest(manifests=[]), OCI_INDEX),
        ("application/json; charset=utf-8", manifest(config={}, layers=[]), OCI_MANIFEST),
        ("application/json", manifest(), "application/json"),
        ("", manifest(mediaType=""), OCTET_STREAM),
    ],
)
def test_the_body_decides_where_content_type_is_vague(
    content_type: str, body: bytes, media_type: str
) -> None:
    assert describe_manifest(TAG, {"content-type": content_type}, body).media_type == media_type


@pytest.mark.parametrize("value", [5, None, ["x"], "no media type"])
def test_a_media_type_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(RegistryError, match="mediaType"):
        describe_manifest(TAG, HEADERS, manifest(mediaType=value))


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html", b"<html>log in here</html>"),
        ("text/html; charset=utf-8", manifest()),
        (OCI_MANIFEST, b""),
        (OCI_MANIFEST, b"[]"),
        (OCI_MANIFEST, b"<html>"),
        (OCI_MANIFEST, b'{"schemaVersion": 2'),
        (OCI_MANIFEST, b"\xff\xfe"),
        (OCI_MANIFEST, b"[" * 100_000),
    ],
)
def test_a_tag_is_never_something_that_is_no_manifest(content_type: str, body: bytes) -> None:
    with pytest.raises(RegistryError, match=r"not a manifest|no manifest"):
        describe_manifest(TAG, {"content-type": content_type}, body)


def test_a_digests_content_may_be_anything_since_it_will_be_verified() -> None:
    described = describe_manifest(BY_DIGEST, {"content-type": "text/html"}, b"<html>")
    assert described == Descriptor(media_type="text/html", digest=DIGEST, size=6)
    assert describe_manifest(BY_DIGEST, {}, b"\xff").media_type == OCTET_STREAM
