from __future__ import annotations

import pytest

from multi_fetch.ceiling import DEFAULT_CEILING, Ceiling
from multi_fetch.errors import (
    DigestMismatchError,
    InvalidRequestError,
    MaxSizeError,
    SizeMismatchError,
    UnsupportedError,
)
from multi_fetch.limits import MAX_DATA_BYTES, MAX_MANIFEST_BYTES
from multi_fetch.oci.descriptor import Descriptor, Platform
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCI_INDEX, OCTET_STREAM
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.frames import Error
from multi_fetch.protocol.request import ByteRange, Listing, Request
from multi_fetch.worker.job import Target
from multi_fetch.worker.judge import check_pin, check_told, check_whole, held_limit, judge_of
from tests.worker.harness import answers, terminals
from tests.worker.memory_remote import MemoryRemote

CONTENT = b"content"


def descriptor(size: int | None = len(CONTENT), media_type: str = OCTET_STREAM) -> Descriptor:
    return Descriptor(media_type=media_type, digest=digest_of(CONTENT), size=size)


def test_what_is_not_pinned_may_be_anything() -> None:
    check_pin(Request(object="a"), descriptor())


def test_a_pin_holds_what_it_names_and_nothing_else() -> None:
    check_pin(Request(object="a", pin=digest_of(CONTENT)), descriptor())
    with pytest.raises(DigestMismatchError, match="a has moved") as caught:
        check_pin(Request(object="a", pin=digest_of(b"")), descriptor())
    assert (caught.value.want, caught.value.got) == (digest_of(b""), digest_of(CONTENT))


def test_a_pin_of_another_algorithm_proves_nothing() -> None:
    with pytest.raises(UnsupportedError):
        check_pin(Request(object="a", pin=digest_of(CONTENT, "sha512")), descriptor())


def test_a_whole_object_is_judged_by_its_digest() -> None:
    judge = judge_of(Request(object="a"), descriptor(), DEFAULT_CEILING)
    judge.update(CONTENT)
    assert judge.finish() == digest_of(CONTENT)


def test_a_listing_is_as_long_as_it_is() -> None:
    judge = judge_of(Request(object="!tags", listing=Listing.TAGS), descriptor(), DEFAULT_CEILING)
    judge.update(CONTENT * 1_000)
    assert judge.finish() is None


@pytest.mark.parametrize(("byte_range", "most"), [(ByteRange(2, 4), 3), (ByteRange(0, 0), 1)])
def test_of_a_range_only_the_length_is_judged(byte_range: ByteRange, most: int) -> None:
    judge = judge_of(Request(object="a", byte_range=byte_range), descriptor(), DEFAULT_CEILING)
    judge.update(b"?" * most)
    assert judge.finish() is None
    with pytest.raises(SizeMismatchError):
        judge.update(b"?")


@pytest.mark.parametrize(
    "request_",
    [
        Request(object="a"),
        Request(object="!tags", listing=Listing.TAGS),
        Request(object="a", byte_range=ByteRange(3)),
        Request(object="a", byte_range=ByteRange(3, 99)),
    ],
)
def test_what_nobody_told_the_size_of_ends_at_the_ceiling(request_: Request) -> None:
    """In a part, the bytes before it count."""
    judge = judge_of(request_, descriptor(size=None), Ceiling(untold=10))
    judge.update(b"?" * (10 if request_.byte_range is None else 7))
    with pytest.raises(MaxSizeError) as caught:
        judge.update(b"?")
    assert (caught.value.limit, caught.value.size) == (10, None)


def test_what_is_told_to_be_beyond_the_ceiling_has_no_judge() -> None:
    ceiling = Ceiling(told=len(CONTENT) - 1)
    with pytest.raises(MaxSizeError) as caught:
        judge_of(Request(object="a"), descriptor(), ceiling)
    assert (caught.value.limit, caught.value.size) == (len(CONTENT) - 1, len(CONTENT))
    judge_of(Request(object="a", byte_range=ByteRange(1)), descriptor(), ceiling)


def test_an_index_that_leads_on_to_a_platform_is_held_whatever_the_ceiling() -> None:
    request = Request(object="a", size=99, platform=Platform(os="linux", architecture="arm64"))
    ceiling = Ceiling(told=5, untold=5)
    for size in (99, None):
        judge_of(request, descriptor(size=size, media_type=OCI_INDEX), ceiling).update(b"?" * 99)
    check_told(request, target(), ceiling)
    check_told(request, target(OCI_INDEX), ceiling)
    with pytest.raises(MaxSizeError):
        check_told(request, target(OCTET_STREAM), ceiling)


def target(*media_types: str) -> Target:
    return Target(ref=Reference("a.example/b", "c"), media_types=media_types, size=99)


def test_only_content_is_held_to_the_ceiling_and_only_where_its_size_is_told() -> None:
    ceiling = Ceiling(told=5, untold=5)
    with pytest.raises(MaxSizeError):
        check_told(Request(object="a"), target(), ceiling)
    check_told(Request(object="a", is_content_wanted=False), target(), ceiling)
    check_told(Request(object="a", byte_range=ByteRange(0, 4)), target(), ceiling)
    unknown = Target(ref=Reference("a.example/b", "c"))
    check_told(Request(object="a", byte_range=ByteRange(9)), unknown, ceiling)


@pytest.mark.parametrize(
    ("size", "byte_range", "limit"),
    [
        (None, None, MAX_DATA_BYTES),
        (MAX_DATA_BYTES, None, MAX_DATA_BYTES),
        (MAX_DATA_BYTES + 1, None, 0),
        (10**12, ByteRange(5, 5 + MAX_DATA_BYTES - 1), MAX_DATA_BYTES),
        (10**12, ByteRange(5, 5 + MAX_DATA_BYTES), 0),
        (10**12, ByteRange(10**12 - 9), MAX_DATA_BYTES),
        (10**12, ByteRange(10**12 - 9, 10**13), MAX_DATA_BYTES),
        (10**12, ByteRange(9), 0),
        (None, ByteRange(9), MAX_DATA_BYTES),
        (None, ByteRange(0, 10**9), 0),
    ],
)
def test_what_fits_a_data_frame_is_held_and_what_does_not_streams_from_the_first_byte(
    size: int | None, byte_range: ByteRange | None, limit: int
) -> None:
    assert held_limit(descriptor(size), byte_range) == limit


def test_a_manifest_is_held_whatever_its_size() -> None:
    assert held_limit(descriptor(3 * MAX_DATA_BYTES, OCI_INDEX)) == MAX_MANIFEST_BYTES


async def test_content_that_could_not_be_verified_is_not_asked_for() -> None:
    remote = MemoryRemote()
    _, frames = await answers(remote, b"md5:d41d8cd98f00b204e9800998ecf8427e\n")
    error = terminals(frames)[1]
    assert isinstance(error, Error)
    assert error.code == "unsupported"
    assert remote.opened == []


def test_what_goes_into_a_layout_is_a_whole_object() -> None:
    part = ByteRange(0, 3)
    check_whole(Request(object="a"))
    check_whole(Request(object="a", is_content_wanted=False, byte_range=part))
    with pytest.raises(InvalidRequestError, match="leave out range:, or --into"):
        check_whole(Request(object="a", byte_range=part))
    with pytest.raises(InvalidRequestError, match="ask for !tags without --into"):
        check_whole(Request(object="!tags", listing=Listing.TAGS))
