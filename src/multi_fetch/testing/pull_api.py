"""The distribution-spec's pull API over layouts, as a function from request to answer (no socket).

Like Docker's distribution, it names the digest of manifests and blobs alike, and a manifest is no
blob: each endpoint answers 404 for what belongs to the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlencode

import msgspec

from multi_fetch.errors import InvalidDigestError
from multi_fetch.oci.descriptor import encode_hook
from multi_fetch.oci.digest import parse_digest
from multi_fetch.oci.media_types import OCI_INDEX, OCTET_STREAM
from multi_fetch.testing.byte_range import UnsatisfiableRangeError, parse_range
from multi_fetch.testing.layout import Layout, blob_path
from multi_fetch.testing.messages import Answer, FileSlice, Request

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from multi_fetch.oci.digest import Digest

# distribution-spec, "Endpoints": end-2 and end-3; end-8
CONTENT = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)")
TAGS = re.compile(r"/v2/(?P<name>.+)/tags/list")
# ... end-12
REFERRERS = re.compile(r"/v2/(?P<name>.+)/referrers/(?P<digest>[^/]+)")

ENDPOINTS: Final = (CONTENT, TAGS, REFERRERS)

API_VERSION: Final = ("Docker-Distribution-API-Version", "registry/2.0")


class PullApi:
    """Answers requests.

    Args:
        layouts: one layout, which every repository's name then stands for; or those that there
            are, by repository name.
    """

    def __init__(self, layouts: Layout | Mapping[str, Layout]) -> None:
        self._layouts = layouts

    def answer(self, request: Request) -> Answer:
        """The answer to any request."""
        if request.method not in {"GET", "HEAD"}:
            return error_answer(405, "UNSUPPORTED", "this registry only serves pulls")
        if request.path in {"/v2", "/v2/"}:
            return _json_answer(200, {})
        match = next(filter(None, (each.fullmatch(request.path) for each in ENDPOINTS)), None)
        if match is None:
            return error_answer(404, "UNSUPPORTED", "there is no such endpoint")
        return self._repository_answer(match, request)

    def _repository_answer(self, match: re.Match[str], request: Request) -> Answer:
        layout = self._find_layout(match["name"])
        if layout is None:
            return error_answer(404, "NAME_UNKNOWN", "repository name not known to registry")
        if match.re is TAGS:
            return _tags(match["name"], sorted(layout.tags), request.query)
        if match.re is REFERRERS:
            return _referrers(layout, match["digest"], request.query)
        if match["kind"] == "manifests":
            return _manifest(layout, match["reference"])
        return _blob(layout, match["reference"], request)

    def _find_layout(self, name: str) -> Layout | None:
        return self._layouts.get(name) if isinstance(self._layouts, Mapping) else self._layouts


def error_answer(status: int, code: str, message: str) -> Answer:
    """An error as distribution-spec has it ("Error Codes")."""
    return _json_answer(status, {"errors": [{"code": code, "message": message}]})


def _json_answer(status: int, document: object) -> Answer:
    body = msgspec.json.encode(document, enc_hook=encode_hook)
    headers = (
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        API_VERSION,
    )
    return Answer(status, headers, body)


def _manifest(layout: Layout, reference: str) -> Answer:
    found = layout.find_manifest(reference)
    if found is None:
        return error_answer(404, "MANIFEST_UNKNOWN", f"manifest unknown: {reference}")
    path = blob_path(layout.folder, found.digest)
    return _content_answer(path, found.media_type, found.digest)


def _blob(layout: Layout, reference: str, request: Request) -> Answer:
    try:
        digest = parse_digest(reference)
    except InvalidDigestError as error:
        return error_answer(400, "DIGEST_INVALID", str(error))
    path = layout.find_blob(digest)
    if path is None:
        return error_answer(404, "BLOB_UNKNOWN", f"blob unknown to registry: {reference}")
    whole = _content_answer(path, OCTET_STREAM, digest).with_header("Accept-Ranges", "bytes")
    # RFC 9110, section 14.2: Range means something to GET alone
    if request.method == "HEAD":
        return whole
    size = path.stat().st_size
    try:
        asked = parse_range(request.header("Range"), size)
    except UnsatisfiableRangeError:
        refused = error_answer(416, "UNSUPPORTED", "the range lies outside the blob")
        return refused.with_header("Content-Range", f"bytes */{size}")
    if asked is None:
        return whole
    first, count = asked
    part = whole.with_body(FileSlice(path, first, count))
    part = part.with_header("Content-Range", f"bytes {first}-{first + count - 1}/{size}")
    return msgspec.structs.replace(part, status=206)


def _content_answer(path: Path, media_type: str, digest: Digest) -> Answer:
    size = path.stat().st_size
    headers = (
        ("Content-Type", media_type),
        ("Content-Length", str(size)),
        ("Docker-Content-Digest", str(digest)),
        API_VERSION,
    )
    return Answer(200, headers, FileSlice(path, 0, size))


def _referrers(layout: Layout, digest: str, query: str) -> Answer:
    # distribution-spec, "Listing Referrers"
    artifact_type = parse_qs(query).get("artifactType", [""])[0]
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            each for each in layout.referrers(digest) if artifact_type in {"", each.artifact_type}
        ],
    }
    answer = _json_answer(200, index).with_header("Content-Type", OCI_INDEX)
    return answer.with_header("OCI-Filters-Applied", "artifactType") if artifact_type else answer


def _tags(name: str, tags: Sequence[str], query: str) -> Answer:
    # distribution-spec, "Listing Tags": `n` at most, behind `last`, and a Link to what is left
    asked = parse_qs(query)
    last = asked.get("last", [""])[0]
    left = [tag for tag in tags if tag > last]
    count = asked.get("n", [""])[0]
    page = left[: int(count)] if count.isdecimal() else left
    answer = _json_answer(200, {"name": name, "tags": page})
    if not page or page == left:
        return answer
    target = f"/v2/{name}/tags/list?{urlencode({'n': count, 'last': page[-1]})}"
    return answer.with_header("Link", f'<{target}>; rel="next"')
