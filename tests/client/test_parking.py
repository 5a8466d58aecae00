from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.client.parking import Content, Extent, Parking
from multi_fetch.limits import CLIENT_ANSWER_BYTES, CLIENT_FEW_PIECES, PARKING_BLOCK_BYTES
from tests.client.conftest import open_files

if TYPE_CHECKING:
    from pathlib import Path

    from multi_fetch.client.parking import Piece

CHUNK = bytes(range(256)) * 400


def bytes_of(piece: Piece) -> bytes:
    return piece.read() if isinstance(piece, Extent) else piece


def test_content_stays_in_memory_up_to_the_bound_of_all_and_then_goes_to_the_file() -> None:
    parking = Parking(memory_bytes=2 * len(CHUNK))
    contents = [Content(parking) for _ in range(3)]
    for content in contents:
        parking.keep(content, CHUNK)
    pieces = [content.take() for content in contents]
    assert [isinstance(piece, Extent) for piece in pieces] == [False, False, True]
    assert [bytes_of(piece) for piece in pieces] == [CHUNK] * 3


def test_one_content_cannot_take_all_of_the_memory() -> None:
    parking = Parking(memory_bytes=100 * CLIENT_ANSWER_BYTES)
    unread, other = Content(parking), Content(parking)
    for _ in range(20):
        parking.keep(unread, CHUNK)
    assert unread.memory_bytes <= CLIENT_ANSWER_BYTES
    assert parking.file_bytes > 0
    assert parking.has_room(other, len(CHUNK))


def test_room_in_the_file_is_given_out_again() -> None:
    parking = Parking(memory_bytes=0)
    content = Content(parking)
    for _ in range(10):
        parking.keep(content, CHUNK)
        assert bytes_of(content.take()) == CHUNK
    assert parking.file_bytes == 2 * PARKING_BLOCK_BYTES


def test_content_that_is_dropped_or_let_go_of_gives_its_room_back() -> None:
    parking = Parking(memory_bytes=len(CHUNK))
    content, other = Content(parking), Content(parking)
    for each in (content, other):
        parking.keep(each, CHUNK)
        parking.keep(each, CHUNK)
    size = parking.file_bytes
    content.drop()
    parking.keep(content, CHUNK)
    assert (len(content), content.memory_bytes) == (0, 0)
    del other
    assert parking.used_bytes == 0
    third = Content(parking)
    parking.keep(third, CHUNK)
    parking.keep(third, CHUNK)
    assert parking.file_bytes == size


def test_what_is_parked_outlives_the_parking_and_then_the_file_is_closed() -> None:
    parking = Parking(memory_bytes=0)
    content = Content(parking)
    parking.keep(content, CHUNK)
    files = open_files()
    parking.close()
    assert open_files() == files
    piece = content.take()
    assert bytes_of(piece) == CHUNK
    del piece
    assert open_files() == files - 1


def test_a_file_that_cannot_be_made_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    parking = Parking(memory_bytes=0, folder=str(tmp_path / "missing"))
    content = Content(parking)
    with pytest.raises(FileNotFoundError):
        parking.keep(content, CHUNK)
    (tmp_path / "missing").mkdir()
    parking.keep(content, CHUNK)
    assert bytes_of(content.take()) == CHUNK


@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(0, 2), st.integers(1, 3 * PARKING_BLOCK_BYTES)),
            st.tuples(st.integers(0, 2), st.none()),
        ),
        max_size=30,
    ),
    st.integers(0, 5 * PARKING_BLOCK_BYTES),
)
def test_whatever_is_kept_and_taken_comes_back_in_order_and_within_the_bound(
    steps: list[tuple[int, int | None]], bound: int
) -> None:
    parking = Parking(memory_bytes=bound)
    contents = [Content(parking) for _ in range(3)]
    kept = [b"", b"", b""]
    for number, (which, size) in enumerate(steps):
        if size is not None:
            chunk = number.to_bytes(2, "big") * size
            parking.keep(contents[which], chunk)
            kept[which] += chunk
        elif kept[which]:
            piece = bytes_of(contents[which].take())
            assert piece
            assert kept[which].startswith(piece)
            kept[which] = kept[which].removeprefix(piece)
        assert parking.used_bytes == sum(each.memory_bytes for each in contents) <= bound
    for content, left in zip(contents, kept, strict=True):
        assert b"".join(bytes_of(content.take()) for _ in range(len(content))) == left


@pytest.mark.parametrize("memory_bytes", [0, 10_000, CLIENT_ANSWER_BYTES])
def test_many_small_pieces_are_put_together(memory_bytes: int) -> None:
    parking = Parking(memory_bytes=memory_bytes)
    content = Content(parking)
    for number in range(100_000):
        parking.keep(content, bytes([number % 251]))
    assert len(content) <= 2 * CLIENT_FEW_PIECES
    assert parking.file_bytes <= 2 * CLIENT_FEW_PIECES * PARKING_BLOCK_BYTES
    whole = b"".join(bytes_of(content.take()) for _ in range(len(content)))
    assert whole == bytes(number % 251 for number in range(100_000))


def test_a_piece_that_is_being_written_cannot_be_taken() -> None:
    parking = Parking(memory_bytes=0)
    content = Content(parking)
    for _ in range(CLIENT_FEW_PIECES):
        parking.keep(content, b"x")
    extent = parking.reserve(content, 1)
    assert len(content) == CLIENT_FEW_PIECES - 1
    extent.write(b"y")
    content.add(extent)
    assert [bytes_of(content.take()) for _ in range(len(content))][-1] == b"xy"
