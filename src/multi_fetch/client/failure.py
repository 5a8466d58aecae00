"""Error frames as the errors of ``multi_fetch.errors``: one class for each code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from multi_fetch import errors
from multi_fetch.errors import (
    DigestMismatchError,
    MaxSizeError,
    MultiFetchError,
    SizeMismatchError,
    TooLargeError,
)
from multi_fetch.limits import MAX_DIGEST_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multi_fetch.protocol.frames import Detail, Error

# A worker's words are kept with each error: a digest is the longest fact, and no code has more.
MAX_FACT_CHARACTERS: Final = MAX_DIGEST_CHARACTERS
MAX_CODE_CHARACTERS: Final = 64

# protocol.md, "Errors". The two mismatches are made from their want and got instead.
CLASSES: Final[Mapping[str, type[MultiFetchError]]] = {
    "invalid-request": errors.InvalidRequestError,
    "not-found": errors.NotFoundError,
    "unauthorized": errors.UnauthorizedError,
    "denied": errors.DeniedError,
    "rate-limited": errors.RateLimitedError,
    "unavailable": errors.UnavailableError,
    "timeout": errors.DeadlineExceededError,
    "too-large": errors.TooLargeError,
    "unsupported": errors.UnsupportedError,
    "registry-error": errors.RegistryError,
    "cancelled": errors.RequestCancelledError,
    "internal": errors.InternalError,
}


def error_of(frame: Error) -> MultiFetchError:
    """The error that a frame tells of; a MultiFetchError itself where the code is not known.

    Message, code and ``retryable`` are the frame's. A fact of the detail that is missing or of
    another type is None, and an empty text or 0 in ``want`` and ``got``.
    """
    error = _blank(frame)
    error.args = (frame.message,)
    error.message = frame.message
    error.code = frame.code[:MAX_CODE_CHARACTERS]
    error.retryable = frame.retryable
    error.status = _whole(frame.detail, "status")
    error.registry_code = _text(frame.detail, "registry_code")
    error.attempts = _whole(frame.detail, "attempts")
    retry_after = frame.detail.get("retry_after")
    error.retry_after = float(retry_after) if isinstance(retry_after, int | float) else None
    return error


def _blank(frame: Error) -> MultiFetchError:
    detail = frame.detail
    if frame.code == DigestMismatchError.code:
        return DigestMismatchError(want=_text(detail, "want") or "", got=_text(detail, "got") or "")
    if frame.code == SizeMismatchError.code:
        return SizeMismatchError(want=_whole(detail, "want") or 0, got=_whole(detail, "got") or 0)
    limit = _whole(detail, "limit")
    if frame.code == TooLargeError.code and limit is not None:
        return MaxSizeError(limit=limit, size=_whole(detail, "size"))
    return CLASSES.get(frame.code, MultiFetchError)(frame.message)


def _whole(detail: Detail, name: str) -> int | None:
    value = detail.get(name)
    return value if isinstance(value, int) else None


def _text(detail: Detail, name: str) -> str | None:
    value = detail.get(name)
    return value[:MAX_FACT_CHARACTERS] if isinstance(value, str) else None
