"""When a request is sent again, and how long it waits."""

from __future__ import annotations

import math
import socket
import ssl
from errno import EMSGSIZE

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.errors import (
    DeadlineExceededError,
    DeniedError,
    InvalidRequestError,
    MultiFetchError,
    NotFoundError,
    RateLimitedError,
    RegistryError,
    RequestCancelledError,
    UnauthorizedError,
    UnavailableError,
)
from multi_fetch.registry.retry import delay_seconds, is_passing, is_passing_status
from multi_fetch.remotes import Patience

PATIENCE = Patience(retries=4, max_wait_seconds=6.0, first_wait_seconds=1.0)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 507, 521, 599])
def test_these_statuses_may_pass(status: int) -> None:
    assert is_passing_status(status)


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 405, 410, 416, 501, 505, 600])
def test_these_statuses_are_answers(status: int) -> None:
    assert not is_passing_status(status)


@pytest.mark.parametrize(
    ("error", "may_pass"),
    [
        (UnavailableError("no connection"), True),
        (UnavailableError("503", status=503), True),
        (UnavailableError("501", status=501), False),
        (RateLimitedError("429", status=429), True),
        (DeadlineExceededError("no byte"), True),
        (RequestCancelledError("cancelled"), False),
        (RegistryError("400", status=400), False),
        (NotFoundError("404", status=404), False),
        (DeniedError("403", status=403), False),
        (UnauthorizedError("401", status=401), False),
        (InvalidRequestError("416", status=416), False),
    ],
)
def test_an_error_passes_if_it_is_trouble_and_no_answer(
    error: MultiFetchError, may_pass: bool
) -> None:
    assert is_passing(error) is may_pass


def no_tls(reason: str) -> ssl.SSLError:
    """As OpenSSL has it; its names for reasons depend on its version."""
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("cause", "may_pass"),
    [
        (ssl.SSLCertVerificationError("self-signed certificate"), False),
        (ssl.SSLError("bad record mac"), True),
        (no_tls("HTTP_REQUEST"), False),
        (no_tls("WRONG_VERSION_NUMBER"), False),
        (no_tls("BAD_RECORD_TYPE"), True),
        (socket.gaierror(socket.EAI_NONAME, "no such name"), False),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), True),
        (OSError(EMSGSIZE, "the handshake exceeds 12288 bytes"), False),
        (ConnectionRefusedError(), True),
    ],
)
def test_what_lies_behind_a_connection_that_failed_decides(
    cause: Exception, may_pass: bool
) -> None:
    outer = OSError("all attempts failed")
    outer.__context__ = cause
    error = UnavailableError("no connection")
    error.__cause__ = outer
    assert is_passing(error) is may_pass


def test_the_bound_of_the_wait_doubles_up_to_the_longest() -> None:
    bounds = [delay_seconds(attempt, None, PATIENCE, jitter=1.0) for attempt in range(1, 6)]
    assert bounds == [1.0, 2.0, 4.0, 6.0, None]


def test_the_jitter_is_full() -> None:
    assert delay_seconds(3, None, PATIENCE, jitter=0.0) == 0.0
    assert delay_seconds(3, None, PATIENCE, jitter=0.25) == 1.0


def test_retry_after_is_the_least_and_the_jitter_comes_on_top() -> None:
    assert delay_seconds(1, 5.0, PATIENCE, jitter=0.0) == 5.0
    assert delay_seconds(1, 5.0, PATIENCE, jitter=0.5) == 5.5
    assert delay_seconds(1, 0.0, PATIENCE, jitter=0.5) == 0.5


def test_beyond_the_longest_wait_there_is_no_next_attempt() -> None:
    assert delay_seconds(1, 6.0, PATIENCE, jitter=0.0) == 6.0
    assert delay_seconds(1, 6.5, PATIENCE, jitter=0.0) is None


def test_without_retries_there_is_none() -> None:
    assert delay_seconds(1, None, Patience(retries=0), jitter=0.0) is None


@given(
    attempt=st.integers(1, 10_000),
    retry_after=st.none() | st.floats(0, 1e9),
    jitter=st.floats(0, 1),
    longest=st.floats(0, 1e6) | st.just(math.inf),
)
def test_a_wait_is_never_less_than_asked_for_nor_without_end(
    attempt: int, retry_after: float | None, jitter: float, longest: float
) -> None:
    patience = Patience(retries=1_000, max_wait_seconds=longest)
    delay = delay_seconds(attempt, retry_after, patience, jitter=jitter)
    if delay is None:
        assert attempt > 1_000 or (retry_after or 0) > longest
    else:
        assert (retry_after or 0.0) <= delay < math.inf
        assert delay <= 2 * longest
