"""The short way to read a line reads what the long way does, or nothing."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from multi_fetch.errors import InvalidRequestError
from multi_fetch.protocol.plain import parse_plain
from multi_fetch.protocol.request import parse_line

DIGEST = f"sha256:{'0' * 64}"
PLAIN_WORDS = st.sampled_from(
    [
        *(f"sha256:{letter * 64}" for letter in "0afgA"),
        *(f"sha256:{'0' * count}" for count in (63, 65)),
        *("mediatype:a/b", "mediatype:A/B+c", "mediatype:a/b;c", "mediatype:a", "mediatype:a/b/c"),
        *("mediatype:a/é", f"mediatype:a/{'b' * 126}", f"mediatype:a/{'b' * 128}"),
        *("size:0", "size:007", "size:-1", f"size:{'9' * 18}", f"size:{'9' * 19}", "size:x"),
        *("", " ", "\t", "children:all", "content:none", "colour:blue"),
    ]
)
ENDS = st.sampled_from(["", "\n", "\r\n", "\r", "\n\n", "\r\r\n"])


@given(st.lists(PLAIN_WORDS, max_size=5), st.sampled_from([" ", " ", "  ", "\t"]), ENDS)
@example([DIGEST, "mediatype:A/B", "size:007"], " ", "\r\n")
@example([DIGEST, "size:7", "mediatype:a/b"], " ", "")
def test_what_is_read_in_short_is_read_the_same(words: list[str], blank: str, end: str) -> None:
    line = (blank.join(words) + end).encode()
    request = parse_plain(line)
    try:
        expected = parse_line(line)
    except InvalidRequestError:
        expected = None
    assert request in {None, expected}


def test_it_reads_what_a_list_has() -> None:
    for hints in ("", " mediatype:a/b", " size:7", " mediatype:a/b size:7"):
        line = f"{DIGEST}{hints}"
        assert parse_plain(line.encode()) == parse_line(line.encode())
        assert parse_plain(line.encode()) is not None
