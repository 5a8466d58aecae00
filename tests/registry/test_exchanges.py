"""How a host is reached: its certificates, its headers, its proxy; and what others see of these."""

from __future__ import annotations

import base64
import logging
import socket
import ssl
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio

from multi_fetch.durations import MIRROR_CONNECT_TIMEOUT_SECONDS
from multi_fetch.errors import HostsError, MultiFetchError, RegistryError, UnavailableError
from multi_fetch.oci.reference import Reference
from multi_fetch.registry import open_registry
from multi_fetch.registry import tls as tls_module
from multi_fetch.registry.exchanges import open_exchange
from multi_fetch.registry.hosts import Host
from multi_fetch.registry.proxies import Proxies
from multi_fetch.registry.session import Session
from multi_fetch.registry.tls import Tls
from tests.fakes.proxy import running_proxy
from tests.registry.conftest import ONCE, QUICK, RawServer, raw_answer
from tests.registry.tls_server import NAME, Authority, TlsServer, tls_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from trio import SocketStream

    from multi_fetch.remotes import Patience
    from tests.registry.conftest import StartServer

pytestmark = pytest.mark.usefixtures("lane")

BODY: Final = b"the answer"
IPV6_FIRST: Final = ("::1", "127.0.0.1")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def root(authority: Authority, tmp_path: Path) -> str:
    return authority.root_in(tmp_path)


async def say(stream: trio.abc.Stream, head: object) -> bool:
    await stream.send_all(raw_answer("200 OK", BODY))
    return True


async def get(
    host: Host, path: str = "/v2/", proxies: Proxies | None = None, patience: Patience = ONCE
) -> bytes:
    """The answer of a host, which is 200, or the error."""
    async with open_exchange(host, jobs=2, patience=patience, proxies=proxies) as exchange:
        session = Session(exchange, host, None, "a")
        answer = await session.send("GET", path, {})
        try:
            if answer.status != 200:
                raise await answer.error()
            return await answer.read(1000)
        finally:
            await answer.aclose()


def at(server: TlsServer | RawServer, name: str = NAME, **changes: object) -> Host:
    scheme = "https" if isinstance(server, TlsServer) else "http"
    return Host(scheme, f"{name}:{server.port}", **changes)  # type: ignore[arg-type]


@pytest.fixture(params=["files", "store"])
def judges(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates are judged by OpenSSL alone, or as where the system has a store of its own."""
    if request.param == "store":
        monkeypatch.setattr(tls_module, "STORES", {sys.platform})


# --- certificates ---------------------------------------------------------------------------


@pytest.mark.usefixtures("judges")
async def test_an_authority_of_ones_own_is_trusted(authority: Authority, root: str) -> None:
    async with tls_server(authority.certified(NAME), say) as server:
        assert await get(at(server, tls=Tls(ca_files=(root,)))) == BODY
        with pytest.raises(UnavailableError, match=r"(?i)certificate verify failed") as caught:
            await get(at(server), patience=QUICK)
        assert caught.value.attempts == 1  # it will not pass


@pytest.mark.usefixtures("judges")
async def test_an_address_may_be_what_a_certificate_is_for(authority: Authority, root: str) -> None:
    async with tls_server(authority.certified("127.0.0.1"), say) as server:
        tls = Tls(ca_files=(root,))
        assert await get(at(server, "127.0.0.1", tls=tls)) == BODY
        with pytest.raises(UnavailableError, match=r"(?i)hostname mismatch"):
            await get(at(server, tls=tls))


@pytest.mark.usefixtures("judges")
async def test_a_certificate_of_another_name_is_refused_unless_nobody_is_verified(
    authority: Authority, root: str
) -> None:
    async with tls_server(authority.certified("other.example"), say) as server:
        with pytest.raises(UnavailableError, match=r"(?i)hostname mismatch"):
            await get(at(server, tls=Tls(ca_files=(root,))))
        assert await get(at(server, tls=Tls(is_verified=False))) == BODY


@pytest.mark.usefixtures("judges")
async def test_a_client_is_known_by_its_certificate(
    authority: Authority, root: str, tmp_path: Path
) -> None:
    both = authority.client_in(tmp_path)
    context = authority.certified(NAME)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.ca.configure_trust(context)
    async with tls_server(context, say) as server:
        known = Tls(ca_files=(root,), client_pairs=((both, ""),))
        assert await get(at(server, tls=known)) == BODY
        with pytest.raises(MultiFetchError):
            await get(at(server, tls=Tls(ca_files=(root,))))


@pytest.mark.usefixtures("judges")
async def test_a_client_certificate_is_not_shown_where_a_redirect_leads(
    authority: Authority, root: str, tmp_path: Path
) -> None:
    both = authority.client_in(tmp_path)
    seen: list[object] = []

    async def look(stream: trio.SSLStream[trio.SocketStream], head: bytes) -> bool:
        seen.append(stream.getpeercert())
        if b"GET /v2/" in head:
            to = f"https://{NAME}:{store.port}/x"
            await stream.send_all(raw_answer("307 There", Location=to))
        else:
            await stream.send_all(raw_answer("200 OK", BODY))
        return True

    context = authority.certified(NAME)
    context.verify_mode = ssl.CERT_OPTIONAL
    authority.ca.configure_trust(context)
    async with tls_server(context, look) as store, tls_server(context, look) as server:
        tls = Tls(ca_files=(root,), client_pairs=((both, ""),))
        assert await get(at(server, tls=tls)) == BODY
    assert seen[0]
    assert not seen[1]


@pytest.mark.usefixtures("judges")
async def test_nobody_else_has_a_client_certificate_shown(
    authority: Authority, root: str, tmp_path: Path
) -> None:
    """Where another host leads back, it would say that the user asks what that one has chosen."""
    both = authority.client_in(tmp_path)
    asked: list[bytes] = []

    async def lead(stream: trio.SSLStream[trio.SocketStream], head: bytes) -> bool:
        asked.append(head.split()[1])
        there = {
            b"/v2/": f"https://{NAME}:{store.port}/x",
            b"/x": f"https://{NAME}:{server.port}/back",
            b"/v2/a": "/v2/b",
        }
        if to := there.get(asked[-1]):
            await stream.send_all(raw_answer("307 There", Location=to))
        else:
            await stream.send_all(raw_answer("200 OK", BODY))
        return True

    context = authority.certified(NAME)
    async with tls_server(context, lead) as store, tls_server(context, lead) as server:
        tls = Tls(ca_files=(root,), client_pairs=((both, ""),))
        with pytest.raises(RegistryError, match="a host that we show our certificate to: 'https"):
            await get(at(server, tls=tls))
        assert asked == [b"/v2/", b"/x"]
        assert await get(at(server, tls=tls), "/v2/a") == BODY  # it may lead to itself
        assert await get(at(server, tls=Tls(ca_files=(root,)))) == BODY  # and all who show none


@pytest.mark.usefixtures("judges")
async def test_tls_below_12_is_refused(authority: Authority, root: str) -> None:
    context = authority.certified(NAME)
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with tls_server(context, say) as server:
        with pytest.raises(UnavailableError, match=r"TLS|connection"):
            await get(at(server, tls=Tls(ca_files=(root,))))


async def test_a_file_that_is_gone_is_the_users_error_and_is_not_tried_again(
    authority: Authority,
) -> None:
    async with tls_server(authority.certified(NAME), say) as server:
        with pytest.raises(HostsError, match=r"absent\.pem cannot be used"):
            await get(at(server, tls=Tls(ca_files=("/absent.pem",))), patience=QUICK)


# --- headers --------------------------------------------------------------------------------


async def test_a_hosts_headers_go_to_it_and_not_to_where_it_leads(
    start_server: StartServer,
) -> None:
    store = await start_server(say)

    async def lead_on(stream: trio.SocketStream, head: str) -> bool:
        to = f"http://127.0.0.1:{store.port}/x"
        await stream.send_all(raw_answer("307 There", Location=to))
        return True

    server = await start_server(lead_on)
    headers = (("X-Token", "s3cret"), ("User-Agent", "mine"))
    assert await get(at(server, "127.0.0.1", headers=headers)) == BODY
    assert "X-Token: s3cret" in server.heads[0]
    assert server.heads[0].lower().count("user-agent:") == 1
    assert "User-Agent: mine" in server.heads[0]
    assert "s3cret" not in store.heads[0]
    assert "User-Agent: multi-fetch/" in store.heads[0]


# --- patience -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "is_last", "seconds"),
    [
        (Host("http", "r.example"), True, 30.0),
        (Host("http", "r.example"), False, MIRROR_CONNECT_TIMEOUT_SECONDS),
        (Host("http", "r.example", connect_seconds=9.0), False, 9.0),
        (Host("http", "r.example", connect_seconds=9.0), True, 9.0),
    ],
)
async def test_a_mirrors_connection_is_waited_for_less_long(
    host: Host,
    seconds: float,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_last: bool,
) -> None:
    async def never(*_: object, **__: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(trio, "open_tcp_stream", never)
    started = trio.current_time()
    async with open_exchange(host, jobs=1, patience=ONCE, is_last=is_last) as exchange:
        with pytest.raises(UnavailableError, match="no connection in"):
            await Session(exchange, host, None, "a").send("GET", "/v2/", {})
    assert trio.current_time() - started == pytest.approx(seconds)


# --- proxies --------------------------------------------------------------------------------


async def test_plain_http_is_asked_of_the_proxy(start_server: StartServer) -> None:
    server = await start_server(say)
    async with running_proxy({"registry.example:80": server.port}) as proxy:
        proxies = Proxies(http=f"http://me:s3cret@127.0.0.1:{proxy.port}")
        assert await get(Host("http", "registry.example"), proxies=proxies) == BODY
    assert proxy.asked == ["GET http://registry.example/v2/ HTTP/1.1"]
    pair = base64.b64encode(b"me:s3cret").decode()
    assert f"Proxy-Authorization: Basic {pair}" in proxy.heads[0]
    assert "proxy-authorization" not in server.heads[0].lower()


@pytest.mark.parametrize("is_secure", [False, True])
async def test_https_goes_through_a_tunnel_and_the_proxy_sees_no_request(
    authority: Authority, root: str, *, is_secure: bool
) -> None:
    context = authority.certified(NAME) if is_secure else None
    async with (
        tls_server(authority.certified("registry.example"), say) as server,
        running_proxy({"registry.example:443": server.port}, context) as proxy,
    ):
        scheme = "https" if is_secure else "http"
        proxies = Proxies(https=f"{scheme}://me:s3cret@{NAME}:{proxy.port}")
        host = Host("https", "registry.example", tls=Tls(ca_files=(root,)))
        assert await get(host, proxies=proxies) == BODY
    assert proxy.asked == ["CONNECT registry.example:443 HTTP/1.1"]
    assert "Basic" in proxy.heads[0]
    assert b"proxy" not in server.heads[0].lower()


async def test_no_proxy_and_this_machine_are_asked_directly(start_server: StartServer) -> None:
    server = await start_server(say)
    async with running_proxy({}) as proxy:
        proxies = Proxies(all=f"http://127.0.0.1:{proxy.port}", no_proxy="registry.example")
        assert await get(at(server), proxies=proxies) == BODY
        with pytest.raises(MultiFetchError):
            await get(Host("http", "registry.example"), proxies=proxies)
    assert proxy.asked == []


async def test_a_hosts_own_proxy_comes_before_the_environments_also_on_this_machine(
    start_server: StartServer,
) -> None:
    server = await start_server(say)
    place = f"127.0.0.1:{server.port}"
    async with running_proxy({place: server.port}) as proxy:
        host = Host("http", place, proxy=f"http://127.0.0.1:{proxy.port}")
        assert await get(host, proxies=Proxies(all="http://absent.example", no_proxy="*")) == BODY
    assert proxy.asked == [f"GET http://{place}/v2/ HTTP/1.1"]


@pytest.mark.parametrize(("status", "attempts"), [(403, 1), (407, 1), (502, 4), (503, 4)])
async def test_a_proxy_that_refuses_says_so_and_is_asked_again_only_where_that_helps(
    authority: Authority, status: int, attempts: int
) -> None:
    async with running_proxy({}) as proxy:
        proxy.status = status
        proxies = Proxies(all=f"http://me:s3cret@127.0.0.1:{proxy.port}")
        with pytest.raises(UnavailableError, match=f"the proxy refuses: {status}") as caught:
            await get(Host("https", "registry.example"), proxies=proxies, patience=QUICK)
    assert len(proxy.asked) == attempts
    assert "s3cret" not in str(caught.value)


async def test_a_proxy_that_is_not_there_is_unavailable_and_its_password_untold() -> None:
    proxies = Proxies(all="http://me:s3cret@127.0.0.1:1")
    for scheme in ("http", "https"):
        with pytest.raises(UnavailableError, match=r"by the proxy 127\.0\.0\.1:1: ") as caught:
            await get(Host(scheme, "registry.example"), proxies=proxies)
        assert "s3cret" not in str(caught.value)


def repeats_the_login(line: str) -> Callable[[SocketStream, str], Awaitable[bool]]:
    """A proxy in whose answer a line, with a brace in it, has the login that it was sent."""

    async def reply(stream: SocketStream, head: str) -> bool:
        login = head.partition("Proxy-Authorization: Basic ")[2].partition("\r\n")[0]
        await stream.send_all(line.format(login).encode())
        return False

    return reply


@pytest.mark.parametrize(
    ("scheme", "answer"),
    [
        ("http", "HTTP/1.1 502 No\r\n\r\n<pre>Proxy-Authorization: Basic {}</pre>"),
        ("http", "HTTP/1.1 302 No\r\nLocation: http://registry.example/{}\r\n\r\n"),
        ("http", "HTTP/1.1 200 OK\r\nBasic {}\r\n\r\n"),
        ("http", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}\r\n"),
        ("https", "HTTP/1.1 407 Basic {}\r\n\r\n"),
        ("https", "HTTP/1.1 200 OK\r\nBasic {}\r\n\r\n"),
        ("https", "{}\r\n\r\n"),
    ],
)
async def test_what_a_proxy_repeats_of_its_login_is_not_told(
    start_server: StartServer, caplog: pytest.LogCaptureFixture, scheme: str, answer: str
) -> None:
    caplog.set_level(logging.DEBUG, "multi_fetch")
    proxy = await start_server(repeats_the_login(answer))
    proxies = Proxies(all=f"http://me:s3cret-and-long-enough@127.0.0.1:{proxy.port}")
    with pytest.raises(MultiFetchError) as caught:
        await get(Host(scheme, "registry.example"), proxies=proxies)
    login = base64.b64encode(b"me:s3cret-and-long-enough").decode()
    assert f"Basic {login}" in proxy.heads[0]
    assert login not in str(caught.value)
    assert login not in caplog.text


@pytest.mark.parametrize("is_trusted", [False, True])
async def test_a_proxy_is_verified_though_the_registry_is_not(
    authority: Authority, root: str, *, is_trusted: bool
) -> None:
    """Else whoever answers in the proxy's place has its password."""
    tls = Tls(is_verified=False, ca_files=(root,) if is_trusted else ())
    async with running_proxy({}, authority.certified(NAME)) as proxy:
        proxy.status = 403
        proxies = Proxies(all=f"https://me:s3cret@{NAME}:{proxy.port}")
        with pytest.raises(UnavailableError, match="403" if is_trusted else "CERTIFICATE_VERIFY"):
            await get(Host("https", "registry.example", tls=tls), proxies=proxies)
    assert len(proxy.asked) == is_trusted


async def test_a_proxy_of_an_unknown_kind_is_the_users_error() -> None:
    with pytest.raises(HostsError, match="socks5 is not known here"):
        await get(Host("https", "r.example"), proxies=Proxies(all="socks5://me:s3cret@x"))


async def test_a_proxy_inside_opens_no_way_into_the_private_network(
    start_server: StartServer,
) -> None:
    """The proxy's address is no reason to follow a public registry to 127.0.0.1."""

    async def lead_inside(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(raw_answer("307 There", Location="http://127.0.0.1:1/secret"))
        return True

    server = await start_server(lead_inside)
    async with running_proxy({"registry.example:80": server.port}) as proxy:
        proxies = Proxies(all=f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(RegistryError, match="a private network"):
            await get(Host("http", "registry.example"), proxies=proxies)
    assert len(proxy.asked) == 1


async def test_a_token_is_fetched_through_the_proxy_too(start_server: StartServer) -> None:
    async def registry(stream: trio.SocketStream, head: str) -> bool:
        if head.startswith("GET /token"):
            await stream.send_all(raw_answer("200 OK", b'{"token": "t0ken"}'))
        elif "Bearer t0ken" in head:
            await stream.send_all(raw_answer("200 OK", BODY))
        else:
            realm = 'Bearer realm="http://auth.example/token"'
            await stream.send_all(raw_answer("401 Who", WWW_Authenticate=realm))
        return True

    server = await start_server(registry)
    names = {"registry.example:80": server.port, "auth.example:80": server.port}
    async with running_proxy(names) as proxy:
        proxies = Proxies(all=f"http://127.0.0.1:{proxy.port}")
        assert await get(Host("http", "registry.example"), proxies=proxies) == BODY
    assert [line.split("/")[2] for line in proxy.asked] == [
        "registry.example",
        "auth.example",
        "registry.example",
    ]


# --- its addresses --------------------------------------------------------------------------


class TwoAddresses(trio.abc.HostnameResolver):
    """Has two addresses for each name; the better one, by RFC 6724, first."""

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002 - the same
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        flags |= socket.AI_NUMERICHOST
        both = (socket.getaddrinfo(each, port, 0, type, proto, flags) for each in IPV6_FIRST)
        return [address for each in both for address in each]

    async def getnameinfo(self, sockaddr: tuple[Any, ...], flags: int) -> tuple[str, str]:
        raise NotImplementedError


def listening_on_ipv6(port: int = 0, *, backlog: int = 0) -> socket.socket:
    """With a backlog of 0 it has room for one connection that nobody takes."""
    try:
        return socket.create_server(("::1", port), family=socket.AF_INET6, backlog=backlog)
    except OSError:
        pytest.skip("this machine has no IPv6")


async def test_a_host_may_have_an_address_of_ipv6() -> None:
    server = RawServer(say)
    async with trio.open_nursery() as nursery:
        with listening_on_ipv6(backlog=1) as listening:
            server.port = listening.getsockname()[1]
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
            nursery.start_soon(trio.serve_listeners, server.serve, [listener])
            assert await get(Host("http", f"[::1]:{server.port}")) == BODY
            nursery.cancel_scope.cancel()
    assert f"host: [::1]:{server.port}" in server.heads[0].lower()


@pytest.mark.parametrize("is_there", [False, True], ids=["refuses", "says nothing"])
async def test_an_address_where_nobody_answers_gives_way_to_the_next(
    start_server: StartServer, *, is_there: bool
) -> None:
    """RFC 8305, "Happy Eyeballs": not only after a whole patience of 30 s."""
    trio.socket.set_custom_hostname_resolver(TwoAddresses())  # of this run of trio
    server = await start_server(say)
    with ExitStack() as stack:
        if is_there:
            deaf = stack.enter_context(listening_on_ipv6(server.port))
            for _ in range(4):  # beyond its room, a connection stays without an answer
                filling = stack.enter_context(socket.socket(socket.AF_INET6))
                filling.setblocking(False)
                filling.connect_ex(deaf.getsockname())
        with trio.fail_after(10):
            assert await get(Host("http", f"registry.example:{server.port}")) == BODY


# --- over the network without TLS -----------------------------------------------------------


@pytest.fixture
def outward() -> str:
    """An address of this machine's that is not loopback: what goes there may be overheard."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # it sends nothing
        except OSError:
            pytest.skip("this machine has no network")
        return str(probe.getsockname()[0])


@pytest.mark.parametrize("how", ["realm", "redirect", "mirror"])
async def test_no_login_goes_over_the_network_without_tls(
    start_server: StartServer, closed_port: int, outward: str, how: str
) -> None:
    async def refuse(stream: SocketStream, _: str) -> bool:
        await stream.send_all(raw_answer("401 No", WWW_Authenticate='Basic realm="x"'))
        return True

    async def lead(stream: SocketStream, head: str) -> bool:
        wanted = f'Bearer realm="http://{place}/t"' if how == "realm" else 'Basic realm="x"'
        answer = raw_answer("401 No", WWW_Authenticate=wanted)
        if "authorization" in head.lower():
            answer = raw_answer("307 Go", Location=f"http://{place}/x")
        await stream.send_all(answer)
        return True

    there, registry = RawServer(refuse), await start_server(lead)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host=outward)
        place = f"{outward}:{listeners[0].socket.getsockname()[1]}"
        nursery.start_soon(trio.serve_listeners, there.serve, listeners)
        hosts = [Host("http", f"127.0.0.1:{registry.port}")]
        if how == "mirror":
            mirror = Host("http", place, namespace="registry.example", is_plain=True)
            hosts = [mirror, Host("https", f"127.0.0.1:{closed_port}")]
        with pytest.raises(MultiFetchError):
            await resolve(hosts)
        nursery.cancel_scope.cancel()
    assert len(there.heads) == (0 if how == "realm" else 1)
    assert "authorization" not in "".join(there.heads).lower()


async def resolve(hosts: list[Host]) -> None:
    ref = Reference("registry.example/a", "v1")
    async with open_registry(
        ref, username="al1ce", password="s3cret", hosts=hosts, patience=ONCE
    ) as remote:
        await remote.resolve(ref)
