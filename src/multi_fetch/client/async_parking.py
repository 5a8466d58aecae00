"""The parking's file for tasks: what may wait for the disk does so in a thread.

A thread of the pool goes on holding what it was called with after its caller has gone on. The
file is closed with the last extent, so it would be closed at some later moment, perhaps after
everything else has ended. Therefore a thread is given its extent in a list, and takes it out.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from multi_fetch.client.filed import FiledContent

if TYPE_CHECKING:
    from multi_fetch.client.parking import Content, Extent, Parking, Piece


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


async def read_piece(piece: Piece | FiledContent) -> bytes:
    """The bytes of a piece.

    It was taken, and nobody else can have it: so who is cancelled meanwhile gets it all the same,
    or one who goes on behind it would miss it and not know.

    Raises:
        OSError: they cannot be read.
        MultiFetchError: a file was altered that they come from.
    """
    if isinstance(piece, bytes):
        return piece
    read = piece.read if isinstance(piece, FiledContent) else partial(_read, [piece])
    with anyio.CancelScope(shield=True):
        content = await anyio.to_thread.run_sync(read)
    return content  # noqa: RET504 - mypy takes a scope for one that may swallow


def _write(extents: list[Extent], chunk: bytes) -> None:
    extents.pop().write(chunk)


def _read(extents: list[Extent]) -> bytes:
    return extents.pop().read()
