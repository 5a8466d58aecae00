"""What is asked of a token service, where it may be, and what its answers say."""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from multi_fetch.errors import CredentialsError, RegistryError
from multi_fetch.limits import MAX_TOKEN_CHARACTERS
from multi_fetch.registry.auth import (
    TokenRequest,
    basic,
    choose_challenge,
    granted_by,
    read_token,
    scopes_of,
    token_requests,
)
from multi_fetch.registry.challenge import Challenge
from multi_fetch.registry.credentials import Credential
from multi_fetch.registry.hosts import Host, default_host

HUB = default_host("docker.io")
LOCAL = default_host("localhost:5000")
ALICE = Credential(username="alice", password="s3cret:ü")
ALICE_BASIC = "Basic " + base64.b64encode("alice:s3cret:ü".encode()).decode()
REALM = "https://auth.example/token"
BEARER = f'Bearer realm="{REALM}",service="registry.example",scope="repository:a/b:pull"'


def bearer(realm: str = REALM, **params: str) -> Challenge:
    return Challenge("bearer", {"realm": realm, **params})


def questions(
    challenge: Challenge,
    credential: Credential | None = None,
    host: Host = HUB,
    *,
    inside: bool = False,
) -> tuple[TokenRequest, ...]:
    scopes = scopes_of(challenge, "a/b")
    return token_requests(challenge, credential, scopes, host=host, is_registry_inside=inside)


def ask(
    challenge: Challenge,
    credential: Credential | None = None,
    host: Host = HUB,
    *,
    inside: bool = False,
) -> TokenRequest:
    """The question that is asked first."""
    return questions(challenge, credential, host, inside=inside)[0]


def test_bearer_is_chosen_before_basic_and_others_not_at_all() -> None:
    negotiate, login, token = Challenge("negotiate"), Challenge("basic"), bearer()
    assert choose_challenge([negotiate, login, token]) is token
    assert choose_challenge([negotiate, login]) is login
    assert choose_challenge([negotiate]) is None
    assert choose_challenge([Challenge("bearer"), login]) is login
    assert choose_challenge([Challenge("bearer")]) == Challenge("bearer")


def test_basic_is_in_utf8() -> None:
    assert basic(ALICE).authorization == ALICE_BASIC


@pytest.mark.parametrize("token", ["", "t"])
def test_a_password_that_is_no_utf8_is_sent_as_it_is(token: str) -> None:
    """As the environment has it: Python reads such a byte as half a character."""
    credential = Credential(username="alice", password="s3cret\udcff", identity_token=token)
    login = base64.b64encode(b"alice:s3cret\xff").decode()
    assert basic(credential).authorization == f"Basic {login}"
    form = next(each.form for each in questions(bearer(), credential) if each.form)
    assert ("refresh_token=t" if token else "password=s3cret%FF") in form


def test_a_password_that_cannot_be_sent_is_not_shown() -> None:
    """Neither in the error nor in what was on the way to it."""
    credential = Credential(username="alice", password="s3cret\ud800")
    for send in (lambda: basic(credential), lambda: questions(bearer(), credential)):
        with pytest.raises(CredentialsError) as caught:
            send()
        assert "s3cret" not in repr(caught.value)
        assert caught.value.__context__ is None


def test_an_anonymous_token_is_asked_with_service_and_scope() -> None:
    request = ask(bearer(service="registry.example", scope="repository:x/y:pull"))
    assert parse_qsl(urlsplit(request.url).query) == [
        ("service", "registry.example"),
        ("scope", "repository:x/y:pull"),
    ]
    assert request.url.startswith(REALM + "?")
    assert not request.authorization
    assert not request.form


def test_without_a_scope_the_repositorys_own_is_asked_for() -> None:
    assert parse_qs(urlsplit(ask(bearer()).url).query) == {"scope": ["repository:a/b:pull"]}


def test_several_scopes_are_several_parameters_and_the_realms_own_query_stays() -> None:
    request = ask(bearer("https://auth.example/t?a=1&b=#f", scope="s:1:pull s:2:pull"))
    assert parse_qsl(urlsplit(request.url).query, keep_blank_values=True) == [
        ("a", "1"),
        ("b", ""),
        ("scope", "s:1:pull"),
        ("scope", "s:2:pull"),
    ]
    assert "#" not in request.url


def test_a_login_goes_to_the_realm_as_basic_and_is_not_shown() -> None:
    request = ask(bearer(), ALICE)
    assert request.authorization == ALICE_BASIC
    assert "Basic" not in repr(request)
    assert "scope" not in repr(request)


def test_an_identity_token_is_posted_and_a_service_without_oauth_gets_it_as_a_password() -> None:
    posted, got = questions(
        bearer(REALM + "?a=1#f", service="s", scope="x y"),
        Credential(username="alice", identity_token="idt"),
    )
    assert posted.url == REALM + "?a=1"
    assert not posted.authorization
    assert dict(parse_qsl(posted.form)) == {
        "grant_type": "refresh_token",
        "refresh_token": "idt",
        "client_id": "multi-fetch",
        "service": "s",
        "scope": "x y",
    }
    assert not got.form
    assert got.authorization == "Basic " + base64.b64encode(b"alice:idt").decode()
    assert parse_qsl(urlsplit(got.url).query)[-2:] == [("scope", "x"), ("scope", "y")]


def test_a_service_that_only_takes_posts_gets_the_login_in_a_form() -> None:
    got, posted = questions(bearer(service="s"), ALICE)
    assert not got.form
    assert not posted.authorization
    assert posted.url == REALM
    assert dict(parse_qsl(posted.form)) == {
        "grant_type": "password",
        "username": "alice",
        "password": "s3cret:ü",
        "client_id": "multi-fetch",
        "service": "s",
        "scope": "repository:a/b:pull",
    }


@pytest.mark.parametrize(
    ("status", "after_post", "after_get"),
    [
        (400, True, False),
        (401, True, False),
        (403, False, False),
        (404, True, True),
        (405, True, True),
        (429, False, False),
        (500, False, False),
        (501, True, True),
        (None, False, False),
    ],
)
def test_the_other_form_is_asked_only_where_the_service_may_not_know_the_first(
    status: int | None, after_post: bool, after_get: bool
) -> None:
    assert TokenRequest(REALM, form="a=1").is_misunderstood(status) is after_post
    assert TokenRequest(REALM).is_misunderstood(status) is after_get


def test_no_question_shows_a_secret() -> None:
    secrets = ("s3cret", "idt", "YWxpY2U")
    for credential in (ALICE, Credential(identity_token="idt")):
        for question in questions(bearer(REALM + "?sig=s3cret"), credential):
            assert not any(secret in repr(question) for secret in secrets)


@pytest.mark.parametrize(
    "realm",
    [
        "",
        "auth.example/token",
        "ftp://auth.example/token",
        "https://",
        "https://:443/token",
        "https://alice:pw@auth.example/token",
        "https://auth.example:99999/token",
        "https://auth.example:x/token",
        "https://[::1/token",
        "file:///etc/passwd",
    ],
)
def test_a_realm_that_is_no_http_url_is_refused(realm: str) -> None:
    with pytest.raises(RegistryError, match="no http URL"):
        ask(bearer(realm), ALICE)


def test_a_registry_with_https_cannot_name_a_realm_without() -> None:
    with pytest.raises(RegistryError, match="without https"):
        ask(bearer("http://auth.example/token"), ALICE)
    with pytest.raises(RegistryError, match="without https"):
        ask(bearer("http://auth.example/token"))


def test_a_realm_of_whose_host_a_secret_was_taken_out_is_not_looked_for() -> None:
    """A header of the user's may be a host's name; a name server with wildcards has any."""
    with pytest.raises(
        RegistryError, match=r"in confidence, https://\*\*\*:5001/token.*hosts.toml"
    ):
        ask(bearer("https://***:5001/token"), ALICE)


def test_a_registry_on_this_machine_may_name_a_realm_without_https() -> None:
    request = ask(bearer("http://localhost:5001/token"), ALICE, LOCAL, inside=True)
    assert request.authorization == ALICE_BASIC


def test_a_registry_on_this_machine_has_no_login_sent_over_the_network_without_tls() -> None:
    realm = bearer("http://auth.example/token")
    with pytest.raises(RegistryError, match=r"on another, http:.* --plain-http"):
        ask(realm, ALICE, LOCAL, inside=True)
    assert ask(realm, ALICE, replace(LOCAL, is_plain=True)).authorization == ALICE_BASIC
    assert ask(realm, ALICE, Host("http", "r.example")).authorization == ALICE_BASIC
    # Without one nothing is told, as for what is public on a registry behind a tunnel.
    assert not ask(realm, None, LOCAL, inside=True).authorization


@pytest.mark.parametrize(
    "host", ["[64:ff9b::127.0.0.1]", "[2002:7f00:1::1]", "127.0.0.1%x.example", "127.1%x.example"]
)
def test_what_leads_here_by_way_of_a_gateway_or_a_name_is_on_the_network(host: str) -> None:
    with pytest.raises(RegistryError, match=r"on another, http:.* --plain-http"):
        ask(bearer(f"http://{host}/token"), ALICE, LOCAL, inside=True)


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.1", "10.0.0.1", "169.254.169.254", "[::1]", "\xb927.0.0.1", "l\xbacalhost"],
)
def test_a_public_registry_cannot_name_a_realm_inside(host: str) -> None:
    """Nor by letters that a look-up of names reads as others."""
    with pytest.raises(RegistryError, match="private network"):
        ask(bearer(f"https://{host}/token"))
    assert ask(bearer(f"https://{host}/token"), inside=True).url.startswith(f"https://{host}/")


@pytest.mark.parametrize(
    ("answer", "authorization", "renew_at"),
    [
        ({"token": "t"}, "Bearer t", 100 + 48),
        ({"access_token": "a"}, "Bearer a", 100 + 48),
        ({"token": "t", "access_token": "a", "expires_in": 300}, "Bearer t", 100 + 240),
        ({"token": "", "access_token": "a", "expires_in": "300"}, "Bearer a", 100 + 240),
        ({"token": None, "access_token": "a", "expires_in": None}, "Bearer a", 100 + 48),
        ({"token": "t", "expires_in": 1}, "Bearer t", 100 + 0.8),
        ({"token": "t", "expires_in": "0.5"}, "Bearer t", 100 + 0.4),
        ({"token": "t", "expires_in": 0}, "Bearer t", 100 + 48),
        ({"token": "t", "expires_in": -1}, "Bearer t", 100 + 48),
        ({"token": "t", "expires_in": "soon"}, "Bearer t", 100 + 48),
        ({"token": "t", "expires_in": "inf"}, "Bearer t", 100 + 48),
        ({"token": "t", "expires_in": "nan"}, "Bearer t", 100 + 48),
        ({"token": "t", "issued_at": "x", "refresh_token": 5}, "Bearer t", 100 + 48),
    ],
)
def test_a_token_and_its_life_are_read(
    answer: dict[str, object], authorization: str, renew_at: float
) -> None:
    token = read_token(json.dumps(answer).encode(), service="s", asked_at=100.0)
    assert (token.authorization, token.renew_at) == (authorization, renew_at)
    assert token.expires_at == pytest.approx(100 + (renew_at - 100) / 0.8)
    assert authorization not in repr(token)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"token": ""}',
        b'{"token": 5}',
        b'{"token": "a b"}',
        b'{"token": "a\\r\\nX: y"}',
        b'{"token": "\\u00e9"}',
        b"<html>",
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_an_answer_without_a_usable_token_is_refused(body: bytes) -> None:
    with pytest.raises(RegistryError, match=r"auth\.example"):
        read_token(body, service=REALM, asked_at=0.0)


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_any_answer_is_a_token_or_refused(body: bytes) -> None:
    try:
        token = read_token(body, service=REALM, asked_at=0.0)
    except RegistryError:
        return
    assert token.authorization.startswith("Bearer ")


@given(st.text(max_size=60), st.text(max_size=20), st.text(max_size=20))
def test_any_challenges_words_make_a_question_or_are_refused(
    realm: str, service: str, scope: str
) -> None:
    challenge = bearer(realm, service=service, scope=scope)
    try:
        asked = questions(challenge, ALICE, inside=True)
    except RegistryError:
        return
    assert {urlsplit(each.url).scheme for each in asked} == {"https"}


def jwt(claims: object) -> str:
    return (
        f"Bearer e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.s"
    )


def test_what_a_token_grants_is_read_from_its_claims() -> None:
    access = [
        {"type": "repository", "name": "a/b", "actions": ["pull", "push"]},
        {"type": "registry", "name": "catalog", "actions": ["*"], "class": "x"},
    ]
    assert granted_by(jwt({"access": access})) == ("repository:a/b:pull,push", "registry:catalog:*")
    assert granted_by(jwt({"access": []})) == ()


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer opaque",
        "Bearer a.b.c",
        "Bearer ..",
        "Bearer é.é.é",
        jwt([]),
        jwt({}),
        jwt({"access": None}),
        jwt({"access": {"type": 1}}),
        jwt({"access": [{"type": "repository"}]}),
    ],
)
def test_a_token_of_another_form_says_nothing(authorization: str) -> None:
    assert granted_by(authorization) is None


@given(st.text())
def test_no_token_whatever_is_an_error_to_look_at(text: str) -> None:
    granted_by(f"Bearer {text}")


def test_a_token_that_no_head_has_room_for_is_refused() -> None:
    text = "x" * MAX_TOKEN_CHARACTERS
    token = read_token(json.dumps({"token": text}).encode(), service=REALM, asked_at=0.0)
    assert token.authorization == f"Bearer {text}"
    with pytest.raises(RegistryError, match="more than"):
        read_token(json.dumps({"token": f"{text}x"}).encode(), service=REALM, asked_at=0.0)
