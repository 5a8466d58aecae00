"""Chunked bodies, cut every way; what connections make of them is in test_connection.py."""

from __future__ import annotations

import httptools
import pytest

from multi_fetch.registry.chunked import ChunkedBody

WIRE = b"4;x=y\r\nsome\r\n0A\r\n chunks an\r\n1\r\nd\r\n0\r\nTrailer: t\r\n\r\n"


@pytest.mark.parametrize("size", range(1, len(WIRE) + 1))
def test_a_body_comes_whole_however_it_is_cut(size: int) -> None:
    body, content = ChunkedBody(), b""
    for start in range(0, len(WIRE), size):
        assert not body.is_complete
        body.feed(memoryview(WIRE)[start : start + size])
        content += b"".join(body.take())
    assert body.is_complete
    assert not body.has_more
    assert content == b"some chunks and"


def test_an_answer_behind_it_is_noticed_and_is_no_content() -> None:
    body = ChunkedBody()
    body.feed(memoryview(WIRE + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmore"))
    assert body.is_complete
    assert body.has_more
    assert b"".join(body.take()) == b"some chunks and"


def test_what_is_no_chunk_is_refused() -> None:
    body = ChunkedBody()
    with pytest.raises(httptools.HttpParserError):
        body.feed(memoryview(b"four\r\n"))
