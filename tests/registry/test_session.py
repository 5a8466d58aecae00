"""One request, on its way: who gets the credentials, where redirects may lead, what breaks."""

from __future__ import annotations

import base64
import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
import respx
import trio
from httpx import Response

from multi_fetch import __version__
from multi_fetch.durations import RETRY_WARNING_SECONDS, TOKEN_BODY_SECONDS
from multi_fetch.errors import (
    DeadlineExceededError,
    DeniedError,
    MultiFetchError,
    RateLimitedError,
    RegistryError,
    UnauthorizedError,
    UnavailableError,
)
from multi_fetch.limits import MAX_REDIRECTS, MAX_TOKEN_BODY_BYTES
from multi_fetch.registry.credentials import Credential
from multi_fetch.registry.transport import new_client
from multi_fetch.remotes import Patience
from tests.registry.conftest import RawServer, StartServer, new_session, raw_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from multi_fetch.registry.session import Session

# Over both lanes, as far as a test has sockets.
pytestmark = pytest.mark.usefixtures("lane")

REGISTRY = "https://registry.example"
URL = f"{REGISTRY}/v2/a/blobs/x"
PATH = "/v2/a/blobs/x"
REALM = "https://auth.example/token"
CHALLENGE = {"www-authenticate": f'Bearer realm="{REALM}",service="s",scope="repository:a:pull"'}
ALICE = Credential(username="alice", password="s3cret")
ALICE_BASIC = "Basic " + base64.b64encode(b"alice:s3cret").decode()


@asynccontextmanager
async def session(
    hostname: str = "registry.example", credential: Credential | None = None
) -> AsyncIterator[Session]:
    async with new_client(jobs=4) as client:
        yield new_session(client, hostname, credential)


async def get(asked: Session, method: str = "GET") -> tuple[int, bytes]:
    async with asked.request(method, PATH, {"Accept": "*/*"}) as answer:
        return answer.status, await answer.read(1_000_000)


async def failure(hostname: str = "registry.example") -> MultiFetchError:
    async with session(hostname) as asked:
        with pytest.raises(MultiFetchError) as caught:
            await get(asked)
    return caught.value


async def test_a_request_says_who_asks_and_wants_the_bytes_as_stored(
    respx_mock: respx.MockRouter,
) -> None:
    route = respx_mock.get(URL).respond(content=b"abc")
    async with session() as asked:
        assert await get(asked) == (200, b"abc")
    sent = route.calls.last.request.headers
    assert sent["user-agent"] == f"multi-fetch/{__version__}"
    assert sent["accept-encoding"] == "identity"
    assert sent["accept"] == "*/*"
    assert "authorization" not in sent


async def test_any_status_is_an_answer(respx_mock: respx.MockRouter) -> None:
    respx_mock.get(URL).respond(503, content=b"later")
    async with session() as asked:
        assert await get(asked) == (503, b"later")


# --- authorization --------------------------------------------------------------------------


async def test_a_bearer_challenge_is_answered_once_and_remembered() -> None:
    router = respx.Router(assert_all_called=False)
    token = router.get(REALM).respond(json={"token": "t1"})
    blob = router.get(URL)
    blob.side_effect = [Response(401, headers=CHALLENGE), Response(200), Response(200)]
    transport = httpx.MockTransport(router.async_handler)
    async with httpx.AsyncClient(transport=transport) as client:
        asked = new_session(client)
        assert await get(asked) == (200, b"")
        assert await get(asked) == (200, b"")
    assert token.call_count == 1
    sent = [call.request.headers.get("authorization") for call in blob.calls]
    assert sent == [None, "Bearer t1", "Bearer t1"]
    assert dict(token.calls.last.request.url.params) == {
        "service": "s",
        "scope": "repository:a:pull",
    }
    assert "authorization" not in token.calls.last.request.headers


async def test_a_login_goes_to_the_realm_and_never_to_a_bearer_registry(
    respx_mock: respx.MockRouter,
) -> None:
    token = respx_mock.get(REALM).respond(json={"access_token": "t1"})
    blob = respx_mock.get(URL)
    blob.side_effect = [Response(401, headers=CHALLENGE), Response(200)]
    async with session(credential=ALICE) as asked:
        await get(asked)
    assert token.calls.last.request.headers["authorization"] == ALICE_BASIC
    sent = [call.request.headers.get("authorization") for call in blob.calls]
    assert sent == [None, "Bearer t1"]


async def test_a_basic_challenge_is_answered_with_the_login(respx_mock: respx.MockRouter) -> None:
    blob = respx_mock.get(URL)
    basic = {"www-authenticate": 'Basic realm="r"'}
    blob.side_effect = [Response(401, headers=basic), Response(200), Response(200)]
    async with session(credential=ALICE) as asked:
        await get(asked)
        await get(asked)
    sent = [call.request.headers.get("authorization") for call in blob.calls]
    assert sent == [None, ALICE_BASIC, ALICE_BASIC]


async def test_many_requests_at_once_fetch_one_token(respx_mock: respx.MockRouter) -> None:
    token = respx_mock.get(REALM).respond(json={"token": "t1"})

    def answer(request: httpx.Request) -> Response:
        is_known = request.headers.get("authorization") == "Bearer t1"
        return Response(200) if is_known else Response(401, headers=CHALLENGE)

    respx_mock.get(URL).mock(side_effect=answer)
    async with session() as asked, trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(get, asked)
    assert token.call_count == 1


async def test_an_identity_token_is_posted(respx_mock: respx.MockRouter) -> None:
    token = respx_mock.post(REALM).respond(json={"access_token": "t1"})
    respx_mock.get(URL).side_effect = [Response(401, headers=CHALLENGE), Response(200)]
    async with session(credential=Credential(identity_token="idt")) as asked:
        assert (await get(asked))[0] == 200
    sent = token.calls.last.request
    assert b"refresh_token=idt" in sent.content
    assert sent.headers["content-type"] == "application/x-www-form-urlencoded"


async def test_without_credentials_a_refusal_tells_the_registrys_words(
    respx_mock: respx.MockRouter,
) -> None:
    entry = {"code": "UNAUTHORIZED", "message": "authentication required"}
    respx_mock.get(URL).respond(
        401, headers={"www-authenticate": "Basic realm=r"}, json={"errors": [entry]}
    )
    error = await failure()
    assert isinstance(error, UnauthorizedError)
    assert error.registry_code == "UNAUTHORIZED"


async def test_a_token_that_is_refused_too_is_the_end_and_no_loop(
    respx_mock: respx.MockRouter,
) -> None:
    respx_mock.get(REALM).respond(json={"token": "t1"})
    blob = respx_mock.get(URL).respond(401, headers=CHALLENGE)
    assert isinstance(await failure(), UnauthorizedError)
    assert blob.call_count == 2


async def test_challenges_may_come_in_several_headers(respx_mock: respx.MockRouter) -> None:
    blob = respx_mock.get(URL)
    headers = [("WWW-Authenticate", "Negotiate"), ("www-authenticate", "BASIC Realm = r")]
    blob.side_effect = [Response(401, headers=headers), Response(200)]
    async with session(credential=ALICE) as asked:
        assert await get(asked) == (200, b"")
    assert blob.calls.last.request.headers["authorization"] == ALICE_BASIC


async def test_a_challenge_that_cannot_be_read_is_a_registry_error(
    respx_mock: respx.MockRouter,
) -> None:
    respx_mock.get(URL).respond(401, headers={"www-authenticate": 'Bearer realm="x'})
    assert isinstance(await failure(), RegistryError)


@pytest.mark.parametrize(
    ("answer", "leaf"),
    [
        (Response(401, json={"details": "incorrect username or password"}), UnauthorizedError),
        (Response(403), DeniedError),
        (Response(404), RegistryError),
        (Response(429, headers={"retry-after": "9"}), RateLimitedError),
        (Response(503), UnavailableError),
        (Response(204), RegistryError),
        (Response(200, content=b"no JSON"), RegistryError),
        (Response(200, content=b" " * (MAX_TOKEN_BODY_BYTES + 1)), RegistryError),
    ],
)
async def test_a_token_service_that_fails_fails_the_request_and_says_where(
    respx_mock: respx.MockRouter, answer: Response, leaf: type[MultiFetchError]
) -> None:
    respx_mock.get(REALM).mock(return_value=answer)
    respx_mock.get(URL).respond(401, headers=CHALLENGE)
    error = await failure()
    assert type(error) is leaf
    assert REALM in error.message
    assert "s3cret" not in error.message


class Dripping(httpx.AsyncByteStream):
    """A body without end, a byte every now and then."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await trio.sleep(TOKEN_BODY_SECONDS / 4)
            yield b" "


async def test_a_token_that_is_dripped_is_not_waited_for_without_end(
    respx_mock: respx.MockRouter, autojump_clock: trio.testing.MockClock
) -> None:
    respx_mock.get(URL).respond(401, headers=CHALLENGE)
    respx_mock.get(REALM).respond(stream=Dripping())
    error = await failure()
    assert isinstance(error, DeadlineExceededError)
    assert error.message.startswith(f"GET {REALM}")


async def test_a_login_does_not_follow_a_token_services_redirect(
    respx_mock: respx.MockRouter,
) -> None:
    respx_mock.get(REALM).respond(307, headers={"location": "https://evil.example/token"})
    evil = respx_mock.get("https://evil.example/token").respond(json={"token": "t1"})
    respx_mock.get(URL).side_effect = [Response(401, headers=CHALLENGE), Response(200)]
    async with session(credential=ALICE) as asked:
        await get(asked)
    assert "authorization" not in evil.calls.last.request.headers


async def test_a_public_registry_cannot_have_a_token_fetched_inside(
    respx_mock: respx.MockRouter,
) -> None:
    header = {"www-authenticate": 'Bearer realm="https://169.254.169.254/token"'}
    respx_mock.get(URL).respond(401, headers=header)
    error = await failure()
    assert isinstance(error, RegistryError)
    assert "private network" in error.message


# --- redirects ------------------------------------------------------------------------------


async def test_authorization_stays_behind_when_the_host_changes(
    respx_mock: respx.MockRouter,
) -> None:
    basic = {"www-authenticate": "Basic realm=r"}
    location = {"location": "https://cdn.example/x?X-Signature=abc"}
    respx_mock.get(URL).side_effect = [
        Response(401, headers=basic),
        Response(307, headers=location),
    ]
    cdn = respx_mock.get("https://cdn.example/x").respond(content=b"abc")
    async with session(credential=ALICE) as asked:
        assert await get(asked) == (200, b"abc")
    assert "authorization" not in cdn.calls.last.request.headers
    assert cdn.calls.last.request.url.query == b"X-Signature=abc"


@pytest.mark.parametrize(
    ("target", "is_kept"),
    [
        (f"{REGISTRY}/moved", True),
        (f"{REGISTRY}:443/moved", True),
        ("https://REGISTRY.example/moved", True),
        ("/moved", True),
        (f"{REGISTRY}:8443/moved", False),
        ("https://registry.example.evil.example/moved", False),
        ("//cdn.example/moved", False),
    ],
)
async def test_authorization_goes_to_the_same_origin_alone(
    respx_mock: respx.MockRouter, target: str, is_kept: bool
) -> None:
    respx_mock.get(URL).side_effect = [
        Response(401, headers={"www-authenticate": "Basic realm=r"}),
        Response(302, headers={"location": target}),
    ]
    moved = respx_mock.get(path="/moved").respond()
    async with session(credential=ALICE) as asked:
        await get(asked)
    assert ("authorization" in moved.calls.last.request.headers) is is_kept


async def test_a_user_in_a_location_is_not_logged_in(respx_mock: respx.MockRouter) -> None:
    respx_mock.get(URL).respond(302, headers={"location": "https://bob:pw@cdn.example/moved#f"})
    moved = respx_mock.get("https://cdn.example/moved").respond()
    async with session() as asked:
        await get(asked)
    assert "authorization" not in moved.calls.last.request.headers


@pytest.mark.parametrize(
    "location", ["https://[::1/x", "https://xn--/x", "https://cdn.example:x/x"]
)
async def test_a_redirect_that_cannot_be_read_is_a_registry_error(
    respx_mock: respx.MockRouter, location: str
) -> None:
    route = respx_mock.get(URL).respond(307, headers={"location": location})
    assert isinstance(await failure(), RegistryError)
    assert route.call_count == 1


@pytest.mark.parametrize(
    ("location", "words"),
    [
        (None, "no Location"),
        ("", "no Location"),
        ("http://registry.example/moved", "without https"),
        ("ftp://cdn.example/moved", "no http URL"),
        ("file:///etc/passwd", "no http URL"),
        ("https://127.0.0.1/moved", "private network"),
        ("https://localhost/moved", "private network"),
        ("https://[::ffff:10.0.0.1]/moved", "private network"),
        ("https://169.254.169.254/latest/meta-data", "private network"),
        ("https://2130706433/moved", "private network"),
    ],
)
async def test_a_redirect_that_may_not_be_followed_is_a_registry_error(
    respx_mock: respx.MockRouter, location: str | None, words: str
) -> None:
    headers = {} if location is None else {"location": location}
    respx_mock.get(URL).respond(307, headers=headers)
    error = await failure()
    assert isinstance(error, RegistryError)
    assert words in error.message
    assert error.status == 307


async def test_a_refused_redirect_does_not_show_its_signature(
    respx_mock: respx.MockRouter,
) -> None:
    location = "http://u:s3cret@cdn.example/x?X-Signature=s3cret"
    respx_mock.get(URL).respond(307, headers={"location": location})
    error = await failure()
    assert "cdn.example" in error.message
    assert "s3cret" not in error.message


async def test_a_redirect_to_a_name_that_no_look_up_takes_is_a_registry_error(
    start_server: StartServer,
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(raw_answer("302 Found", Location="http://a..b/x"))
        return True

    server = await start_server(reply)
    assert isinstance(await failure(f"127.0.0.1:{server.port}"), RegistryError)


async def test_redirects_end_at_the_limit(respx_mock: respx.MockRouter) -> None:
    steps = [
        Response(302, headers={"location": f"/v2/a/blobs/x?{step}"})
        for step in range(MAX_REDIRECTS)
    ]
    respx_mock.get(path=PATH).side_effect = [*steps, Response(200)]
    async with session() as asked:
        assert (await get(asked))[0] == 200
    respx_mock.get(path=PATH).side_effect = [*steps, Response(302, headers={"location": "/y"})]
    error = await failure()
    assert isinstance(error, RegistryError)
    assert f"more than {MAX_REDIRECTS} redirects" in error.message


async def test_a_401_of_another_host_is_not_answered(respx_mock: respx.MockRouter) -> None:
    respx_mock.get(URL).respond(307, headers={"location": "https://cdn.example/x"})
    cdn = respx_mock.get("https://cdn.example/x").respond(
        401, headers={"www-authenticate": "Basic realm=r"}
    )
    async with session(credential=ALICE) as asked:
        assert (await get(asked))[0] == 401
    assert cdn.call_count == 1


async def test_a_head_stays_a_head(respx_mock: respx.MockRouter) -> None:
    respx_mock.head(URL).respond(307, headers={"location": "https://cdn.example/x"})
    respx_mock.head("https://cdn.example/x").respond(200)
    async with session() as asked:
        assert await get(asked, "HEAD") == (200, b"")


async def test_a_redirect_to_a_second_port_gets_no_login(start_server: StartServer) -> None:
    async def store_reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(raw_answer("200 OK", b"abc"))
        return True

    store = await start_server(store_reply)

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        if "authorization" in head.lower():
            location = f"http://127.0.0.1:{store.port}/x"
            await stream.send_all(raw_answer("307 Temporary Redirect", b"moved", Location=location))
        else:
            await stream.send_all(raw_answer("401 Unauthorized", WWW_Authenticate="Basic realm=r"))
        return True

    registry = await start_server(reply)
    async with session(f"127.0.0.1:{registry.port}", ALICE) as asked:
        assert await get(asked) == (200, b"abc")
    assert len(registry.heads) == 2
    assert registry.connections == 1
    assert "authorization" not in store.heads[0].lower()


@pytest.mark.parametrize(("status", "kind"), [(401, UnauthorizedError), (403, DeniedError)])
async def test_a_store_that_refuses_is_named_with_its_own_words_and_no_login_is_asked_for(
    start_server: StartServer, status: int, kind: type[MultiFetchError]
) -> None:
    said = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"

    async def store_reply(stream: trio.SocketStream, head: str) -> bool:
        challenge = {"WWW_Authenticate": 'Basic realm="store"'}
        await stream.send_all(raw_answer(f"{status} No", said, **challenge))
        return True

    store = await start_server(store_reply)

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        location = f"http://127.0.0.1:{store.port}/bucket/x?Signature=s3cret"
        await stream.send_all(raw_answer("307 Temporary Redirect", Location=location))
        return True

    registry = await start_server(reply)
    async with (
        session(f"127.0.0.1:{registry.port}", ALICE) as asked,
        asked.request("GET", PATH, {}) as answer,
    ):
        error = await answer.error()
    assert type(error) is kind
    assert f"http://127.0.0.1:{store.port}/bucket/x" in error.message
    assert "AccessDenied: Request has expired; the registry had sent us there" in error.message
    assert error.advice
    assert error.message.endswith(error.advice)
    assert "log in" not in error.message
    assert "s3cret" not in error.message
    assert "authorization" not in store.heads[0].lower()


# --- connections ----------------------------------------------------------------------------


async def ok(stream: trio.SocketStream, head: str) -> bool:
    await stream.send_all(raw_answer("200 OK", b"abc"))
    return True


async def test_an_idle_connection_that_was_closed_is_replaced_once_and_unseen(
    start_server: StartServer,
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        if len(server.heads) == 2:
            return False  # the second request meets a close, as when it crosses with one
        return await ok(stream, head)

    server: RawServer = await start_server(reply)
    async with session(f"127.0.0.1:{server.port}") as asked:
        assert await get(asked) == (200, b"abc")
        assert await get(asked) == (200, b"abc")
    assert server.connections == 2
    assert len(server.heads) == 3


async def test_a_new_connection_that_is_closed_is_not_tried_again(
    start_server: StartServer,
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        return False

    server = await start_server(reply)
    error = await failure(f"127.0.0.1:{server.port}")
    assert isinstance(error, UnavailableError)
    assert f"GET http://127.0.0.1:{server.port}{PATH}" in error.message
    assert server.connections == 1


async def test_a_replaced_connection_that_is_closed_is_not_tried_again(
    start_server: StartServer,
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        return len(server.heads) == 1 and await ok(stream, head)

    server: RawServer = await start_server(reply)
    async with session(f"127.0.0.1:{server.port}") as asked:
        await get(asked)
        with pytest.raises(UnavailableError):
            await get(asked)
    assert server.connections == 2


async def test_a_form_is_not_sent_twice(start_server: StartServer) -> None:
    challenge = 'Bearer realm="http://127.0.0.1:{}/token"'

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        if head.startswith("POST"):
            return False
        answer = raw_answer("401 Unauthorized", WWW_Authenticate=challenge.format(server.port))
        await stream.send_all(answer)
        return True

    server: RawServer = await start_server(reply)
    credential = Credential(identity_token="idt")
    async with session(f"127.0.0.1:{server.port}", credential) as asked:
        with pytest.raises(UnavailableError):
            await get(asked)
    assert [head.partition(" ")[0] for head in server.heads] == ["GET", "POST"]


async def test_a_refused_connection_is_unavailable_and_retryable(closed_port: int) -> None:
    error = await failure(f"127.0.0.1:{closed_port}")
    assert isinstance(error, UnavailableError)
    assert error.retryable
    assert "no connection" in error.message


@pytest.mark.parametrize(
    ("raised", "leaf"),
    [
        (httpx.ConnectTimeout(""), UnavailableError),
        (httpx.ReadTimeout(""), DeadlineExceededError),
        (httpx.WriteTimeout(""), DeadlineExceededError),
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] x"), UnavailableError),
        (httpx.ReadError(""), UnavailableError),
        (httpx.WriteError("broken pipe"), UnavailableError),
        (httpx.RemoteProtocolError("illegal status line"), RegistryError),
        (httpx.LocalProtocolError("Illegal header value"), RegistryError),
        (UnicodeError("label too long"), RegistryError),
    ],
)
async def test_httpx_errors_become_the_trees(
    respx_mock: respx.MockRouter, raised: Exception, leaf: type[MultiFetchError]
) -> None:
    route = respx_mock.get(URL).mock(side_effect=raised)
    error = await failure()
    assert type(error) is leaf
    assert error.message.startswith(f"GET {URL}: ")
    assert str(raised) in error.message
    assert route.call_count == 1


async def test_each_answer_is_logged_with_fields_and_without_secrets(
    respx_mock: respx.MockRouter, caplog: pytest.LogCaptureFixture
) -> None:
    respx_mock.get(REALM).respond(json={"token": "t0ken"})
    respx_mock.get(URL).side_effect = [
        Response(401, headers=CHALLENGE),
        Response(307, headers={"location": "https://cdn.example/x?sig=s3cret"}),
    ]
    respx_mock.get("https://cdn.example/x").respond(headers={"docker-content-digest": "sha256:abc"})
    with caplog.at_level(logging.DEBUG, logger="multi_fetch"):
        async with session(credential=ALICE) as asked:
            await get(asked)
    records = [record for record in caplog.records if record.name.startswith("multi_fetch")]
    facts = [(record.__dict__["status"], record.__dict__["url"]) for record in records]
    assert facts == [
        (401, URL),
        (200, f"{REALM}?..."),
        (307, URL),
        (200, "https://cdn.example/x?..."),
    ]
    assert records[-1].__dict__["digest"] == "sha256:abc"
    shown = json.dumps([str(record.__dict__) for record in records])
    assert not [secret for secret in ("s3cret", "t0ken", ALICE_BASIC) if secret in shown]


async def test_trouble_is_warned_of_once_in_a_while_and_says_how_long_it_is_borne(
    start_server: StartServer, caplog: pytest.LogCaptureFixture, jumping_clock: MockClock
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(raw_answer("503 Later"))
        return True

    caplog.set_level(logging.INFO, "multi_fetch")
    server = await start_server(reply)
    patience = Patience(retries=5, stall_seconds=1e9)
    async with new_client(jobs=4) as client:
        asked = new_session(client, f"127.0.0.1:{server.port}", patience=patience)
        for _ in range(3):
            assert (await get(asked))[0] == 503
            assert len(warnings_of(caplog)) == 1
        (warning,) = warnings_of(caplog)
        facts = {name: vars(warning)[name] for name in ("url", "attempts", "seconds", "error")}
        assert facts == {
            "url": f"http://127.0.0.1:{server.port}",
            "attempts": 6,
            "seconds": 31,
            "error": f"GET http://127.0.0.1:{server.port}{PATH}: 503",
        }
        assert len(caplog.records) == 1 + 3 * patience.retries
        await trio.sleep(RETRY_WARNING_SECONDS)
        assert (await get(asked))[0] == 503
        assert len(warnings_of(caplog)) == 2


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno == logging.WARNING]


async def test_what_is_not_borne_is_not_warned_of(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(raw_answer("503 Later"))
        return True

    server = await start_server(reply)
    async with new_client(jobs=4) as client:
        assert (await get(new_session(client, f"127.0.0.1:{server.port}")))[0] == 503
    assert warnings_of(caplog) == []
