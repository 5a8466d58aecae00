"""One of a repository's hosts: what it may be asked for, and what is remembered of its troubles.

Trouble with the host itself counts for all of its repositories, and a refusal for one alone (see
standing.py). A host that had wrong bytes for a digest is not asked for that digest again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol

from multi_fetch.durations import MIRROR_REST_SECONDS
from multi_fetch.errors import (
    DeadlineExceededError,
    DeniedError,
    DigestMismatchError,
    InvalidDigestError,
    InvalidReferenceError,
    MaxSizeError,
    NotFoundError,
    RateLimitedError,
    RegistryError,
    SizeMismatchError,
    UnauthorizedError,
    UnavailableError,
)
from multi_fetch.limits import MAX_DISTRUSTED
from multi_fetch.registry.standing import Standing
from multi_fetch.remotes import Remote

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from multi_fetch.errors import MultiFetchError
    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.oci.reference import Reference
    from multi_fetch.registry.hosts import Host

logger = logging.getLogger(__name__)

# What a host may answer to one object of several, and not because it is in trouble: distribution
# does, for one that it cannot find in the right place. So it is with 403: stores without a right to
# list answer it for what they do not have, and some registries for what a policy holds back.
OWN_ERROR: Final = 500

WRONG_BYTES: Final = (DigestMismatchError, SizeMismatchError)
OF_THE_REPOSITORY: Final = (*WRONG_BYTES, DeniedError, UnauthorizedError)
PERHAPS_OF_THE_OBJECT: Final = (*WRONG_BYTES, DeniedError, UnavailableError, RegistryError)


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
        standing: the host's, with all of its repositories; None for this one's alone.
    """

    # What a log says of a failure that the next host may mend.
    trouble = "a mirror failed: asking the next host"
    # Whether it is the same for the next request, and knows of wrong bytes then.
    is_lasting = True

    def __init__(self, host: Host, remote: HostRemote, standing: Standing | None = None) -> None:
        self.host = host
        self.remote = remote
        self._standing = standing or Standing()
        self._own_standing = Standing()
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
        standings = self._standing, self._own_standing
        if any(standing.is_resting for standing in standings):
            return False
        for standing in standings:
            standing.take_turn()
        return True

    def answers(self) -> None:
        """It began to give an object, of which more may be still to come and to be verified."""
        self._standing.answers()
        self._own_standing.answers()

    def works(self) -> None:
        """It gave an object, or knows that it has none."""
        self._standing.works()
        self._own_standing.works()

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
        if isinstance(error, WRONG_BYTES) and digest:
            self.distrust(digest)
        standing = self._standing
        if isinstance(error, OF_THE_REPOSITORY):
            standing.answers()
            standing = self._own_standing
        if isinstance(error, NotFoundError):
            self.works()
        elif isinstance(error, RateLimitedError):
            standing.rest(error.retry_after or MIRROR_REST_SECONDS)
        elif _is_trouble(error):
            standing.rest()
        elif isinstance(error, PERHAPS_OF_THE_OBJECT):
            standing.fails()

    def breaks_down(self, error: MultiFetchError) -> None:
        """It had begun to give an object, and did not go on."""
        if isinstance(error, DeadlineExceededError):
            self._standing.rest()
        else:
            self._standing.fails()

    def log(self, error: MultiFetchError) -> None:
        """Tells of a failure that the next host may mend."""
        facts = {"url": self.label, "code": error.code, "error": error.message}
        is_news = not isinstance(error, NotFoundError) and self._standing.may_warn(error)
        logger.log(logging.WARNING if is_news else logging.INFO, self.trouble, extra=facts)


class Failures:
    """What hosts failed with before one answers.

    Who asks for a size may be wrong about it: that is held against a host once another has it.
    """

    def __init__(self) -> None:
        self._doubtful: list[tuple[Source, MultiFetchError, str]] = []

    def add(self, source: Source, error: MultiFetchError, digest: str, *, is_last: bool) -> None:
        """Takes note of one; raises it where nobody else can be asked, or would say more."""
        if is_last or isinstance(error, InvalidReferenceError | InvalidDigestError | MaxSizeError):
            raise error
        # Its frames know it, and the connection that it was found on.
        error.__traceback__ = None
        if isinstance(error, SizeMismatchError):
            source.answers()
            self._doubtful.append((source, error, digest))
        else:
            source.note(error, digest)
        source.log(error)

    def are_certain(self) -> None:
        """Another host has what was asked for."""
        for source, error, digest in self._doubtful:
            source.note(error, digest)


def _is_trouble(error: MultiFetchError) -> bool:
    """Whether the next request would fail too, whatever it asks for."""
    if isinstance(error, UnavailableError):
        return error.status != OWN_ERROR
    return isinstance(error, DeadlineExceededError | UnauthorizedError)
