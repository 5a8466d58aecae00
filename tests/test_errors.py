from __future__ import annotations

import inspect

import pytest

from multi_fetch import errors
from multi_fetch.errors import DigestMismatchError, MultiFetchError, SizeMismatchError

TREE = [
    error
    for error in vars(errors).values()
    if inspect.isclass(error) and issubclass(error, MultiFetchError)
]
CODES = {
    "invalid-request": False,
    "not-found": False,
    "unauthorized": False,
    "denied": False,
    "rate-limited": True,
    "unavailable": True,
    "timeout": True,
    "digest-mismatch": False,
    "size-mismatch": False,
    "too-large": False,
    "unsupported": False,
    "registry-error": False,
    "cancelled": True,
    "internal": False,
}


@pytest.mark.parametrize("error", TREE)
def test_every_error_has_a_code_of_the_closed_list_and_that_codes_retryable(
    error: type[MultiFetchError],
) -> None:
    assert error.retryable is CODES[error.code]


def test_every_code_has_an_error() -> None:
    assert {error.code for error in TREE} == set(CODES)


def test_every_error_stands_in_the_modules_tree() -> None:
    assert errors.__doc__ is not None
    for error in TREE:
        assert error.__name__ in errors.__doc__


def test_what_the_caller_wrote_wrong_is_a_value_error_too() -> None:
    values = {error for error in TREE if issubclass(error, ValueError)}
    assert values == {error for error in TREE if error.code == "invalid-request"}


def test_the_detail_has_what_is_known_and_nothing_else() -> None:
    assert MultiFetchError("m").detail() == {}
    assert MultiFetchError("m", attempts=0, retry_after=0.0).detail() == {
        "attempts": 0,
        "retry_after": 0.0,
    }
    known = errors.RateLimitedError(
        "m", status=429, registry_code="TOOMANYREQUESTS", retry_after=2.5, attempts=3
    )
    assert known.detail() == {
        "status": 429,
        "registry_code": "TOOMANYREQUESTS",
        "retry_after": 2.5,
        "attempts": 3,
    }
    assert (str(known), known.message) == ("m", "m")


def test_a_digest_mismatch_says_what_was_wanted_and_what_came() -> None:
    error = DigestMismatchError(want="sha256:a", got="sha256:b")
    assert error.detail() == {"want": "sha256:a", "got": "sha256:b"}
    assert "sha256:a" in error.message
    assert "sha256:b" in error.message


@pytest.mark.parametrize(("got", "word"), [(4, "fewer"), (6, "more")])
def test_a_size_mismatch_says_which_way(got: int, word: str) -> None:
    error = SizeMismatchError(want=5, got=got)
    assert error.detail() == {"want": 5, "got": got}
    assert word in error.message


def test_an_error_that_is_kept_keeps_nothing_of_where_it_came_from() -> None:
    def fail() -> None:
        try:
            int("inner")
        except ValueError as inner:
            raise errors.NotFoundError("outer") from inner

    with pytest.raises(errors.NotFoundError) as caught:
        fail()
    error = caught.value
    assert error.alone() is error
    assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)
    assert error.message == "outer"
