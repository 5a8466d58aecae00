"""What is told of a login that was refused, or of none: where it was found, and by whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from multi_fetch.errors import DeniedError, MultiFetchError, RegistryError, UnauthorizedError
from multi_fetch.registry.credentials import Credential, Held
from multi_fetch.registry.errcode import error_of
from multi_fetch.registry.hosts import default_host
from multi_fetch.registry.refusal import (
    Reason,
    explained,
    login_refused,
    login_unfit,
    none_found,
    token_refused,
)

SECRET = Credential(username="a-token-as-user", password="a-password")
HOST = default_host("r.example:5000")
IN_FILE = Held("/srv/config.json", "auths.r.example:5000", SECRET)
OF_HELPER = Held("/srv/config.json", "docker-credential-pass", SECRET)
GIVEN = Held("", "", SECRET)


def answered(status: int) -> MultiFetchError:
    return error_of(status, {}, b"no", what="GET https://r.example", now=0.0)


@pytest.mark.parametrize(
    ("places", "listed"),
    [
        ((), ""),
        (("/a",), ", and none was found in /a"),
        (("/a", "/b", "/c"), ", and none was found in /a, /b and /c"),
    ],
)
def test_none_is_told_with_all_places_where_it_was_looked_for(
    places: tuple[str, ...], listed: str
) -> None:
    reason = none_found(HOST, tuple(map(Path, places)), "; more")
    assert reason.words == f"no login for r.example:5000 was given{listed}; more"
    assert reason.advice.startswith("log in with 'docker login r.example:5000'")


@pytest.mark.parametrize(
    ("held", "told", "advice"),
    [
        (IN_FILE, "(auths.r.example:5000 in /srv/config.json)", "log in anew"),
        (OF_HELPER, "(of docker-credential-pass, which /srv/config.json names)", "log in anew"),
        (GIVEN, "the login that was given for r.example:5000", "check MULTI_FETCH_USERNAME"),
    ],
)
def test_a_refused_login_is_told_by_where_it_was_found(held: Held, told: str, advice: str) -> None:
    reason = login_refused(HOST, held, "the token service")
    assert told in reason.words
    assert reason.words.endswith("was sent, and the token service refused it")
    assert reason.advice.startswith(advice)
    for each in (reason, login_unfit(HOST, held), token_refused(HOST, held)):
        assert told in each.words
        assert SECRET.username not in each.words
        assert SECRET.password not in each.words


def test_docker_hub_has_its_users_name() -> None:
    hub = default_host("docker.io")
    assert "no login for docker.io" in none_found(hub, ()).words
    assert "docker login docker.io" in none_found(hub, ()).advice


@pytest.mark.parametrize(
    ("status", "kind"), [(400, RegistryError), (401, UnauthorizedError), (403, DeniedError)]
)
def test_the_reason_takes_the_place_of_an_advice_for_all_cases(
    status: int, kind: type[MultiFetchError]
) -> None:
    error = answered(status)
    before = error.message
    told = explained(error, Reason("it was so", "do this"))
    assert type(told) is kind
    assert told.message.endswith(": no; it was so; do this")
    assert (str(told), told.advice) == (told.message, "do this")
    assert (told.status, told.retryable) == (status, error.retryable)
    assert (error.message, error.advice) == (before, "")
    assert explained(error, None) is error
