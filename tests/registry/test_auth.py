"""What is sent to whom: tokens, logins, and the one fetch that all wait for."""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
import trio
import trio.testing

from multi_fetch.errors import RegistryError, UnavailableError
from multi_fetch.registry.auth import (
    Authorizer,
    Token,
    TokenRequest,
    basic,
    choose_challenge,
    read_token,
    token_request,
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


def ask(
    challenge: Challenge,
    credential: Credential | None = None,
    host: Host = HUB,
    *,
    inside: bool = False,
) -> TokenRequest:
    return token_request(
        challenge, credential, host=host, is_registry_inside=inside, repository="a/b"
    )


def test_bearer_is_chosen_before_basic_and_others_not_at_all() -> None:
    negotiate, login, token = Challenge("negotiate"), Challenge("basic"), bearer()
    assert choose_challenge([negotiate, login, token]) is token
    assert choose_challenge([negotiate, login]) is login
    assert choose_challenge([negotiate]) is None


def test_basic_is_in_utf8() -> None:
    assert basic(ALICE).authorization == ALICE_BASIC


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


def test_an_identity_token_is_posted_as_a_refresh_token() -> None:
    request = ask(bearer(service="s", scope="x y"), Credential(identity_token="idt"))
    assert request.url == REALM
    assert not request.authorization
    assert dict(parse_qsl(request.form)) == {
        "grant_type": "refresh_token",
        "refresh_token": "idt",
        "client_id": "multi-fetch",
        "service": "s",
        "scope": "x y",
    }


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


def test_a_registry_on_this_machine_may_name_a_realm_without_https() -> None:
    request = ask(bearer("http://localhost:5001/token"), ALICE, LOCAL, inside=True)
    assert request.authorization == ALICE_BASIC


@pytest.mark.parametrize("host", ["localhost", "127.1", "10.0.0.1", "169.254.169.254", "[::1]"])
def test_a_public_registry_cannot_name_a_realm_inside(host: str) -> None:
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
    assert token == Token(authorization, renew_at)
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


class TokenService:
    """Answers with t1, t2, ...; holds its answers back while it is told to."""

    def __init__(self) -> None:
        self.asked: list[TokenRequest] = []
        self.failures = 0
        self.may_answer = trio.Event()

    async def __call__(self, request: TokenRequest) -> bytes:
        self.asked.append(request)
        number = len(self.asked)
        await self.may_answer.wait()
        if self.failures:
            self.failures -= 1
            raise UnavailableError("no token service", status=503)
        return json.dumps({"token": f"t{number}", "expires_in": 100}).encode()


@pytest.fixture
def service() -> TokenService:
    return TokenService()


@pytest.fixture
def authorizer(service: TokenService) -> Authorizer:
    return Authorizer(HUB, None, "a/b", service)


async def answered(authorizer: Authorizer, sent: str = "", header: str = BEARER) -> str:
    return await authorizer.answer(header, sent=sent, is_registry_inside=False)


async def test_nothing_is_sent_before_the_registry_asks(authorizer: Authorizer) -> None:
    assert await authorizer.authorization() == ""


async def test_after_one_challenge_the_token_is_sent_without_another(
    authorizer: Authorizer, service: TokenService
) -> None:
    service.may_answer.set()
    assert await answered(authorizer) == "Bearer t1"
    assert await authorizer.authorization() == "Bearer t1"
    assert len(service.asked) == 1


async def test_many_that_wait_cause_one_fetch(
    authorizer: Authorizer, service: TokenService
) -> None:
    got: list[str] = []

    async def one() -> None:
        got.append(await answered(authorizer))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        service.may_answer.set()
    assert got == ["Bearer t1"] * 20
    assert len(service.asked) == 1


async def test_many_that_wait_share_one_failure_and_a_later_one_asks_again(
    authorizer: Authorizer, service: TokenService
) -> None:
    service.failures = 1
    failed: list[UnavailableError] = []

    async def one() -> None:
        try:
            await answered(authorizer)
        except UnavailableError as error:
            failed.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        service.may_answer.set()
    assert len(service.asked) == 1
    assert [(str(error), error.status) for error in failed] == [("no token service", 503)] * 5
    assert len({id(error) for error in failed}) == 5
    assert await answered(authorizer) == "Bearer t2"


async def test_when_the_one_that_fetches_is_cancelled_another_takes_over(
    authorizer: Authorizer, service: TokenService
) -> None:
    got: list[str] = []
    first = trio.CancelScope()

    async def cancelled() -> None:
        with first:
            await answered(authorizer)

    async def one() -> None:
        got.append(await answered(authorizer))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancelled)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert len(service.asked) == 2
        service.may_answer.set()
    assert got == ["Bearer t2"] * 3


async def test_a_token_is_renewed_before_it_expires_and_once(
    authorizer: Authorizer, service: TokenService, mock_clock: trio.testing.MockClock
) -> None:
    service.may_answer.set()
    await answered(authorizer)
    mock_clock.jump(79)
    assert await authorizer.authorization() == "Bearer t1"
    mock_clock.jump(1)
    got: list[str] = []

    async def one() -> None:
        got.append(await authorizer.authorization())

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(one)
    assert got == ["Bearer t2"] * 5
    assert service.asked == [service.asked[0]] * 2


async def test_a_refused_token_is_replaced_but_one_that_was_just_replaced_is_not(
    authorizer: Authorizer, service: TokenService
) -> None:
    service.may_answer.set()
    await answered(authorizer)
    assert await answered(authorizer, sent="Bearer t1") == "Bearer t2"
    assert await answered(authorizer, sent="Bearer t1") == "Bearer t2"
    assert len(service.asked) == 2


async def test_basic_is_answered_with_the_login_once(service: TokenService) -> None:
    authorizer = Authorizer(HUB, ALICE, "a/b", service)
    assert await answered(authorizer, header='Basic realm="x"') == ALICE_BASIC
    assert await authorizer.authorization() == ALICE_BASIC
    assert await answered(authorizer, sent=ALICE_BASIC, header='Basic realm="x"') == ""
    assert service.asked == []


@pytest.mark.parametrize("header", ["", "Negotiate", 'Basic realm="x"'])
async def test_what_cannot_be_answered_is_not(authorizer: Authorizer, header: str) -> None:
    assert await answered(authorizer, header=header) == ""


async def test_a_registry_token_is_sent_from_the_first_request_on(service: TokenService) -> None:
    authorizer = Authorizer(HUB, Credential(registry_token="rt"), "a/b", service)
    assert await authorizer.authorization() == "Bearer rt"
    service.may_answer.set()
    assert await answered(authorizer, sent="Bearer rt") == "Bearer t1"
    assert service.asked[0].authorization == ""
