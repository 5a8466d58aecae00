"""What type a manifest is of by its own words: its ``mediaType``, else the fields that it has.

A manifest of OCI's may lack ``mediaType`` (image-spec, manifest.md); Docker's have it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from multi_fetch.errors import RegistryError
from multi_fetch.oci.media_types import DOCKER_SCHEMA1, OCI_INDEX, OCI_MANIFEST, is_media_type

if TYPE_CHECKING:
    from multi_fetch.oci.digest import Chunk

# A JSON object's fields, not decoded further.
Fields: TypeAlias = dict[str, msgspec.Raw]


def fields_of(content: Chunk) -> Fields | None:
    """The fields of a JSON object; None where the content is none."""
    try:
        return msgspec.json.decode(content, type=Fields)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def declared_type(fields: Fields) -> str:
    """The ``mediaType``, in lower case; empty where there is none.

    Raises:
        RegistryError: it is no media type.
    """
    raw = fields.get("mediaType")
    if raw is None:
        return ""
    try:
        value: object = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):  # a Raw's text has not been looked at
        value = None
    if not isinstance(value, str) or (value and not is_media_type(value)):
        raise RegistryError("the manifest's mediaType is no media type")
    return value.lower()


def type_by_shape(fields: Fields) -> str:
    """What a document is that has no ``mediaType``; empty where that cannot be seen."""
    if schema_version(fields) == b"1":
        return DOCKER_SCHEMA1
    if "manifests" in fields:
        return OCI_INDEX
    return OCI_MANIFEST if "layers" in fields else ""


def schema_version(fields: Fields) -> bytes:
    """The ``schemaVersion`` as it is written; empty where there is none."""
    return bytes(fields.get("schemaVersion", b"")).strip()
