from __future__ import annotations

import pytest

from multi_fetch import errors
from multi_fetch.client.failure import error_of
from multi_fetch.errors import DigestMismatchError, MultiFetchError, SizeMismatchError
from multi_fetch.protocol.frames import Error

CODES = [
    ("invalid-request", errors.InvalidRequestError),
    ("not-found", errors.NotFoundError),
    ("unauthorized", errors.UnauthorizedError),
    ("denied", errors.DeniedError),
    ("rate-limited", errors.RateLimitedError),
    ("unavailable", errors.UnavailableError),
    ("timeout", errors.DeadlineExceededError),
    ("digest-mismatch", errors.DigestMismatchError),
    ("size-mismatch", errors.SizeMismatchError),
    ("too-large", errors.TooLargeError),
    ("unsupported", errors.UnsupportedError),
    ("registry-error", errors.RegistryError),
    ("cancelled", errors.RequestCancelledError),
    ("internal", errors.InternalError),
    ("made-up-later", MultiFetchError),
]


@pytest.mark.parametrize(("code", "kind"), CODES)
@pytest.mark.parametrize("retryable", [True, False])
def test_each_code_is_its_class_and_the_frame_decides_the_rest(
    code: str, kind: type[MultiFetchError], retryable: bool
) -> None:
    error = error_of(Error(7, code, "said the worker", retryable, {}))
    assert type(error) is kind
    assert (error.code, error.retryable) == (code, retryable)
    assert (str(error), error.message) == ("said the worker", "said the worker")


def test_too_much_content_has_its_limit_and_its_size_if_that_is_known() -> None:
    for size in (None, 9):
        sent = errors.MaxSizeError(limit=5, size=size)
        error = error_of(Error(7, sent.code, sent.message, sent.retryable, {**sent.detail()}))
        assert isinstance(error, errors.MaxSizeError)
        assert (error.limit, error.size, error.message) == (5, size, sent.message)


def test_an_error_does_not_change_those_of_its_class() -> None:
    error_of(Error(7, "internal", "m", retryable=True, detail={}))
    assert errors.InternalError.retryable is False


def test_the_facts_of_the_detail_are_attributes() -> None:
    detail: dict[str, int | float | str | dict[str, int | float | str]] = {
        "status": 429,
        "registry_code": "TOOMANYREQUESTS",
        "retry_after": 3,
        "attempts": 2,
        "bytes_sent": 0,
    }
    error = error_of(Error(1, "rate-limited", "m", retryable=True, detail=detail))
    assert (error.status, error.registry_code) == (429, "TOOMANYREQUESTS")
    assert (error.retry_after, error.attempts) == (3.0, 2)


def test_facts_of_a_wrong_type_are_left_out() -> None:
    detail: dict[str, int | float | str | dict[str, int | float | str]] = {
        "status": "429",
        "registry_code": 5,
        "retry_after": "soon",
        "attempts": {},
    }
    error = error_of(Error(1, "rate-limited", "m", retryable=True, detail=detail))
    assert error.detail() == {}


def test_mismatches_say_what_was_wanted_and_what_came() -> None:
    digests = error_of(
        Error(1, "digest-mismatch", "m", retryable=False, detail={"want": "a:1", "got": "a:2"})
    )
    assert isinstance(digests, DigestMismatchError)
    assert (digests.want, digests.got, digests.message) == ("a:1", "a:2", "m")
    sizes = error_of(Error(1, "size-mismatch", "m", retryable=False, detail={"want": 1, "got": 2}))
    assert isinstance(sizes, SizeMismatchError)
    assert (sizes.want, sizes.got, sizes.message) == (1, 2, "m")
