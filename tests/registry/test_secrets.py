"""Secrets go to the registry that they are for, and to its token service; judged by what was sent.

Each case is a registry, or something in its place, that tries to have a secret sent elsewhere.
All requests are kept, and searched for all secrets in all forms; so are logs and errors.
"""

from __future__ import annotations

import base64
import importlib
import json
import logging
import pkgutil
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_plus

import httpx
import msgspec
import pytest
from rich.pretty import pretty_repr

import multi_fetch
from multi_fetch.client.launch import plan_launch
from multi_fetch.errors import MultiFetchError, RegistryError
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.request import ByteRange
from multi_fetch.registry import open_registry
from multi_fetch.registry.credentials import Credential, Keychain
from multi_fetch.registry.exchange import Exchange
from multi_fetch.registry.hosts import Host, default_host
from multi_fetch.registry.httpx_lane import HttpxLane
from multi_fetch.registry.proxies import Proxies
from multi_fetch.registry.session import Session
from multi_fetch.registry.url import parse_url
from tests.registry.conftest import ONCE, raw_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trio import SocketStream

    from tests.registry.conftest import Install, StartServer

REGISTRY: Final = "https://registry.example"
PATH: Final = "/v2/a/blobs/x"
REALM: Final = "https://auth.example/token"

PASSWORD: Final = "p&ssword-s3cret"
IDENTITY: Final = "identity-s3cret"
OWN_TOKEN: Final = "own-token-s3cret"
ISSUED: Final = "issued-token-s3cret"


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


LOGIN: Final = base64_of(f"alice:{PASSWORD}")
LONG_PASSWORD: Final = "Open-sesame-and-let-me-in"
IDENTITY_LOGIN: Final = base64_of(f":{IDENTITY}")
LASTING: Final = (PASSWORD, quote_plus(PASSWORD), LOGIN, IDENTITY, IDENTITY_LOGIN, OWN_TOKEN)
SECRETS: Final = (*LASTING, ISSUED)

CREDENTIALS: Final = {
    "login": Credential(username="alice", password=PASSWORD),
    "identity": Credential(identity_token=IDENTITY),
    "registry-token": Credential(registry_token=OWN_TOKEN),
}


@dataclass
class Net:
    """All hosts there are.

    Attributes:
        answers: what each URL, without its query, answers; 404 elsewhere.
        requests: all so far.
    """

    answers: dict[str, Callable[[httpx.Request], httpx.Response]]
    requests: list[httpx.Request] = field(default_factory=list)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.get(str(request.url.copy_with(query=None)))
        return httpx.Response(404) if answer is None else answer(request)

    def origins_of(self, secrets: tuple[str, ...]) -> set[str]:
        """Where any of them went."""
        return {
            f"{request.url.scheme}://{request.url.netloc.decode()}"
            for request in self.requests
            if any(secret in told(request) for secret in secrets)
        }


def told(request: httpx.Request) -> str:
    headers = " ".join(f"{name}: {value}" for name, value in request.headers.items())
    return f"{request.url} {headers} {request.content.decode()}"


def wants(challenge: str) -> Callable[[httpx.Request], httpx.Response]:
    """A registry that gives its content to each that sends an Authorization."""

    def answer(request: httpx.Request) -> httpx.Response:
        if "authorization" in request.headers:
            return httpx.Response(200, content=b"content")
        return httpx.Response(401, headers={"www-authenticate": challenge})

    return answer


def leads(
    target: str, then: Callable[[httpx.Request], httpx.Response]
) -> Callable[[httpx.Request], httpx.Response]:
    """As ``then``, but instead of the content there is a redirect."""

    def answer(request: httpx.Request) -> httpx.Response:
        first = then(request)
        if first.status_code != 200:
            return first
        return httpx.Response(307, headers={"location": target})

    return answer


def always(
    status: int, body: bytes = b"", **headers: str
) -> Callable[[httpx.Request], httpx.Response]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: httpx.Response(status, content=body, headers=named)


BASIC: Final = 'Basic realm="r"'
BEARER: Final = f'Bearer realm="{REALM}",service="s"'
TOKEN: Final = always(200, json.dumps({"token": ISSUED}).encode())


async def fetch(
    net: Net, credential: Credential | None, keychain: Keychain | None = None
) -> MultiFetchError | None:
    """Asks for the blob; the failure, where there is one."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(net)) as client:
        general = HttpxLane(client, stall_seconds=ONCE.stall_seconds)
        exchange = Exchange(general, jobs=4, patience=ONCE)
        host = default_host("registry.example")
        session = Session(exchange, host, credential, "a", keychain=keychain)
        try:
            async with session.request("GET", PATH, {"Accept": "*/*"}) as answer:
                await answer.read(1_000)
        except MultiFetchError as error:
            return error
    return None


@pytest.mark.parametrize("kind", CREDENTIALS)
@pytest.mark.parametrize("challenge", [BASIC, BEARER])
@pytest.mark.parametrize(
    "target",
    [
        "https://cdn.example/blob?sig=1",
        "https://registry.example:8443/v2/a/blobs/x",
        "https://registry.example.evil.example/v2/a/blobs/x",
        "https://alice@cdn.example/blob",
        "http://registry.example/v2/a/blobs/x",
        "https://127.0.0.1/blob",
        "https://[::ffff:10.0.0.1]/blob",
        "//cdn.example/blob",
    ],
)
async def test_no_secret_follows_a_redirect(kind: str, challenge: str, target: str) -> None:
    net = Net({REGISTRY + PATH: leads(target, wants(challenge)), REALM: TOKEN})
    await fetch(net, CREDENTIALS[kind])
    assert net.origins_of(SECRETS) <= {REGISTRY, "https://auth.example"}
    assert net.origins_of((ISSUED, OWN_TOKEN)) <= {REGISTRY}


@pytest.mark.parametrize("kind", CREDENTIALS)
@pytest.mark.parametrize(
    "realm",
    [
        "http://auth.example/token",
        "http://registry.example/token",
        "https://localhost/token",
        "https://auth.localhost/token",
        "https://127.0.0.1:8443/token",
        "https://127.1/token",
        "https://2130706433/token",
        "https://0x7f.1/token",
        "https://0/token",
        "https://[::1]/token",
        "https://[::ffff:127.0.0.1]/token",
        "https://10.0.0.1/token",
        "https://172.16.0.1/token",
        "https://192.168.1.1/token",
        "https://169.254.169.254/latest/meta-data",
        "https://[fe80::1]/token",
        "https://[fd00::1]/token",
        "https://100.64.0.1/token",
        "ftp://auth.example/token",
        "file:///etc/passwd",
        "https://alice:pw@auth.example/token",
        "/token",
        "",
    ],
)
async def test_a_realm_that_no_public_registry_may_name_is_not_asked(kind: str, realm: str) -> None:
    credential = CREDENTIALS[kind]
    net = Net({REGISTRY + PATH: always(401, www_authenticate=f'Bearer realm="{realm}"')})
    error = await fetch(net, credential)
    assert isinstance(error, RegistryError)
    assert {request.url.host for request in net.requests} == {"registry.example"}
    assert "pw@" not in error.message
    assert net.origins_of(SECRETS) <= {REGISTRY}


@pytest.mark.parametrize("kind", ["login", "identity"])
@pytest.mark.parametrize(
    "target", ["https://evil.example/token", "http://auth.example/token", "https://10.0.0.1/token"]
)
async def test_no_secret_follows_a_redirect_of_the_token_service(kind: str, target: str) -> None:
    net = Net(
        {
            REGISTRY + PATH: wants(BEARER),
            REALM: always(307, location=target),
            "https://evil.example/token": TOKEN,
        }
    )
    await fetch(net, CREDENTIALS[kind])
    assert net.origins_of(SECRETS) <= {"https://auth.example", REGISTRY}
    assert net.origins_of(LASTING) == {"https://auth.example"}


@pytest.mark.parametrize("kind", CREDENTIALS)
@pytest.mark.parametrize("challenge", [BASIC, 'Bearer realm="https://evil.example/token"'])
async def test_a_401_of_where_a_redirect_leads_gets_nothing(kind: str, challenge: str) -> None:
    net = Net(
        {
            REGISTRY + PATH: always(307, location="https://evil.example/blob"),
            "https://evil.example/blob": always(401, www_authenticate=challenge),
            "https://evil.example/token": TOKEN,
        }
    )
    assert await fetch(net, CREDENTIALS[kind]) is None
    assert net.origins_of(SECRETS) == set()
    assert "https://evil.example/token" not in {str(each.url) for each in net.requests}


async def test_a_login_goes_to_the_token_service_and_only_its_token_to_the_registry() -> None:
    net = Net({REGISTRY + PATH: wants(BEARER), REALM: TOKEN})
    assert await fetch(net, CREDENTIALS["login"]) is None
    assert net.origins_of(LASTING) == {"https://auth.example"}
    assert net.origins_of((ISSUED,)) == {REGISTRY}


@pytest.mark.parametrize(
    ("kind", "challenge"), [("login", BASIC), *((k, BEARER) for k in CREDENTIALS)]
)
async def test_who_leads_back_to_the_registry_asks_nothing_there_in_the_users_name(
    kind: str, challenge: str
) -> None:
    """What is asked there others have chosen, and a tag's content may be anything that it says."""
    chosen, there = f"{REGISTRY}/api/tokens", "https://cdn.example/blob"
    net = Net(
        {
            REGISTRY + PATH: leads(there, wants(challenge)),
            there: always(307, location=chosen),
            chosen: wants(challenge),
            REALM: TOKEN,
        }
    )
    assert await fetch(net, CREDENTIALS[kind]) is None
    at_last = [each for each in net.requests if str(each.url) == chosen]
    assert len(at_last) == 1
    assert not any(secret in told(at_last[0]) for secret in SECRETS)


@pytest.mark.parametrize("kind", ["login", "identity"])
async def test_no_secret_is_in_a_url(kind: str) -> None:
    net = Net({REGISTRY + PATH: wants(BEARER), REALM: always(404)})
    await fetch(net, CREDENTIALS[kind])
    assert len(net.requests) > 2
    assert not any(secret in str(each.url) for each in net.requests for secret in SECRETS)


@pytest.mark.parametrize("kind", CREDENTIALS)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 302])
@pytest.mark.parametrize("challenge", [BASIC, BEARER, BEARER + ',error="invalid_token"'])
async def test_no_secret_is_in_logs_errors_or_tracebacks(
    kind: str, status: int, challenge: str, caplog: pytest.LogCaptureFixture
) -> None:
    credential = CREDENTIALS[kind]
    net = Net({REGISTRY + PATH: always(401, www_authenticate=challenge), REALM: always(status)})
    with caplog.at_level(logging.DEBUG):
        error = await fetch(net, credential)
    assert error is not None
    said = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    said += "".join(traceback.format_exception(error)) + repr(error) + str(error.detail())
    assert not any(secret in said for secret in SECRETS)


async def test_a_keychain_gives_a_registry_its_own_and_no_others(
    tmp_path: Path, install: Install
) -> None:
    install("echo credentials not found; exit 1")
    path = tmp_path / "config.json"
    others = (
        "evil.example",
        "example",
        "registry.example:5000",
        "registry.example/b",
        "auth.example",
    )
    path.write_text(
        json.dumps(
            {
                "auths": {key: {"auth": base64_of(f"bob:{key}")} for key in others}
                | {"https://registry.example/v1/": {"auth": LOGIN}},
                "credsStore": "test",
            }
        )
    )
    net = Net({REGISTRY + PATH: wants(BASIC)})
    assert await fetch(net, None, Keychain([path])) is None
    sent = [request.headers.get("authorization", "") for request in net.requests]
    assert sent == ["", f"Basic {LOGIN}"]


async def test_a_keychain_is_not_opened_for_a_registry_that_asks_for_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "config.json"
    path.write_text("{")
    net = Net({REGISTRY + PATH: always(200)})
    assert await fetch(net, None, Keychain([path])) is None


def echoes(request: httpx.Request) -> httpx.Response:
    """What some proxies do with a request that they do not like."""
    said = told(request)
    for login in (LOGIN, IDENTITY_LOGIN):
        said = said.replace(login, f"{login}, {base64.b64decode(login).decode()}")
    refusal = json.dumps({"errors": [{"code": said, "message": said}]}).encode()
    return httpx.Response(
        400, content=refusal, headers={"ratelimit-limit": said, "www-authenticate": said}
    )


@pytest.mark.usefixtures("lane")
@pytest.mark.parametrize(
    "line",
    [
        "Docker-Content-Digest: {}",
        "Content-Type: a/{}",
        "Content-Range: bytes {}",
        "Content-Encoding: {}",
        "Transfer-Encoding: {}",
        "Link: {}",
        "Link: <http://[{}>",
        "Link: </v2/{}>; rel=next",
        "X-RateLimit-{}: 1",
        "Warning: 299 - {}",
        "WWW-Authenticate: Basic {}",
        "Retry-After: {}",
        "Content-Length: {}",
    ],
)
@pytest.mark.parametrize(
    ("password", "told_part"),
    [
        (LONG_PASSWORD, base64_of(f"alice:{LONG_PASSWORD}").strip("=")),
        (LONG_PASSWORD, LONG_PASSWORD),
        ("hunter2", base64_of("alice:hunter2").strip("=")),
        ("hunter2", "alice:hunter2"),
        ("hunter-2", "hunter-2"),
    ],
)
async def test_what_a_header_repeats_is_in_no_log_error_or_descriptor(
    start_server: StartServer,
    caplog: pytest.LogCaptureFixture,
    line: str,
    password: str,
    told_part: str,
) -> None:
    caplog.set_level(logging.DEBUG, "multi_fetch")

    async def reply(stream: SocketStream, head: str) -> bool:
        name, _, value = line.format(told_part).partition(": ")
        status = "206 Part" if "Range:" in head else "200 OK"
        if "Authorization: Basic" in head:
            await stream.send_all(raw_answer(status, b"{}", **{name.replace("-", "_"): value}))
        else:
            await stream.send_all(raw_answer("401 No", WWW_Authenticate=BASIC))
        return True

    server = await start_server(reply)
    ref = Reference(server.repository.locator, f"@{digest_of(b'{}')}")
    shown: list[object] = []
    async with open_registry(ref, username="alice", password=password, patience=ONCE) as remote:
        for byte_range in (None, ByteRange(0, 1)):
            with suppress(MultiFetchError):
                shown.append(await remote.resolve(ref))
            try:
                async with remote.open(ref, byte_range=byte_range) as opened:
                    shown.append(opened.descriptor)
            except MultiFetchError as error:
                shown.append(error.message)
        with suppress(MultiFetchError):
            shown += [page async for page in remote.tags(ref)]
        shown.append(remote.report())
    records = " ".join(str(vars(record)) for record in caplog.records)
    assert any("Authorization: Basic" in head for head in server.heads)
    assert told_part not in f"{shown} {records}"
    assert told_part.lower() not in f"{shown} {records}"


async def test_a_realm_that_has_a_word_in_common_with_what_was_sent_is_asked_as_it_is() -> None:
    net = Net({REGISTRY + PATH: wants(BEARER), REALM: TOKEN})
    async with httpx.AsyncClient(transport=httpx.MockTransport(net)) as client:
        general = HttpxLane(client, stall_seconds=ONCE.stall_seconds)
        host = default_host("registry.example")
        own = parse_url(host.url).origin, {"X-Tenant": "auth", "X-Key": "t"}
        exchange = Exchange(general, jobs=4, patience=ONCE, own=own)
        session = Session(exchange, host, CREDENTIALS["login"], "a")
        async with session.request("GET", PATH, {}) as answer:
            assert answer.status == 200
    assert net.origins_of((LOGIN,)) == {"https://auth.example"}


def echoes_in_challenge(request: httpx.Request) -> httpx.Response:
    return httpx.Response(401, headers={"www-authenticate": f"{BEARER}, ={told(request)}"})


@pytest.mark.parametrize("kind", CREDENTIALS)
@pytest.mark.parametrize("challenge", [BASIC, BEARER])
@pytest.mark.parametrize("echo", [echoes, echoes_in_challenge])
@pytest.mark.parametrize("place", [REGISTRY + PATH, REALM])
async def test_what_a_server_repeats_of_a_request_is_told_without_its_secrets(
    kind: str,
    challenge: str,
    echo: Callable[[httpx.Request], httpx.Response],
    place: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)

    def registry(request: httpx.Request) -> httpx.Response:
        is_asked = "authorization" in request.headers and place != REALM
        return echo(request) if is_asked else wants(challenge)(request)

    net = Net({REGISTRY + PATH: registry, REALM: echo if place == REALM else TOKEN})
    error = await fetch(net, CREDENTIALS[kind])
    records = " ".join(str(vars(record)) for record in caplog.records)
    shown = f"{error} {vars(error) if error else ''} {records}"
    assert not [secret for secret in SECRETS if secret in shown]


def escaped(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


@pytest.mark.parametrize("spell", [str, escaped])
async def test_a_redirect_to_a_place_that_is_named_by_a_password_is_refused_without_it(
    spell: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    to = f"https://cdn.example/{spell(PASSWORD)}"
    net = Net({REGISTRY + PATH: leads(to, wants(BASIC))})
    error = await fetch(net, CREDENTIALS["login"])
    assert isinstance(error, RegistryError)
    records = " ".join(str(vars(record)) for record in caplog.records)
    for form in (PASSWORD, spell(PASSWORD)):
        assert form not in f"{error} {vars(error)} {records}"
    assert "https://cdn.example" not in net.origins_of(("/",))


@pytest.mark.parametrize("spell", [str, escaped])
async def test_a_redirect_to_a_place_that_is_named_by_a_token_is_refused_without_it(
    spell: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = "a-token-that-is-issued-for-this-registry-alone"

    def registry(request: httpx.Request) -> httpx.Response:
        if "authorization" not in request.headers:
            return wants(BEARER)(request)
        return httpx.Response(307, headers={"location": f"https://cdn.example/{spell(token)}"})

    issued = always(200, json.dumps({"token": token}).encode())
    net = Net({REGISTRY + PATH: registry, REALM: issued})
    error = await fetch(net, CREDENTIALS["login"])
    assert isinstance(error, RegistryError)
    assert "has what we sent in confidence" in error.message
    records = " ".join(str(vars(record)) for record in caplog.records)
    for form in (token, spell(token)):
        assert form not in f"{error} {vars(error)} {records}"
    assert "https://cdn.example" not in net.origins_of(("/",))


async def test_a_repository_may_be_called_as_the_password_is() -> None:
    """What stands in the URL that was asked for stands elsewhere for its own sake."""
    path, link = "/v2/team-2024/tags/list", "</v2/team-2024/tags/list?last=a>; rel=next"
    to = "https://cdn.example/team-2024/tags"
    net = Net({REGISTRY + path: leads(to, wants(BASIC)), to: always(200, link=link)})
    async with httpx.AsyncClient(transport=httpx.MockTransport(net)) as client:
        general = HttpxLane(client, stall_seconds=ONCE.stall_seconds)
        exchange = Exchange(general, jobs=4, patience=ONCE)
        login = Credential(username="alice", password="team-2024")
        session = Session(exchange, default_host("registry.example"), login, "team-2024")
        async with session.request("GET", path, {}) as answer:
            assert answer.headers["link"] == link
        net.answers = {REGISTRY + path: always(200, link=link)}
        async with session.request("GET", path, {}) as answer:
            assert answer.headers["link"] == link
    assert "authorization" in net.requests[-1].headers


# Fields of values that hold a secret.
CONFIDENTIAL: Final = {
    *(
        "access_token",
        "auth",
        "authorization",
        "env",
        "form",
        "header",
        "headers",
        "identity_token",
    ),
    *("identitytoken", "password", "proxy", "registry_token", "registrytoken", "secret", "token"),
}


def is_confidential(kind: type[msgspec.Struct]) -> bool:
    names = set(kind.__struct_fields__)
    has_bytes_to_send = kind.__annotations__.get("request") == "bytes"
    return bool(names & CONFIDENTIAL) or has_bytes_to_send


def structs(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for each in kind.__subclasses__():
        yield each
        yield from structs(each)


def test_no_value_shows_the_secret_that_it_holds() -> None:
    """A debugger, a report of a crash or a failed assertion prints reprs; rich has a way around."""
    for module in pkgutil.walk_packages(multi_fetch.__path__, "multi_fetch."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    held = [
        each
        for each in structs(msgspec.Struct)
        if each.__module__.startswith("multi_fetch.")
        and is_confidential(each)
        # what a test's registry was sent is the test's own
        and not each.__module__.startswith("multi_fetch.testing.")
    ]
    assert len(held) > 10
    assert not [each for each in held if each.__repr__ is msgspec.Struct.__repr__]
    assert not [each for each in held if each.__rich_repr__ is msgspec.Struct.__rich_repr__]


def test_rich_shows_what_the_repr_does() -> None:
    """Its tracebacks show a program's variables."""
    values = [
        CREDENTIALS["login"],
        Host("https", "registry.example", headers=(("X-Key", PASSWORD),)),
        Proxies(all=f"http://alice:{PASSWORD}@proxy.example"),
        parse_url(f"https://store.example/blob?signature={PASSWORD}"),
        plan_launch("registry.example/a", {"env": {"MULTI_FETCH_PASSWORD": PASSWORD}}),
    ]
    assert [pretty_repr(each, max_width=999) for each in values] == [repr(each) for each in values]
    assert PASSWORD not in repr(values)
