"""What is remembered of a host's troubles, where another can be asked in its place.

A host in trouble is left alone for a while, then one request tries it: if that gets through, the
others follow. So is one that fails again and again, though each time it may be for the object's
sake alone; Envoy's outlier detection does the same with hosts that answer 5xx.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from multi_fetch.durations import MIRROR_REST_SECONDS, RETRY_WARNING_SECONDS
from multi_fetch.errors import RegistryError
from multi_fetch.limits import MAX_FOREIGN_HOSTS, MAX_MIRROR_FAILURES
from multi_fetch.registry.url import parse_url

if TYPE_CHECKING:
    from multi_fetch.errors import MultiFetchError
    from multi_fetch.registry.url import Origin


class Standing:
    """How a host does."""

    def __init__(self) -> None:
        self._rests_until = -math.inf
        self._failures = 0
        # Bounded: codes are few, and statuses have three digits.
        self._warned_at: dict[tuple[str, int | None], float] = {}

    @property
    def is_resting(self) -> bool:
        """Whether nobody asks now."""
        return trio.current_time() < self._rests_until

    def take_turn(self) -> None:
        """One asks now: if that is a trial after a rest, the others wait for what comes of it."""
        if self._rests_until > -math.inf:
            self.rest()

    def rest(self, seconds: float = MIRROR_REST_SECONDS) -> None:
        """It is in trouble: nobody asks for so long, or for longer if it said so before."""
        self._rests_until = max(self._rests_until, trio.current_time() + seconds)

    def fails(self) -> None:
        """It failed with one object: perhaps with that alone, but not if it goes on so."""
        self._failures += 1
        if self._failures >= MAX_MIRROR_FAILURES:
            self.rest()

    def answers(self) -> None:
        """It began to give an object: it is there again. Whether it failed before is still open."""
        if self._failures < MAX_MIRROR_FAILURES:
            self._rests_until = -math.inf

    def works(self) -> None:
        """It gave an object, or knows that it has none: whatever the trouble was, it is over."""
        self._failures = 0
        self._rests_until = -math.inf

    def may_warn(self, error: MultiFetchError) -> bool:
        """Whether a failure is worth a warning: not if one of its kind had one a moment ago."""
        kind, now = (error.code, error.status), trio.current_time()
        if now < self._warned_at.get(kind, -math.inf) + RETRY_WARNING_SECONDS:
            return False
        self._warned_at[kind] = now
        return True


class Standings:
    """Those of hosts that others name, of which there may be any number: the last used are kept."""

    def __init__(self) -> None:
        self._known: dict[Origin, Standing] = {}

    def of(self, url: str) -> Standing:
        """How a URL's host does."""
        try:
            origin = parse_url(url).origin
        except RegistryError:  # as it says to who asks there
            return Standing()
        standing = self._known[origin] = self._known.pop(origin, Standing())
        if len(self._known) > MAX_FOREIGN_HOSTS:
            del self._known[next(iter(self._known))]
        return standing
