from __future__ import annotations

import pytest

from multi_fetch.oci import media_types
from multi_fetch.oci.media_types import is_media_type, without_parameters

NAMED = [value for name, value in vars(media_types).items() if name.startswith(("OCI_", "DOCKER_"))]


@pytest.mark.parametrize(
    "text",
    [
        *NAMED,
        media_types.OCTET_STREAM,
        "a/b",
        "0/1",
        "Text/HTML",
        "a!#$&^_.+-b/c!#$&^_.+-d",
        "a" * 127 + "/" + "b" * 127,
    ],
)
def test_a_type_and_a_subtype_are_a_media_type(text: str) -> None:
    assert is_media_type(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "a",
        "a/",
        "/b",
        "a/b/c",
        "a/b;q=1",
        "a/b\n",
        " a/b",
        "a /b",
        "*/*",
        "-a/b",
        "ä/b",
        "a" * 128 + "/b",
        "a/" + "b" * 128,
    ],
)
def test_what_is_not_of_rfc_6838_is_none(text: str) -> None:
    assert not is_media_type(text)


@pytest.mark.parametrize(
    ("header", "media_type"),
    [
        ("application/json", "application/json"),
        ("Application/JSON; charset=utf-8", "application/json"),
        (" a/b ;x=y;z", "a/b"),
        ("", ""),
        (";", ""),
    ],
)
def test_a_content_type_is_compared_without_parameters_and_case(
    header: str, media_type: str
) -> None:
    assert without_parameters(header) == media_type


def test_the_accept_header_names_no_schema_1() -> None:
    """It would be served in preference by some registries, and cannot be used."""
    assert not media_types.SCHEMA1_TYPES & set(media_types.ACCEPTED_MANIFEST_TYPES)


def test_every_manifest_type_is_known_as_one() -> None:
    assert media_types.INDEX_TYPES | media_types.IMAGE_MANIFEST_TYPES < media_types.MANIFEST_TYPES
    assert set(NAMED) == media_types.MANIFEST_TYPES
