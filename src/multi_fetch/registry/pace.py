"""How many requests a host that answered 429 gets at the same time.

Additive increase, multiplicative decrease, as TCP does it with packets (RFC 5681, section 3.1): a
429 halves the number, an answer adds a little to it, and at the ceiling the host is free again.
Retry-After holds all of the host's requests back, not only the one that was answered.

What is counted is requests without an answer, not bodies: a body may wait for its consumer, who
may wait for an object whose request waits here, and nobody would ever go on.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from multi_fetch.limits import MAX_PACED_HOSTS

if TYPE_CHECKING:
    from multi_fetch.registry.url import Origin


class Pace:
    """Lets requests to one host through, first come, first served; waiting can be cancelled.

    Args:
        ceiling: requests at the same time, when all is well.

    Attributes:
        limit: requests at the same time, now.
    """

    def __init__(self, ceiling: int) -> None:
        self.limit = float(ceiling)
        self._ceiling = ceiling
        self._running = 0
        self._queue = trio.Lock()
        self._gate = trio.Lock()
        self._change = trio.Event()
        self._opens_at = -math.inf
        self._halved_at = -math.inf
        self._refusals = 0

    @property
    def is_free(self) -> bool:
        """Whether nothing is held back any more."""
        is_open = trio.current_time() >= self._opens_at
        return is_open and self.limit >= self._ceiling

    async def wait_turn(self) -> None:
        """Waits until a request may be sent for the first time; ``done`` ends it."""
        async with self._queue:
            await self.wait_again()

    async def wait_again(self) -> None:
        """The same for one that was refused: it is let through before those that are new.

        Otherwise it would lose its place with each refusal, and some would be refused to the end.
        """
        async with self._gate:
            while True:
                if trio.current_time() < self._opens_at:
                    await trio.sleep_until(self._opens_at)
                elif self._running >= int(self.limit):
                    self._change = trio.Event()
                    await self._change.wait()
                else:
                    break
            self._running += 1

    def done(self) -> None:
        """A request has its answer, or will get none."""
        self._running -= 1
        self._change.set()

    def slow_down(
        self, *, sent_at: float, retry_after: float, pause_seconds: float, max_pause_seconds: float
    ) -> None:
        """Takes note of a 429; several to requests of one time count once.

        Args:
            sent_at: when its request was sent, on trio's clock.
            retry_after: seconds in which the host wants no request, or 0.
            pause_seconds: in which it gets none anyway; they double while there are 429 alone.
            max_pause_seconds: their bound.
        """
        now = trio.current_time()
        self._opens_at = max(self._opens_at, now + retry_after)
        if sent_at < self._halved_at:
            return
        pause = min(pause_seconds * 2.0 ** min(self._refusals, 64), max_pause_seconds)
        self._opens_at = max(self._opens_at, now + pause)
        self.limit = max(1.0, self.limit / 2)
        self._halved_at = now
        self._refusals += 1

    def speed_up(self) -> None:
        """Takes note of an answer that was no 429."""
        self.limit = min(self.limit + 1 / self.limit, float(self._ceiling))
        self._refusals = 0
        self._change.set()


class Paces:
    """The paces of hosts; a host that never answered 429 has none and costs nothing.

    Args:
        ceiling: requests to one host at the same time, when all is well.
    """

    def __init__(self, ceiling: int) -> None:
        self._ceiling = ceiling
        self._by_host: dict[Origin, Pace] = {}

    def __bool__(self) -> bool:
        return bool(self._by_host)

    def of(self, origin: Origin) -> Pace | None:
        """The host's pace, if it is held back."""
        return self._by_host.get(origin)

    def get_or_start(self, origin: Origin) -> Pace:
        """The host's pace, which from now on it has."""
        pace = self._by_host.get(origin)
        if pace is None:
            if len(self._by_host) >= MAX_PACED_HOSTS:
                del self._by_host[next(iter(self._by_host))]
            pace = self._by_host[origin] = Pace(self._ceiling)
        return pace

    def speed_up(self, origin: Origin) -> None:
        """Takes note of another answer of this host, which may set it free."""
        pace = self._by_host.get(origin)
        if pace is not None:
            pace.speed_up()
            if pace.is_free:
                del self._by_host[origin]
