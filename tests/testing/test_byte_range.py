import pytest

from multi_fetch.testing.byte_range import UnsatisfiableRangeError, parse_range


@pytest.mark.parametrize(
    ("header", "want"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=2-5", (2, 4)),
        ("bytes=2-", (2, 8)),
        ("bytes=2-999", (2, 8)),
        ("bytes=9-9", (9, 1)),
        ("bytes=-3", (7, 3)),
        ("bytes=-999", (0, 10)),
        ("Bytes=1-1", (1, 1)),
    ],
)
def test_a_range_is_cut_to_the_content(header: str, want: tuple[int, int]) -> None:
    assert parse_range(header, 10) == want


@pytest.mark.parametrize(
    "header", ["", "bytes=-", "bytes=5-2", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b", "bytes=٣-"]
)
def test_what_is_no_single_range_is_ignored(header: str) -> None:
    assert parse_range(header, 10) is None


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=10-", 10), ("bytes=11-12", 10), ("bytes=-0", 10), ("bytes=0-", 0)]
)
def test_a_range_behind_the_last_byte_is_unsatisfiable(header: str, size: int) -> None:
    with pytest.raises(UnsatisfiableRangeError):
        parse_range(header, size)
