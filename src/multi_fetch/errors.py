"""Every error that multi-fetch raises, as one closed tree.

::

    MultiFetchError
    ├── InvalidRequestError        invalid-request   the caller's text is wrong (a ValueError too)
    │   ├── InvalidReferenceError
    │   │   ├── HostnameRequiredError
    │   │   └── ObjectRequiredError
    │   ├── InvalidDigestError
    │   └── HostsError                               the user's settings of hosts cannot be used
    ├── NotFoundError              not-found
    ├── UnauthorizedError          unauthorized      401: no credentials, or they are not accepted
    │   └── CredentialsError                         the user's own cannot be read
    ├── DeniedError                denied            403: accepted, but not for this
    ├── RateLimitedError           rate-limited      429
    ├── UnavailableError           unavailable       no connection, 408, 5xx but for 501 and 505
    ├── DeadlineExceededError      timeout
    ├── DigestMismatchError        digest-mismatch
    ├── SizeMismatchError          size-mismatch
    ├── TooLargeError              too-large
    │   └── MaxSizeError                             an object has more content than it may
    ├── UnsupportedError           unsupported
    │   └── UnknownVersionError                      a worker speaks another protocol version
    ├── RegistryError              registry-error    the registry broke its protocol
    ├── RequestCancelledError      cancelled
    └── InternalError              internal
        ├── MalformedFrameError                      a peer wrote bytes that are no frame
        │   └── CutStreamError                       ... or stopped in the middle of one
        └── WorkerDiedError                          a worker ended with a request unanswered

``code`` is the wire's (protocol.md, "Error codes"); ``retryable`` says whether the same request
may succeed later. The facts of a failure are attributes, never only words in the message.
"""

from __future__ import annotations

from typing import Self


class MultiFetchError(Exception):
    """The root. The message says what failed, where, and what to do about it.

    Attributes:
        status: the HTTP status that the registry answered, or None.
        registry_code: the registry's own error code (``MANIFEST_UNKNOWN``), or None.
        retry_after: seconds that the registry asked to wait, or None.
        attempts: how many times the request was tried, or None.
        advice: what to do about it, which the message ends with; empty where only that says it.
        has_alternative: whether another host would answer the same request, if it came again.
    """

    code: str = "internal"
    retryable: bool = False
    advice: str = ""
    has_alternative: bool = False

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        registry_code: str | None = None,
        retry_after: float | None = None,
        attempts: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.registry_code = registry_code
        self.retry_after = retry_after
        self.attempts = attempts

    def detail(self) -> dict[str, int | float | str]:
        """What is known of the failure, by its names in an ``error`` frame's detail."""
        facts = {
            "status": self.status,
            "registry_code": self.registry_code,
            "retry_after": self.retry_after,
            "attempts": self.attempts,
        }
        return {name: value for name, value in facts.items() if value is not None}

    def alone(self) -> Self:
        """The same, without where it came from: that is frames, which keep all that was in them."""
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self


class InvalidRequestError(MultiFetchError, ValueError):
    """A request line, hint, reference or digest that cannot be read."""

    code = "invalid-request"


class InvalidReferenceError(InvalidRequestError):
    """A reference that names no repository or object."""


class HostnameRequiredError(InvalidReferenceError):
    """A reference without a registry's host name."""


class ObjectRequiredError(InvalidReferenceError):
    """A reference without a tag or digest."""


class InvalidDigestError(InvalidRequestError):
    """A digest that is not ``<algorithm>:<encoded>`` as image-spec has it."""


class HostsError(InvalidRequestError):
    """The user's own settings of hosts cannot be used: a file is malformed, or is not there.

    Attributes:
        path: the file, or None.
        key: the entry in it, or None.
    """

    def __init__(self, message: str, *, path: str | None = None, key: str | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.key = key


class NotFoundError(MultiFetchError):
    """The registry has no such object, or hides it."""

    code = "not-found"


class UnauthorizedError(MultiFetchError):
    """The registry wants credentials, or does not accept those it was given."""

    code = "unauthorized"


class CredentialsError(UnauthorizedError):
    """The user's own credentials cannot be read: a file is malformed, or a program failed.

    Attributes:
        path: the file, or None.
        key: the entry in it, or None.
    """

    def __init__(self, message: str, *, path: str | None = None, key: str | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.key = key


class DeniedError(MultiFetchError):
    """The registry knows who asks, and refuses."""

    code = "denied"


class RateLimitedError(MultiFetchError):
    """The registry asks to slow down; ``retry_after`` says for how long, where it told."""

    code = "rate-limited"
    retryable = True


class UnavailableError(MultiFetchError):
    """The registry cannot be reached, or cannot answer now."""

    code = "unavailable"
    retryable = True


class DeadlineExceededError(MultiFetchError):
    """A deadline passed before the request was done."""

    code = "timeout"
    retryable = True


class DigestMismatchError(MultiFetchError):
    """The content does not have the digest that was asked for.

    Attributes:
        want: the digest that was asked for.
        got: the digest of what came.
    """

    code = "digest-mismatch"

    def __init__(
        self, *, want: str, got: str, why: str = "it was altered on the way: fetch it again"
    ) -> None:
        super().__init__(f"content has digest {got}, not {want} as asked: {why}")
        self.want = want
        self.got = got

    def detail(self) -> dict[str, int | float | str]:
        """The facts of the root, and ``want`` and ``got``."""
        return {**super().detail(), "want": self.want, "got": self.got}


class SizeMismatchError(MultiFetchError):
    """The content has not the size that was promised.

    Attributes:
        want: bytes promised.
        got: bytes that came; where more came than promised, those counted so far.
    """

    code = "size-mismatch"

    def __init__(self, *, want: int, got: int) -> None:
        kind = "more" if got > want else "fewer"
        super().__init__(
            f"content has {kind} bytes than expected: {got}, not {want}; check the size, or"
            " fetch it again"
        )
        self.want = want
        self.got = got

    def detail(self) -> dict[str, int | float | str]:
        """The facts of the root, and ``want`` and ``got``."""
        return {**super().detail(), "want": self.want, "got": self.got}


class TooLargeError(MultiFetchError):
    """Something exceeds a ceiling of ``multi_fetch.limits``."""

    code = "too-large"


class MaxSizeError(TooLargeError):
    """An object has more content than it may; see ``multi_fetch.ceiling``.

    Attributes:
        limit: the bytes that it may have.
        size: those that it has; None where nobody has told, and too many came.
    """

    def __init__(self, *, limit: int, size: int | None = None) -> None:
        if size is None:
            words = f"the content has more than {limit} bytes, and nobody has told how many"
        else:
            words = f"the content has {size} bytes, more than the {limit} that it may have"
        super().__init__(f"{words}: raise --max-size if it is wanted")
        self.limit = limit
        self.size = size

    def detail(self) -> dict[str, int | float | str]:
        """The facts of the root, and ``limit``, and ``size`` if it is known."""
        size = {} if self.size is None else {"size": self.size}
        return {**super().detail(), "limit": self.limit, **size}


class UnsupportedError(MultiFetchError):
    """Asked for something that this version cannot do."""

    code = "unsupported"


class UnknownVersionError(UnsupportedError):
    """A worker's ``hello`` says a protocol version that this client does not speak.

    Attributes:
        version: what the worker speaks.
    """

    def __init__(self, version: int, *, known: int) -> None:
        super().__init__(
            f"the worker speaks version {version} of the protocol, this client version {known}:"
            " let both be of the same release of multi-fetch"
        )
        self.version = version


class RegistryError(MultiFetchError):
    """The registry's answer breaks the distribution-spec or HTTP."""

    code = "registry-error"


class RequestCancelledError(MultiFetchError):
    """The request was cancelled before it was done."""

    code = "cancelled"
    retryable = True


class InternalError(MultiFetchError):
    """A fault of multi-fetch itself."""


class MalformedFrameError(InternalError):
    """Bytes that are not a frame: too long a length, no MessagePack array, a wrong element."""


class CutStreamError(MalformedFrameError):
    """The stream of frames ended within a frame."""


class WorkerDiedError(InternalError):
    """A worker ended, or broke its protocol, and left a request without an answer.

    Attributes:
        exit_status: as subprocess has it, -9 for SIGKILL; None where the client ended it because
            it broke the protocol.
        stderr_lines: the last lines that the worker wrote to stderr, cut to a bound.
    """

    def __init__(
        self, reason: str, *, exit_status: int | None, stderr_lines: tuple[str, ...] = ()
    ) -> None:
        said = "".join(f"\n  {line}" for line in stderr_lines)
        super().__init__(
            f"the worker left the request unanswered: {reason}"
            + (f"; its last lines on stderr:{said}" if said else "")
        )
        self.exit_status = exit_status
        self.stderr_lines = stderr_lines
