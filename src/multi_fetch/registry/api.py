"""The HTTP API of distribution-spec, without HTTP: paths, Accept, and what headers say."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

import msgspec

from multi_fetch.advice import TELL_OPERATOR
from multi_fetch.errors import InvalidDigestError, RegistryError
from multi_fetch.oci.digest import parse_digest
from multi_fetch.oci.media_types import (
    ACCEPTED_MANIFEST_TYPES,
    MANIFEST_TYPES,
    is_media_type,
    without_parameters,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from multi_fetch.oci.digest import Digest

# RFC 9110, section 8.6: Content-Length = 1*DIGIT
CONTENT_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)

# A blob's stored type is of no matter, and some stores answer 406 to a type they do not know.
ANY_TYPE: Final = "*/*"


class Endpoint(StrEnum):
    """Where a registry keeps an object."""

    MANIFESTS = "manifests"
    BLOBS = "blobs"

    @property
    def other(self) -> Endpoint:
        """The one beside it."""
        return Endpoint.BLOBS if self is Endpoint.MANIFESTS else Endpoint.MANIFESTS


class Candidate(msgspec.Struct, frozen=True):
    """One place to ask for an object.

    Attributes:
        endpoint: which part of the API it is.
        path: of the URL, percent-encoded.
        accept: the Accept header for it.
    """

    endpoint: Endpoint
    path: str
    accept: str


def likely_endpoint(media_types: Sequence[str]) -> Endpoint | None:
    """Where a digest of the first of these types is kept, or None where there are no types."""
    if not media_types:
        return None
    return Endpoint.MANIFESTS if media_types[0] in MANIFEST_TYPES else Endpoint.BLOBS


def candidates_for_tag(
    repository: str, tag: str, media_types: Sequence[str] = ()
) -> tuple[Candidate, ...]:
    """Where a tag may be: tags name manifests alone."""
    return (_candidate(Endpoint.MANIFESTS, repository, quote(tag, safe=""), media_types),)


def candidates_for_digest(
    repository: str, digest: Digest, first: Endpoint, media_types: Sequence[str] = ()
) -> tuple[Candidate, ...]:
    """Where a digest may be, most likely first (getV2URLPaths of containerd's fetch-object)."""
    # A digest has no character that a path does not take.
    return (
        _candidate(first, repository, digest, media_types),
        _candidate(first.other, repository, digest, media_types),
    )


@lru_cache(maxsize=64)
def _quoted(repository: str) -> str:
    return quote(repository, safe="/")


def _candidate(
    endpoint: Endpoint, repository: str, name: str, media_types: Sequence[str]
) -> Candidate:
    path = f"/v2/{_quoted(repository)}/{endpoint}/{name}"
    accept = ANY_TYPE
    if endpoint is Endpoint.MANIFESTS:
        accept = ", ".join(dict.fromkeys([*media_types, *ACCEPTED_MANIFEST_TYPES]))
    return Candidate(endpoint, path, accept)


def content_digest(headers: Mapping[str, str]) -> Digest | None:
    """Docker-Content-Digest, or None where it was not sent.

    Raises:
        RegistryError: it is no digest.
    """
    text = headers.get("docker-content-digest", "").strip()
    if not text:
        return None
    try:
        return parse_digest(text)
    except InvalidDigestError as error:
        raise RegistryError(
            f"the registry's Docker-Content-Digest is wrong: {error}{TELL_OPERATOR}"
        ) from error


def content_length(headers: Mapping[str, str]) -> int | None:
    """Content-Length in bytes, or None where it was not sent.

    Raises:
        RegistryError: it is no number.
    """
    text = headers.get("content-length")
    if text is None:
        return None
    if not CONTENT_LENGTH.fullmatch(text):
        raise RegistryError(
            f"the registry's Content-Length is no number of bytes: {text[:80]!r}{TELL_OPERATOR}"
        )
    return int(text)


def content_type(headers: Mapping[str, str]) -> str:
    """Content-Type in lower case, without parameters; empty where it was not sent or is none."""
    media_type = without_parameters(headers.get("content-type", ""))
    return media_type if is_media_type(media_type) else ""


def redacted(url: str) -> str:
    """A URL for logs and errors: without query and user, which may be a signature or a secret."""
    parts = urlsplit(url)
    query = "?..." if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"
