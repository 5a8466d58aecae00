"""A part of a blob in a buffer: one task fills it while another gives it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from multi_fetch.protocol.request import ByteRange

if TYPE_CHECKING:
    from multi_fetch.errors import MultiFetchError
    from multi_fetch.oci.digest import Chunk


class Piece:
    """Consecutive bytes of a blob that one connection fetches.

    Attributes:
        first: the offset of its first byte.
        buffer: where its bytes go.
        view: of the buffer, as long as the piece.
        filled: so many of its bytes have come.
        is_begun: whether somebody fetches it.
        is_answered: whether its range has been answered with just that part.
        failure: why nothing more comes.
        scope: of whoever fetches it.
    """

    def __init__(self, first: int, count: int, buffer: bytearray) -> None:
        self.first = first
        self.buffer = buffer
        self.view = memoryview(buffer)[:count]
        self.filled = 0
        self.is_begun = False
        self.is_answered = False
        self.failure: MultiFetchError | None = None
        self.scope = trio.CancelScope()
        self._news: trio.Event | None = None

    @property
    def asked(self) -> ByteRange:
        """Its place in the blob."""
        return ByteRange(self.first, self.first + len(self.view) - 1)

    def take(self, chunk: Chunk) -> None:
        """Takes its next bytes, which are no more than it has room for."""
        end = self.filled + len(chunk)
        self.view[self.filled : end] = chunk
        self.filled = end
        self.tell()

    def leave(self) -> None:
        """Nobody fetches it, and another may: nothing of it has come."""
        self.is_begun = False
        self.scope = trio.CancelScope()

    def tell(self) -> None:
        """Something has changed."""
        if self._news is not None:
            self._news.set()
            self._news = None

    async def wait(self) -> None:
        """Returns when something has changed; one task may wait."""
        self._news = trio.Event()
        await self._news.wait()
