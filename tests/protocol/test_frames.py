from __future__ import annotations

from typing import get_args

import msgpack  # type: ignore[import-untyped]  # it ships no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.errors import MalformedFrameError
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import Digest, digest_of
from multi_fetch.protocol.frames import (
    FEATURES,
    KINDS,
    Begin,
    Bye,
    Data,
    End,
    Error,
    File,
    Frame,
    Hello,
    decode,
    encode,
)

DIGEST = digest_of(b"abc")
DESCRIBED = Descriptor(media_type="a/b", digest=DIGEST, size=None)

# Each kind, with the array that protocol.md gives it.
SAMPLES: list[tuple[Frame, list[object]]] = [
    (
        Hello(1, "h/r", 8, 589_824, FEATURES, "s"),
        ["hello", 1, "h/r", 8, 589_824, [*FEATURES], "s"],
    ),
    (
        Begin(1, "latest", DESCRIBED, "h/r:latest", None),
        [
            "begin",
            1,
            "latest",
            {"mediaType": "a/b", "digest": str(DIGEST), "size": None},
            "h/r:latest",
            None,
        ],
    ),
    (Data(1, 5, b"\x00\xff"), ["data", 1, 5, b"\x00\xff"]),
    (File(1, "/store/é", 3), ["file", 1, "/store/é", 3]),
    (End(1, 3, DIGEST, 0), ["end", 1, 3, str(DIGEST), 0]),
    (End(-1, 0, None, 2), ["end", -1, 0, None, 2]),
    (
        Error(0, "internal", "ö", retryable=False, detail={"status": 500, "retry_after": 1.5}),
        ["error", 0, "internal", "ö", False, {"status": 500, "retry_after": 1.5}],
    ),
    (
        Bye(2, 1, 1, 3, {"ratelimit": {"limit": 100}}),
        ["bye", 2, 1, 1, 3, {"ratelimit": {"limit": 100}}],
    ),
]


@pytest.mark.parametrize(("frame", "array"), SAMPLES)
def test_a_frame_is_the_array_of_the_protocol(frame: Frame, array: list[object]) -> None:
    assert msgpack.unpackb(encode(frame)) == array
    assert encode(frame) == msgpack.packb(array)


@pytest.mark.parametrize(("frame", "array"), SAMPLES)
def test_a_frame_survives_the_way_out_and_back(frame: Frame, array: list[object]) -> None:
    assert decode(encode(frame)) == frame
    assert decode(memoryview(bytearray(encode(frame)))) == frame


def test_there_is_a_sample_of_each_kind() -> None:
    assert {array[0] for _, array in SAMPLES} == KINDS
    assert {type(frame) for frame, _ in SAMPLES} == set(get_args(Frame))


def test_digests_come_back_as_digests() -> None:
    end, begin = (
        decode(encode(End(1, 3, DIGEST, 0))),
        decode(encode(Begin(1, "a", DESCRIBED, "b", None))),
    )
    assert isinstance(end, End)
    assert isinstance(end.digest, Digest)
    assert isinstance(begin, Begin)
    assert isinstance(begin.descriptor.digest, Digest)


@pytest.mark.parametrize(("frame", "array"), SAMPLES)
def test_elements_beyond_the_known_are_ignored(frame: Frame, array: list[object]) -> None:
    assert decode(msgpack.packb([*array, None, {"a": [1]}])) == frame


@pytest.mark.parametrize(("frame", "array"), SAMPLES)
def test_each_required_element_is_missed(frame: Frame, array: list[object]) -> None:
    assert not type(frame).__struct_defaults__
    for length in range(1, len(array)):
        with pytest.raises(MalformedFrameError):
            decode(msgpack.packb(array[:length]))


@pytest.mark.parametrize(("frame", "array"), SAMPLES)
def test_an_element_of_a_wrong_type_is_refused(frame: Frame, array: list[object]) -> None:
    for position in range(1, len(array)):
        with pytest.raises(MalformedFrameError):
            decode(msgpack.packb([*array[:position], [[]], *array[position + 1 :]]))


OTHERS: list[object] = [None, True, b"x", [1], {"a": {"b": 1}}, 2**63, msgpack.ExtType(5, b"x")]


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_no_detail_is_left_out_of_the_details(other: object) -> None:
    for frame, array in SAMPLES[-2:]:
        told = array[-1]
        assert isinstance(told, dict)
        assert decode(msgpack.packb([*array[:-1], {"a": other, **told, "b": other}])) == frame


@pytest.mark.parametrize("other", [*OTHERS, "x"])
def test_a_field_that_is_none_of_a_descriptor_is_left_out(other: object) -> None:
    described = {"mediaType": "a/b", "digest": str(DIGEST), "size": None}
    for name in ("urls", "platform", "later"):
        packed = msgpack.packb(
            ["begin", 1, "latest", {**described, name: other}, "h/r:latest", None]
        )
        assert decode(packed) == SAMPLES[1][0]


@pytest.mark.parametrize(("frame", "array"), SAMPLES)
def test_an_integer_has_at_most_64_bits_with_a_sign(frame: Frame, array: list[object]) -> None:
    numbers = [at for at, value in enumerate(array) if type(value) is int]
    for at in numbers:
        for most in (2**63 - 1, -(2**63)):
            assert isinstance(
                decode(msgpack.packb([*array[:at], most, *array[at + 1 :]])), type(frame)
            )
        with pytest.raises(MalformedFrameError):
            decode(msgpack.packb([*array[:at], 2**63, *array[at + 1 :]]))


@pytest.mark.parametrize(("frame", "array"), SAMPLES)
def test_every_cut_of_a_payload_is_refused(frame: Frame, array: list[object]) -> None:
    payload = encode(frame)
    for length in range(len(payload)):
        with pytest.raises(MalformedFrameError):
            decode(payload[:length])


@pytest.mark.parametrize("array", [["progress", 1], [""], ["END", 1, 0, None, 0], ["x", {1: [2]}]])
def test_an_unknown_kind_is_no_frame_and_no_error(array: list[object]) -> None:
    assert decode(msgpack.packb(array)) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"\x92\xa3foo" + b"\x91" * 100_000 + b"\x01",
        b"\x96\xa5error\x01\xa1a\xa1m\xc3" + b"\x81\xa1a" * 100_000 + b"\x01",
        b"\x91" * 100_000,
    ],
    ids=["unknown kind", "detail", "arrays alone"],
)
def test_a_payload_that_nests_without_end_is_refused(payload: bytes) -> None:
    with pytest.raises(MalformedFrameError):
        decode(payload)


def test_an_array_that_announces_more_than_there_is_allocates_nothing() -> None:
    with pytest.raises(MalformedFrameError):
        decode(b"\xdd\xff\xff\xff\xff\xa3foo")
    with pytest.raises(MalformedFrameError):
        decode(b"\x94\xa4data\x01\x00\xc6\xff\xff\xff\xff")


# Bytes that are nearly a frame reach further into the decoder than any bytes.
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes().map(lambda _: msgpack.Timestamp(1, 2)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 9), inner),
    max_leaves=8,
)
near_frames = st.builds(
    lambda kind, rest, tail: msgpack.packb([kind, *rest]) + tail,
    st.sampled_from([*sorted(KINDS), "x", "", 7, None]),
    st.lists(values, max_size=7),
    st.sampled_from([b"", b"", b"", b"\x00"]),
)


@given(st.binary() | near_frames)
def test_any_bytes_are_a_frame_an_unknown_kind_or_malformed(payload: bytes) -> None:
    try:
        found = decode(payload)
    except MalformedFrameError:
        return
    if found is None:
        assert msgpack.unpackb(payload, strict_map_key=False, raw=True)[0] not in KINDS
    else:
        assert decode(encode(found)) == found or "nan" in repr(found)
