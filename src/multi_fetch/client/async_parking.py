"""The parking's file for tasks: what may wait for the disk does so in a thread.

A thread of the pool goes on holding what it was called with after its caller has gone on. The
file is closed with the last extent, so it would be closed at some later moment, perhaps after
everything else has ended. Therefore a thread is given its extent in a list, and takes it out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread

from multi_fetch.client.filed import FilePart
from multi_fetch.client.parking import Extent

if TYPE_CHECKING:
    from multi_fetch.client.parking import Content, Parking, Piece


async def keep_chunk(parking: Parking, content: Content, chunk: bytes) -> None:
    """As ``Parking.keep``; one caller at a time.

    Raises:
        OSError: there is no file, or no room in it.
    """
    if parking.has_room(content, len(chunk)):
        content.add(chunk)
        return
    extent = parking.reserve(content, len(chunk))
    await anyio.to_thread.run_sync(_write, [extent], chunk)
    content.add(extent)


async def read_piece(piece: Piece | FilePart) -> bytes:
    """The bytes of a piece.

    Raises:
        OSError: they cannot be read.
    """
    if isinstance(piece, Extent):
        return await anyio.to_thread.run_sync(_read, [piece])
    if isinstance(piece, FilePart):
        return await anyio.to_thread.run_sync(piece.read)
    return piece


def _write(extents: list[Extent], chunk: bytes) -> None:
    extents.pop().write(chunk)


def _read(extents: list[Extent]) -> bytes:
    return extents.pop().read()
