from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.oci.quote import HIDDEN, may_hold_password, quote

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "may"),
    [
        ("redis", False),
        ("", False),
        (f"@{DIGEST}", False),
        (f"docker.io/library/redis:7@{DIGEST}", False),
        ("a@sha256:short", False),
        ("user:password@host/name", True),
        ("user:password@host", True),
        ("user:password@host:5000", True),
        (f"user:password@host/name@{DIGEST}", True),
        (f"a@{DIGEST}@b", True),
        ("a@", True),
    ],
)
def test_an_at_with_no_digest_behind_it_may_follow_a_password(text: str, *, may: bool) -> None:
    assert may_hold_password(text) is may


def test_a_quote_is_cut_and_says_so() -> None:
    assert quote("abc") == "'abc'"
    assert quote("a" * 150) == repr("a" * 150)
    assert quote("a" * 151) == repr("a" * 150) + "..."
    assert quote("abcdef", limit=3) == "'abc'..."


def test_a_part_is_as_secret_as_the_whole() -> None:
    assert quote("user", "user:password@host/name") == HIDDEN
    assert quote("user:password@host/name") == HIDDEN
    assert quote("redis", f"redis@{DIGEST}") == "'redis'"


def test_what_stands_behind_a_question_mark_is_not_told() -> None:
    assert quote("https://host/x?sig=s3cret") == "'https://host/x?...'"
    assert quote("s3cret", "host/x?sig=y:s3cret") == HIDDEN
    assert quote("v1?sig=s3cret", "host/x:v1?sig=s3cret") == "'v1?...'"
    assert quote("", "host/x?") == "''"
    assert quote("why?") == "'why?'"


@given(st.text())
def test_a_quote_has_no_control_characters_and_an_end(text: str) -> None:
    quoted = quote(text)
    assert quoted.isprintable()
    assert len(quoted) <= 150 * 10 + 5
