"""What type a manifest is of by its own words: its ``mediaType``, else the fields that it has.

A manifest of OCI's may lack ``mediaType`` (image-spec, manifest.md); Docker's have it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.advice import PUSH_AGAIN
from multi_fetch.errors import RegistryError
from multi_fetch.oci.media_types import DOCKER_SCHEMA1, OCI_INDEX, OCI_MANIFEST, is_media_type

if TYPE_CHECKING:
    from multi_fetch.oci.digest import Chunk

_NOTHING: Final = msgspec.Raw()


class Fields(msgspec.Struct, frozen=True, rename="camel"):
    """Those fields of a JSON object that tell its type, not decoded further; empty if missing.

    What else it has is passed over, so it takes no memory, however much that is.
    """

    media_type: msgspec.Raw = _NOTHING
    schema_version: msgspec.Raw = _NOTHING
    manifests: msgspec.Raw = _NOTHING
    layers: msgspec.Raw = _NOTHING


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
    raw = fields.media_type
    if _is_missing(raw):
        return ""
    try:
        value: object = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):  # a Raw's text has not been looked at
        value = None
    if not isinstance(value, str) or (value and not is_media_type(value)):
        raise RegistryError(f"the manifest's mediaType is no media type{PUSH_AGAIN}")
    return value.lower()


def type_by_shape(fields: Fields) -> str:
    """What a document is that has no ``mediaType``; empty where that cannot be seen."""
    if schema_version(fields) == b"1":
        return DOCKER_SCHEMA1
    if not _is_missing(fields.manifests):
        return OCI_INDEX
    return "" if _is_missing(fields.layers) else OCI_MANIFEST


def schema_version(fields: Fields) -> bytes:
    """The ``schemaVersion`` as it is written; empty where there is none."""
    return bytes(fields.schema_version).strip()


def _is_missing(raw: msgspec.Raw) -> bool:
    return not memoryview(raw).nbytes
