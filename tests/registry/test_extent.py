"""Ranges: which answers are taken for the part that was asked for, and which bytes are wanted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.errors import InvalidRequestError, RegistryError, SizeMismatchError
from multi_fetch.protocol.request import ByteRange
from multi_fetch.registry.extent import (
    Extent,
    extent_of,
    extent_of_whole,
    range_header,
    refused_range,
)

REST = ByteRange(5)
MIDDLE = ByteRange(2, 4)


def test_a_range_is_written_with_or_without_its_end() -> None:
    assert range_header(REST) == "bytes=5-"
    assert range_header(MIDDLE) == "bytes=2-4"


@pytest.mark.parametrize(
    ("asked", "text", "size"),
    [
        (REST, "bytes 5-9/10", 10),
        (REST, "bytes 5-9/10", None),
        (REST, "bytes 5-9/*", 10),
        (REST, "bytes 5-9/*", None),
        (REST, "Bytes 5-9/10", 10),
        (MIDDLE, "bytes 2-4/10", None),
        (MIDDLE, "bytes 2-4/10", 10),
        (MIDDLE, "bytes 2-4/*", None),
        (ByteRange(2, 400), "bytes 2-9/10", None),
        (ByteRange(2, 400), "bytes 2-9/*", None),
    ],
)
def test_the_part_that_was_asked_for_is_taken(
    asked: ByteRange, text: str, size: int | None
) -> None:
    extent = extent_of(206, {"content-range": text}, asked, size)
    assert (extent.first, extent.skip, extent.is_exact) == (asked.first, 0, True)
    known = 10 if size or "/10" in text else None
    assert extent.size == known


# RFC 9110, section 14.4
@pytest.mark.parametrize(
    ("asked", "text", "size"),
    [
        *(
            (REST, text, 10)
            for text in (
                "",
                "bytes 4-9/10",
                "bytes 5-8/10",
                "bytes 5-9/11",
                "bytes 5-10/11",
                "bytes 5-10/10",
                "bytes 5-4/10",
                "bytes */10",
                "bytes 5-9",
                "items 5-9/10",
                "bytes 5-9/10\n",
                "bytes 5-9/10, bytes 5-9/10",
                "bytes 5-٩/10",
            )
        ),
        (REST, "bytes 5-8/10", None),
        (MIDDLE, "bytes 2-3/10", None),
        (MIDDLE, "bytes 2-5/10", None),
        (MIDDLE, "bytes 2-5/*", None),
        (MIDDLE, "bytes 2-4/3", None),
        (ByteRange(0, 4), "bytes 0-9/10", None),
    ],
)
def test_any_other_part_is_refused(asked: ByteRange, text: str, size: int | None) -> None:
    with pytest.raises(RegistryError, match="another part") as caught:
        extent_of(206, {"content-range": text}, asked, size)
    assert caught.value.status == 206


def test_a_part_of_another_length_than_it_says_is_refused() -> None:
    headers = {"content-range": "bytes 5-9/10", "content-length": "4"}
    with pytest.raises(RegistryError, match="another part"):
        extent_of(206, headers, REST, 10)


def test_a_part_of_the_whole_is_cut_out_of_it() -> None:
    whole = {"content-length": "10"}
    assert extent_of(200, whole, REST, None) == Extent(5, 5, 5, 10, is_exact=True)
    assert extent_of(200, whole, MIDDLE, None) == Extent(2, 2, 3, 10, is_exact=False)
    assert extent_of(200, whole, ByteRange(2, 99), 10) == Extent(2, 2, 8, 10, is_exact=True)
    assert extent_of(200, {}, MIDDLE, None) == Extent(2, 2, 3, None, is_exact=False)
    assert extent_of(200, {}, REST, None) == Extent(5, 5, None, None, is_exact=True)
    assert extent_of(200, whole, None, None) == Extent(0, 0, None, 10, is_exact=True)


def test_a_whole_of_another_size_is_a_size_mismatch() -> None:
    with pytest.raises(SizeMismatchError):
        extent_of(200, {"content-length": "10"}, REST, 11)


@pytest.mark.parametrize(
    ("asked", "size"), [(ByteRange(10), 10), (ByteRange(11, 12), 10), (ByteRange(0, 3), 0)]
)
def test_a_range_from_the_end_on_is_an_invalid_request(asked: ByteRange, size: int) -> None:
    with pytest.raises(InvalidRequestError, match=f"which has {size} bytes"):
        extent_of_whole(asked, size)


def test_the_whole_of_nothing_is_nothing() -> None:
    assert extent_of_whole(None, 0).size == 0


def test_a_refused_range_tells_the_size_where_the_registry_does() -> None:
    told = refused_range({"content-range": "bytes */10"}, ByteRange(12, 13))
    assert told.message == (
        "the range 12-13 begins beyond the end of the object, which has 10 bytes: ask for an"
        " earlier part"
    )
    assert told.status == 416
    assert refused_range({}, REST).message == (
        "the range 5- begins beyond the end of the object: ask for an earlier part"
    )


@given(text=st.text() | st.from_regex(r"bytes [0-9]{0,3}-[0-9]{0,3}/([0-9]{0,3}|\*)"))
def test_any_content_range_is_taken_or_refused(text: str) -> None:
    try:
        extent = extent_of(206, {"content-range": text}, ByteRange(3, 7), None)
    except RegistryError:
        return
    assert extent.first == 3
    assert extent.count is not None
    assert 1 <= extent.count <= 5
