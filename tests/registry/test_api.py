"""Paths, Accept headers, and what response headers say."""

import pytest

from multi_fetch.errors import RegistryError
from multi_fetch.oci.digest import Digest
from multi_fetch.oci.media_types import (
    ACCEPTED_MANIFEST_TYPES,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCTET_STREAM,
)
from multi_fetch.registry.api import (
    Endpoint,
    candidates_for_digest,
    candidates_for_tag,
    content_digest,
    content_length,
    content_type,
    likely_endpoint,
    redacted,
)

DIGEST = Digest(f"sha256:{'a' * 64}")


def test_a_tag_is_asked_of_the_manifests_alone() -> None:
    (candidate,) = candidates_for_tag("team/app", "v1")
    assert candidate.endpoint is Endpoint.MANIFESTS
    assert candidate.path == "/v2/team/app/manifests/v1"
    assert candidate.accept == ", ".join(ACCEPTED_MANIFEST_TYPES)


def test_a_digest_is_asked_of_both_endpoints_the_likely_one_first() -> None:
    blobs_first = candidates_for_digest("team/app", DIGEST, Endpoint.BLOBS)
    assert [candidate.path for candidate in blobs_first] == [
        f"/v2/team/app/blobs/{DIGEST}",
        f"/v2/team/app/manifests/{DIGEST}",
    ]
    assert [candidate.accept for candidate in blobs_first] == [
        "*/*",
        ", ".join(ACCEPTED_MANIFEST_TYPES),
    ]
    manifests_first = candidates_for_digest("team/app", DIGEST, Endpoint.MANIFESTS)
    assert manifests_first == blobs_first[::-1]


def test_hinted_types_come_first_in_accept_and_only_once() -> None:
    (candidate,) = candidates_for_tag("a", "v1", [DOCKER_MANIFEST, "application/x"])
    types = candidate.accept.split(", ")
    assert types[:2] == [DOCKER_MANIFEST, "application/x"]
    assert sorted(types) == sorted([*ACCEPTED_MANIFEST_TYPES, "application/x"])


def test_a_path_holds_no_character_that_could_end_it() -> None:
    (candidate,) = candidates_for_tag("team/a?b#c%2e", "v1/../x?y")
    assert candidate.path == "/v2/team/a%3Fb%23c%252e/manifests/v1%2F..%2Fx%3Fy"


def test_the_first_media_type_tells_the_endpoint() -> None:
    assert likely_endpoint([OCI_INDEX, OCTET_STREAM]) is Endpoint.MANIFESTS
    assert likely_endpoint([OCTET_STREAM, OCI_INDEX]) is Endpoint.BLOBS
    assert likely_endpoint([]) is None


def test_docker_content_digest_is_read_or_missing_or_refused() -> None:
    assert content_digest({"docker-content-digest": DIGEST}) == DIGEST
    assert content_digest({}) is None
    assert content_digest({"docker-content-digest": " "}) is None
    with pytest.raises(RegistryError, match="Docker-Content-Digest"):
        content_digest({"docker-content-digest": "sha256:abc"})


def test_content_length_is_digits() -> None:
    assert content_length({"content-length": "0012"}) == 12
    assert content_length({}) is None
    for text in ("", "-1", "+1", "1 ", "1.0", "1e3", "٣", "9" * 19, "5, 5"):
        with pytest.raises(RegistryError, match="Content-Length"):
            content_length({"content-length": text})


def test_content_type_is_without_parameters_or_empty() -> None:
    assert content_type({"content-type": "Application/JSON; charset=utf-8"}) == "application/json"
    assert content_type({"content-type": "nonsense"}) == ""
    assert content_type({}) == ""


def test_urls_are_shown_without_signature_and_user() -> None:
    url = "https://alice:pw@cdn.example:8443/a/b?X-Signature=s3cret#frag"
    assert redacted(url) == "https://cdn.example:8443/a/b?..."
    assert redacted("https://cdn.example/a") == "https://cdn.example/a"
