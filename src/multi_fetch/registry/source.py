"""One of a repository's hosts: what it may be asked for, and what is remembered of its troubles.

A host in trouble is left alone for a while, then one request tries it: if that gets through, the
others follow. A host that had wrong bytes for a digest is not asked for that digest again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import trio

from multi_fetch.durations import MIRROR_REST_SECONDS
from multi_fetch.errors import (
    DeadlineExceededError,
    DeniedError,
    DigestMismatchError,
    RateLimitedError,
    SizeMismatchError,
    UnauthorizedError,
    UnavailableError,
)
from multi_fetch.limits import MAX_DISTRUSTED
from multi_fetch.remotes import Remote

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from multi_fetch.errors import MultiFetchError
    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.oci.reference import Reference
    from multi_fetch.registry.hosts import Host

# What a host answers to one object of several, and not because it is in trouble: distribution
# does, for one that it cannot find in the right place.
OWN_ERROR = 500


class HostRemote(Remote, Protocol):
    """A repository at one host."""

    def known_referrers(
        self, ref: Reference, artifact_type: str = ""
    ) -> AsyncGenerator[Sequence[Descriptor], None]:
        """As ``referrers``, but a host that knows nothing of referrers says so.

        Raises:
            NotFoundError: it has neither the API nor the tag that stands in for it.
        """


class Source:
    """A host, and the repository there.

    Args:
        host: its capabilities count.
        remote: the repository.
    """

    # What a log says of a failure that the next host may mend.
    trouble = "a mirror failed: asking the next host"

    def __init__(self, host: Host, remote: HostRemote) -> None:
        self.host = host
        self.remote = remote
        self._rests_until = -math.inf
        self._distrusted: dict[str, None] = {}

    @property
    def label(self) -> str:
        """What it is called in logs."""
        return self.host.url

    def may_open(self, ref: Reference) -> bool:
        """Whether content may be asked for; of a tag, that says what the tag stands for."""
        return self.host.may_pull and (bool(ref.digest) or self.host.may_resolve)

    def may_resolve(self, ref: Reference) -> bool:
        """Whether a descriptor may be asked for."""
        return self.host.may_pull if ref.digest else self.host.may_resolve

    def is_ready(self, digest: str) -> bool:
        """Whether to ask now. Of those who ask when its rest is over the first is told yes.

        Args:
            digest: of the object, or empty.
        """
        if digest and digest in self._distrusted:
            return False
        now = trio.current_time()
        if now < self._rests_until:
            return False
        if self._rests_until > -math.inf:
            self._rests_until = now + MIRROR_REST_SECONDS
        return True

    def rest(self, seconds: float = MIRROR_REST_SECONDS) -> None:
        """It is in trouble: nobody asks for so long."""
        self._rests_until = trio.current_time() + seconds

    def works(self) -> None:
        """It gave an object: whatever the trouble was, it is over."""
        self._rests_until = -math.inf

    def distrust(self, digest: str) -> None:
        """It had wrong bytes for a digest."""
        if len(self._distrusted) >= MAX_DISTRUSTED:
            del self._distrusted[next(iter(self._distrusted))]
        self._distrusted[digest] = None

    def note(self, error: MultiFetchError, digest: str) -> None:
        """Remembers a failure, as far as it says something of the next request.

        Args:
            error: that it failed with.
            digest: of the object, or empty where it was not known.
        """
        if isinstance(error, DigestMismatchError | SizeMismatchError):
            if digest:
                self.distrust(digest)
        elif isinstance(error, RateLimitedError):
            self.rest(error.retry_after or MIRROR_REST_SECONDS)
        elif isinstance(error, UnavailableError):
            if error.status != OWN_ERROR:
                self.rest()
        elif isinstance(error, DeadlineExceededError | UnauthorizedError | DeniedError):
            self.rest()
