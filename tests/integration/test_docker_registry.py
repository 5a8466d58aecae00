"""What Debian's docker-registry (distribution 2.8) really answers, where the project relies on it.

A fact that stops being true here is a change of the registry; what leans on it stands in
multi_fetch.registry.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.integration.docker_registry import READER
from tests.integration.push import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Filled, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.docker_registry import DockerRegistry

pytestmark = pytest.mark.integration

ALL_MANIFESTS = f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}"
ABSENT = "sha256:" + "0" * 64


@pytest.fixture
def client(registry: DockerRegistry, filled: Filled) -> Iterator[httpx.Client]:
    base = f"{registry.url}/v2/{filled.repository}"
    with httpx.Client(base_url=base, trust_env=False, timeout=30) as client:
        yield client


@contextmanager
def get(client: httpx.Client, path: str, **headers: str) -> Iterator[httpx.Response]:
    """The answer's head, for where its body cannot be read."""
    with client.stream("GET", path, headers=headers) as answer:
        yield answer


def sample_blob(filled: Filled) -> tuple[str, bytes]:
    return next((digest, blob) for digest, blob in filled.blobs.items() if len(blob) == 4096)


def codes(answer: httpx.Response) -> list[str]:
    return [error["code"] for error in answer.json()["errors"]]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_manifest_request_for_a_blobs_digest_is_answered_500(
    client: httpx.Client, filled: Filled, method: str
) -> None:
    for digest in (*list(filled.blobs)[:5], filled.large.digest, filled.sha512[0]):
        answer = client.request(method, f"manifests/{digest}", headers={"Accept": ALL_MANIFESTS})
        assert answer.status_code == 500, digest
        if method == "GET":
            assert codes(answer) == ["UNKNOWN"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_blob_request_for_a_manifests_digest_is_answered_404(
    client: httpx.Client, filled: Filled, method: str
) -> None:
    for digest in filled.manifests:
        assert client.request(method, f"blobs/{digest}").status_code == 404


def test_what_is_absent_is_answered_404_with_a_code_by_its_endpoint(client: httpx.Client) -> None:
    expected = {
        f"manifests/{ABSENT}": "MANIFEST_UNKNOWN",
        "manifests/no-such-tag": "MANIFEST_UNKNOWN",
        f"blobs/{ABSENT}": "BLOB_UNKNOWN",
    }
    for path, code in expected.items():
        answer = client.get(path, headers={"Accept": ALL_MANIFESTS})
        assert (answer.status_code, codes(answer)) == (404, [code])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_tag_is_answered_with_the_digest_type_and_length_of_its_manifest(
    client: httpx.Client, filled: Filled, method: str
) -> None:
    assert len(filled.tags) >= 50
    for tag, manifest in filled.tags.items():
        answer = client.request(method, f"manifests/{tag}", headers={"Accept": ALL_MANIFESTS})
        assert described(answer) == described_as(manifest)
        assert answer.content == (manifest.content if method == "GET" else b"")


def described(answer: httpx.Response) -> tuple[int, str, str, int]:
    headers = answer.headers
    return (
        answer.status_code,
        headers["Docker-Content-Digest"],
        headers["Content-Type"],
        int(headers["Content-Length"]),
    )


def described_as(manifest: Manifest) -> tuple[int, str, str, int]:
    return 200, manifest.digest, manifest.media_type, len(manifest.content)


def test_every_blob_comes_back_byte_for_byte_with_its_digest(
    client: httpx.Client, filled: Filled
) -> None:
    assert b"" in filled.blobs.values()
    for digest, blob in filled.blobs.items():
        answer = client.get(f"blobs/{digest}")
        assert answer.headers["Docker-Content-Digest"] == digest
        assert answer.content == blob


def test_a_large_blob_comes_back_byte_for_byte(client: httpx.Client, filled: Filled) -> None:
    hasher, size = hashlib.sha256(), 0
    with get(client, f"blobs/{filled.large.digest}") as answer:
        for chunk in answer.iter_raw():
            hasher.update(chunk)
            size += len(chunk)
    assert (f"sha256:{hasher.hexdigest()}", size) == (filled.large.digest, filled.large.size)


def test_a_blob_of_a_sha512_digest_is_answered_with_the_sha256_as_its_digest(
    client: httpx.Client, filled: Filled
) -> None:
    """Docker-Content-Digest may have another algorithm than the digest that was asked for."""
    digest, blob = filled.sha512
    answer = client.get(f"blobs/{digest}")
    assert answer.content == blob
    sha256 = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    assert answer.headers["Docker-Content-Digest"] == sha256


def test_a_range_of_a_blob_is_answered_206_with_that_part(
    client: httpx.Client, filled: Filled
) -> None:
    digest, blob = sample_blob(filled)
    for asked, part in {"10-20": blob[10:21], "10-": blob[10:], "4095-": blob[4095:]}.items():
        answer = client.get(f"blobs/{digest}", headers={"Range": f"bytes={asked}"})
        assert (answer.status_code, answer.content) == (206, part)
        first = asked.partition("-")[0]
        last = int(first) + len(part) - 1
        assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(blob)}"


def test_a_range_beyond_a_blobs_end_is_answered_416_with_a_false_length(
    client: httpx.Client, filled: Filled
) -> None:
    """Content-Length is the blob's, the body is a line of text: the connection is lost for more."""
    digest, blob = sample_blob(filled)
    with get(client, f"blobs/{digest}", Range=f"bytes={len(blob)}-") as answer:
        assert answer.status_code == 416
        assert int(answer.headers["Content-Length"]) == len(blob)
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()


def test_a_range_of_a_manifest_is_answered_200_with_all_of_it(
    client: httpx.Client, filled: Filled
) -> None:
    headers = {"Accept": ALL_MANIFESTS, "Range": "bytes=3-7"}
    answer = client.get("manifests/latest", headers=headers)
    assert (answer.status_code, answer.content) == (200, filled.tags["latest"].content)


def test_a_manifest_whose_type_is_not_in_accept_is_refused(
    client: httpx.Client, filled: Filled
) -> None:
    """An OCI manifest is answered 404; a Docker one 400, as it can't be turned into schema 1."""
    for tag, accept, status, code in (
        ("oci-0", DOCKER_MANIFEST, 404, "MANIFEST_UNKNOWN"),
        ("latest", OCI_MANIFEST, 404, "MANIFEST_UNKNOWN"),
        ("docker-0", OCI_MANIFEST, 400, "MANIFEST_INVALID"),
    ):
        answer = client.get(f"manifests/{tag}", headers={"Accept": accept})
        assert (answer.status_code, codes(answer)) == (status, [code])


def test_a_blob_is_sent_as_it_is_stored_also_where_gzip_is_accepted(
    client: httpx.Client, filled: Filled
) -> None:
    digest, blob = sample_blob(filled)
    answer = client.get(f"blobs/{digest}", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in answer.headers
    assert answer.content == blob


def test_two_registries_are_filled_with_the_same_content(
    filled: Filled, private_filled: Filled
) -> None:
    assert private_filled == filled


def test_a_registry_with_passwords_asks_for_basic_and_takes_the_readers(
    private_registry: DockerRegistry,
) -> None:
    url = f"{private_registry.url}/v2/"
    refused = httpx.get(url, trust_env=False)
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == 'Basic realm="loopback"'
    wrong = httpx.get(url, trust_env=False, auth=(READER.username, "guess"))
    assert wrong.status_code == 401
    assert httpx.get(url, trust_env=False, auth=(READER.username, READER.password)).is_success
