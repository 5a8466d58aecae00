"""A piece of a blob, filled by one task while another waits for it."""

from __future__ import annotations

import trio

from multi_fetch.protocol.request import ByteRange
from multi_fetch.registry.piece import Piece


def test_a_piece_takes_its_bytes_one_behind_the_other_and_no_more_than_it_has() -> None:
    piece = Piece(100, 6, bytearray(10))
    assert piece.asked == ByteRange(100, 105)
    piece.take(b"abc")
    piece.take(memoryview(b"def"))
    assert bytes(piece.view) == b"abcdef"
    assert piece.filled == len(piece.view)


async def test_who_waits_hears_of_each_change(autojump_clock: trio.testing.MockClock) -> None:
    piece = Piece(0, 2, bytearray(2))
    heard: list[int] = []

    async def listen() -> None:
        while piece.filled < 2:
            await piece.wait()
            heard.append(piece.filled)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        for _ in range(2):
            await trio.sleep(1)
            piece.take(b"x")
        piece.tell()  # nobody waits: nothing happens
    assert heard == [1, 2]


async def test_a_piece_that_is_left_can_be_begun_again() -> None:
    piece = Piece(0, 2, bytearray(2))
    for _ in range(2):
        piece.is_begun = True
        with piece.scope:
            piece.leave()
        assert not piece.is_begun
        assert not piece.scope.cancel_called
