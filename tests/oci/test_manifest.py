"""Manifests: what they name, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.errors import MultiFetchError, RegistryError, TooLargeError, UnsupportedError
from multi_fetch.limits import MAX_CHILDREN, MAX_MANIFEST_ANNOTATIONS, MAX_MANIFEST_COLONS
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.manifest import is_manifest, parse_manifest
from multi_fetch.oci.media_types import (
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
    OCI_INDEX,
    OCI_MANIFEST,
    OCTET_STREAM,
)


def named(text: str, size: object = 1) -> dict[str, object]:
    return {"mediaType": OCTET_STREAM, "digest": digest_of(text.encode()), "size": size}


def test_an_image_names_its_config_and_layers_in_order_each_once() -> None:
    document = {
        "schemaVersion": 2,
        "config": named("config"),
        "layers": [named("b"), named("a"), named("b"), named("config")],
        "subject": named("subject"),
    }
    manifest = parse_manifest(json.dumps(document).encode(), OCI_MANIFEST)
    assert [child.digest for child in manifest.children()] == [
        digest_of(each) for each in (b"config", b"b", b"a")
    ]


def test_an_index_names_its_manifests() -> None:
    document = {"manifests": [named("x"), named("y")], "annotations": {"a": "b"}}
    manifest = parse_manifest(json.dumps(document).encode(), OCI_INDEX)
    assert [child.digest for child in manifest.children()] == [digest_of(b"x"), digest_of(b"y")]


def test_what_names_nothing_has_no_children() -> None:
    assert parse_manifest(b"{}", OCI_MANIFEST).children() == []


@pytest.mark.parametrize("media_type", [DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED])
def test_schema_1_is_unsupported(media_type: str) -> None:
    with pytest.raises(UnsupportedError, match="schema 1"):
        parse_manifest(b"{}", media_type)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"layers":{}}',
        b'{"config":{"digest":"sha256:00"}}',
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        json.dumps({"layers": [named("a", None)]}).encode(),
        json.dumps({"layers": [named("a", -1)]}).encode(),
        json.dumps({"layers": [named("a", 1.5)]}).encode(),
        json.dumps({"layers": [named("a") | {"digest": "sha256:short"}]}).encode(),
        json.dumps({"layers": [named("a") | {"digest": 7}]}).encode(),
    ],
)
def test_what_is_no_manifest_is_the_registrys_error(content: bytes) -> None:
    with pytest.raises(RegistryError):
        parse_manifest(content, OCI_MANIFEST)


def test_more_children_than_the_limit_are_too_large() -> None:
    layers = [named(str(number)) for number in range(MAX_CHILDREN + 1)]
    with pytest.raises(TooLargeError):
        parse_manifest(json.dumps({"layers": layers}).encode(), OCI_MANIFEST)


def test_more_annotations_of_children_than_the_limit_are_too_large() -> None:
    annotations = {str(number): "" for number in range(MAX_MANIFEST_ANNOTATIONS)}
    layers = [named("a") | {"annotations": annotations}]
    assert parse_manifest(json.dumps({"layers": layers}).encode(), OCI_MANIFEST).layers
    layers.append(named("b") | {"annotations": {"one": "more"}})
    with pytest.raises(TooLargeError, match="annotations"):
        parse_manifest(json.dumps({"layers": layers}).encode(), OCI_MANIFEST)


def test_what_says_more_than_memory_should_hold_is_too_large() -> None:
    annotations = {str(number): "" for number in range(MAX_MANIFEST_COLONS)}
    with pytest.raises(TooLargeError, match="fields"):
        parse_manifest(json.dumps({"annotations": annotations}).encode(), OCI_MANIFEST)
    urls = ["aa"] * MAX_MANIFEST_COLONS
    with pytest.raises(TooLargeError, match="fields"):
        parse_manifest(json.dumps({"layers": [named("a") | {"urls": urls}]}).encode(), OCI_MANIFEST)
    layers = [named("a") | {"urls": urls[: MAX_MANIFEST_ANNOTATIONS + 1]}]
    with pytest.raises(TooLargeError, match="annotations"):
        parse_manifest(json.dumps({"layers": layers}).encode(), OCI_MANIFEST)


@given(st.binary())
def test_any_bytes_are_a_manifest_or_an_error_of_the_tree(content: bytes) -> None:
    try:
        parse_manifest(content, OCI_MANIFEST)
    except MultiFetchError:
        return


@pytest.mark.parametrize(
    ("media_type", "expected"),
    [
        (OCI_INDEX, True),
        (OCI_MANIFEST, True),
        (DOCKER_MANIFEST, True),
        (DOCKER_MANIFEST_LIST, True),
        (DOCKER_SCHEMA1, True),
        (OCTET_STREAM, False),
        ("", False),
    ],
)
def test_manifests_are_told_from_blobs_by_their_type(media_type: str, *, expected: bool) -> None:
    assert is_manifest(media_type) is expected
