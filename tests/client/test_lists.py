"""Listings are read line by line, wherever their content is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.client.lists import Lines, referrer_of, tag_of
from multi_fetch.errors import MalformedFrameError
from multi_fetch.oci.digest import digest_of


@given(st.lists(st.binary(max_size=5).filter(lambda line: b"\n" not in line)), st.data())
def test_lines_are_whole_however_they_come(written: list[bytes], data: st.DataObject) -> None:
    content = b"".join(line + b"\n" for line in written)
    lines = Lines()
    read: list[bytes] = []
    while content:
        count = data.draw(st.integers(1, len(content)))
        read += lines.feed(content[:count])
        content = content[count:]
    lines.feed_eof()
    assert read == written


def test_a_listing_that_ends_within_a_line_is_cut() -> None:
    lines = Lines()
    assert list(lines.feed(b"a\nb")) == [b"a"]
    with pytest.raises(MalformedFrameError, match="within a line"):
        lines.feed_eof()


def test_a_referrer_is_a_descriptor() -> None:
    line = b'{"mediaType":"m/t","digest":"%s","size":3,"artifactType":"a/b","new":1}'
    found = referrer_of(line % digest_of(b"").encode())
    assert (found.artifact_type, found.size, found.digest) == ("a/b", 3, digest_of(b""))


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b'{"mediaType":1}', b"\xff"])
def test_what_is_no_descriptor_is_refused(line: bytes) -> None:
    with pytest.raises(MalformedFrameError):
        referrer_of(line)


def test_what_is_no_tag_is_refused() -> None:
    assert tag_of(b"v1") == "v1"
    with pytest.raises(MalformedFrameError):
        tag_of("é".encode())
