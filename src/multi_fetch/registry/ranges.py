"""How many connections one large blob may come over, and what is known of hosts. No I/O.

Memory is given out by blobs: one that has its place has all buffers that it needs, so none waits
for what another holds. What has no place comes over one connection, as everything does by default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from multi_fetch.limits import (
    LEAST_SPLIT_BYTES,
    MAX_PIECE_BYTES,
    MAX_SPLIT_BLOBS,
    MAX_SPLIT_HOSTS,
    MIN_PIECE_BYTES,
    SPLIT_BYTES,
)

if TYPE_CHECKING:
    from multi_fetch.registry.answer import Answer
    from multi_fetch.registry.url import Origin


class Ranges:
    """What the blobs of a remote share that come over several connections.

    Args:
        count: connections for one blob.
        piece_bytes: what a connection fetches at once, at most; None for as much as the bound on
            memory allows.
        least_bytes: of a blob, or of the rest of one, that is worth it.
    """

    def __init__(
        self, count: int, *, piece_bytes: int | None = None, least_bytes: int = LEAST_SPLIT_BYTES
    ) -> None:
        self.count = count
        room = SPLIT_BYTES // (MAX_SPLIT_BLOBS * count)
        self.piece_bytes = piece_bytes or min(max(room, MIN_PIECE_BYTES), MAX_PIECE_BYTES)
        self._least_bytes = least_bytes
        self._places = max(1, SPLIT_BYTES // (count * self.piece_bytes))
        self._places = min(self._places, MAX_SPLIT_BLOBS)
        # Whether a host knows ranges, as far as it was asked.
        self._knows: dict[Origin, bool] = {}

    @property
    def most_connections(self) -> int:
        """How many connections all places together may have."""
        return MAX_SPLIT_BLOBS * self.count

    def may_split(self, answer: Answer, size: int | None) -> bool:
        """Whether an answer with a whole blob may be followed by others with pieces of it."""
        return (
            answer.status == 200
            and size is not None
            and size >= self._least_bytes
            and not answer.encoding
            and answer.headers.get("accept-ranges", "").strip().lower() != "none"
            and self._knows.get(answer.url.origin, True)
        )

    def take_place(self, origin: Origin, rest: int) -> bool:
        """Takes the memory for one blob, if there is some left and the rest is worth it."""
        is_worth_it = rest >= self._least_bytes and self._knows.get(origin, True)
        if not self._places or not is_worth_it:
            return False
        self._places -= 1
        return True

    def give_place_back(self) -> None:
        """The memory is free again."""
        self._places += 1

    def is_known(self, origin: Origin) -> bool:
        """Whether the host has answered a range before."""
        return self._knows.get(origin, False)

    def remember(self, origin: Origin, *, knows_ranges: bool) -> None:
        """What a host has shown; that it knows ranges only at times is as good as not at all."""
        if origin not in self._knows and len(self._knows) >= MAX_SPLIT_HOSTS:
            del self._knows[next(iter(self._knows))]
        self._knows[origin] = knows_ranges and self._knows.get(origin, True)
