from pathlib import Path

import pytest

from multi_fetch.testing.messages import Answer, FileSlice, Request, body_bytes, body_chunks

CONTENT = bytes(range(50))


@pytest.mark.parametrize("max_bytes", [1, 7, 50, 1000])
def test_a_body_is_the_same_from_memory_and_from_a_file_however_it_is_cut(
    tmp_path: Path, max_bytes: int
) -> None:
    path = tmp_path / "content"
    path.write_bytes(b"before" + CONTENT + b"behind")
    for body in (CONTENT, FileSlice(path, 6, 50)):
        pieces = list(body_chunks(body, max_bytes))
        assert b"".join(pieces) == CONTENT
        assert max(map(len, pieces)) <= max_bytes


def test_an_empty_body_has_no_pieces(tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    assert list(body_chunks(FileSlice(path, 3, 0), 10)) == []
    assert body_bytes(b"") == b""


def test_header_names_know_no_case() -> None:
    request = Request("GET", "/", headers=(("range", "bytes=0-"),))
    assert request.header("Range") == "bytes=0-"
    assert request.without_header("RANGE").headers == ()


def test_a_header_replaces_the_one_of_its_name() -> None:
    answer = Answer(200, (("Content-Type", "a/b"), ("X", "1"))).with_header("content-type", "c/d")
    assert answer.headers == (("X", "1"), ("content-type", "c/d"))


def test_another_body_brings_its_size_along_only_where_one_was_told() -> None:
    told = Answer(200, (("Content-Length", "3"),), b"abc")
    assert told.with_body(b"abcd").header("Content-Length") == "4"
    assert Answer(200, (), b"abc").with_body(b"abcd").header("Content-Length") == ""
