"""Bad days of registries: each trouble, its verdict, and what was asked for meanwhile.

A request is written as it came: ``GET blobs``, with the bytes of its Range behind, and a star where
it got no answer on purpose. The registry is a real one on a loopback socket.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
import trio
from msgspec.structs import replace

from multi_fetch.limits import MAX_MANIFEST_BYTES
from multi_fetch.oci.media_types import (
    DOCKER_SCHEMA1_SIGNED,
    OCI_MANIFEST,
)
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.request import ByteRange
from multi_fetch.registry import open_registry
from multi_fetch.testing import faults as f
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.faults import Fault
from multi_fetch.testing.registry import serve_layout
from tests.fakes.consumer import (
    BEYOND,
    BLOB,
    BLOB_512,
    BLOB_AS_BLOB,
    BLOB_BARE,
    BLOB_OF_SIZE,
    EMPTY,
    HASTY,
    MANIFEST,
    MANIFEST_DIGEST,
    PART,
    QUICK,
    RESOLVE_BLOB,
    RESOLVE_EMPTY,
    RESOLVE_TAG,
    REST,
    TAG,
    Ask,
    Verdict,
    consume,
    consume_directly,
    consume_from,
)
from tests.registry.conftest import raw_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio.testing import MockClock

    from multi_fetch.remotes import Patience
    from multi_fetch.testing.faults import Effect, Respond
    from multi_fetch.testing.layout import Layout
    from multi_fetch.testing.messages import Answer, Request
    from multi_fetch.testing.registry import LoggedRequest
    from tests.registry.conftest import StartServer

GET_TAG, GET_BLOB = "GET manifests", "GET blobs"
HEAD_TAG, HEAD_BLOB = "HEAD manifests", "HEAD blobs"
OK = ""


class Case(NamedTuple):
    """A trouble: what it is and where it was met, what is asked, the verdict, the requests."""

    name: str
    source: str
    faults: Sequence[Fault]
    ask: Ask
    code: str
    requests: Sequence[str]
    patience: Patience = QUICK


def blobs(effect: Effect, *, times: int | None = 1, skip: int = 0, method: str = "GET") -> Fault:
    return Fault(effect, method=method, path="*/blobs/*", times=times, skip=skip)


def manifests(
    effect: Effect, *, times: int | None = 1, skip: int = 0, method: str = "GET"
) -> Fault:
    return Fault(effect, method=method, path="*/manifests/*", times=times, skip=skip)


def head(effect: Effect) -> Fault:
    return Fault(effect, method="HEAD")


IN_2094 = "Sat, 06 Nov 2094 08:49:37 GMT"
TWO_SECONDS_LATER = "Sat, 06 Nov 2094 08:49:39 GMT"
SIX_HOURS_LATER = "Sat, 06 Nov 2094 14:49:37 GMT"


def soon(status: int) -> Effect:
    return f.answer_status(status, headers={"Retry-After": "0"})


def typed(content_type: str) -> Effect:
    if content_type:
        return f.set_header("Content-Type", content_type)
    return f.drop_header("Content-Type")


PASSING: Final = [
    Case(
        f"{status} once", source, [blobs(f.answer_status(status))], BLOB_AS_BLOB, OK, [GET_BLOB] * 2
    )
    for status, source in [
        (408, "RFC 9110, 15.5.9"),
        (429, "distribution-spec, Too Many Requests; containerd#10447"),
        (500, "crane retries 5xx"),
        (502, "bootc#2443"),
        (503, "RFC 9110, 15.6.4"),
        (504, "RFC 9110, 15.6.5"),
        (521, "Cloudflare in front of a registry"),
    ]
]

FINAL: Final = [
    Case(
        f"{status} is an answer",
        source,
        [blobs(f.answer_error(status, code), times=None)],
        BLOB_AS_BLOB,
        verdict,
        [GET_BLOB],
    )
    for status, code, verdict, source in [
        (400, "DIGEST_INVALID", "registry-error", "distribution-spec, Error Codes"),
        (402, "PAYMENT", "registry-error", "RFC 9110, 15.5.3"),
        (403, "DENIED", "denied", "distribution-spec, Error Codes"),
        (405, "UNSUPPORTED", "registry-error", "distribution-spec, Error Codes"),
        (410, "GONE", "registry-error", "RFC 9110, 15.5.11"),
        (451, "LEGAL", "registry-error", "RFC 7725"),
        (501, "UNSUPPORTED", "registry-error", "RFC 9110, 15.6.2"),
        (505, "UNSUPPORTED", "registry-error", "RFC 9110, 15.6.6"),
    ]
]

PATIENCE: Final = [
    Case(
        "503 for ever",
        "the patience has an end",
        [blobs(soon(503), times=None)],
        BLOB_AS_BLOB,
        "unavailable",
        [GET_BLOB] * 4,
    ),
    Case(
        "429 for ever",
        "oras-go caps it too",
        [blobs(soon(429), times=None)],
        BLOB_AS_BLOB,
        "rate-limited",
        [GET_BLOB] * 4,
    ),
    Case(
        "Retry-After beyond the cap",
        "containers/image caps at 60 s; Docker Hub asks for hours",
        [blobs(f.answer_status(429, headers={"Retry-After": "21600"}), times=None)],
        BLOB_AS_BLOB,
        "rate-limited",
        [GET_BLOB],
    ),
    Case(
        "503 with a Retry-After beyond the cap",
        "RFC 9110, 10.2.3",
        [blobs(f.answer_status(503, headers={"Retry-After": "3600"}), times=None)],
        BLOB_AS_BLOB,
        "unavailable",
        [GET_BLOB],
    ),
    Case(
        "Retry-After as a date that has passed",
        "RFC 9110, 10.2.3",
        [blobs(f.answer_status(503, headers={"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}))],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB] * 2,
    ),
    Case(
        "Retry-After by a clock that is another than ours",
        "RFC 9110, 6.6.1 and 10.2.3",
        [blobs(f.answer_status(503, headers={"Date": IN_2094, "Retry-After": IN_2094}))],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB] * 2,
    ),
    Case(
        "Retry-After that is neither",
        "RFC 9110, 10.2.3",
        [blobs(f.answer_status(503, headers={"Retry-After": "soon"}))],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB] * 2,
    ),
    Case(
        "a manifest's 429, then a 503",
        "regclient retries both",
        [manifests(soon(429)), manifests(soon(503))],
        TAG,
        OK,
        [GET_TAG] * 3,
    ),
    Case(
        "HEAD meets 503",
        "a HEAD is a read like any other",
        [Fault(soon(503), method="HEAD", times=1)],
        RESOLVE_TAG,
        OK,
        [HEAD_TAG] * 2,
    ),
    Case(
        "an error body of megabytes",
        "proxies send pages",
        [blobs(f.answer_status(503, body=b"<p>sorry</p>" * 200_000))],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB] * 2,
    ),
]

CONNECTIONS: Final = [
    Case(
        "hung up before the head",
        "RFC 9112, 9.3.1",
        [blobs(f.close_after())],
        BLOB_AS_BLOB,
        OK,
        ["GET blobs*", GET_BLOB],
    ),
    Case(
        "reset before the head",
        "stereoscope#695",
        [blobs(f.reset_after())],
        BLOB_AS_BLOB,
        OK,
        ["GET blobs*", GET_BLOB],
    ),
    Case(
        "silent before the head",
        "skopeo#2878: a stalled CDN hangs for ever",
        [blobs(f.stall_after())],
        BLOB_AS_BLOB,
        OK,
        ["GET blobs*", GET_BLOB],
        HASTY,
    ),
    Case(
        "silent for ever",
        "fedora-coreos-tracker#2149",
        [blobs(f.stall_after(), times=None)],
        BLOB_AS_BLOB,
        "timeout",
        ["GET blobs*"] * 4,
        HASTY,
    ),
    Case(
        "hung up for ever",
        "the patience has an end",
        [manifests(f.close_after(), times=None)],
        TAG,
        "unavailable",
        ["GET manifests*"] * 4,
    ),
    Case(
        "a manifest that is dripped once",
        "curl's --speed-limit; git's http.lowSpeedLimit",
        [manifests(f.drip(1, every_seconds=0.02))],
        TAG,
        OK,
        [GET_TAG] * 2,
        HASTY,
    ),
    Case(
        "slow, but not silent",
        "progress is no trouble",
        [blobs(f.drip(1024, every_seconds=0.35))],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB],
        replace(QUICK, stall_seconds=1.0),
    ),
]

RESUMED: Final = [
    Case(
        "cut in the middle",
        "containerd resumes at UnexpectedEOF; containers/image#1145",
        [blobs(f.close_after(1000))],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB, "GET blobs 1000-"],
    ),
    Case(
        "cut before the first byte",
        "then there is nothing to resume",
        [blobs(f.close_after(0))],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB] * 2,
    ),
    Case(
        "cut before the last byte",
        "an edge",
        [blobs(f.close_after(4095))],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB, "GET blobs 4095-"],
    ),
    Case(
        "reset in the middle",
        "stereoscope#695",
        [blobs(f.reset_after(1000))],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB, "GET blobs 1000-"],
    ),
    Case(
        "silent in the middle",
        "container-libs#777: a deadline for each read",
        [blobs(f.stall_after(1000))],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB, "GET blobs 1000-"],
        HASTY,
    ),
    Case(
        "cut again and again, a little later each time",
        "progress resets the patience",
        [blobs(f.close_after(400), times=9)],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB, *(f"GET blobs {at}-" for at in range(400, 4000, 400))],
    ),
    Case(
        "cut again and again at the same byte",
        "its lack exhausts it",
        [blobs(f.close_after(1000)), blobs(f.close_after(0), times=None, skip=1)],
        BLOB_AS_BLOB,
        "unavailable",
        [GET_BLOB, *["GET blobs 1000-"] * 3],
    ),
    Case(
        "cut, and then 503",
        "a resume is borne like a request",
        [blobs(f.close_after(1000)), blobs(soon(503), skip=1)],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB, *["GET blobs 1000-"] * 2],
    ),
    Case(
        "cut, and then 404",
        "a blob that was deleted is gone",
        [blobs(f.close_after(1000)), blobs(f.answer_error(404, "BLOB_UNKNOWN"), skip=1)],
        BLOB_AS_BLOB,
        "not-found",
        [GET_BLOB, "GET blobs 1000-"],
    ),
    Case(
        "cut, and Range is not known",
        "RFC 9110, 14.2: a server may ignore it",
        [Fault(f.ignore_range()), blobs(f.close_after(1000))],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB, "GET blobs 1000-"],
    ),
    Case(
        "cut, and another part comes",
        "containerd does not check later parts for 206",
        [
            blobs(f.close_after(1000)),
            blobs(f.set_header("Content-Range", "bytes 0-3095/4096"), skip=1),
        ],
        BLOB_AS_BLOB,
        "registry-error",
        [GET_BLOB, "GET blobs 1000-"],
    ),
    Case(
        "cut, and the object has another size",
        "RFC 9110, 14.4",
        [
            blobs(f.close_after(1000)),
            blobs(f.set_header("Content-Range", "bytes 1000-4095/5000"), skip=1),
        ],
        BLOB_AS_BLOB,
        "registry-error",
        [GET_BLOB, "GET blobs 1000-"],
    ),
    Case(
        "cut, and the rest has no Content-Range",
        "regclient requires it",
        [blobs(f.close_after(1000)), blobs(f.drop_header("Content-Range"), skip=1)],
        BLOB_AS_BLOB,
        "registry-error",
        [GET_BLOB, "GET blobs 1000-"],
    ),
    Case(
        "cut, and the rest has wrong bytes",
        "the digest tells",
        [blobs(f.close_after(1000)), blobs(f.flip_byte(7), skip=1)],
        BLOB_AS_BLOB,
        "digest-mismatch",
        [GET_BLOB, "GET blobs 1000-"],
    ),
    Case(
        "cut, and 416 to the rest",
        "RFC 9110, 15.5.17",
        [blobs(f.close_after(1000)), blobs(f.answer_status(416), skip=1)],
        BLOB_AS_BLOB,
        "registry-error",
        [GET_BLOB, "GET blobs 1000-"],
    ),
    Case(
        "chunked, and cut",
        "RFC 9112, 7.1",
        [blobs(f.drop_header("Content-Length")), blobs(f.close_after(1000))],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB, "GET blobs 1000-"],
    ),
    Case(
        "a part that is cut",
        "lazy pullers",
        [blobs(f.close_after(50))],
        PART,
        OK,
        ["GET blobs 100-299", "GET blobs 150-299"],
    ),
    Case(
        "a part to the end that is cut",
        "lazy pullers",
        [blobs(f.close_after(50))],
        REST,
        OK,
        ["GET blobs 4000-", "GET blobs 4050-"],
    ),
    Case(
        "a manifest that is cut",
        "manifests are small: again",
        [manifests(f.close_after(10))],
        TAG,
        OK,
        [GET_TAG] * 2,
    ),
    Case(
        "a manifest that is cut for ever",
        "the patience has an end",
        [manifests(f.close_after(10), times=None)],
        TAG,
        "unavailable",
        [GET_TAG] * 4,
    ),
    Case(
        "a manifest that stalls, then is gone",
        "the last answer counts",
        [manifests(f.stall_after(10)), manifests(f.answer_error(404, "MANIFEST_UNKNOWN"), skip=1)],
        TAG,
        "not-found",
        [GET_TAG] * 2,
        HASTY,
    ),
]

RANGES: Final = [
    Case("a part", "distribution-spec, Pulling blobs", [], PART, OK, ["GET blobs 100-299"]),
    Case("the rest", "distribution-spec, Pulling blobs", [], REST, OK, ["GET blobs 4000-"]),
    Case(
        "a part where Range is not known",
        "RFC 9110, 14.2",
        [Fault(f.ignore_range())],
        PART,
        OK,
        ["GET blobs 100-299"],
    ),
    Case(
        "the rest where Range is not known",
        "RFC 9110, 14.2",
        [Fault(f.ignore_range())],
        REST,
        OK,
        ["GET blobs 4000-"],
    ),
    Case("beyond", "RFC 9110, 15.5.17", [], BEYOND, "invalid-request", ["GET blobs 4096-4100"]),
    Case(
        "beyond, where Range is not known",
        "RFC 9110, 14.2",
        [Fault(f.ignore_range())],
        BEYOND,
        "invalid-request",
        ["GET blobs 4096-4100"],
    ),
    Case(
        "another part than asked",
        "RFC 9110, 14.4",
        [blobs(f.set_header("Content-Range", "bytes 0-199/4096"))],
        PART,
        "registry-error",
        ["GET blobs 100-299"],
    ),
    Case(
        "a part that is encoded",
        "nobody can tell what it is",
        [blobs(f.gzip_encode())],
        PART,
        "registry-error",
        ["GET blobs 100-299"],
    ),
    Case(
        "a part of a manifest",
        "registries ignore Range there",
        [],
        TAG._replace(content=MANIFEST[5:9], byte_range=ByteRange(5, 8)),
        OK,
        [GET_TAG],
    ),
]

PLACES: Final = [
    Case(
        "a blob's digest at the manifests: 500",
        "distribution 2.8",
        [manifests(f.answer_error(500, "UNKNOWN"), times=None)],
        BLOB_BARE,
        OK,
        [GET_TAG, GET_BLOB],
    ),
    Case(
        "a blob's digest at the manifests: 404",
        "distribution-spec, Pulling manifests",
        [],
        BLOB_BARE,
        OK,
        [GET_TAG, GET_BLOB],
    ),
    Case(
        "a 500 that was no puzzle, and passes",
        "the other endpoint is asked before it is borne",
        [
            manifests(f.answer_error(500, "UNKNOWN")),
            blobs(f.answer_error(404, "BLOB_UNKNOWN"), times=None),
        ],
        Ask(MANIFEST_DIGEST, MANIFEST),
        OK,
        [GET_TAG, GET_BLOB, GET_TAG],
    ),
    Case(
        "a tag's 500 is trouble",
        "tags name manifests alone",
        [manifests(f.answer_error(500, "UNKNOWN"))],
        TAG,
        OK,
        [GET_TAG] * 2,
    ),
    Case(
        "404 right after a push",
        "no retry: 404 is an answer, and a parent knows when it pushed",
        [manifests(f.answer_error(404, "MANIFEST_UNKNOWN"))],
        TAG,
        "not-found",
        [GET_TAG],
    ),
    Case(
        "a blob that nobody has",
        "distribution-spec, Pulling blobs",
        [Fault(f.answer_error(404, "BLOB_UNKNOWN"))],
        BLOB_AS_BLOB,
        "not-found",
        [GET_BLOB, GET_TAG],
    ),
    Case("the empty blob", "sha256 of nothing", [], EMPTY, OK, [GET_BLOB]),
    Case("a name of sha512", "image-spec, descriptor.md", [], BLOB_512, OK, [GET_BLOB]),
]

HEADS: Final = [
    *(
        Case(
            f"HEAD answered {status}",
            source,
            [head(f.answer_status(status))],
            RESOLVE_TAG,
            OK,
            [HEAD_TAG, GET_TAG],
        )
        for status, source in [
            (405, "containerd's resolver asks by GET then"),
            (403, "containerd asks by GET for the error's body"),
            (404, "registries that know GET alone"),
            (400, "proxies"),
            (501, "RFC 9110, 15.6.2"),
        ]
    ),
    Case(
        "HEAD without a digest",
        "distribution-spec 1.1: SHOULD",
        [head(f.drop_header("Docker-Content-Digest"))],
        RESOLVE_TAG,
        OK,
        [HEAD_TAG, GET_TAG],
    ),
    Case(
        "HEAD with a digest that is none",
        "distribution-spec, Pulling manifests",
        [head(f.set_header("Docker-Content-Digest", "sha256:nonsense"))],
        RESOLVE_TAG,
        OK,
        [HEAD_TAG, GET_TAG],
    ),
    Case(
        "HEAD without a length",
        "distribution-spec: MUST, and yet",
        [head(f.drop_header("Content-Length"))],
        RESOLVE_TAG,
        OK,
        [HEAD_TAG, GET_TAG],
    ),
    Case(
        "HEAD of a manifest with length 0",
        "a server that has no body at hand",
        [head(f.set_header("Content-Length", "0"))],
        RESOLVE_TAG,
        OK,
        [HEAD_TAG, GET_TAG],
    ),
    Case(
        "HEAD of a blob with length 0",
        "a server that has no body at hand",
        [head(f.set_header("Content-Length", "0"))],
        RESOLVE_BLOB,
        OK,
        [HEAD_BLOB, GET_BLOB],
    ),
    Case(
        "HEAD with another length than is expected",
        "servers that compress what they count",
        [head(f.set_header("Content-Length", "99"))],
        RESOLVE_TAG._replace(size=len(MANIFEST)),
        OK,
        [HEAD_TAG, GET_TAG],
    ),
    Case(
        "a manifest of another length than is expected, by HEAD and by GET",
        "the GET has the last word",
        [],
        RESOLVE_TAG._replace(size=99),
        "size-mismatch",
        [HEAD_TAG, GET_TAG],
    ),
    Case("HEAD of the empty blob", "0 is right", [], RESOLVE_EMPTY, OK, [HEAD_BLOB]),
    Case(
        "HEAD of a page",
        "a portal in front",
        [head(f.set_header("Content-Type", "text/html"))],
        RESOLVE_TAG,
        OK,
        [HEAD_TAG, GET_TAG],
    ),
]

CONTENT: Final = [
    *(
        Case(
            f"a manifest as {shown}",
            source,
            [
                Fault(
                    f.set_header("Content-Type", shown) if shown else f.drop_header("Content-Type")
                )
            ],
            TAG,
            OK,
            [GET_TAG],
        )
        for shown, source in [
            (f"{OCI_MANIFEST}; charset=utf-8", "RFC 9110, 8.3.1"),
            (OCI_MANIFEST.upper(), "RFC 9110, 8.3.1: case does not matter"),
            ("text/plain; charset=utf-8", "containerd takes it for schema 1; the body says more"),
            ("application/json", "stores that know no more"),
            ("application/octet-stream", "stores that know no more"),
            ("", "RFC 9110, 8.3: it may be left out"),
            ("nonsense", "RFC 9110, 8.3.1"),
        ]
    ),
    Case(
        "a manifest of another type than it says",
        "distribution-spec: SHOULD reject",
        [manifests(f.set_header("Content-Type", "application/vnd.oci.image.index.v1+json"))],
        TAG,
        "registry-error",
        [GET_TAG],
    ),
    Case(
        "a page in place of a manifest",
        "a hotel's network",
        [
            manifests(
                f.answer_status(200, headers={"Content-Type": "text/html"}, body=b"<html>Log in")
            )
        ],
        TAG,
        "registry-error",
        [GET_TAG],
    ),
    Case(
        "a page in place of a blob",
        "a hotel's network; the digest tells",
        [blobs(f.answer_status(200, headers={"Content-Type": "text/html"}, body=b"<html>Log in"))],
        BLOB_AS_BLOB,
        "digest-mismatch",
        [GET_BLOB],
    ),
    Case(
        "schema 1 by its type",
        "distribution's docs: deprecated",
        [manifests(f.set_header("Content-Type", DOCKER_SCHEMA1_SIGNED))],
        TAG,
        "unsupported",
        [GET_TAG],
    ),
    Case(
        "schema 1 by its body",
        "containerd: text/plain",
        [
            manifests(
                f.answer_status(
                    200, headers={"Content-Type": "text/plain"}, body=b'{"schemaVersion":1}'
                )
            )
        ],
        TAG,
        "unsupported",
        [GET_TAG],
    ),
    Case(
        "a manifest beyond the limit",
        "containerd and distribution stop at 4 MiB",
        [manifests(f.change_body(lambda _: b" " * (MAX_MANIFEST_BYTES + 1)))],
        TAG,
        "too-large",
        [GET_TAG],
    ),
    Case(
        "a manifest beyond the limit that does not say so",
        "RFC 9112, 7.1",
        [
            manifests(f.drop_header("Content-Length")),
            manifests(f.change_body(lambda _: b" " * (MAX_MANIFEST_BYTES + 1))),
        ],
        TAG,
        "too-large",
        [GET_TAG],
    ),
    Case(
        "gzip on the way, unasked",
        "moby#27642",
        [blobs(f.gzip_encode())],
        BLOB_AS_BLOB,
        "registry-error",
        [GET_BLOB],
    ),
    Case(
        "a manifest in gzip, unasked",
        "moby#27642",
        [manifests(f.gzip_encode())],
        TAG,
        "registry-error",
        [GET_TAG],
    ),
    Case(
        "a blob as stored, labelled as encoded",
        "object stores that label .gz files",
        [blobs(f.set_header("Content-Encoding", "gzip"))],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB],
    ),
    Case(
        "a labelled blob that is cut",
        "the label stays a label",
        [blobs(f.set_header("Content-Encoding", "gzip"), times=None), blobs(f.close_after(1000))],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB, "GET blobs 1000-"],
    ),
    Case(
        "identity as an encoding",
        "RFC 9110, 8.4.1",
        [Fault(f.set_header("Content-Encoding", "identity"))],
        TAG,
        OK,
        [GET_TAG],
    ),
    Case(
        "no digest header",
        "distribution-spec 1.1: SHOULD",
        [Fault(f.drop_header("Docker-Content-Digest"))],
        TAG,
        OK,
        [GET_TAG],
    ),
    Case(
        "a wrong digest header",
        "distribution-spec: clients MUST verify",
        [manifests(f.set_header("Docker-Content-Digest", BLOB_512.text))],
        TAG,
        "digest-mismatch",
        [GET_TAG],
    ),
    Case(
        "an altered byte",
        "oras-py#245",
        [blobs(f.flip_byte(4095))],
        BLOB_AS_BLOB,
        "digest-mismatch",
        [GET_BLOB],
    ),
    Case(
        "fewer bytes, and said so",
        "the digest tells",
        [blobs(f.shorten(1))],
        BLOB_AS_BLOB,
        "digest-mismatch",
        [GET_BLOB],
    ),
    Case(
        "fewer bytes than expected, and said so",
        "image-spec, descriptor.md: size first",
        [blobs(f.shorten(1))],
        BLOB_OF_SIZE,
        "size-mismatch",
        [GET_BLOB],
    ),
    Case(
        "more bytes than expected, chunked",
        "image-spec, descriptor.md: size first",
        [blobs(f.drop_header("Content-Length")), blobs(f.lengthen(b"x"))],
        BLOB_OF_SIZE,
        "size-mismatch",
        [GET_BLOB],
    ),
    Case(
        "fewer bytes than expected, chunked",
        "image-spec, descriptor.md: size first",
        [blobs(f.drop_header("Content-Length")), blobs(f.shorten(1))],
        BLOB_OF_SIZE,
        "size-mismatch",
        [GET_BLOB],
    ),
    Case(
        "chunked",
        "RFC 9112, 7.1",
        [blobs(f.drop_header("Content-Length"))],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB],
    ),
]

TOKENS: Final = [
    *(
        Case(
            f"a token service that is in trouble: {name}",
            "a token is asked for like anything else",
            [Fault(effect, path="/token", times=1), Fault(f.require_bearer("t1"))],
            TAG,
            OK,
            [GET_TAG, *asked, "GET /token", GET_TAG],
            HASTY if name == "silence" else QUICK,
        )
        for name, effect, asked in [
            ("503", f.answer_status(503), ["GET /token", GET_TAG]),
            ("429", f.answer_status(429), ["GET /token", GET_TAG]),
            ("silence", f.stall_after(), ["GET /token*", GET_TAG]),
            # over a connection that had been idle, which counts as no attempt
            ("reset", f.reset_after(), ["GET /token*"]),
        ]
    ),
    Case(
        "a token service that is in trouble for ever",
        "the patience has an end",
        [Fault(soon(503), path="/token"), Fault(f.require_bearer("t1"))],
        TAG,
        "unavailable",
        [GET_TAG, "GET /token"] * 4,
    ),
    Case(
        "a token service that refuses",
        "a refusal is an answer",
        [Fault(f.answer_status(403), path="/token"), Fault(f.require_bearer("t1"))],
        TAG,
        "denied",
        [GET_TAG, "GET /token"],
    ),
    Case(
        "a blob that is cut behind a token",
        "the rest is asked for with the token too",
        [Fault(f.require_bearer("t1")), blobs(f.close_after(1000))],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB, "GET /token", GET_BLOB, "GET blobs 1000-"],
    ),
]

CASES: Final = [
    *TOKENS,
    *PASSING,
    *FINAL,
    *PATIENCE,
    *CONNECTIONS,
    *RESUMED,
    *RANGES,
    *PLACES,
    *HEADS,
    *CONTENT,
]


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    builder = LayoutBuilder(tmp_path_factory.mktemp("bad_days"))
    builder.add_blob(b"")
    builder.add_blob(BLOB)
    builder.add_blob(BLOB, algorithm="sha512")
    builder.tag("v1", builder.add_manifest(MANIFEST, OCI_MANIFEST))
    return builder.finish()


def written(request: LoggedRequest) -> str:
    place = request.path.split("/")[-2] if request.path.startswith("/v2/a/") else request.path
    asked = dict(request.headers).get("range", "").removeprefix("bytes=")
    line = f"{request.method} {place} {asked}".rstrip()
    return line if request.status is not None else f"{line}*"


def check_verdict(case: Case, verdict: Verdict) -> None:
    if verdict.error is not None:
        assert verdict.error.code == case.code, verdict.error
        assert verdict.error.attempts is None or verdict.error.attempts >= 1
        return
    assert case.code == OK
    if case.ask.content is not None:
        assert verdict.content == case.ask.content


def may_go_directly(ask: Ask) -> bool:
    return ":" in ask.text and ask.content is not None and ask.byte_range is None


@pytest.mark.usefixtures("lane")
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
async def test_each_trouble_has_its_verdict_and_is_met_with_no_request_too_many(
    layout: Layout, case: Case, jumping_clock: MockClock
) -> None:
    async with serve_layout(layout, faults=case.faults) as registry:
        verdict = await consume(case.ask, registry.address, case.patience)
    assert [written(request) for request in registry.requests] == list(case.requests)
    check_verdict(case, verdict)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name) for case in CASES if may_go_directly(case.ask)]
)
async def test_the_direct_lane_meets_each_trouble_with_the_same_requests(
    layout: Layout, case: Case, jumping_clock: MockClock
) -> None:
    """But for a connection that breaks before its answer, which may have been idle for too long."""
    async with serve_layout(layout, faults=case.faults) as registry:
        verdict = await consume_directly(case.ask, registry.address, case.patience)
    asked, expected = [written(request) for request in registry.requests], list(case.requests)
    first = expected[:1] if expected[0].endswith("*") else []
    assert asked in (expected, first + expected)
    check_verdict(case, verdict)


def test_each_trouble_has_a_name_of_its_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name) for case in CASES if case not in TOKENS]
)
async def test_without_retries_each_request_is_sent_once(
    layout: Layout, case: Case, jumping_clock: MockClock
) -> None:
    """What fails then fails at its first trouble; what is fetched is whole."""
    async with serve_layout(layout, faults=case.faults) as registry:
        verdict = await consume(case.ask, registry.address, replace(case.patience, retries=0))
        sent = [written(request) for request in registry.requests]
    assert verdict.retries == 0
    assert len(sent) == len(set(sent))
    if verdict.error is None and case.ask.content is not None:
        assert verdict.content == case.ask.content


async def test_an_error_tells_how_often_it_was_tried_and_the_remote_how_often_again(
    layout: Layout,
) -> None:
    async with serve_layout(layout, faults=[blobs(soon(503), times=None)]) as registry:
        verdict = await consume(BLOB_AS_BLOB, registry.address)
    assert verdict.error is not None
    assert verdict.error.attempts == QUICK.retries + 1
    assert verdict.error.detail()["attempts"] == QUICK.retries + 1
    assert verdict.retries == QUICK.retries


async def test_an_answer_was_tried_once(layout: Layout) -> None:
    async with serve_layout(layout, faults=[Fault(f.answer_error(403, "DENIED"))]) as registry:
        verdict = await consume(BLOB_AS_BLOB, registry.address)
    assert verdict.error is not None
    assert (verdict.error.attempts, verdict.retries) == (1, 0)


@pytest.mark.parametrize("retry_after", ["21600", SIX_HOURS_LATER])
async def test_a_wait_that_is_too_long_is_told(layout: Layout, retry_after: str) -> None:
    refused = f.answer_status(429, headers={"Date": IN_2094, "Retry-After": retry_after})
    async with serve_layout(layout, faults=[Fault(refused)]) as registry:
        verdict = await consume(TAG, registry.address)
    assert verdict.error is not None
    assert verdict.error.retry_after == 21600
    assert verdict.error.retryable


@pytest.mark.parametrize("retry_after", ["2", TWO_SECONDS_LATER])
async def test_a_retry_waits_as_long_as_it_was_asked_to(
    layout: Layout, jumping_clock: MockClock, retry_after: str
) -> None:
    told = {"Date": IN_2094, "Retry-After": retry_after}
    faults = [manifests(f.answer_status(503, headers=told))]
    async with serve_layout(layout, faults=faults) as registry:
        begun = trio.current_time()
        verdict = await consume(TAG, registry.address)
        assert 2 <= trio.current_time() - begun < 4
    assert verdict.error is None


async def test_one_429_holds_back_every_request_to_the_host(
    layout: Layout, jumping_clock: MockClock
) -> None:
    """Ten ask at once, one is refused for a second, and nobody asks within it."""
    faults = [manifests(f.answer_status(429, headers={"Retry-After": "1"}))]
    async with serve_layout(layout, faults=faults) as registry:
        ref = Reference(f"{registry.address}/a")
        async with open_registry(ref, patience=QUICK, jobs=10) as remote:
            await consume_from(remote, BLOB_AS_BLOB, registry.address)
            with trio.move_on_after(0.5):
                await consume_from(remote, TAG, registry.address)
            asked = len(registry.requests)
            verdicts: list[Verdict] = []

            async def one() -> None:
                verdicts.append(await consume_from(remote, BLOB_AS_BLOB, registry.address))

            begun = trio.current_time()
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(one)
                await trio.sleep(0.2)
                assert len(registry.requests) == asked
            assert trio.current_time() - begun > 0.3
    assert [verdict.error for verdict in verdicts] == [None] * 10


async def test_a_host_that_allows_few_requests_in_a_time_refuses_few_and_serves_all(
    layout: Layout, jumping_clock: MockClock
) -> None:
    """It takes one each 10 ms and does not say so; all that ask find out together.

    40 ask at once, and one of them gets through. Then the 16 at a time are halved to 8, 4, 2 and 1,
    and of each batch one gets through. From there on there are gaps: a refusal makes them 10 ms at
    least, and twice as long as they were, and a fifth less for each answer; so no gap is refused
    but every second one, at most. On a clock that moves only while everybody waits that is so on
    any machine.
    """
    refused = 0
    allowed_at = 0.0

    def limited(request: Request, respond: Respond) -> Answer:
        nonlocal refused, allowed_at
        if trio.current_time() < allowed_at:
            refused += 1
            return f.answer_status(429)(request, respond)
        allowed_at = trio.current_time() + 0.01
        return respond(request)

    async with serve_layout(layout, faults=[Fault(limited)]) as registry:
        ref = Reference(f"{registry.address}/a")
        patience = replace(QUICK, retries=5, first_wait_seconds=0.01, stall_seconds=math.inf)
        async with open_registry(ref, patience=patience, jobs=16) as remote:
            verdicts: list[Verdict] = []

            async def one() -> None:
                verdicts.append(await consume_from(remote, BLOB_AS_BLOB, registry.address))

            async with trio.open_nursery() as nursery:
                for _ in range(40):
                    nursery.start_soon(one)
            assert remote.report().retries == refused
    assert [verdict.error for verdict in verdicts] == [None] * 40
    in_batches = 39 + 7 + 3 + 1
    assert 39 <= refused <= in_batches + (40 - 4) // 2


async def test_a_host_that_was_busy_gets_as_many_at_a_time_again_when_it_no_longer_is(
    start_server: StartServer, jumping_clock: MockClock
) -> None:
    """Each answer takes a tenth of a second, so how many are under way is the throughput."""
    refusals, running, peak = 20, 0, 0

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        nonlocal refusals, running, peak
        if refusals > 0:
            refusals -= 1
            await stream.send_all(raw_answer("429 Too Many Requests", Retry_After="0"))
            return True
        running += 1
        peak = max(peak, running)
        await trio.sleep(0.1)
        running -= 1
        await stream.send_all(raw_answer("200 OK", BLOB))
        return True

    server = await start_server(reply)
    address, gate, peaks = f"127.0.0.1:{server.port}", trio.CapacityLimiter(16), list[int]()

    async def one() -> None:
        async with gate:
            assert (await consume_from(remote, BLOB_AS_BLOB, address)).error is None

    patience = replace(QUICK, retries=30, stall_seconds=math.inf)
    async with open_registry(Reference(f"{address}/a"), patience=patience, jobs=16) as remote:
        for _ in range(20):
            peak = 0
            async with trio.open_nursery() as nursery:
                for _ in range(32):
                    nursery.start_soon(one)
            peaks.append(peak)
    assert peaks[0] < 8
    assert peaks == sorted(peaks)
    assert peaks[-1] == 16


async def test_a_registry_that_goes_away_and_comes_back_costs_nothing_but_time(
    layout: Layout,
) -> None:
    """In mid-batch every connection breaks for a while; everything arrives, nothing twice."""
    outage = Fault(f.reset_after(), skip=10, times=20)
    async with serve_layout(layout, faults=[outage]) as registry:
        ref = Reference(f"{registry.address}/a")
        patience = replace(QUICK, retries=12, first_wait_seconds=0.01)
        async with open_registry(ref, patience=patience, jobs=8) as remote:
            verdicts: list[Verdict] = []
            gate = trio.CapacityLimiter(8)

            async def one(ask: Ask) -> None:
                async with gate:
                    verdicts.append(await consume_from(remote, ask, registry.address))

            async with trio.open_nursery() as nursery:
                for _ in range(15):
                    nursery.start_soon(one, TAG)
                    nursery.start_soon(one, BLOB_AS_BLOB)
            assert 0 < remote.report().retries <= 20
    assert [verdict.error for verdict in verdicts] == [None] * 30
    answered = [request for request in registry.requests if request.status is not None]
    assert len(answered) == 30
