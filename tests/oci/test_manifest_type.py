"""A manifest's type by its own words."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.errors import RegistryError
from multi_fetch.oci.manifest_type import (
    Fields,
    declared_type,
    fields_of,
    schema_version,
    type_by_shape,
)
from multi_fetch.oci.media_types import DOCKER_SCHEMA1, OCI_INDEX, OCI_MANIFEST


@pytest.mark.parametrize("content", [b"", b"[]", b"1", b"{", b"\xff", b'{"a":1}x', b"null"])
def test_what_is_no_json_object_has_no_fields(content: bytes) -> None:
    assert fields_of(content) is None


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"{}", ""),
        (b'{"mediaType":""}', ""),
        (b'{"mediaType": "Application/Vnd.Foo+json" }', "application/vnd.foo+json"),
    ],
)
def test_the_declared_type_is_in_lower_case(content: bytes, media_type: str) -> None:
    fields = fields_of(content)
    assert fields is not None
    assert declared_type(fields) == media_type


@pytest.mark.parametrize("value", [b"1", b"null", b'"x"', b'"a/b; c"', b'"a/\xff"', b'"\\ud800"'])
def test_a_declared_type_that_is_none_is_refused(value: bytes) -> None:
    """Bytes that are no UTF-8 too, which reading the fields alone does not notice."""
    fields = fields_of(b'{"mediaType":' + value + b"}")
    if fields is None:
        return
    with pytest.raises(RegistryError, match="no media type"):
        declared_type(fields)


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b'{"schemaVersion":1,"layers":[]}', DOCKER_SCHEMA1),
        (b'{"schemaVersion":2,"manifests":[]}', OCI_INDEX),
        (b'{"schemaVersion": 2 ,"layers":[]}', OCI_MANIFEST),
        (b'{"rootfs":{}}', ""),
    ],
)
def test_without_a_declared_type_the_fields_decide(content: bytes, media_type: str) -> None:
    fields = fields_of(content)
    assert fields is not None
    assert type_by_shape(fields) == media_type


def test_the_version_is_as_it_is_written() -> None:
    assert schema_version(fields_of(b'{"schemaVersion": 2}') or Fields()) == b"2"
    assert schema_version(Fields()) == b""


def test_a_document_of_many_other_fields_takes_no_memory() -> None:
    content = b'{"layers":[]' + b"".join(b',"%x":0' % number for number in range(50_000)) + b"}"
    tracemalloc.start()
    try:
        fields = fields_of(content)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert fields is not None
    assert type_by_shape(fields) == OCI_MANIFEST
    assert peak_bytes < len(content)


@given(st.binary())
def test_any_bytes_have_a_type_or_none_or_are_refused(content: bytes) -> None:
    fields = fields_of(b'{"mediaType":"' + content + b'"}')
    if fields is None:
        return
    try:
        declared_type(fields)
    except RegistryError:
        return
