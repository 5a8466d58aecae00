"""Media types: those that have a meaning here, and the form of all.

Sources: image-spec's media-types.md; Docker's image manifest v2, schemas 1 and 2.
"""

from __future__ import annotations

import re
from typing import Final

from multi_fetch.limits import MAX_MEDIA_TYPE_CHARACTERS

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_ARTIFACT_MANIFEST: Final = "application/vnd.oci.artifact.manifest.v1+json"
DOCKER_MANIFEST_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"
OCTET_STREAM: Final = "application/octet-stream"

INDEX_TYPES: Final = frozenset({OCI_INDEX, DOCKER_MANIFEST_LIST})
IMAGE_MANIFEST_TYPES: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})

# What the manifests endpoint serves, in the order in which the Accept header names them.
ACCEPTED_MANIFEST_TYPES: Final = (
    OCI_INDEX,
    OCI_MANIFEST,
    DOCKER_MANIFEST_LIST,
    DOCKER_MANIFEST,
    OCI_ARTIFACT_MANIFEST,
)
SCHEMA1_TYPES: Final = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})
MANIFEST_TYPES: Final = frozenset(ACCEPTED_MANIFEST_TYPES) | SCHEMA1_TYPES

# RFC 6838, section 4.2, restricted-name "/" restricted-name:
#   restricted-name-first = ALPHA / DIGIT
#   restricted-name-chars = ALPHA / DIGIT / "!" / "#" / "$" / "&" / "-" / "^" / "_" / "." / "+"
MEDIA_TYPE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
)


def is_media_type(text: str) -> bool:
    """Whether the text is ``type/subtype``, without parameters."""
    return len(text) <= MAX_MEDIA_TYPE_CHARACTERS and MEDIA_TYPE.fullmatch(text) is not None


def without_parameters(content_type: str) -> str:
    """A Content-Type header's media type in lower case: what stands before ``;``."""
    return content_type.partition(";")[0].strip().lower()
