import json
from pathlib import Path

import pytest

from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCI_INDEX, OCI_MANIFEST
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.messages import Answer, Request, body_bytes
from multi_fetch.testing.pull_api import PullApi
from tests.testing.conftest import Sample


@pytest.fixture
def api(sample: Sample) -> PullApi:
    return PullApi(sample.layout)


def error_code(answer: Answer) -> tuple[int, str]:
    (error,) = json.loads(body_bytes(answer.body))["errors"]
    return answer.status, error["code"]


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
def test_the_base_says_that_this_is_a_registry(api: PullApi, path: str) -> None:
    answer = api.answer(Request("GET", path))
    assert answer.status == 200
    assert answer.header("Docker-Distribution-API-Version") == "registry/2.0"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_manifest_is_had_by_tag_and_by_digest(api: PullApi, sample: Sample, method: str) -> None:
    for reference in ("latest", sample.image.digest):
        answer = api.answer(Request(method, f"/v2/any/name/manifests/{reference}"))
        assert answer.status == 200
        assert answer.header("Content-Type") == OCI_MANIFEST
        assert answer.header("Docker-Content-Digest") == sample.image.digest
        assert answer.header("Content-Length") == str(sample.image.size)
        assert digest_of(body_bytes(answer.body)) == sample.image.digest


def test_each_endpoint_knows_its_own_kind_alone(api: PullApi, sample: Sample) -> None:
    blob = api.answer(Request("GET", f"/v2/n/blobs/{sample.image.digest}"))
    assert error_code(blob) == (404, "BLOB_UNKNOWN")
    manifest = api.answer(Request("GET", f"/v2/n/manifests/{sample.blob.digest}"))
    assert error_code(manifest) == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize(
    ("method", "path", "want"),
    [
        ("GET", "/v2/n/manifests/missing", (404, "MANIFEST_UNKNOWN")),
        ("GET", "/v2/n/blobs/latest", (400, "DIGEST_INVALID")),
        ("GET", "/v2/n/blobs/sha256:../../index.json", (404, "UNSUPPORTED")),
        ("GET", "/", (404, "UNSUPPORTED")),
        ("GET", "/v2/n/uploads/", (404, "UNSUPPORTED")),
        ("PUT", "/v2/n/manifests/latest", (405, "UNSUPPORTED")),
    ],
)
def test_what_cannot_be_had_is_an_error_with_its_code(
    api: PullApi, method: str, path: str, want: tuple[int, str]
) -> None:
    assert error_code(api.answer(Request(method, path))) == want


def test_with_names_given_any_other_repository_is_unknown(sample: Sample) -> None:
    api = PullApi({"demo/app": sample.layout})
    assert api.answer(Request("GET", "/v2/demo/app/manifests/latest")).status == 200
    for path in ("/v2/demo/manifests/latest", "/v2/other/tags/list"):
        assert error_code(api.answer(Request("GET", path))) == (404, "NAME_UNKNOWN")


@pytest.mark.parametrize(
    ("header", "first", "count"),
    [("bytes=0-0", 0, 1), ("bytes=1000-", 1000, 24), ("bytes=-10", 1014, 10)],
)
def test_a_range_of_a_blob_is_a_206_with_its_place(
    api: PullApi, sample: Sample, header: str, first: int, count: int
) -> None:
    whole = api.answer(Request("GET", sample.blob_path))
    answer = api.answer(Request("GET", sample.blob_path, headers=(("range", header),)))
    assert answer.status == 206
    assert answer.header("Content-Range") == f"bytes {first}-{first + count - 1}/1024"
    assert answer.header("Content-Length") == str(count)
    assert body_bytes(answer.body) == body_bytes(whole.body)[first : first + count]


def test_a_range_behind_the_end_is_a_416_that_tells_the_size(api: PullApi, sample: Sample) -> None:
    answer = api.answer(Request("GET", sample.blob_path, headers=(("range", "bytes=1024-"),)))
    assert answer.status == 416
    assert answer.header("Content-Range") == "bytes */1024"


def test_a_range_means_nothing_to_head(api: PullApi, sample: Sample) -> None:
    answer = api.answer(Request("HEAD", sample.blob_path, headers=(("range", "bytes=1-"),)))
    assert (answer.status, answer.header("Content-Length")) == (200, "1024")


def test_referrers_are_listed_by_their_subject_and_type(tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path)
    empty = builder.add_empty()
    image = builder.add_image(empty, [])
    sbom = builder.add_image(empty, [], artifact_type="a/sbom", subject=image)
    builder.add_image(empty, [], artifact_type="a/sig", subject=image)
    api = PullApi(builder.finish())
    path = f"/v2/n/referrers/{image.digest}"
    answer = api.answer(Request("GET", path))
    assert answer.header("Content-Type") == OCI_INDEX
    assert answer.header("OCI-Filters-Applied") == ""
    assert len(json.loads(body_bytes(answer.body))["manifests"]) == 2
    answer = api.answer(Request("GET", path, "artifactType=a%2Fsbom"))
    assert answer.header("OCI-Filters-Applied") == "artifactType"
    (only,) = json.loads(body_bytes(answer.body))["manifests"]
    assert (only["digest"], only["artifactType"]) == (sbom.digest, "a/sbom")


@pytest.mark.parametrize(
    ("query", "tags", "link"),
    [
        ("", ["latest", "v1", "v2"], ""),
        ("n=2", ["latest", "v1"], '</v2/n/tags/list?n=2&last=v1>; rel="next"'),
        ("n=2&last=v1", ["v2"], ""),
        ("n=0", [], ""),
    ],
)
def test_tags_are_listed_in_pages(api: PullApi, query: str, tags: list[str], link: str) -> None:
    answer = api.answer(Request("GET", "/v2/n/tags/list", query))
    assert json.loads(body_bytes(answer.body)) == {"name": "n", "tags": tags}
    assert answer.header("Link") == link
