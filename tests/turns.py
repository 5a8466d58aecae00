"""Whether others run while something that needs no wait is done."""

from __future__ import annotations

import trio


class Turns:
    """One of the others: it counts the turns that it has.

    Attributes:
        count: so far.
    """

    def __init__(self) -> None:
        self.count = 0

    async def take(self) -> None:
        """Takes one after the other, until it is cancelled."""
        while True:
            await trio.lowlevel.checkpoint()
            self.count += 1
