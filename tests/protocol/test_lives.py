"""The state table of protocol.md, and what a stream may make its reader keep."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from multi_fetch.errors import MalformedFrameError
from multi_fetch.limits import (
    MAX_BEGUN_IDS,
    MAX_CHILDREN,
    MAX_CLOSED_PAGES,
    MAX_DATA_BYTES,
    MAX_UNTOLD_PARENTS,
)
from multi_fetch.protocol.frames import Begin, Bye, Data, End, Error, File, Hello
from multi_fetch.protocol.lives import PAGE_BITS, ClosedIds, Lives
from tests.cli.unpack_streams import begin, frames_of
from tests.vectors import make

if TYPE_CHECKING:
    from multi_fetch.protocol.frames import Frame

HELLO = Hello(1, "r.example/app", 4, 589_824, (), "")
BREACHES = sorted(name for name in make.vectors() if name.startswith("breach-"))
SESSIONS = sorted(name for name in make.vectors() if name.startswith("session-"))


def taken(*frames: Frame) -> Lives:
    lives = Lives()
    for frame in frames:
        lives.take(frame)
    return lives


def end(number: int, children: int = 0) -> End:
    return End(number, 0, None, children)


def typed(media_type: str) -> Begin:
    opened = begin(1, b"")
    return replace(opened, descriptor=replace(opened.descriptor, media_type=media_type))


def failed(number: int, **detail: int | str) -> Error:
    return Error(number, "not-found", "made up", retryable=False, detail={**detail})


@pytest.mark.parametrize("name", BREACHES)
def test_each_breach_is_refused_at_its_frame_and_names_the_id(name: str) -> None:
    *before, last = frames_of((make.HERE / f"{name}.bin").read_bytes())
    lives = taken(*before)
    with pytest.raises(MalformedFrameError) as caught:
        lives.take(last)
    number = getattr(last, "id", None)
    assert number is None or re.search(rf"(?<![\d-]){number}\b", str(caught.value))
    assert json.loads((make.HERE / f"{name}.json").read_bytes())["breach"]


@pytest.mark.parametrize("name", SESSIONS)
def test_whole_sessions_keep_every_rule(name: str) -> None:
    lives = taken(*frames_of((make.HERE / f"{name}.bin").read_bytes()))
    assert lives.is_over
    assert not list(lives.untold())


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([begin(1, b"", "t" * 5_000)], "object of 1 has 5000 characters"),
        ([replace(begin(1, b""), name="n" * 5_000)], "name of 1 has 5000 characters"),
        ([typed("m" * 256)], "media type of 1 has 256 characters"),
        ([begin(1, b""), Data(1, 0, b"")], "0 bytes"),
        ([begin(1, b""), Data(1, 0, bytes(MAX_DATA_BYTES + 1))], "524289 bytes"),
        ([begin(1, b""), File(1, "/a", -1)], "-1 bytes"),
        ([begin(1, b""), File(1, "a", 1)], "file of 1 has a path that is not absolute"),
        ([begin(1, b""), File(1, "", 1)], "file of 1 has a path that is not absolute"),
        ([begin(1, b""), File(1, "/a\0b", 1)], "file of 1 has a path .* has a NUL"),
        ([begin(1, b""), end(1, -1)], "announces -1"),
        ([begin(1, b""), end(1, MAX_CHILDREN + 1)], "announces 4097"),
        ([Error(0, "internal", "m" * 2001, retryable=False, detail={})], "2001 characters"),
        ([Data(0, 0, b"x")], "the worker itself"),
        ([end(0)], "the worker itself"),
        ([failed(-1, parent="1")], "no parent"),
        ([begin(-1, b"", parent=0)], "names 0"),
    ],
)
def test_what_no_worker_may_write_is_refused(frames: list[Frame], message: str) -> None:
    lives = taken(HELLO, *frames[:-1])
    with pytest.raises(MalformedFrameError, match=message):
        lives.take(frames[-1])


def test_what_is_below_is_told_by_its_first_frame_and_what_is_missing_is_known() -> None:
    lives = taken(HELLO, begin(1, b""), end(1, 3), begin(-2, b"", parent=1), failed(-3, parent=1))
    assert list(lives.untold()) == [(1, 1)]
    lives.take(end(-2, 2))
    assert sorted(lives.untold()) == [(-2, 2), (1, 1)]


def test_lines_open_no_more_at_a_time_than_the_window_and_what_is_below_does_not_count() -> None:
    lives = taken(HELLO, begin(9, b""), end(9, 3))
    opened = [begin(-number, b"", parent=9) for number in (1, 2, 3)]
    for frame in [*opened, *(begin(number, b"") for number in (1, 2, 3, 4))]:
        lives.take(frame)
    lives.take(failed(3))
    lives.take(begin(5, b""))
    with pytest.raises(MalformedFrameError, match="6 begins as one more than hello's window of 4"):
        lives.take(begin(6, b""))


def test_a_window_of_nothing_lets_one_be_open() -> None:
    lives = taken(Hello(1, "r", 0, 589_824, (), ""), begin(1, b""))
    with pytest.raises(MalformedFrameError, match="window of 1"):
        lives.take(begin(2, b""))


def test_what_may_be_open_at_a_time_has_a_bound_whatever_hello_says() -> None:
    lives = taken(Hello(1, "r", 10**6, 589_824, (), ""))
    opened = begin(1, b"")
    for number in range(1, MAX_BEGUN_IDS + 1):
        lives.take(Begin(number, opened.object, opened.descriptor, opened.name, None))
    with pytest.raises(MalformedFrameError, match="16385 begins while 16384 others"):
        lives.take(Begin(MAX_BEGUN_IDS + 1, opened.object, opened.descriptor, opened.name, None))


def test_what_may_be_announced_and_not_come_has_a_bound() -> None:
    lives = taken(HELLO)
    opened = begin(1, b"")
    for number in range(1, MAX_UNTOLD_PARENTS + 1):
        lives.take(Begin(number, opened.object, opened.descriptor, opened.name, None))
        lives.take(end(number, 1))
    one_more = MAX_UNTOLD_PARENTS + 1
    lives.take(Begin(one_more, opened.object, opened.descriptor, opened.name, None))
    with pytest.raises(MalformedFrameError, match=f"the end of {one_more} announces"):
        lives.take(end(one_more, 1))


@given(numbers=st.lists(st.integers(1, 3 * PAGE_BITS), max_size=50))
def test_a_number_is_closed_once_it_was_added_and_no_other(numbers: list[int]) -> None:
    closed = ClosedIds()
    for number in numbers:
        closed.add(number)
    near = {number + step for number in numbers for step in (-1, 0, 1, 8, PAGE_BITS)}
    assert {number for number in near if number in closed} == set(numbers)


def test_numbers_far_from_each_other_take_no_more_than_their_pages() -> None:
    closed = ClosedIds()
    for page in range(MAX_CLOSED_PAGES + 10):
        closed.add(page * PAGE_BITS + 5)
    assert len(closed._pages) == len(closed._numbers) == MAX_CLOSED_PAGES
    # What went is taken for closed; what is there is known exactly.
    assert 9 * PAGE_BITS + 6 in closed
    assert 10 * PAGE_BITS + 6 not in closed
    assert 10 * PAGE_BITS + 5 in closed
    closed.add(1)
    assert len(closed._pages) == MAX_CLOSED_PAGES


def test_bye_may_come_while_nothing_of_it_has_begun() -> None:
    assert taken(HELLO, failed(3), Bye(1, 0, 1, 0, {})).is_over
