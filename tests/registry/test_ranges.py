"""Which blobs may come over several connections, how many at a time, and of which hosts."""

from __future__ import annotations

import pytest

from multi_fetch.limits import MAX_RANGES, MAX_SPLIT_BLOBS, MAX_SPLIT_HOSTS, SPLIT_BYTES
from multi_fetch.registry.answer import Answer
from multi_fetch.registry.ranges import Ranges
from multi_fetch.registry.url import parse_url

URL = parse_url("https://registry.example/v2/a/blobs/x")
MIB = 1024 * 1024
LARGE = 64 * MIB


def whole(status: int = 200, **headers: str) -> Answer:
    return Answer("GET", URL, status, {name.replace("_", "-"): headers[name] for name in headers})


def test_a_large_blob_of_known_size_may_be_split() -> None:
    assert Ranges(2).may_split(whole(), LARGE)
    assert Ranges(2).may_split(whole(accept_ranges="bytes"), LARGE)


@pytest.mark.parametrize(
    ("answer", "size"),
    [
        (whole(), None),
        (whole(), 1 * MIB),
        (whole(206), LARGE),
        (whole(content_encoding="gzip"), LARGE),
        (whole(accept_ranges="None"), LARGE),
    ],
)
def test_what_is_small_unknown_a_part_encoded_or_without_ranges_may_not(
    answer: Answer, size: int | None
) -> None:
    assert not Ranges(2).may_split(answer, size)


@pytest.mark.parametrize("count", range(2, MAX_RANGES + 1))
def test_the_memory_of_all_places_together_is_bounded(count: int) -> None:
    ranges = Ranges(count)
    places = 0
    while ranges.take_place(URL.origin, LARGE):
        places += 1
    assert 1 <= places <= MAX_SPLIT_BLOBS
    assert places * count * ranges.piece_bytes <= SPLIT_BYTES


def test_a_place_is_free_again_once_it_is_given_back() -> None:
    ranges = Ranges(MAX_RANGES)
    while ranges.take_place(URL.origin, LARGE):
        pass
    ranges.give_place_back()
    assert ranges.take_place(URL.origin, LARGE)
    assert not ranges.take_place(URL.origin, LARGE)


def test_a_rest_that_is_not_worth_it_takes_no_place() -> None:
    ranges = Ranges(2)
    assert not ranges.take_place(URL.origin, 1 * MIB)
    assert ranges.take_place(URL.origin, LARGE)


def test_a_host_that_has_no_ranges_is_remembered_and_the_longest_known_forgotten() -> None:
    ranges = Ranges(2)
    ranges.remember(URL.origin, knows_ranges=False)
    assert not ranges.may_split(whole(), LARGE)
    assert not ranges.take_place(URL.origin, LARGE)
    for number in range(MAX_SPLIT_HOSTS):
        other = parse_url(f"https://{number}.example/").origin
        assert not ranges.is_known(other)
        ranges.remember(other, knows_ranges=True)
        assert ranges.is_known(other)
    assert ranges.may_split(whole(), LARGE)
