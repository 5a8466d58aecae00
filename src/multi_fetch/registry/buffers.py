"""What connections receive into: a buffer for each that is in use, and large ones for large bodies.

A connection's own buffer is enough for heads and small bodies; while it is idle it has none. Where
many are used at the same time each has a smaller one. A large body costs less in large chunks; but
a large buffer for each of many connections would cost memory that most of them have no use for.
"""

from __future__ import annotations

from typing import Final

from multi_fetch.limits import (
    HANDSHAKE_MEMORY,
    LARGE_BUFFERS,
    MAX_DATA_BYTES,
    MAX_HANDSHAKE_BYTES,
    RECEIVE_BYTES,
    RECEIVE_MEMORY,
)

# What fills one is one data frame.
LARGE_BYTES: Final = MAX_DATA_BYTES


# Own buffers that are kept for the next connection.
MOST_FREE: Final = 32


def own_bytes_for(jobs: int) -> int:
    """The size of a connection's own buffer, where so many are used at the same time."""
    return min(RECEIVE_BYTES, RECEIVE_MEMORY // jobs)


def most_handshake_for(jobs: int) -> int:
    """How many bytes the other side's part of a handshake may have, with so many connections."""
    return min(MAX_HANDSHAKE_BYTES, HANDSHAKE_MEMORY // jobs)


class Buffers:
    """Lends large buffers, so many at the same time; and each connection its own.

    Args:
        most: how many large ones.
        own_bytes: the size of the others.
    """

    def __init__(self, most: int = LARGE_BUFFERS, *, own_bytes: int = RECEIVE_BYTES) -> None:
        self.own_bytes = own_bytes
        self._most = most
        self._lent = 0
        self._free: list[bytearray] = []
        self._free_own: list[bytearray] = []

    def own(self) -> bytearray:
        """A connection's own buffer, for as long as it is in use."""
        return self._free_own.pop() if self._free_own else bytearray(self.own_bytes)

    def take_own_back(self, buffer: bytearray) -> None:
        """Takes one back of which nobody needs anything any more."""
        if len(self._free_own) < MOST_FREE:
            self._free_own.append(buffer)

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


# Of a connection that is idle.
NOTHING: Final = bytearray()


class Loan:
    """A connection's own buffer, or the large one that it has in its place.

    Args:
        buffers: where they come from.
    """

    def __init__(self, buffers: Buffers) -> None:
        self._own = NOTHING
        self._buffers = buffers
        self._lent: bytearray | None = None

    def own(self) -> bytearray:
        """The connection's own buffer, which it has until ``rest``."""
        if self._own is NOTHING:
            self._own = self._buffers.own()
        return self._own

    def rest(self) -> bytearray:
        """Gives back the connection's own buffer; there is none in its place."""
        if self._own is not NOTHING:
            self._buffers.take_own_back(self._own)
            self._own = NOTHING
        return self._own

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

    def close(self) -> bytearray:
        """Ends it; there is no buffer in its place, however long the connection is kept in mind.

        A chunk in either may still be waiting to be written, so no other connection gets it.
        """
        if self._lent is not None:
            self._buffers.lose()
            self._lent = None
        self._own = NOTHING
        return self._own
