"""Redirects: from a registry to a store on another port, and all the ways in which that goes wrong.

Both are real servers on loopback. What the registry was asked, and what the store was, is compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
import trio

from multi_fetch.limits import MAX_REDIRECTS
from tests.fakes.consumer import BLOB, BLOB_AS_BLOB, PART, RESOLVE_BLOB, Ask, consume
from tests.fakes.wire import Script, Then, asked, start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.registry.conftest import StartServer

GET_BLOB = "GET blobs"
STORED: Final = "GET /stored?sig=s3cret"
OK = ""


def head(status: str = "200 OK", *lines: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")


def sends_to(location: str, status: str = "307 Temporary Redirect") -> Script:
    """STORE in the location stands for the store's address."""
    return Script(head(status, f"Location: {location}", "Content-Length: 0"))


def refuses(status: str) -> Script:
    return Script(head(status, "Content-Length: 0"))


TO_STORE: Final = sends_to("http://STORE/stored?sig=s3cret")
WHOLE: Final = Script(head("200 OK", "Content-Length: 4096") + BLOB)
CUT: Final = Script(head("200 OK", "Content-Length: 4096") + BLOB[:1000], Then.CLOSE)
REST: Final = Script(
    head("206 Partial Content", "Content-Range: bytes 1000-4095/4096", "Content-Length: 3096")
    + BLOB[1000:]
)


class Case(NamedTuple):
    """A detour: where it was met, what both sides send, the verdict, what both were asked."""

    name: str
    source: str
    registry: Sequence[Script]
    store: Sequence[Script]
    ask: Ask
    code: str
    of_registry: Sequence[str]
    of_store: Sequence[str]


FOLLOWED: Final = [
    *(
        Case(
            status,
            "RFC 9110, 15.4",
            [sends_to("http://STORE/stored?sig=s3cret", status)],
            [WHOLE],
            BLOB_AS_BLOB,
            OK,
            [GET_BLOB],
            [STORED],
        )
        for status in (
            "301 Moved Permanently",
            "302 Found",
            "303 See Other",
            "307 Temporary Redirect",
            "308 Permanent Redirect",
        )
    ),
    Case(
        "a relative one",
        "RFC 9110, 10.2.2",
        [sends_to("/elsewhere"), WHOLE],
        [],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB, "GET /elsewhere"],
        [],
    ),
    Case(
        "one without a scheme",
        "RFC 3986, 4.2",
        [sends_to("//STORE/stored?sig=s3cret")],
        [WHOLE],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB],
        [STORED],
    ),
    Case(
        "a chain",
        "RFC 9110, 15.4",
        [sends_to("/1"), sends_to("/2"), TO_STORE],
        [WHOLE],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB, "GET /1", "GET /2"],
        [STORED],
    ),
    Case(
        "one with a user",
        "RFC 9110, 4.2.4",
        [sends_to("http://bob:pw@STORE/stored?sig=s3cret")],
        [WHOLE],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB],
        [STORED],
    ),
    Case(
        "a part",
        "the Range goes along",
        [TO_STORE],
        [
            Script(
                head(
                    "206 Partial Content",
                    "Content-Range: bytes 100-299/4096",
                    "Content-Length: 200",
                )
                + BLOB[100:300]
            )
        ],
        PART,
        OK,
        ["GET blobs 100-299"],
        [f"{STORED} 100-299"],
    ),
    Case(
        "a HEAD",
        "RFC 9110, 15.4: the method stays",
        [TO_STORE],
        [Script(head("200 OK", "Content-Length: 4096"))],
        RESOLVE_BLOB,
        OK,
        ["HEAD blobs"],
        ["HEAD /stored?sig=s3cret"],
    ),
]

REFUSED: Final = [
    *(
        Case(
            name,
            source,
            [script],
            [],
            BLOB_AS_BLOB,
            "registry-error",
            [GET_BLOB],
            [],
        )
        for name, source, script in [
            ("without a Location", "RFC 9110, 15.4", refuses("307 Temporary Redirect")),
            ("to nowhere", "RFC 9110, 10.2.2", sends_to("")),
            ("to a file", "curl refuses it too", sends_to("file:///etc/passwd")),
            ("to ftp", "curl refuses it too", sends_to("ftp://127.0.0.1/x")),
            ("to what is no URL", "RFC 3986", sends_to("http://[::1/x")),
            ("to a port beyond", "RFC 3986", sends_to("http://127.0.0.1:99999/x")),
        ]
    ),
    Case(
        "in a loop",
        "net/http stops at 10",
        [sends_to("/loop")],
        [],
        BLOB_AS_BLOB,
        "registry-error",
        [GET_BLOB, *["GET /loop"] * MAX_REDIRECTS],
        [],
    ),
]

STORES_IN_TROUBLE: Final = [
    *(
        Case(
            f"a store that answers {status} once",
            source,
            [TO_STORE],
            [refuses(status), WHOLE],
            BLOB_AS_BLOB,
            OK,
            [GET_BLOB] * 2,
            [STORED] * 2,
        )
        for status, source in [
            ("403 Forbidden", "S3 and CloudFront: the signed URL has expired"),
            ("400 Bad Request", "GCS: ExpiredToken"),
            ("401 Unauthorized", "stores behind a proxy"),
            ("503 Slow Down", "S3"),
            ("500 Internal Server Error", "S3"),
            ("429 Too Many Requests", "GCS"),
        ]
    ),
    Case(
        "a store that refuses for ever",
        "a new URL is asked for once",
        [TO_STORE],
        [refuses("403 Forbidden")],
        BLOB_AS_BLOB,
        "denied",
        [GET_BLOB] * 2,
        [STORED] * 2,
    ),
    Case(
        "a store that has it not",
        "404 is an answer, and the manifests may have it",
        [TO_STORE, refuses("404 Not Found")],
        [refuses("404 Not Found")],
        BLOB_AS_BLOB,
        "not-found",
        [GET_BLOB, "GET manifests"],
        [STORED],
    ),
    Case(
        "a store that breaks off",
        "the registry is asked for the rest, as the URL may have expired",
        [TO_STORE],
        [CUT, REST],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB, "GET blobs 1000-"],
        [STORED, f"{STORED} 1000-"],
    ),
    Case(
        "a store that breaks off, and whose URL has expired then",
        "S3 and CloudFront",
        [TO_STORE],
        [CUT, refuses("403 Forbidden"), REST],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB, *["GET blobs 1000-"] * 2],
        [STORED, *[f"{STORED} 1000-"] * 2],
    ),
    Case(
        "a store that breaks off, and a registry that serves the rest itself",
        "where the bytes come from is the registry's choice",
        [TO_STORE, REST],
        [CUT],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB, "GET blobs 1000-"],
        [STORED],
    ),
    Case(
        "a store that hangs up",
        "stereoscope#695",
        [TO_STORE],
        [Script(b"", Then.CLOSE), WHOLE],
        BLOB_AS_BLOB,
        OK,
        [GET_BLOB] * 2,
        [STORED] * 2,
    ),
]

CASES: Final = [*FOLLOWED, *REFUSED, *STORES_IN_TROUBLE]


@pytest.mark.usefixtures("lane")
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
async def test_each_detour_has_its_verdict(start_server: StartServer, case: Case) -> None:
    store = await start(start_server, case.store or [WHOLE])
    address = f"127.0.0.1:{store.port}".encode()
    scripts = [
        script._replace(data=script.data.replace(b"STORE", address)) for script in case.registry
    ]
    registry = await start(start_server, scripts)
    with trio.fail_after(20):
        verdict = await consume(case.ask, f"127.0.0.1:{registry.port}")
    assert asked(registry) == list(case.of_registry)
    assert asked(store) == list(case.of_store)
    assert not any("authorization" in one.lower() for one in (*registry.heads, *store.heads))
    if verdict.error is not None:
        assert verdict.error.code == case.code, verdict.error
        assert "s3cret" not in verdict.error.message
        return
    assert case.code == OK
    assert verdict.content == (case.ask.content or b"")


async def test_a_store_that_is_not_there_is_borne_like_a_registry(
    start_server: StartServer, closed_port: int
) -> None:
    registry = await start(start_server, [sends_to(f"http://127.0.0.1:{closed_port}/x"), WHOLE])
    verdict = await consume(BLOB_AS_BLOB, f"127.0.0.1:{registry.port}")
    assert verdict.error is None
    assert asked(registry) == [GET_BLOB] * 2
