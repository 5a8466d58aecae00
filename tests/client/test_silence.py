from __future__ import annotations

import math

import pytest

from multi_fetch.client.silence import WATCH_SECONDS, Silence


def looks_until_error(silence: Silence, most: int = 100) -> int:
    return next(number for number in range(1, most) if silence.look(is_owed=True))


@pytest.mark.parametrize("seconds", [0.01, 0.5, 0.7, 10])
def test_no_silence_is_too_long_before_its_limit_or_a_step_behind_it(seconds: float) -> None:
    # The first look may come at once behind the last byte.
    sure_seconds = (looks_until_error(Silence(seconds)) - 1) * WATCH_SECONDS
    assert seconds <= sure_seconds < seconds + WATCH_SECONDS


@pytest.mark.parametrize("is_answered", [False, True])
def test_a_byte_and_everything_answered_begin_the_count_anew(is_answered: bool) -> None:
    silence = Silence(1)
    looks = looks_until_error(Silence(1))
    assert not any(silence.look(is_owed=True) for _ in range(looks - 1))
    if is_answered:
        silence.look(is_owed=False)
    else:
        silence.heard()
    assert looks_until_error(silence) == looks


@pytest.mark.parametrize("seconds", [None, math.inf])
def test_without_a_limit_it_may_last_for_ever(seconds: float | None) -> None:
    silence = Silence(seconds)
    assert silence.is_limited is (seconds is not None)
    assert not any(silence.look(is_owed=True) for _ in range(1000))


def test_the_error_says_the_limit_and_its_option() -> None:
    silence = Silence(0.3)
    assert silence.look(is_owed=True) is None
    told = str(silence.look(is_owed=True))
    assert told == "it said nothing for 0.3 s (idle_timeout) while it owed an answer"
