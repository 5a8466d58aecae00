"""Answers that bend HTTP or break it: each has its verdict, and none is taken for content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
import trio
from msgspec.structs import replace

from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCI_MANIFEST, OCTET_STREAM
from multi_fetch.oci.reference import Reference
from multi_fetch.registry import answer as answer_module
from multi_fetch.registry import open_registry
from tests.fakes.consumer import (
    BLOB,
    BLOB_AS_BLOB,
    BLOB_DIGEST,
    BLOB_OF_SIZE,
    HASTY,
    MANIFEST,
    MANIFEST_DIGEST,
    PART,
    QUICK,
    TAG,
    Ask,
    consume,
    consume_from,
)
from tests.fakes.wire import Script, Then, asked, patience_of, start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio.testing import MockClock

    from tests.registry.conftest import StartServer

GET_TAG, GET_BLOB = "GET manifests", "GET blobs"
OK = ""


class Case(NamedTuple):
    """What is sent, after what it is called and where it was met; what is asked; the verdict."""

    name: str
    source: str
    scripts: Sequence[Script]
    ask: Ask
    code: str
    requests: Sequence[str]
    code_of_general_lane: str | None = None


def head(status: str = "200 OK", *lines: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"HTTP/{version} {status}", *lines, "", ""]).encode("latin-1")


def length(body: bytes) -> str:
    return f"Content-Length: {len(body)}"


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head("200 OK", "Transfer-Encoding: chunked") + framed + end


WHOLE: Final = Script(head("200 OK", length(BLOB)) + BLOB)
REST: Final = Script(
    head("206 Partial Content", "Content-Range: bytes 1000-4095/4096", "Content-Length: 3096")
    + BLOB[1000:]
)
NO_MORE: Final = Script(
    head("416 Range Not Satisfiable", "Content-Range: bytes */4096", "Content-Length: 0")
)
CONTINUE: Final = head("100 Continue")
HINTS: Final = head("103 Early Hints", "Link: </style.css>; rel=preload")

FRAMING: Final = [
    Case(
        "HTTP/1.0 with a length",
        "RFC 9112, 2.3",
        [Script(head("200 OK", length(BLOB), version="1.0") + BLOB, Then.CLOSE)],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB],
    ),
    Case(
        "HTTP/1.0 until it closes",
        "RFC 9112, 6.3",
        [Script(head(version="1.0") + BLOB, Then.CLOSE)],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB],
    ),
    Case(
        "HTTP/1.1 until it closes",
        "RFC 9112, 6.3",
        [Script(head() + BLOB, Then.CLOSE)],
        BLOB_OF_SIZE,
        OK,
        [GET_BLOB],
    ),
    Case(
        "until it closes, too early, and the size is known",
        "RFC 9112, 6.3: an end like any other",
        [Script(head() + BLOB[:1000], Then.CLOSE), REST],
        BLOB_OF_SIZE,
        OK,
        [GET_BLOB, "GET blobs 1000-"],
    ),
    Case(
        "until it closes, too early, and nobody knows",
        "the digest tells",
        [Script(head() + BLOB[:1000], Then.CLOSE)],
        BLOB_AS_BLOB,
        "digest-mismatch",
        [GET_BLOB],
    ),
    Case(
        "until it closes, for ever too early",
        "the patience has an end",
        [Script(head() + BLOB[:1000], Then.CLOSE)],
        BLOB_OF_SIZE,
        "unavailable",
        [GET_BLOB, *["GET blobs 1000-"] * 3],
    ),
    Case(
        "chunks with extensions and trailers",
        "RFC 9112, 7.1",
        [
            Script(
                head("200 OK", "Transfer-Encoding: chunked")
                + b"1000;name=value\r\n"
                + BLOB
                + b"\r\n0\r\nX-Checksum: 1\r\n\r\n"
            )
        ],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB],
    ),
    Case(
        "chunks of one byte",
        "RFC 9112, 7.1",
        [Script(chunked(*(BLOB[at : at + 1] for at in range(4096))))],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB],
    ),
    Case(
        "chunks without their end, and all had come",
        "then 416 tells the size that was reached",
        [Script(chunked(BLOB, end=b""), Then.CLOSE), NO_MORE],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB, "GET blobs 4096-"],
    ),
    Case(
        "chunks without their end, and the whole again",
        "RFC 9110, 14.2",
        [Script(chunked(BLOB[:1000], end=b""), Then.CLOSE), WHOLE],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB, "GET blobs 1000-"],
    ),
    Case(
        "a chunk of no size",
        "RFC 9112, 7.1",
        [Script(head("200 OK", "Transfer-Encoding: chunked") + b"zz\r\nabc\r\n")],
        BLOB_AS_BLOB,
        "registry-error",
        [GET_BLOB],
    ),
    Case(
        "the whole again, but shorter than what had come",
        "the object has changed",
        [Script(chunked(BLOB[:1000], end=b""), Then.CLOSE), Script(chunked(BLOB[:500]))],
        BLOB_AS_BLOB,
        "registry-error",
        [GET_BLOB, "GET blobs 1000-"],
    ),
    Case(
        "the whole again, of another length",
        "the object has changed",
        [
            Script(head("200 OK", length(BLOB)) + BLOB[:1000], Then.CLOSE),
            Script(head("200 OK", "Content-Length: 5000") + BLOB),
        ],
        BLOB_AS_BLOB,
        "size-mismatch",
        [GET_BLOB, "GET blobs 1000-"],
    ),
    Case(
        "a rest that goes on behind its end",
        "RFC 9110, 14.4",
        [
            Script(chunked(BLOB[:1000], end=b""), Then.CLOSE),
            Script(
                head(
                    "206 Partial Content",
                    "Content-Range: bytes 1000-4095/4096",
                    "Transfer-Encoding: chunked",
                )
                + b"c19\r\n"
                + BLOB[1000:]
                + b"x\r\n0\r\n\r\n"
            ),
        ],
        BLOB_AS_BLOB,
        "registry-error",
        [GET_BLOB, "GET blobs 1000-"],
    ),
    Case(
        "a rest that is shorter than it says",
        "RFC 9110, 14.4",
        [
            Script(chunked(BLOB[:1000], end=b""), Then.CLOSE),
            Script(
                head(
                    "206 Partial Content",
                    "Content-Range: bytes 1000-4095/4096",
                    "Transfer-Encoding: chunked",
                )
                + b"0\r\n\r\n"
            ),
            REST,
        ],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB, *["GET blobs 1000-"] * 2],
    ),
]

HEADS: Final = [
    Case(
        "100 Continue before the answer",
        "RFC 9110, 15.2",
        [Script(CONTINUE + WHOLE.data)],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB],
    ),
    Case(
        "many early hints before the answer",
        "RFC 8297",
        [Script(HINTS * 50 + WHOLE.data)],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB],
    ),
    Case(
        "1xx without end",
        "they are no progress",
        [Script(b"", Then.REPEAT, CONTINUE)],
        BLOB_AS_BLOB,
        "timeout",
        [GET_BLOB] * 4,
    ),
    Case(
        "a head without end",
        "a byte now and then is no progress either",
        [Script(b"HTTP/1.1 200 OK\r\n", Then.REPEAT, b"X: y\r\n")],
        BLOB_AS_BLOB,
        "timeout",
        [GET_BLOB] * 4,
    ),
    Case(
        "a header of 200 KiB",
        "h11's limit is 100 KiB",
        [Script(head("200 OK", "X-Large: " + "x" * 200_000, length(BLOB)) + BLOB)],
        BLOB_AS_BLOB,
        "registry-error",
        [GET_BLOB],
    ),
    Case(
        "a thousand headers",
        "h11's limit is 100 KiB",
        [Script(head("200 OK", *(f"X-{at}: y" for at in range(1000)), length(BLOB)) + BLOB)],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB],
    ),
    Case(
        "the same length twice",
        "RFC 9110, 8.6: may be taken as one, or refused",
        [Script(head("200 OK", length(BLOB), length(BLOB)) + BLOB)],
        BLOB_AS_BLOB,
        "registry-error",
        [GET_BLOB],
        OK,
    ),
    Case(
        "two lengths",
        "RFC 9110, 8.6: request smuggling",
        [Script(head("200 OK", length(BLOB), "Content-Length: 4") + BLOB)],
        BLOB_AS_BLOB,
        "registry-error",
        [GET_BLOB],
    ),
    Case(
        "a length that is no number",
        "RFC 9110, 8.6",
        [Script(head("200 OK", "Content-Length: many") + BLOB)],
        BLOB_AS_BLOB,
        "registry-error",
        [GET_BLOB],
    ),
    Case(
        "a negative length",
        "RFC 9110, 8.6",
        [Script(head("200 OK", "Content-Length: -1") + BLOB)],
        BLOB_AS_BLOB,
        "registry-error",
        [GET_BLOB],
    ),
    Case(
        "a length and chunks",
        "RFC 9112, 6.3: request smuggling",
        [
            Script(
                head("200 OK", "Content-Length: 4096", "Transfer-Encoding: chunked")
                + b"1000\r\n"
                + BLOB
                + b"\r\n0\r\n\r\n",
                Then.CLOSE,
            )
        ],
        BLOB_AS_BLOB,
        "registry-error",
        [GET_BLOB],
    ),
    Case(
        "an offer to upgrade",
        "Apache's mod_http2 sends it with each answer",
        [Script(head("200 OK", "Upgrade: h2,h2c", "Connection: Upgrade", length(BLOB)) + BLOB)],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB],
    ),
    Case(
        "no status line",
        "RFC 9112, 4",
        [Script(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Then.CLOSE)],
        BLOB_AS_BLOB,
        "registry-error",
        [GET_BLOB],
    ),
    Case(
        "a TLS alert in plain HTTP",
        "https was meant",
        [Script(b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n", Then.CLOSE)],
        BLOB_AS_BLOB,
        "registry-error",
        [GET_BLOB],
    ),
    Case(
        "101 Switching Protocols",
        "nobody asked for that",
        [Script(head("101 Switching Protocols", "Upgrade: h2c", "Connection: Upgrade"))],
        BLOB_AS_BLOB,
        "registry-error",
        [GET_BLOB],
    ),
    Case(
        "a NUL in a header",
        "RFC 9110, 5.5",
        [Script(head("200 OK", "X: a\0b", length(BLOB)) + BLOB)],
        BLOB_AS_BLOB,
        "registry-error",
        [GET_BLOB],
    ),
    Case(
        "two digests of a manifest",
        "RFC 9110, 5.3: no list",
        [
            Script(
                head(
                    "200 OK",
                    f"Docker-Content-Digest: {MANIFEST_DIGEST}",
                    f"Docker-Content-Digest: {MANIFEST_DIGEST}",
                    length(MANIFEST),
                )
                + MANIFEST
            )
        ],
        TAG,
        "registry-error",
        [GET_TAG],
    ),
    Case(
        "two types of a manifest",
        "the body knows",
        [
            Script(
                head(
                    "200 OK",
                    f"Content-Type: {OCI_MANIFEST}",
                    "Content-Type: text/html",
                    length(MANIFEST),
                )
                + MANIFEST
            )
        ],
        TAG,
        OK,
        [GET_TAG],
    ),
    *(
        Case(
            f"{status} to a GET",
            source,
            [Script(head(status, *lines))],
            BLOB_AS_BLOB,
            "registry-error",
            [GET_BLOB],
        )
        for status, lines, source in [
            ("204 No Content", (), "RFC 9110, 15.3.5"),
            ("205 Reset Content", ("Content-Length: 0",), "RFC 9110, 15.3.6"),
            ("206 Partial Content", ("Content-Length: 0",), "RFC 9110, 15.3.7: not asked for"),
            ("300 Multiple Choices", ("Content-Length: 0",), "RFC 9110, 15.4.1"),
            ("304 Not Modified", (), "RFC 9110, 15.4.5: not asked for"),
            ("999 Beyond", ("Content-Length: 0",), "RFC 9110, 15"),
        ]
    ),
]

REFUSALS: Final = [
    Case(
        "416 that promises the whole blob",
        "distribution 2.8 sends 33 bytes of it",
        [
            Script(
                head(
                    "416 Requested Range Not Satisfiable",
                    "Content-Range: bytes */4096",
                    length(BLOB),
                )
                + b"invalid range: failed to overlap\n",
                Then.CLOSE,
            )
        ],
        PART,
        "invalid-request",
        ["GET blobs 100-299"],
    ),
    Case(
        "416 that stalls",
        "its head says all",
        [Script(head("416 Range Not Satisfiable", length(BLOB)), Then.SILENCE)],
        PART,
        "invalid-request",
        ["GET blobs 100-299"],
    ),
    Case(
        "several parts at once",
        "RFC 9110, 14.6: only where several were asked for",
        [
            Script(
                head(
                    "206 Partial Content",
                    "Content-Type: multipart/byteranges; boundary=x",
                    "Content-Length: 5",
                )
                + b"--x--"
            )
        ],
        PART,
        "registry-error",
        ["GET blobs 100-299"],
    ),
    *(
        Case(
            f"an error's body: {body[:24]!r}",
            "distribution-spec: any format",
            [Script(head("403 Forbidden", length(body)) + body)],
            BLOB_AS_BLOB,
            "denied",
            [GET_BLOB],
        )
        for body in (
            b"",
            b"{}",
            b"[]",
            b"null",
            b'{"errors": {}}',
            b'{"errors": [5]}',
            b'{"errors": [{"code": 5}]}',
            b'{"errors": [{"code": "DENIED", "message": null}]}',
            b'{"errors"',
            b"[" * 5_000,
            b"\xff\xfe\x00",
            b"<html><body>\x1b[31mForbidden</body></html>",
        )
    ),
    Case(
        "an error's body that breaks off",
        "the status says what matters",
        [Script(head("403 Forbidden", "Content-Length: 100") + b"den", Then.CLOSE)],
        BLOB_AS_BLOB,
        "denied",
        [GET_BLOB],
    ),
    Case(
        "an error's body that is silent",
        "the status says what matters",
        [Script(head("403 Forbidden", "Content-Length: 100") + b"den", Then.SILENCE)],
        BLOB_AS_BLOB,
        "denied",
        [GET_BLOB],
    ),
    Case(
        "an error's body without end",
        "8 KiB of it are read",
        [
            Script(
                head("403 Forbidden", "Transfer-Encoding: chunked"),
                Then.REPEAT,
                b"400\r\n" + b"x" * 1024 + b"\r\n",
            )
        ],
        BLOB_AS_BLOB,
        "denied",
        [GET_BLOB],
    ),
]

CASES: Final = [*FRAMING, *HEADS, *REFUSALS]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
async def test_each_odd_answer_has_its_verdict(
    start_server: StartServer, case: Case, lane: str, jumping_clock: MockClock
) -> None:
    code = case.code
    if lane == "general" and case.code_of_general_lane is not None:
        code = case.code_of_general_lane
    server = await start(start_server, case.scripts)
    with trio.fail_after(20):
        verdict = await consume(case.ask, f"127.0.0.1:{server.port}", patience_of(case.scripts))
    assert asked(server) == list(case.requests)
    if verdict.error is not None:
        assert verdict.error.code == code, verdict.error
        assert "\x1b" not in verdict.error.message
        return
    assert code == OK
    assert verdict.content == case.ask.content


@pytest.mark.usefixtures("lane")
async def test_an_errors_body_that_is_dripped_is_not_listened_to_for_long(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, jumping_clock: MockClock
) -> None:
    monkeypatch.setattr(answer_module, "ERROR_BODY_SECONDS", 0.1)
    drip = Script(head("403 Forbidden", "Content-Length: 9999"), Then.REPEAT, b".")
    server = await start(start_server, [drip])
    with trio.fail_after(20):
        verdict = await consume(BLOB_AS_BLOB, f"127.0.0.1:{server.port}")
    assert verdict.error is not None
    assert verdict.error.code == "denied"


@pytest.mark.usefixtures("lane")
async def test_bytes_behind_an_answer_are_not_the_next_one(start_server: StartServer) -> None:
    """A forged manifest behind a blob does not become the answer to a tag."""
    forged = head("200 OK", f"Content-Type: {OCI_MANIFEST}", "Content-Length: 2") + b"{}"
    real = head("200 OK", f"Content-Type: {OCI_MANIFEST}", length(MANIFEST)) + MANIFEST
    server = await start(start_server, [Script(WHOLE.data + forged), Script(real)])
    address = f"127.0.0.1:{server.port}"
    async with open_registry(Reference(f"{address}/a"), patience=QUICK, jobs=1) as remote:
        assert (await consume_from(remote, BLOB_AS_BLOB, address)).error is None
        assert (await consume_from(remote, TAG, address)).content == MANIFEST
    assert server.connections == 2


CHUNKED: Final = "Transfer-Encoding: chunked"


@pytest.mark.usefixtures("lane")
@pytest.mark.parametrize(
    "fields",
    [
        ("Content-Length: 5", CHUNKED),
        (CHUNKED, "Content-Length: 5"),
        ("Content-Length: 0", CHUNKED),
        ("content-length: 5", "transfer-encoding: Chunked"),
        ("Content-Length: 5", "Transfer-Encoding: identity"),
        ("Content-Length: 5", "Content-Length: 15"),
        ("Content-Length: 5, 15",),
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding: chunked, identity",),
        (CHUNKED, CHUNKED),
    ],
)
@pytest.mark.parametrize("status", ["200 OK", "307 There", "404 Not Found", "401 Who"])
async def test_who_tells_the_end_of_a_body_twice_is_refused_and_not_listened_to(
    start_server: StartServer, status: str, fields: tuple[str, ...]
) -> None:
    """RFC 9112, section 6.3: by one of the ends a forged answer lies behind the body."""
    forged = head("200 OK", f"Content-Type: {OCI_MANIFEST}", "Content-Length: 2") + b"{}"
    twice = head(status, "Location: /elsewhere", *fields) + b"0\r\n\r\n" + forged
    real = head("200 OK", f"Content-Type: {OCI_MANIFEST}", length(MANIFEST)) + MANIFEST
    server = await start(start_server, [Script(twice), Script(real)])
    address = f"127.0.0.1:{server.port}"
    async with open_registry(Reference(f"{address}/a"), patience=QUICK, jobs=1) as remote:
        verdict = await consume_from(remote, BLOB_AS_BLOB, address)
        assert verdict.error is not None
        assert verdict.error.code == "registry-error"
        assert (await consume_from(remote, TAG, address)).content == MANIFEST
    assert server.connections == len(server.heads) == 2


@pytest.mark.usefixtures("lane")
async def test_a_part_of_a_large_body_costs_the_connection_and_not_the_rest(
    start_server: StartServer,
) -> None:
    """Where Range is not known, what lies behind the part is never waited for."""
    whole = Script(head("200 OK", "Content-Length: 99999999") + BLOB, Then.SILENCE)
    server = await start(start_server, [whole])
    with trio.fail_after(20):
        verdict = await consume(PART, f"127.0.0.1:{server.port}")
    assert verdict.error is None
    assert verdict.content == BLOB[100:300]
    assert asked(server) == ["GET blobs 100-299"]


@pytest.mark.usefixtures("lane")
async def test_cookies_are_neither_kept_nor_sent(start_server: StartServer) -> None:
    data = head("200 OK", "Set-Cookie: session=s3cret; Path=/", length(BLOB)) + BLOB
    server = await start(start_server, [Script(data)])
    address = f"127.0.0.1:{server.port}"
    async with open_registry(Reference(f"{address}/a"), patience=QUICK) as remote:
        for _ in range(2):
            await consume_from(remote, BLOB_AS_BLOB, address)
    assert len(server.heads) == 2
    assert "s3cret" not in "".join(server.heads)


@pytest.mark.usefixtures("lane")
async def test_waiting_for_a_connection_takes_no_time_from_the_answers_head(
    start_server: StartServer, jumping_clock: MockClock
) -> None:
    """With one connection the second request waits longer than a head may, and is not lost."""
    content = BLOB * 4
    ask = BLOB_AS_BLOB._replace(text=digest_of(content), content=content)

    async def reply(stream: trio.SocketStream, text: str) -> bool:
        await stream.send_all(head("200 OK", length(content)))
        for at in range(0, len(content), 2048):  # enough each time, or it would have stalled
            await trio.sleep(0.15)
            await stream.send_all(content[at : at + 2048])
        return True

    server = await start_server(reply)
    address = f"127.0.0.1:{server.port}"
    patience = replace(QUICK, retries=0, stall_seconds=0.6)
    async with open_registry(Reference(f"{address}/a"), patience=patience, jobs=1) as remote:
        errors = []

        async def one() -> None:
            errors.append((await consume_from(remote, ask, address)).error)

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(one)
    assert errors == [None, None]


@pytest.mark.usefixtures("lane")
@pytest.mark.parametrize("piece", [b"1\r\nx\r\n" * 1_000, b"10000\r\n" + b"x" * 65_536 + b"\r\n"])
async def test_a_body_that_comes_faster_than_it_is_taken_can_be_stopped_and_lets_others_run(
    start_server: StartServer, piece: bytes
) -> None:
    """Its size is not known, so only a deadline ends it; nothing in it is ever waited for."""
    flood = Script(head("200 OK", "Transfer-Encoding: chunked"), Then.FLOOD, piece)
    server = await start(start_server, [flood])
    address, begun = f"127.0.0.1:{server.port}", trio.Event()

    async def stop(scope: trio.CancelScope) -> None:
        await begun.wait()
        for _ in range(5):
            await trio.sleep(0.01)
        scope.cancel()

    async with trio.open_nursery() as nursery:
        async with open_registry(Reference(f"{address}/a"), patience=QUICK) as remote:
            with trio.fail_after(20), trio.CancelScope() as scope:
                nursery.start_soon(stop, scope)
                ref = Reference(f"{address}/a", f"@{BLOB_DIGEST}")
                async with remote.open(ref, media_types=[OCTET_STREAM]) as opened:
                    async for _ in opened.chunks:
                        begun.set()
        assert scope.cancelled_caught


@pytest.mark.usefixtures("lane")
async def test_1xx_answers_in_a_flood_come_to_an_end(start_server: StartServer) -> None:
    server = await start(start_server, [Script(b"", Then.FLOOD, CONTINUE * 100)])
    with trio.fail_after(20):
        verdict = await consume(BLOB_AS_BLOB, f"127.0.0.1:{server.port}", replace(HASTY, retries=0))
    assert verdict.error is not None
    assert verdict.error.code in {"timeout", "unavailable", "registry-error"}


@pytest.mark.usefixtures("lane")
async def test_content_without_end_stops_at_the_size_that_was_expected(
    start_server: StartServer,
) -> None:
    piece = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    flood = Script(head("200 OK", "Transfer-Encoding: chunked"), Then.FLOOD, piece)
    server = await start(start_server, [flood])
    with trio.fail_after(20):
        verdict = await consume(BLOB_OF_SIZE, f"127.0.0.1:{server.port}")
    assert verdict.error is not None
    assert verdict.error.code == "size-mismatch"
