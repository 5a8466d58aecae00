"""Large buffers for large bodies: few of them, and used again.

What a connection has of its own is enough for heads and small bodies. A large body costs less in
large chunks; but a large buffer for each of many connections would cost memory that most of them
have no use for.
"""

from __future__ import annotations

from typing import Final

from multi_fetch.limits import LARGE_BUFFERS, MAX_DATA_BYTES

# What fills one is one data frame.
LARGE_BYTES: Final = MAX_DATA_BYTES


class Buffers:
    """Lends buffers, so many at the same time.

    Args:
        most: how many.
    """

    def __init__(self, most: int = LARGE_BUFFERS) -> None:
        self._most = most
        self._lent = 0
        self._free: list[bytearray] = []

    def lend(self) -> bytearray | None:
        """A buffer; None where all are lent."""
        if self._lent >= self._most:
            return None
        self._lent += 1
        return self._free.pop() if self._free else bytearray(LARGE_BYTES)

    def take_back(self, buffer: bytearray) -> None:
        """Takes a buffer back of which nobody needs anything any more."""
        self._lent -= 1
        self._free.append(buffer)

    def lose(self) -> None:
        """One will not come back: what is in it may still be on its way to somebody."""
        self._lent -= 1


class Loan:
    """A connection's own buffer, or the large one that it has in its place.

    Args:
        own: the connection's.
        buffers: where there are large ones.
    """

    def __init__(self, own: bytearray, buffers: Buffers) -> None:
        self._own = own
        self._buffers = buffers
        self._lent: bytearray | None = None

    def enlarge(self, left: int) -> bytearray:
        """The buffer for so many bytes: a large one, if they are many and there is one."""
        if self._lent is None and left > len(self._own):
            self._lent = self._buffers.lend()
        return self._own if self._lent is None else self._lent

    def shrink(self) -> bytearray:
        """The connection's own buffer again; of the large one nobody needs anything any more."""
        if self._lent is not None:
            self._buffers.take_back(self._lent)
            self._lent = None
        return self._own

    def close(self) -> None:
        """Ends it; a chunk in the large buffer may still be waiting to be written."""
        if self._lent is not None:
            self._buffers.lose()
            self._lent = None
