"""Waits for who fetches the same: another task of this run, or another process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from multi_fetch.durations import STORE_STALL_SECONDS

if TYPE_CHECKING:
    from multi_fetch.store.ingest import Busy

FIRST_POLL_SECONDS: Final = 0.01
LAST_POLL_SECONDS: Final = 0.25

# By so much it must grow in STORE_STALL_SECONDS. It may come from another registry than would be
# asked here: one that drips would hold up all that want the same.
LEAST_GROWTH_BYTES: Final = 64 * 1024


class Waiting:
    """Waits for who fetches the same, as long as that gets on."""

    def __init__(self) -> None:
        self._size: int | None = None
        self._since = 0.0
        self._pause_seconds = FIRST_POLL_SECONDS
        self.is_over = False

    async def wait(self, busy: Busy) -> None:
        """Waits for a moment; ``is_over`` says whether it is of no use any more."""
        now = trio.current_time()
        size = self._size
        # Smaller than before, it is another's.
        if size is None or busy.size < size or busy.size >= size + LEAST_GROWTH_BYTES:
            self._size, self._since = busy.size, now
        # Below 0, it is there, and yet was not found: it cannot be read.
        elif busy.size < 0 or now - self._since >= STORE_STALL_SECONDS:
            self.is_over = True
            return
        await trio.sleep(self._pause_seconds)
        self._pause_seconds = min(2 * self._pause_seconds, LAST_POLL_SECONDS)
