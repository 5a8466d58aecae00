"""When to send a request again, and how long to wait before. Policy alone: nobody waits here.

Everything that is sent is a read, or asks for a token, so sending it twice does no harm. What may
pass by itself is tried again: a connection that fails or breaks, silence, 408, 429 and 5xx. What
is an answer (400, 403, 404, a manifest that is unknown) is final.

The waits are exponential with full jitter, so that those who failed together do not come back
together. Retry-After (RFC 9110, section 10.2.3) is a lower bound that the jitter adds to.
"""

from __future__ import annotations

import socket
import ssl
from errno import EMSGSIZE
from typing import TYPE_CHECKING, Final

from multi_fetch.errors import (
    DeadlineExceededError,
    RateLimitedError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from multi_fetch.errors import MultiFetchError
    from multi_fetch.remotes import Patience

# RFC 9110, sections 15.6.2 and 15.6.6: not implemented, version not supported. Both stay so.
_LASTING: Final = frozenset({501, 505})

# getaddrinfo(3): there is no such name; EAI_AGAIN, in contrast, is a resolver in trouble.
_NO_SUCH_NAME: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None)})

# What OpenSSL calls an answer that is no TLS: of a port that speaks plain HTTP, or something else.
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})

# 2 ** 64 s is for ever, and a float can hold it.
_MAX_DOUBLINGS: Final = 64


def is_passing_status(status: int) -> bool:
    """Whether the same request may be answered otherwise later."""
    return status in {408, 429} or (500 <= status < 600 and status not in _LASTING)


def is_passing(error: MultiFetchError) -> bool:
    """Whether an error may pass by itself.

    A certificate that cannot be trusted, a handshake that is too long (secure.py), a port without
    TLS, or a name that is none, stays.
    """
    if not isinstance(error, UnavailableError | RateLimitedError | DeadlineExceededError):
        return False
    if error.status is not None:
        return is_passing_status(error.status)
    return not any(_is_lasting(cause) for cause in causes_of(error))


def delay_seconds(
    attempt: int, retry_after: float | None, patience: Patience, *, jitter: float
) -> float | None:
    """How long to wait before the next attempt, or None where there is none.

    Args:
        attempt: how often the request was sent in a row, at least 1.
        retry_after: seconds that the server asked to wait, or None.
        patience: the bounds.
        jitter: from 0 to 1, by chance.
    """
    if attempt > patience.retries:
        return None
    least = retry_after or 0.0
    if least > patience.max_wait_seconds:
        return None
    return least + jitter * _bound(attempt, patience)


def longest_waits(patience: Patience) -> float:
    """The waits of one request in a row, in seconds, if each is as long as chance can make it."""
    return sum(_bound(attempt, patience) for attempt in range(1, patience.retries + 1))


def _bound(attempt: int, patience: Patience) -> float:
    doublings = min(attempt - 1, _MAX_DOUBLINGS)
    return min(patience.first_wait_seconds * 2.0**doublings, patience.max_wait_seconds)


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it came from; each once, though they may go round in a circle.

    Who raises again what it caught, from what came of that, makes one.
    """
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__


def _is_lasting(cause: BaseException) -> bool:
    if isinstance(cause, ssl.SSLError):
        # An error that Python made itself, and not OpenSSL, has no reason.
        reason = getattr(cause, "reason", None)
        return isinstance(cause, ssl.SSLCertVerificationError) or reason in _NO_TLS
    if isinstance(cause, socket.gaierror):
        return cause.errno in _NO_SUCH_NAME
    return isinstance(cause, OSError) and cause.errno == EMSGSIZE
