"""What a token service is sent, and what its answers are to who waits for a token."""

from __future__ import annotations

import pytest
import trio

from multi_fetch.budget import Budget, hold
from multi_fetch.errors import MultiFetchError, RegistryError
from multi_fetch.limits import MAX_TOKEN_BODY_BYTES
from multi_fetch.registry.auth import TokenRequest
from multi_fetch.registry.exchanges import open_exchange
from multi_fetch.registry.hosts import default_host
from multi_fetch.registry.token_service import ask_token_service
from tests.fakes.consumer import QUICK
from tests.registry.conftest import RawServer, StartServer, raw_answer

pytestmark = pytest.mark.usefixtures("lane")


async def answered(start_server: StartServer, answer: bytes) -> RawServer:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(answer)
        return False

    return await start_server(reply)


async def ask(server: RawServer, form: str = "") -> bytes:
    host = default_host(f"127.0.0.1:{server.port}")
    question = TokenRequest(f"{host.url}/token?service=s", "Basic abc", form)
    async with open_exchange(host, jobs=1, patience=QUICK) as exchange:
        return await ask_token_service(exchange, question)


async def test_a_question_is_a_get_and_a_form_is_posted(start_server: StartServer) -> None:
    server = await answered(start_server, raw_answer("200 OK", b"{}"))
    assert await ask(server) == b"{}"
    assert await ask(server, "grant_type=password") == b"{}"
    asked, posted = (head.lower() for head in server.heads)
    assert asked.startswith("get /token?service=s ")
    assert posted.startswith("post /token?service=s ")
    assert "content-type: application/x-www-form-urlencoded" in posted
    for head in (asked, posted):
        assert "accept: application/json" in head
        assert "authorization: basic abc" in head


@pytest.mark.parametrize("status", ["201 Created", "203 Non-Authoritative Information"])
async def test_a_token_is_one_with_any_status_of_success(
    start_server: StartServer, status: str
) -> None:
    server = await answered(start_server, raw_answer(status, b'{"token": "abc"}'))
    assert await ask(server) == b'{"token": "abc"}'


async def test_a_token_beside_a_failure_is_not_told(start_server: StartServer) -> None:
    body = b'{"access_token": "xyz.def"}'
    server = await answered(start_server, raw_answer("500 Internal Server Error", body))
    with pytest.raises(MultiFetchError, match=r"500 .*access_token") as caught:
        await ask(server)
    assert "xyz.def" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (raw_answer("401 Unauthorized", b"no"), "unauthorized"),
        (raw_answer("404 Not Found", b"no"), "registry-error"),
        (raw_answer("503 Service Unavailable", b"no"), "unavailable"),
        (raw_answer("200 OK", Content_Length=str(MAX_TOKEN_BODY_BYTES + 1)), "registry-error"),
        (b"", "unavailable"),
    ],
)
async def test_no_token_is_an_error_of_the_service_and_never_of_the_object(
    start_server: StartServer, answer: bytes, code: str
) -> None:
    server = await answered(start_server, answer)
    with pytest.raises(MultiFetchError) as caught:
        await ask(server)
    assert caught.value.code == code
    assert len(server.heads) == 1
    assert code != "registry-error" or isinstance(caught.value, RegistryError)


async def test_a_token_waits_for_nobody_who_holds_content(start_server: StartServer) -> None:
    """Who holds it may be waiting for the token."""
    server, budget = await answered(start_server, raw_answer("200 OK", b"{}")), Budget(1)
    is_full = trio.Event()

    async def wait_for_the_token() -> None:
        with budget.share(lambda: False):
            await hold(2)
            is_full.set()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_the_token)
        await is_full.wait()
        with trio.fail_after(10), budget.share(lambda: False):
            assert await ask(server) == b"{}"
        nursery.cancel_scope.cancel()
