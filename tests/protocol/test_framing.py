from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from multi_fetch.errors import CutStreamError, InternalError, MalformedFrameError
from multi_fetch.limits import MAX_DATA_BYTES, MAX_FRAME_BYTES, MAX_FRAME_OVERHEAD_BYTES
from multi_fetch.oci.digest import digest_of
from multi_fetch.protocol.frames import Bye, Data, End, Error, Frame, encode
from multi_fetch.protocol.framing import (
    END_OF_STREAM,
    NEED_DATA,
    FrameDecoder,
    data_head,
    frame,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

FRAMES: list[Frame] = [
    Data(1, 0, b"abc"),
    Data(1, 3, b""),
    End(1, 3, digest_of(b"abc"), 0),
    Error(2, "not-found", "no", retryable=False, detail={"status": 404}),
    Bye(2, 1, 1, 3, {}),
]
STREAM = b"".join(map(frame, FRAMES))
BOUNDARIES = sorted(
    {
        value + step
        for bits in (5, 7, 8, 15, 16, 31, 32, 53, 63)
        for value in (2**bits, -(2**bits))
        for step in (-1, 0, 1)
        if -(2**63) <= value + step < 2**63
    }
    | {0}
)


def decode_all(pieces: Iterable[bytes]) -> list[Frame]:
    decoder = FrameDecoder()
    frames: list[Frame] = []
    for piece in pieces:
        decoder.feed(piece)
        while (found := decoder.next_frame()) is not NEED_DATA:
            assert found is not END_OF_STREAM
            frames.append(found)
    decoder.feed_eof()
    assert decoder.next_frame() is END_OF_STREAM
    return frames


# --- writing --------------------------------------------------------------------------------


def test_a_frame_has_its_length_in_front() -> None:
    for value in FRAMES:
        assert frame(value) == struct.pack(">I", len(encode(value))) + encode(value)


@pytest.mark.parametrize("number", BOUNDARIES)
def test_a_head_is_what_the_encoder_writes_at_each_boundary_of_an_integer(number: int) -> None:
    for request_id, offset in ((number, 0), (1, number), (number, number)):
        whole = frame(Data(request_id, offset, b"x"))
        assert data_head(request_id, offset, 1) + b"x" == whole


@pytest.mark.parametrize("size", [0, 1, 31, 32, 255, 256, 65_535, 65_536, MAX_DATA_BYTES])
def test_a_head_is_what_the_encoder_writes_at_each_boundary_of_content(size: int) -> None:
    content = bytes(size)
    assert data_head(7, 9, size) + content == frame(Data(7, 9, content))


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=300))
def test_a_head_and_content_are_a_frame(request_id: int, offset: int, content: bytes) -> None:
    whole = frame(Data(request_id, offset, content))
    assert data_head(request_id, offset, len(content)) + content == whole


def test_the_most_content_fits_max_frame_whatever_id_and_offset() -> None:
    head = data_head(-(2**63), 2**63, MAX_DATA_BYTES)
    assert len(head) - 4 + MAX_DATA_BYTES <= MAX_FRAME_BYTES


def test_a_frame_beyond_its_limit_is_never_made() -> None:
    assert len(frame(error_of(MAX_FRAME_OVERHEAD_BYTES))) == 4 + MAX_FRAME_OVERHEAD_BYTES
    with pytest.raises(InternalError, match="exceeds the limit of 65536"):
        frame(error_of(MAX_FRAME_OVERHEAD_BYTES + 1))
    with pytest.raises(InternalError, match="exceeds the limit of 589824"):
        frame(Data(1, 0, bytes(MAX_FRAME_BYTES)))


def error_of(size: int) -> Error:
    """An error whose payload has this size."""
    around = len(encode(Error(1, "a", "m" * 300, retryable=False, detail={}))) - 300
    return Error(1, "a", "m" * (size - around), retryable=False, detail={})


# --- reading --------------------------------------------------------------------------------


def test_every_cut_in_two_gives_the_same_frames() -> None:
    assert decode_all([STREAM]) == FRAMES
    for cut in range(len(STREAM) + 1):
        assert decode_all([STREAM[:cut], STREAM[cut:]]) == FRAMES


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64])
def test_pieces_of_any_size_give_the_same_frames(size: int) -> None:
    pieces = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert decode_all(pieces) == FRAMES


@given(st.lists(st.integers(0, len(STREAM)), max_size=10))
def test_any_cuts_give_the_same_frames(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(bounds)]
    assert decode_all(pieces) == FRAMES


def test_a_stream_that_ends_within_a_frame_is_cut() -> None:
    ends = {len(b"".join(map(frame, FRAMES[:count]))) for count in range(len(FRAMES) + 1)}
    for length in range(len(STREAM)):
        if length in ends:
            assert decode_all([STREAM[:length]]) == FRAMES[: sorted(ends).index(length)]
        else:
            with pytest.raises(CutStreamError):
                decode_all([STREAM[:length]])


def test_buffers_of_any_kind_are_taken() -> None:
    for kind in (bytes, bytearray, memoryview):
        decoder = FrameDecoder()
        decoder.feed(kind(STREAM))
        assert [decoder.next_frame() for _ in FRAMES] == FRAMES


def test_what_is_fed_may_be_changed_afterwards() -> None:
    decoder, buffer = FrameDecoder(), bytearray(STREAM)
    decoder.feed(buffer)
    buffer[:] = bytes(len(buffer))
    assert decoder.next_frame() == FRAMES[0]


def test_the_length_is_judged_before_the_payload_comes() -> None:
    decoder = FrameDecoder()
    decoder.feed(struct.pack(">I", MAX_FRAME_BYTES))
    assert decoder.next_frame() is NEED_DATA
    decoder = FrameDecoder()
    decoder.feed(struct.pack(">I", MAX_FRAME_BYTES + 1))
    for _ in range(2):
        with pytest.raises(MalformedFrameError, match="is longer than 589824"):
            decoder.next_frame()


def test_the_limit_is_the_callers() -> None:
    payload = encode(FRAMES[0])
    assert decode_with(len(payload)) == FRAMES[0]
    with pytest.raises(MalformedFrameError):
        decode_with(len(payload) - 1)


def decode_with(max_frame_bytes: int) -> object:
    decoder = FrameDecoder(max_frame_bytes)
    decoder.feed(frame(FRAMES[0]))
    return decoder.next_frame()


def test_frames_of_unknown_kinds_are_skipped() -> None:
    unknown = b"\x00\x00\x00\x05\x91\xa3new"
    assert decode_all([unknown + STREAM[:20] + STREAM[20:] + unknown * 3]) == FRAMES


@given(st.binary() | st.binary().map(lambda payload: struct.pack(">I", len(payload)) + payload))
@example(STREAM + b"\x00")
@example(b"\x00\x00\x00\x00")
def test_any_bytes_are_frames_or_one_of_the_decoders_errors(stream: bytes) -> None:
    try:
        whole = decode_all([stream])
    except MalformedFrameError as error:
        with pytest.raises(type(error)):
            decode_all(bytes((byte,)) for byte in stream)
    else:
        assert decode_all(bytes((byte,)) for byte in stream) == whole
