"""How many requests a host that answered 429 gets at the same time.

Additive increase, multiplicative decrease, as TCP does it with packets (RFC 5681, section 3.1): a
429 halves the number, an answer adds a little to it, and at the ceiling the host is free again.
One at a time may still be too many: then there are gaps between requests, which a 429 doubles and
an answer shortens. Retry-After holds all of the host's requests back, not one alone.

What is counted is requests without an answer, not bodies: a body may wait for its consumer, who
may wait for an object whose request waits here, and nobody would ever go on.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import trio

from multi_fetch.limits import MAX_PACED_HOSTS

if TYPE_CHECKING:
    from multi_fetch.registry.url import Origin
    from multi_fetch.remotes import Patience

# To the limit, in the time that it takes to answer as many requests as the limit allows.
LIMIT_INCREASE: Final = 0.25

# Four answers shorten a gap by more than a 429 doubles it.
GAP_DECREASE: Final = 0.8

# Below this a gap is no gap: a round trip takes longer.
SHORTEST_GAP_SECONDS: Final = 0.002


class Pace:
    """Lets requests to one host through, first come, first served; waiting can be cancelled.

    Args:
        ceiling: requests at the same time, when all is well.

    Attributes:
        limit: requests at the same time, now.
        gap_seconds: from one request to the next, now.
        refusals: since the last good answer; several to requests of one time count once.
    """

    def __init__(self, ceiling: int) -> None:
        self.limit = float(ceiling)
        self._ceiling = ceiling
        self._running = 0
        self._queue = trio.Lock()
        self._gate = trio.Lock()
        self._change = trio.Event()
        self._opens_at = -math.inf
        self._slowed_at = -math.inf
        self.gap_seconds = 0.0
        self.refusals = 0

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
            self._opens_at = max(self._opens_at, trio.current_time() + self.gap_seconds)

    def done(self) -> None:
        """A request has its answer, or will get none."""
        self._running -= 1
        self._change.set()

    def slow_down(self, *, sent_at: float, retry_after: float, patience: Patience) -> None:
        """Takes note of a 429.

        Pauses double while there are refusals alone. Where the host has refused for as long as
        there is patience, it is asked without them, as each answer is then the last of a request.

        Args:
            sent_at: when its request was sent, on trio's clock.
            retry_after: seconds in which the host wants no request, or 0.
            patience: the first pause and the longest, and how many refusals are borne.
        """
        now = trio.current_time()
        self._opens_at = max(self._opens_at, now + retry_after)
        if sent_at < self._slowed_at:
            return
        self._slowed_at = now
        self.refusals += 1
        first, longest = patience.first_wait_seconds, patience.max_wait_seconds
        if self.limit >= 2:
            self.limit /= 2
        else:
            self.limit = 1.0
            self.gap_seconds = min(max(first, 2 * self.gap_seconds), longest)
        if self.refusals > patience.retries:
            self.gap_seconds, self._opens_at = 0.0, now + retry_after
            return
        pause = min(first * 2.0 ** (self.refusals - 1), longest)
        self._opens_at = max(self._opens_at, now + max(pause, self.gap_seconds))

    def speed_up(self) -> None:
        """Takes note of an answer that was no 429."""
        self.refusals = 0
        if self.gap_seconds > SHORTEST_GAP_SECONDS:
            self.gap_seconds *= GAP_DECREASE
            return
        self.gap_seconds = 0.0
        self.limit = min(self.limit + LIMIT_INCREASE / self.limit, float(self._ceiling))
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
