"""What is told of who asks; over sockets it is in test_doctor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import trio

from multi_fetch.cli.checkup import Checkup, Finding
from multi_fetch.cli.checkup_login import check_credentials, tell_grant
from multi_fetch.errors import UnauthorizedError
from multi_fetch.registry.auth import Grant
from multi_fetch.registry.credentials import Credential, Keychain
from multi_fetch.registry.hosts import default_host

if TYPE_CHECKING:
    from pathlib import Path

HOST = default_host("registry.example")
SCOPE = "repository:a/b:pull"


async def told(grant: Grant) -> Finding:
    found: list[Finding] = []
    tell_grant(Checkup(found.append), grant, "a/b")
    return found[0]


def a_grant(**changes: object) -> Grant:
    facts: dict[str, object] = {
        "scheme": "Bearer",
        "scopes": (SCOPE,),
        "granted": None,
        "expires_at": trio.current_time() + 300,
        "is_anonymous": False,
        "refusal": None,
    }
    return Grant(**{**facts, **changes})  # type: ignore[arg-type] # each has its own type


async def test_a_token_of_a_login() -> None:
    finding = await told(a_grant())
    assert finding.verdict == "ok"
    assert finding.said == f"of the login, asked for {SCOPE}, expires in 300 s"


async def test_a_login_that_was_refused_is_a_warning() -> None:
    finding = await told(a_grant(is_anonymous=True, refusal=UnauthorizedError("bad password")))
    assert finding.verdict == "warn"
    assert finding.said.startswith("anonymous")
    assert finding.said.endswith("the login was refused: bad password")


@pytest.mark.parametrize(
    ("granted", "verdict"),
    [
        ((SCOPE,), "ok"),
        (("repository:a/b:push,pull",), "ok"),
        (("registry:catalog:*", "repository:a/b:*"), "ok"),
        (("repository:a/b:push",), "warn"),
        (("repository:a:pull",), "warn"),
        ((), "warn"),
    ],
)
async def test_a_token_has_to_be_good_for_pulling(granted: tuple[str, ...], verdict: str) -> None:
    assert (await told(a_grant(granted=granted))).verdict == verdict


async def test_basic_and_registry_tokens_have_no_scopes() -> None:
    basic = await told(a_grant(scheme="Basic", scopes=(), expires_at=math.inf))
    assert (basic.verdict, basic.said) == (
        "ok",
        "none is needed: the login goes to the registry itself",
    )
    own = await told(a_grant(scopes=(), expires_at=math.inf))
    assert own.said == "the registry token of the credentials"


@pytest.mark.parametrize(
    ("credential", "whose"),
    [
        (Credential(username="alice", password="pw"), "user 'alice'"),
        (
            Credential(username="dop_v1_s3cret", password="dop_v1_s3cret"),
            "a user whose name is the password",
        ),
        (Credential(username="a-token-in-place-of-a-name"), "a user without a password"),
        (
            Credential(username="ghp_" + "s3cret" * 6, password="x-oauth-basic"),
            "a user whose name may be the secret",
        ),
        (
            Credential(username="robot$library+puller", password="s3cret" * 5),
            "user 'robot$library+puller'",
        ),
        (Credential(identity_token="pw"), "an identity token"),
        (Credential(registry_token="pw"), "a registry token"),
    ],
)
async def test_credentials_are_told_without_their_secrets(
    credential: Credential, whose: str
) -> None:
    found: list[Finding] = []
    assert await check_credentials(Checkup(found.append), HOST, credential, Keychain([]), "a")
    assert found[0].said == f"from the environment, {whose}"


async def test_where_there_are_none_the_places_are_told(tmp_path: Path) -> None:
    found: list[Finding] = []
    keychain = Keychain([tmp_path / "auth.json", tmp_path / "config.json"])
    assert await check_credentials(Checkup(found.append), HOST, None, keychain, "a")
    assert found[0].said == (
        f"none for registry.example; looked for in {tmp_path}/auth.json, {tmp_path}/config.json"
    )
