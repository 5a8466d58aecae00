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


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("certificate verify failed: self-signed certificate in certificate chain", "--ca-file"),
        ("certificate verify failed: self signed certificate", "--ca-file"),
        ("unable to get local issuer certificate", "--ca-file"),
        ("certificate verify failed: certificate has expired", "renew"),
        ("certificate is not yet valid", "clock"),
        ("Hostname mismatch, certificate is not valid for 'a'", "the name that"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "--plain-http"),
        ("[Errno -2] Name or service not known", "spelling"),
        ("[Errno -3] Temporary failure in name resolution", "DNS"),
        ("Connection refused", "port"),
        ("Network is unreachable", "network"),
        ("'socks5://x' is no proxy", "HTTPS_PROXY"),
        ("something else", "later"),
    ],
)
def test_the_systems_words_lead_on(words: str, part: str) -> None:
    assert part in advice_for(UnavailableError(words))


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


def leaves(kind: type[MultiFetchError]) -> set[str]:
    return {kind.code}.union(*map(leaves, kind.__subclasses__()))


def test_every_code_that_a_remote_can_cause_has_its_advice() -> None:
    elsewhere = {"internal", "cancelled", "invalid-request", "too-large"}
    assert leaves(MultiFetchError) - elsewhere == set(BY_CODE)
