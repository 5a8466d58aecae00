"""A head's bytes are read as RFC 9112 has them, or refused."""

from __future__ import annotations

import tracemalloc

import pytest

from multi_fetch.errors import RegistryError
from multi_fetch.registry.head import MAX_RATELIMIT_HEADERS, Head, parse_head, says_octets


def parsed(*lines: str) -> Head:
    return parse_head(memoryview("\r\n".join([*lines, "", ""]).encode("latin-1")), "asked")


def test_names_are_in_lower_case_and_fields_of_a_name_are_joined() -> None:
    head = parsed("HTTP/1.1 206 Part", "Link: a", "LINK: b", "Docker-RateLimit-Source: \xe4")
    assert head.status == 206
    assert head.headers == {"link": "a, b", "docker-ratelimit-source": "\xe4"}
    assert head.ratelimits == 1


def test_what_nobody_heeds_is_not_kept() -> None:
    fields = [f"{number:x}: a" for number in range(5_000)]
    assert parsed("HTTP/1.1 200 OK", *fields, "ETag: b").headers == {"etag": "b"}


def test_of_what_tells_of_limits_some_names_are_kept() -> None:
    fields = [f"ratelimit{number:x}: {number}" for number in range(4_000)]
    headers = parsed("HTTP/1.1 200 OK", *fields, "ETag: b", "RateLimit0: a").headers
    assert len(headers) == MAX_RATELIMIT_HEADERS + 1
    assert headers["etag"] == "b"
    assert headers["ratelimit0"] == "0, a"


def test_long_names_are_not_kept() -> None:
    size = 50_000
    tracemalloc.start()
    try:
        for number in range(100):
            name = f"ratelimit-{number:0{size}}"
            assert len(parsed("HTTP/1.1 200 OK", f"{name}: a").headers) == 1
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < 4 * size


@pytest.mark.parametrize(
    ("fields", "length", "is_chunked"),
    [
        ([], None, False),
        (["Content-Length: 0"], 0, False),
        (["Content-Length: 1048576"], 1_048_576, False),
        (["Transfer-Encoding: Chunked"], None, True),
    ],
)
def test_the_body_ends_where_the_fields_say(
    fields: list[str], length: int | None, *, is_chunked: bool
) -> None:
    head = parsed("HTTP/1.1 200 OK", *fields)
    assert (head.length, head.is_chunked) == (length, is_chunked)


@pytest.mark.parametrize(
    ("version", "fields", "may_persist"),
    [
        ("1.1", [], True),
        ("1.1", ["Connection: keep-alive"], True),
        ("1.1", ["Connection: x, Close"], False),
        ("1.1", ["Connection: x", "Connection: close"], False),
        ("1.0", [], False),
        ("1.0", ["Connection: Keep-Alive"], True),
    ],
)
def test_a_connection_persists_as_its_version_and_its_options_say(
    version: str, fields: list[str], *, may_persist: bool
) -> None:
    head = parsed(f"HTTP/{version} 200 OK", "Content-Length: 0", *fields)
    assert head.may_persist is may_persist


def test_who_sends_chunks_by_http_1_0_is_asked_for_no_more_over_the_connection() -> None:
    fields = "Connection: keep-alive", "Transfer-Encoding: chunked"
    head = parsed("HTTP/1.0 200 OK", *fields)
    assert (head.is_chunked, head.may_persist) == (True, False)
    assert parsed("HTTP/1.1 200 OK", *fields).may_persist


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["SSH-2.0-server"], "breaks HTTP"),
        (["HTTP/1.1 200 OK", "Content-Length: 5k"], "breaks HTTP"),
        (["HTTP/1.1 200 OK", "Content-Length: 1", "Content-Length: 2"], "breaks HTTP"),
        (["HTTP/1.1 200 OK", "no colon"], "breaks HTTP"),
        (["HTTP/1.1 200 OK", "Transfer-Encoding: gzip"], "transfer coding, 'gzip'"),
        (["HTTP/1.1 101 Go", "Connection: upgrade", "Upgrade: h2c"], "another protocol's"),
    ],
)
def test_what_is_no_answer_to_a_get_is_refused(lines: list[str], why: str) -> None:
    with pytest.raises(RegistryError, match=why):
        parsed(*lines)


@pytest.mark.parametrize(
    ("fields", "says_so"),
    [
        (["Content-Type: application/octet-stream"], True),
        (["Content-Length: 5", "CONTENT-TYPE: Application/Octet-Stream", "ETag: a"], True),
        ([], False),
        (["Content-Type: text/plain"], False),
        (["Content-Type: application/octet-stream; a=b"], False),
        (["Content-Type:  application/octet-stream"], False),
        (["X-Content-Type: application/octet-stream"], False),
        (["X: Content-Type: application/octet-stream"], False),
        (["Content-Type: application/octet-stream", "Content-Type: text/plain"], False),
        (["Content-Type: text/plain", "content-type: application/octet-stream"], False),
    ],
)
def test_a_type_is_read_without_a_parser_only_where_it_is_told_once_and_as_usual(
    fields: list[str], *, says_so: bool
) -> None:
    head = "\r\n".join(["HTTP/1.1 200 OK", *fields, "", ""]).encode()
    assert says_octets(head.lower()) is says_so
