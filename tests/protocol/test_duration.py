from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.errors import InvalidRequestError
from multi_fetch.protocol.duration import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("30s", 30.0),
        ("1m30s", 90.0),
        ("1.5h", 5_400.0),
        ("2h45m", 9_900.0),
        ("300ms", 0.3),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("1us", 1e-6),
        ("1µs", 1e-6),
        ("1\u03bcs", 1e-6),
        ("1ns", 1e-9),
        ("1s1s", 2.0),
        ("1h1m1s1ms", 3_661.001),
    ],
)
def test_a_duration_reads_as_go_reads_it(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "s",
        "-1s",
        "+1s",
        "1 s",
        "1s ",
        "1s\n",
        ".s",
        ".",
        "1d",
        "1S",
        "1h30",
        "1e3s",
        "1_0s",
        "\u0661s",
        "inf",
        "nan",
        "00",
        "9" * 400 + "s",
    ],
)
def test_what_go_refuses_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="is not a duration"):
        parse_duration(text)


@given(st.text(alphabet="0123456789.nuµmsh ") | st.text())
def test_any_text_is_a_duration_or_an_invalid_one(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except InvalidRequestError:
        return
    assert 0 <= seconds < float("inf")
