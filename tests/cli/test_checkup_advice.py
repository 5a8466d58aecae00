"""Every failure has a way on."""

from __future__ import annotations

import pytest

from multi_fetch.cli.checkup_advice import BY_CODE, advice_for
from multi_fetch.errors import (
    CredentialsError,
    DeniedError,
    MultiFetchError,
    NotFoundError,
    RateLimitedError,
    RegistryError,
    UnauthorizedError,
    UnavailableError,
)


def test_the_systems_words_come_before_the_code() -> None:
    assert "port" in advice_for(UnavailableError("Connection refused"))
    assert "later" in advice_for(UnavailableError("something else"))
    haproxy = "GET https://registry.example/v2/haproxy/refused: the answer broke off"
    assert "later" in advice_for(UnavailableError(haproxy))
    assert advice_for(UnavailableError("oci:x: there is none: check the path")) == "check the path"


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (UnauthorizedError("no", status=401), "docker login registry.example"),
        (DeniedError("no", status=403), "access"),
        (NotFoundError("no", status=404), "name"),
        (RateLimitedError("no", status=429), "wait"),
        (RegistryError("no", status=200), "registry"),
        (UnavailableError("Connection refused by the backend", status=502), "later"),
        (CredentialsError("x is malformed", path="/x"), "mend or remove /x"),
        (CredentialsError("docker-credential-x failed"), "by hand"),
    ],
)
def test_the_registrys_answer_leads_on(error: MultiFetchError, part: str) -> None:
    assert part in advice_for(error, "https://registry.example")


def test_an_advice_that_an_error_has_itself_comes_first() -> None:
    error = RegistryError("it leads inside; add this", status=307)
    error.advice = "add this"
    assert advice_for(error, "https://registry.example") == "add this"


def leaves(kind: type[MultiFetchError]) -> set[str]:
    return {kind.code}.union(*map(leaves, kind.__subclasses__()))


def test_every_code_that_a_remote_can_cause_has_its_advice() -> None:
    elsewhere = {"internal", "cancelled", "invalid-request", "too-large"}
    assert leaves(MultiFetchError) - elsewhere == set(BY_CODE)
