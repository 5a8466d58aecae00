from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import anyio
import pytest

from multi_fetch.client.async_parking import _read, _write, keep_chunk, read_piece
from multi_fetch.client.filed import FiledContent
from multi_fetch.client.parking import Content, Extent, Parking
from multi_fetch.limits import CLIENT_FEW_PIECES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import digest_of
from tests.client.conftest import open_files

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.conftest import RunAsync


def test_content_goes_to_memory_and_then_to_the_file_and_comes_back(run_async: RunAsync) -> None:
    async def main() -> None:
        parking = Parking(memory_bytes=5)
        content = Content(parking)
        for chunk in (b"abc", b"defg", b"h"):
            await keep_chunk(parking, content, chunk)
        pieces = [content.take() for _ in range(3)]
        assert [isinstance(piece, Extent) for piece in pieces] == [False, True, False]
        assert [await read_piece(piece) for piece in pieces] == [b"abc", b"defg", b"h"]

    run_async(main)


def test_a_piece_that_was_taken_is_given_to_who_is_cancelled_too(
    run_async: RunAsync, tmp_path: Path
) -> None:
    """Who catches that and goes on would miss it, and get the end without an error."""
    (tmp_path / "file").write_bytes(b"abc")

    async def main() -> None:
        parking = Parking(memory_bytes=0)
        content = Content(parking)
        await keep_chunk(parking, content, b"abc")
        described = Descriptor(media_type="text/plain", digest=digest_of(b"abc"), size=3)
        read: list[bytes] = []
        for piece in (content.take(), FiledContent(str(tmp_path / "file"), 3, described)):
            with anyio.CancelScope() as scope:
                scope.cancel()
                read.append(await read_piece(piece))
        assert read == [b"abc", b"abc"]

    run_async(main)


def test_many_small_pieces_are_put_together(run_async: RunAsync) -> None:
    async def main() -> None:
        parking = Parking(memory_bytes=0)
        content = Content(parking)
        for number in range(CLIENT_FEW_PIECES + 200):
            await keep_chunk(parking, content, bytes([number]))
        pieces = [content.take() for _ in range(len(content))]
        assert len(pieces) == CLIENT_FEW_PIECES
        whole = b"".join([await read_piece(piece) for piece in pieces])
        assert whole == bytes(range(CLIENT_FEW_PIECES + 200))

    run_async(main)


def test_a_file_that_cannot_be_made_is_an_error(run_async: RunAsync, tmp_path: Path) -> None:
    async def main() -> None:
        parking = Parking(memory_bytes=0, folder=str(tmp_path / "missing"))
        with pytest.raises(FileNotFoundError) as caught:
            await keep_chunk(parking, Content(parking), b"x")
        assert caught.value.errno == errno.ENOENT

    run_async(main)


def test_a_thread_that_still_has_its_arguments_does_not_hold_the_file_open() -> None:
    files = open_files()
    parking = Parking(memory_bytes=0)
    content = Content(parking)
    arguments = [parking.reserve(content, 4)]
    content.add(arguments[0])
    _write(arguments, b"abcd")
    again = [content.take()]
    assert isinstance(again[0], Extent)
    extents = [each for each in again if isinstance(each, Extent)]
    again.clear()
    assert _read(extents) == b"abcd"
    parking.close()
    assert (arguments, extents) == ([], [])
    assert open_files() == files
