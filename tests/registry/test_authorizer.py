"""Who fetches a token, when it is renewed, and what becomes of a login that is refused."""

from __future__ import annotations

import base64
import json
import logging
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.durations import CREDENTIALS_RETRY_SECONDS
from multi_fetch.errors import (
    CredentialsError,
    DeniedError,
    MultiFetchError,
    RegistryError,
    UnauthorizedError,
    UnavailableError,
)
from multi_fetch.limits import MAX_TOKEN_SCOPES
from multi_fetch.registry.auth import Token
from multi_fetch.registry.authorizer import Authorizer
from multi_fetch.registry.challenge import parse_challenges
from multi_fetch.registry.credentials import Credential, Held
from multi_fetch.registry.hosts import default_host
from multi_fetch.registry.login import Login

if TYPE_CHECKING:
    from multi_fetch.registry.auth import TokenRequest

HUB = default_host("docker.io")
ALICE = Credential(username="alice", password="s3cret:ü")
ALICE_BASIC = "Basic " + base64.b64encode("alice:s3cret:ü".encode()).decode()
REALM = "https://auth.example/token"
BEARER = f'Bearer realm="{REALM}",service="registry.example",scope="repository:a/b:pull"'


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
    return Authorizer(HUB, Login(), "a/b", service)


async def answered(authorizer: Authorizer, sent: str = "", header: str = BEARER) -> str:
    challenges = parse_challenges(header)
    return await authorizer.answer(challenges, sent=sent, is_registry_inside=False)


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
    authorizer = Authorizer(HUB, Login.of(ALICE), "a/b", service)
    assert await answered(authorizer, header='Basic realm="x"') == ALICE_BASIC
    assert await authorizer.authorization() == ALICE_BASIC
    assert await answered(authorizer, sent=ALICE_BASIC, header='Basic realm="x"') == ""
    assert service.asked == []


@pytest.mark.parametrize("header", ["", "Negotiate", 'Basic realm="x"'])
async def test_what_cannot_be_answered_is_not(authorizer: Authorizer, header: str) -> None:
    assert await answered(authorizer, header=header) == ""


class Doorkeeper:
    """A token service that gives a token, or a status, to each that it knows; 401 to others.

    ``GET alice:pw``, ``GET`` for nobody, ``POST password alice:pw``, ``POST refresh idt``.
    """

    def __init__(self, answers: dict[str, str | int]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.scopes: list[list[str]] = []

    async def __call__(self, request: TokenRequest) -> bytes:
        self.asked.append(self._name(request))
        self.scopes.append(parse_qs(urlsplit(request.url).query).get("scope", []))
        await trio.lowlevel.checkpoint()
        answer = self.answers.get(self.asked[-1], 401)
        if isinstance(answer, str):
            return json.dumps({"access_token": answer, "expires_in": 300}).encode()
        leaf = {401: UnauthorizedError, 403: DeniedError, 503: UnavailableError}
        error: type[MultiFetchError] = leaf.get(answer, RegistryError)
        raise error(f"{self.asked[-1].split()[0]}: {answer}", status=answer)

    @staticmethod
    def _name(request: TokenRequest) -> str:
        form = dict(parse_qsl(request.form))
        if form.get("grant_type") == "refresh_token":
            return f"POST refresh {form['refresh_token']}"
        if form:
            return f"POST password {form['username']}:{form['password']}"
        if not request.authorization:
            return "GET"
        pair = base64.b64decode(request.authorization.removeprefix("Basic ")).decode()
        return f"GET {pair}"


class Shelf:
    """Credentials as a helper gives them: one after the other, the last one for ever."""

    def __init__(self, *credentials: Credential | None) -> None:
        self.credentials = list(credentials)
        self.looks = 0

    async def __call__(self) -> Held | None:
        self.looks += 1
        await trio.lowlevel.checkpoint()
        found = self.credentials.pop(0) if len(self.credentials) > 1 else self.credentials[0]
        return None if found is None else Held("config.json", "auths.r", found)


OLD = Credential(username="alice", password="old")
NEW = Credential(username="alice", password="new")
IDENTITY = Credential(identity_token="idt")


async def test_no_credential_is_looked_for_before_the_registry_asks() -> None:
    shelf = Shelf(OLD)
    authorizer = Authorizer(HUB, Login(shelf), "a/b", Doorkeeper({"GET alice:old": "t"}))
    assert await authorizer.authorization() == ""
    assert shelf.looks == 0
    assert await answered(authorizer) == "Bearer t"
    assert shelf.looks == 1


@pytest.mark.parametrize("status", [400, 401, 404, 405, 501])
async def test_an_identity_token_falls_back_from_post_to_get_and_stays_there(status: int) -> None:
    service = Doorkeeper({"POST refresh idt": status, "GET :idt": "t"})
    authorizer = Authorizer(HUB, Login.of(IDENTITY), "a/b", service)
    assert await answered(authorizer) == "Bearer t"
    service.answers["GET :idt"] = "t2"
    assert await answered(authorizer, sent="Bearer t") == "Bearer t2"
    assert service.asked == ["POST refresh idt", "GET :idt", "GET :idt"]


async def test_a_login_is_posted_where_the_service_has_no_get() -> None:
    service = Doorkeeper({"GET alice:old": 405, "POST password alice:old": "t"})
    assert await answered(Authorizer(HUB, Login.of(OLD), "a/b", service)) == "Bearer t"


async def test_a_service_in_trouble_is_not_asked_in_another_form() -> None:
    service = Doorkeeper({"POST refresh idt": 503})
    with pytest.raises(UnavailableError):
        await answered(Authorizer(HUB, Login.of(IDENTITY), "a/b", service))
    assert service.asked == ["POST refresh idt"]


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_stale_login_gives_way_to_anonymous_access_with_a_warning(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    service = Doorkeeper({"GET alice:old": status, "GET": "anonymous"})
    authorizer = Authorizer(HUB, Login.of(OLD), "a/b", service)
    with caplog.at_level(logging.WARNING):
        assert await answered(authorizer) == "Bearer anonymous"
        assert await authorizer.authorization() == "Bearer anonymous"
    assert [record.message for record in caplog.records] == [
        "the login was refused: going on anonymously"
    ]
    assert "old" not in caplog.text.replace("GET alice:old", "")


async def test_where_anonymous_access_is_refused_too_the_refused_login_is_the_reason() -> None:
    service = Doorkeeper({"GET alice:old": 403, "GET": "anonymous"})
    authorizer = Authorizer(HUB, Login.of(OLD), "a/b", service)
    await answered(authorizer)
    asked = len(service.asked)
    for _ in range(3):
        with pytest.raises(DeniedError):
            await answered(authorizer, sent="Bearer anonymous")
    assert len(service.asked) == asked
    header = BEARER + ',error="invalid_token"'
    assert await answered(authorizer, sent="Bearer anonymous", header=header)
    assert len(service.asked) > asked


async def test_where_the_service_refuses_anonymous_access_the_refused_login_is_the_reason() -> None:
    service = Doorkeeper({"GET alice:old": 403})
    with pytest.raises(DeniedError):
        await answered(Authorizer(HUB, Login.of(OLD), "a/b", service))
    service = Doorkeeper({"GET alice:old": 403, "GET": 503})
    with pytest.raises(UnavailableError):
        await answered(Authorizer(HUB, Login.of(OLD), "a/b", service))


async def test_a_login_that_is_refused_is_looked_for_again_and_the_newer_one_used() -> None:
    shelf = Shelf(OLD, NEW)
    service = Doorkeeper({"GET alice:new": "t", "GET": "anonymous"})
    assert await answered(Authorizer(HUB, Login(shelf), "a/b", service)) == "Bearer t"
    assert service.asked == ["GET alice:old", "GET alice:new"]
    assert shelf.looks == 2


async def test_a_helper_with_ever_other_logins_is_no_loop() -> None:
    shelf = Shelf(*(Credential(username="alice", password=str(n)) for n in range(50)))
    service = Doorkeeper({"GET": "anonymous"})
    assert await answered(Authorizer(HUB, Login(shelf), "a/b", service)) == "Bearer anonymous"
    assert len(service.asked) == 3


async def test_a_basic_login_that_is_refused_is_looked_for_again() -> None:
    shelf = Shelf(OLD, NEW)
    authorizer = Authorizer(HUB, Login(shelf), "a/b", Doorkeeper({}))
    old = await answered(authorizer, header="Basic realm=x")
    new = await answered(authorizer, header="Basic realm=x", sent=old)
    assert base64.b64decode(new.removeprefix("Basic ")) == b"alice:new"
    assert await answered(authorizer, header="Basic realm=x", sent=new) == ""


async def test_a_thousand_refusals_start_a_helper_once_in_a_while(
    mock_clock: trio.testing.MockClock,
) -> None:
    shelf = Shelf(OLD)
    authorizer = Authorizer(HUB, Login(shelf), "a/b", Doorkeeper({}))
    sent = await answered(authorizer, header="Basic realm=x")
    for _ in range(1000):
        assert await answered(authorizer, header="Basic realm=x", sent=sent) == ""
    assert shelf.looks == 2
    mock_clock.jump(CREDENTIALS_RETRY_SECONDS)
    assert await answered(authorizer, header="Basic realm=x", sent=sent) == ""
    assert shelf.looks == 3


async def test_a_fresh_token_that_is_refused_is_the_end_unless_there_is_another_login() -> None:
    shelf = Shelf(OLD, NEW)
    service = Doorkeeper({"GET alice:old": "t-old", "GET alice:new": "t-new"})
    authorizer = Authorizer(HUB, Login(shelf), "a/b", service)

    async def again(sent: str) -> str:
        return await authorizer.answer(
            parse_challenges(BEARER), sent=sent, is_registry_inside=False, is_fresh=True
        )

    assert await answered(authorizer) == "Bearer t-old"
    assert await again("Bearer t-old") == "Bearer t-new"
    assert await again("Bearer t-new") == ""
    assert service.asked == ["GET alice:old", "GET alice:new"]


async def test_an_insufficient_scope_is_not_asked_for_a_second_time() -> None:
    service = Doorkeeper({"GET": "t"})
    authorizer = Authorizer(HUB, Login(), "a/b", service)
    await answered(authorizer)
    header = BEARER + ',error="insufficient_scope"'
    assert await answered(authorizer, sent="Bearer t", header=header) == ""
    assert service.asked == ["GET"]


async def test_scopes_add_up_so_that_no_two_requests_take_turns_in_tokens() -> None:
    service = Doorkeeper({"GET": "t1"})
    authorizer = Authorizer(HUB, Login(), "a/b", service)
    await answered(authorizer)
    other = f'Bearer realm="{REALM}",scope="repository:c:pull",error="insufficient_scope"'
    service.answers["GET"] = "t2"
    assert await answered(authorizer, sent="Bearer t1", header=other) == "Bearer t2"
    assert service.scopes[-1] == ["repository:a/b:pull", "repository:c:pull"]
    assert await answered(authorizer, sent="") == "Bearer t2"
    assert len(service.asked) == 2


async def test_a_registry_with_ever_other_scopes_does_not_fill_the_memory() -> None:
    service = Doorkeeper({"GET": "t"})
    authorizer = Authorizer(HUB, Login(), "a/b", service)
    for number in range(100):
        await answered(
            authorizer, header=f'Bearer realm="{REALM}",scope="repository:{number}:pull"'
        )
    assert max(map(len, service.scopes)) <= MAX_TOKEN_SCOPES


async def test_an_old_token_serves_while_the_service_is_in_trouble(
    mock_clock: trio.testing.MockClock,
) -> None:
    service = Doorkeeper({"GET": "t1"})
    authorizer = Authorizer(HUB, Login(), "a/b", service)
    await answered(authorizer)
    service.answers["GET"] = 503
    mock_clock.jump(299 * 0.81)
    for _ in range(10):
        assert await authorizer.authorization() == "Bearer t1"
    assert len(service.asked) == 2
    mock_clock.jump(300)
    with pytest.raises(UnavailableError):
        await authorizer.authorization()
    service.answers["GET"] = "t2"
    assert await authorizer.authorization() == "Bearer t2"


async def test_a_registry_token_is_sent_and_when_refused_left_for_good(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Doorkeeper({"GET": "anonymous"})
    login = Login.of(Credential(registry_token="rt"))
    authorizer = Authorizer(HUB, login, "a/b", service)
    assert await answered(authorizer) == "Bearer rt"
    assert await authorizer.authorization() == "Bearer rt"
    with caplog.at_level(logging.WARNING):
        assert await answered(authorizer, sent="Bearer rt") == "Bearer anonymous"
    assert await answered(authorizer) == "Bearer anonymous"
    assert "registry token was refused" in caplog.text
    assert "rt" not in service.asked


async def test_credentials_that_cannot_be_read_fail_the_request() -> None:
    async def find() -> Held | None:
        raise CredentialsError("config.json is malformed")

    with pytest.raises(CredentialsError, match="malformed"):
        await answered(Authorizer(HUB, Login(find), "a/b", Doorkeeper({"GET": "t"})))


HEADERS = st.text(max_size=40) | st.tuples(
    st.sampled_from(["Bearer", "basic", "Digest"]),
    st.lists(
        st.tuples(
            st.sampled_from(["realm", "service", "scope", "error"]),
            st.sampled_from([REALM, "insufficient_scope", "invalid_token"]) | st.text(max_size=12),
        ),
        max_size=4,
    ),
).map(lambda each: f"{each[0]} " + ",".join(f'{name}="{text}"' for name, text in each[1]))


@given(st.lists(HEADERS, min_size=1, max_size=4), st.sampled_from([None, ALICE, IDENTITY]))
def test_any_headers_are_answered_or_refused(
    headers: list[str], credential: Credential | None
) -> None:
    async def main() -> None:
        service = Doorkeeper({"GET": "anonymous", "POST refresh idt": "t"})
        authorizer = Authorizer(HUB, Login.of(credential), "a/b", service)
        sent = ""
        for header in headers:
            try:
                sent = await answered(authorizer, sent=sent, header=header)
            except MultiFetchError:
                continue
            assert sent == "" or sent.startswith(("Bearer ", "Basic "))

    trio.run(main)


async def test_what_is_present_is_told_without_a_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    authorizer = Authorizer(HUB, Login.of(ALICE), "a/b", Doorkeeper({"GET alice": "t"}))
    assert authorizer.present_authorization() == ""
    authorizer._token = Token("Bearer t", renew_at=trio.current_time() + 10)
    assert authorizer.present_authorization() == "Bearer t"
    await trio.sleep(11)
    assert authorizer.present_authorization() is None


async def test_what_is_held_is_told_without_the_secret(
    authorizer: Authorizer, service: TokenService
) -> None:
    assert authorizer.grant is None
    service.may_answer.set()
    authorization = await answered(authorizer)
    grant = authorizer.grant
    assert grant is not None
    assert (grant.scheme, grant.scopes) == ("Bearer", ("repository:a/b:pull",))
    assert grant.expires_at > trio.current_time()
    assert authorization.removeprefix("Bearer ") not in repr(grant)
