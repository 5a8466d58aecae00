from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.client.line import listing_line, referrers_words, request_line, tags_words
from multi_fetch.errors import InvalidRequestError
from multi_fetch.limits import MAX_LINE_BYTES


def test_a_line_is_the_object_and_its_hints() -> None:
    assert request_line("latest", ("size:1", "content:none")) == b"latest size:1 content:none\n"


@given(st.text(), st.lists(st.text()))
def test_no_text_adds_a_part_a_line_or_a_control(asked: str, hints: list[str]) -> None:
    try:
        line = request_line(asked, hints)
    except InvalidRequestError:
        return
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert line[:-1].decode().split(" ") == [asked, *hints]
    assert line[:1] not in {b"#", b"!"}


@pytest.mark.parametrize(
    ("asked", "hints"),
    [
        ("", ()),
        ("latest", ("",)),
        ("a b", ()),
        ("a\tb", ()),
        ("latest\n!cancel", ()),
        ("latest", ("size:1\rsize:2",)),
        ("latest", ("size:1\x00",)),
        ("#latest", ()),
        ("!cancel", ("1",)),
        ("\ud800", ()),
        ("a" * (MAX_LINE_BYTES + 1), ()),
    ],
)
def test_what_makes_no_single_request_is_refused(asked: str, hints: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequestError):
        request_line(asked, hints)


def test_a_listing_is_a_line_of_its_own() -> None:
    assert listing_line(tags_words("")) == b"!tags\n"
    assert listing_line(tags_words("a/b")) == b"!tags a/b\n"
    assert listing_line(referrers_words("sha256:0", "")) == b"!referrers sha256:0\n"
    words = referrers_words("sha256:0", "a/b")
    assert listing_line(words) == b"!referrers sha256:0 artifacttype:a/b\n"
    for digest, kind in (("", ""), ("a b", ""), ("a", "b\n!cancel 1")):
        with pytest.raises(InvalidRequestError):
            listing_line(referrers_words(digest, kind))


def test_the_longest_line_is_one() -> None:
    assert len(request_line("a" * MAX_LINE_BYTES, ())) == MAX_LINE_BYTES + 1
