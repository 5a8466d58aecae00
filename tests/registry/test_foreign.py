"""Foreign URLs: which are asked, in which order, and what they are never told."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from multi_fetch.durations import MIRROR_REST_SECONDS
from multi_fetch.errors import (
    DigestMismatchError,
    MultiFetchError,
    NotFoundError,
    RegistryError,
    SizeMismatchError,
    UnauthorizedError,
    UnavailableError,
)
from multi_fetch.limits import MAX_FOREIGN_URLS
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCTET_STREAM
from multi_fetch.oci.reference import Reference
from multi_fetch.registry import open_registry
from multi_fetch.registry.foreign import allowed_url, stranger
from multi_fetch.registry.hosts import NOBODY, Host, default_host
from multi_fetch.registry.mirrors import MirroredRemote
from multi_fetch.registry.proxies import Proxies
from multi_fetch.registry.tls import Tls
from multi_fetch.remotes import Foreign, Patience, open_remote
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.verify import Verifier
from tests.fakes.consumer import QUICK
from tests.fakes.proxy import running_proxy
from tests.registry.conftest import ONCE, raw_answer
from tests.registry.mirror_set import Shelf, shelves
from tests.registry.tls_server import NAME, Authority, answering, tls_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from multi_fetch.remotes import Remote
    from tests.registry.conftest import StartServer

LAYER: Final = random.Random("foreign").randbytes(200_000)
DIGEST: Final = digest_of(LAYER)
LOCATOR: Final = "localhost:1/a"
SECRETS: Final = ("al1ce", "s3cret", "authorization", "x-own", "cookie", "own-header")

pytestmark = pytest.mark.usefixtures("lane")


@asynccontextmanager
async def foreign(
    *hosts: Host, locator: str = LOCATOR, patience: Patience = QUICK
) -> AsyncIterator[Remote]:
    """A remote with secrets of all kinds, which may ask foreign URLs."""
    own = tuple(
        Host(each.scheme, each.authority, headers=(("X-Own", "own-header"),), tls=each.tls)
        for each in hosts
    )
    async with open_registry(
        Reference(locator),
        username="al1ce",
        password="s3cret",
        patience=patience,
        hosts=own,
        foreign_urls=True,
    ) as remote:
        assert isinstance(remote, Foreign)
        yield remote


async def fetched(remote: Remote, *urls: str, size: int | None = len(LAYER)) -> bytes:
    """The verified content of the layer."""
    assert isinstance(remote, Foreign)
    ref = Reference(LOCATOR, f"@{DIGEST}")
    content = bytearray()
    async with remote.open_foreign(ref, urls, media_types=["a/layer"], size=size) as opened:
        assert (opened.name, opened.descriptor.media_type) == (str(ref), "a/layer")
        verifier = Verifier(opened.descriptor.digest, opened.descriptor.size)
        async for chunk in opened.chunks:
            verifier.update(chunk)
            content += chunk
        verifier.finish()
    return bytes(content)


def url_of(shelf: Shelf, name: str = DIGEST, path: str = "/files") -> str:
    assert shelf.server is not None
    return f"http://127.0.0.1:{shelf.server.port}{path}/{name}"


async def several(start_server: StartServer, count: int) -> tuple[Shelf, ...]:
    made = await shelves(start_server, count)
    for shelf in made:
        shelf.add(LAYER)
    return tuple(made)


# --- who is asked ---------------------------------------------------------------------------


async def test_urls_are_asked_in_their_order_until_one_has_it(start_server: StartServer) -> None:
    first, second, third = await several(start_server, 3)
    first.objects.clear()
    async with foreign(default_host("localhost:1")) as remote:
        assert await fetched(remote, *map(url_of, (first, second, third))) == LAYER
    asked = [f"GET {DIGEST}"]
    assert (first.asked, second.asked, third.asked) == (asked, asked, [])


async def test_query_and_path_are_asked_as_they_are_written(start_server: StartServer) -> None:
    (shelf,) = await several(start_server, 1)
    url = f"{url_of(shelf, path='/v2/x%2Fy')}?sig=a%2Bb&n=1"
    async with foreign(default_host("localhost:1")) as remote:
        assert await fetched(remote, url) == LAYER
    assert shelf.heads[0].startswith(f"GET /v2/x%2Fy/{DIGEST}?sig=a%2Bb&n=1 HTTP/1.1\r\n")


async def test_the_last_urls_error_counts(start_server: StartServer) -> None:
    first, second = await several(start_server, 2)
    first.status = 503
    second.objects.clear()
    async with foreign(default_host("localhost:1"), patience=ONCE) as remote:
        with pytest.raises(NotFoundError):
            await fetched(remote, url_of(first), url_of(second))
        with pytest.raises(UnavailableError):
            await fetched(remote, url_of(second), url_of(first))
        with pytest.raises(NotFoundError):
            await fetched(remote)


async def test_a_page_in_the_contents_place_is_passed_over(start_server: StartServer) -> None:
    page, good = await several(start_server, 2)
    page.lies[DIGEST] = b"<html>this file has moved"
    async with foreign(default_host("localhost:1")) as remote:
        assert await fetched(remote, url_of(page), url_of(good)) == LAYER
        with pytest.raises(SizeMismatchError):
            await fetched(remote, url_of(page))


async def test_wrong_bytes_are_found_out(start_server: StartServer) -> None:
    (shelf,) = await several(start_server, 1)
    shelf.lies[DIGEST] = LAYER[::-1]
    async with foreign(default_host("localhost:1")) as remote:
        with pytest.raises(DigestMismatchError):
            await fetched(remote, url_of(shelf))


async def test_wrong_bytes_of_what_is_held_anyway_are_mended_by_the_next_url(
    start_server: StartServer,
) -> None:
    wrong, good = await several(start_server, 2)
    wrong.lies[DIGEST] = LAYER[::-1]
    async with foreign(default_host("localhost:1")) as remote:
        assert await fetched(remote, url_of(wrong), url_of(good)) == LAYER
    assert good.asked == [f"GET {DIGEST}"]


async def test_wrong_bytes_of_what_is_not_held_are_not_asked_for_again(
    start_server: StartServer,
) -> None:
    """Who puts content into files would ask for ever: the next request begins with the same URL."""
    bad, good = await several(start_server, 2)
    bad.lies[DIGEST] = bytes(3 * len(LAYER))
    async with foreign(default_host("localhost:1")) as remote:
        with pytest.raises(DigestMismatchError) as caught:
            await fetched(remote, url_of(bad), url_of(good), size=3 * len(LAYER))
    assert not caught.value.has_alternative


async def test_a_url_that_breaks_down_in_the_middle_gives_way_to_the_next_from_there(
    start_server: StartServer,
) -> None:
    """Of content that is too large to be held, what came is not asked for again."""
    broken, good = await shelves(start_server, 2)
    content = LAYER * 4
    digest = broken.add(content)
    good.add(content)
    broken.cuts = [600_000] + [0] * 9
    async with foreign(default_host("localhost:1")) as remote:
        assert isinstance(remote, Foreign)
        ref = Reference(LOCATOR, f"@{digest}")
        urls = [url_of(broken, digest), url_of(good, digest)]
        received = bytearray()
        async with remote.open_foreign(ref, urls, size=len(content)) as opened:
            async for chunk in opened.chunks:
                received += chunk
        assert received == content
        assert remote.report().retries == 0
    assert good.asked == [f"GET {digest} 600000-"]


async def test_of_many_urls_a_few_are_tried(start_server: StartServer) -> None:
    (shelf,) = await several(start_server, 1)
    async with foreign(default_host("localhost:1")) as remote:
        with pytest.raises(NotFoundError):
            await fetched(remote, *(url_of(shelf, f"no{each}") for each in range(100)))
    assert shelf.asked == [f"GET no{each}" for each in range(MAX_FOREIGN_URLS)]


async def test_a_body_that_breaks_goes_on_and_the_retry_is_reported(
    start_server: StartServer,
) -> None:
    (shelf,) = await several(start_server, 1)
    shelf.cuts = [70_000]
    async with foreign(default_host("localhost:1")) as remote:
        assert await fetched(remote, url_of(shelf), size=None) == LAYER
        assert remote.report().retries == 1
    assert shelf.asked[0] == f"GET {DIGEST}"
    assert len(shelf.asked) == 2
    assert shelf.asked[1].endswith("-")


async def test_retries_of_what_fails_are_reported_too(start_server: StartServer) -> None:
    (shelf,) = await several(start_server, 1)
    shelf.status = 503
    async with foreign(default_host("localhost:1")) as remote:
        with pytest.raises(UnavailableError):
            await fetched(remote, url_of(shelf))
        assert remote.report().retries == QUICK.retries


# --- hosts in trouble -----------------------------------------------------------------------


async def test_a_host_in_trouble_gives_way_at_once_and_is_left_alone_for_other_objects_too(
    start_server: StartServer, jumping_clock: trio.testing.MockClock
) -> None:
    bad, good = await several(start_server, 2)
    bad.status = 503
    async with foreign(default_host("localhost:1")) as remote:
        for name in "abc":
            urls = url_of(bad, path=f"/{name}"), url_of(good, path=f"/{name}")
            assert await fetched(remote, *urls) == LAYER
        assert (len(bad.asked), len(good.asked)) == (1, 3)
        assert remote.report().retries == 0
        bad.status = 200
        await trio.sleep(MIRROR_REST_SECONDS + 0.1)
        assert await fetched(remote, url_of(bad), url_of(good)) == LAYER
    assert (len(bad.asked), len(good.asked)) == (2, 3)


async def test_the_only_host_is_borne_with_all_the_patience_once_and_then_asked_once_each_time(
    start_server: StartServer, jumping_clock: trio.testing.MockClock
) -> None:
    (shelf,) = await several(start_server, 1)
    shelf.status = 503
    all_patience = QUICK.retries + 1
    async with foreign(default_host("localhost:1")) as remote:
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await fetched(remote, url_of(shelf))
        assert len(shelf.asked) == all_patience + 2
        await trio.sleep(MIRROR_REST_SECONDS + 0.1)
        with pytest.raises(UnavailableError):
            await fetched(remote, url_of(shelf))
        assert len(shelf.asked) == 2 * all_patience + 2
        shelf.status = 200
        assert await fetched(remote, url_of(shelf)) == LAYER
        shelf.status = 503
        with pytest.raises(UnavailableError):
            await fetched(remote, url_of(shelf))
    assert len(shelf.asked) == 3 * all_patience + 3


async def test_a_host_in_trouble_is_asked_all_the_same_where_no_other_has_the_object(
    start_server: StartServer,
) -> None:
    troubled, other = await several(start_server, 2)
    troubled.status = 503
    async with foreign(default_host("localhost:1")) as remote:
        assert await fetched(remote, url_of(troubled), url_of(other)) == LAYER
        troubled.status = 200
        other.objects.clear()
        assert await fetched(remote, url_of(troubled), url_of(other)) == LAYER


async def test_each_url_of_a_host_in_trouble_is_asked_where_it_is_the_only_one(
    start_server: StartServer, jumping_clock: trio.testing.MockClock
) -> None:
    (shelf,) = await several(start_server, 1)
    urls = url_of(shelf), url_of(shelf, "moved")
    async with foreign(default_host("localhost:1")) as remote:
        for seconds in (0, MIRROR_REST_SECONDS + 0.1):
            shelf.status = 503
            with pytest.raises(UnavailableError):
                await fetched(remote, url_of(shelf))
            shelf.status = 200
            await trio.sleep(seconds)
            assert await fetched(remote, *urls) == LAYER


# --- what they are not told -----------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["Basic", 'Bearer realm="{realm}",service="x",scope="y",'])
async def test_who_asks_for_a_login_gets_none_and_no_token_service_is_asked(
    start_server: StartServer, scheme: str
) -> None:
    asking, realm = await several(start_server, 2)
    asking.status = 401
    challenge = scheme.format(realm=url_of(realm, "token"))
    asking.headers = {"WWW-Authenticate": f'{challenge} realm="r"'.replace(', realm="r"', "")}
    async with foreign(default_host("localhost:1")) as remote:
        with pytest.raises(UnauthorizedError, match="no login goes there: ask who made it"):
            await fetched(remote, url_of(asking))
    assert asking.asked == [f"GET {DIGEST}"]
    assert realm.asked == []
    assert not any(secret in head.lower() for head in asking.heads for secret in SECRETS)


async def test_the_registrys_login_and_headers_stay_with_it(start_server: StartServer) -> None:
    """Even where the foreign URL, and a redirect from it, lead to the registry's own origin."""
    registry, elsewhere = await several(start_server, 2)
    registry.status = 401
    registry.headers = {"WWW-Authenticate": "Basic realm=r"}
    async with foreign(registry.host(namespace="")) as remote:
        with pytest.raises(UnauthorizedError):
            async with remote.open(Reference(LOCATOR, f"@{DIGEST}"), media_types=[OCTET_STREAM]):
                pass
        told = len(registry.heads)
        assert any("X-Own: own-header" in head for head in registry.heads)
        assert any("Authorization: Basic" in head for head in registry.heads)
        elsewhere.status = 307
        elsewhere.headers = {"Location": url_of(registry)}
        for url in (url_of(registry), url_of(elsewhere)):
            with pytest.raises(UnauthorizedError):
                await fetched(remote, url)
    later = [*registry.heads[told:], *elsewhere.heads]
    assert len(later) == 5  # a redirect that ends so is asked once more, as it may have expired
    assert not any(secret in head.lower() for head in later for secret in SECRETS)


async def test_a_login_in_the_url_is_not_sent_and_not_shown(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    (shelf,) = await several(start_server, 1)
    caplog.set_level("DEBUG", "multi_fetch")
    shelf.objects.clear()
    url = url_of(shelf).replace("//", "//al1ce:s3cret@") + "?token=s3cret"
    async with foreign(default_host("localhost:1")) as remote:
        with pytest.raises(NotFoundError) as caught:
            await fetched(remote, url)
    assert "authorization" not in shelf.heads[0].lower()
    shown = [caught.value.message, *(f"{each.msg} {each.__dict__}" for each in caplog.records)]
    assert not any("s3cret" in each for each in shown)


def test_of_the_registrys_settings_only_the_authorities_hold_elsewhere() -> None:
    tls = Tls(ca_files=("ca.pem",), client_pairs=(("cert.pem", ""),), is_verified=False)
    host = Host(
        "https", "registry.example", headers=(("a", "b"),), tls=tls, proxy="http://proxy.example"
    )
    assert stranger(host) == Host("https", "registry.example", tls=Tls(ca_files=("ca.pem",)))


# --- where they may lead --------------------------------------------------------------------


@pytest.mark.parametrize("url", ["https://files.example/a?b=c", "https://8.8.8.8/a"])
@pytest.mark.parametrize("registry", ["registry.example", "10.0.0.1", "localhost:5000"])
def test_https_to_the_outside_is_for_every_registry(url: str, registry: str) -> None:
    assert str(allowed_url(url, default_host(registry))) == url


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost:8", "10.1.2.3", "169.254.169.254", "[::1]", "[fd00::1]", "2130706433"],
)
def test_from_outside_nothing_leads_inside(host: str) -> None:
    registry = Host("https", "registry.example:5000")
    with pytest.raises(RegistryError, match="private network"):
        allowed_url(f"https://{host}/a", registry)
    for inside in ("[::1]:5000", "10.0.0.1"):
        url = allowed_url(f"https://{host}/a", Host("https", inside))
        assert str(url) == f"https://{host}/a"


@pytest.mark.parametrize(
    ("registry", "url"),
    [
        (Host("https", "registry.example"), "http://files.example/a"),
        (Host("http", "registry.example"), "http://files.example/a"),
        (Host("http", "10.0.0.1"), "http://10.0.0.2/a"),
        (Host("https", "localhost:5000"), "http://localhost:5000/a"),
        (Host("http", "localhost:5000"), "http://files.example/a"),
        (Host("http", "localhost:5000"), "http://10.0.0.2/a"),
    ],
)
def test_plain_http_is_for_this_machine_alone(registry: Host, url: str) -> None:
    with pytest.raises(RegistryError, match="without https"):
        allowed_url(url, registry)


@pytest.mark.parametrize("url", ["ftp://files.example/a", "", "file:///etc/passwd", "//x", "é"])
def test_what_is_no_url_of_http_is_refused(url: str) -> None:
    with pytest.raises(RegistryError):
        allowed_url(url, Host("http", "localhost:5000"))


async def test_a_refused_url_is_not_asked_and_the_next_one_is(start_server: StartServer) -> None:
    shelf, other = await several(start_server, 2)
    async with foreign(Host("https", "registry.example"), locator="registry.example/a") as remote:
        with pytest.raises(RegistryError, match="private network"):
            await refused(remote, [url_of(shelf).replace("http:", "https:"), url_of(other)])
    assert (shelf.heads, other.heads) == ([], [])
    async with foreign(default_host("localhost:1")) as remote:
        assert await fetched(remote, "ftp://files.example/a", url_of(shelf)) == LAYER


async def refused(remote: Remote, urls: Sequence[str]) -> None:
    assert isinstance(remote, Foreign)
    ref = Reference("registry.example/a", f"@{DIGEST}")
    async with remote.open_foreign(ref, urls):
        pass


async def test_over_https_the_certificate_counts_whatever_the_registrys_is(tmp_path: Path) -> None:
    authority = Authority()

    async def reply(stream: trio.SSLStream[trio.SocketStream], head: bytes) -> bool:
        if head.startswith(b"GET /leave "):
            await stream.send_all(raw_answer("302 Found", Location="http://127.0.0.1:1/x"))
            return True
        await stream.send_all(raw_answer("200 OK", LAYER))
        return True

    async with tls_server(authority.certified(NAME), reply) as server:
        url = f"https://{NAME}:{server.port}"
        known = Host("http", "localhost:1", tls=Tls(ca_files=(authority.root_in(tmp_path),)))
        async with foreign(known) as remote:
            assert await fetched(remote, f"{url}/layer") == LAYER
            with pytest.raises(RegistryError, match="without https"):
                await fetched(remote, f"{url}/leave")
        seen = len(server.heads)
        async with foreign(Host("http", "localhost:1", tls=Tls(is_verified=False))) as remote:
            with pytest.raises(MultiFetchError, match="certificate"):
                await fetched(remote, f"{url}/layer")
        assert len(server.heads) == seen


async def test_a_layout_asks_foreign_urls_too_but_none_inside(tmp_path: Path) -> None:
    """A proxy looks the name up, so that it is one out there."""
    authority, folder = Authority(), tmp_path / "layout"
    LayoutBuilder(folder).finish()

    hosts = [replace(NOBODY, tls=Tls(ca_files=(authority.root_in(tmp_path),)))]
    ref = Reference(f"oci:{folder}")
    wanted = Reference(ref.locator, f"@{DIGEST}")
    async with (
        tls_server(authority.certified("files.example"), answering(LAYER)) as server,
        running_proxy({"files.example:443": server.port}) as proxy,
        open_remote(
            ref,
            hosts=hosts,
            proxies=Proxies(all=f"http://127.0.0.1:{proxy.port}", loopback=True),
            foreign_urls=True,
        ) as remote,
    ):
        assert isinstance(remote, Foreign)
        with pytest.raises(NotFoundError):
            await remote.resolve(wanted)
        async with remote.open_foreign(wanted, ["https://files.example/x"]) as opened:
            assert b"".join([bytes(each) async for each in opened.chunks]) == LAYER
        for refused_url in (f"https://127.0.0.1:{server.port}/x", "http://files.example/x"):
            with pytest.raises(RegistryError):
                async with remote.open_foreign(wanted, [refused_url]):
                    pass
        assert len(proxy.asked) == 1


# --- the way in -----------------------------------------------------------------------------


async def test_without_the_flag_a_remote_asks_no_foreign_url() -> None:
    async with open_registry(Reference(LOCATOR)) as remote:
        assert not isinstance(remote, Foreign)


async def test_the_repository_is_asked_as_without_the_flag(start_server: StartServer) -> None:
    mirror, registry = await several(start_server, 2)
    mirror.objects.clear()
    hosts = [mirror.host(), registry.host(namespace="")]
    async with open_registry(
        Reference(LOCATOR), patience=QUICK, hosts=hosts, foreign_urls=True
    ) as remote:
        ref = Reference(LOCATOR, f"@{DIGEST}")
        assert (await remote.resolve(ref, media_types=["a/b"])).descriptor.size == len(LAYER)
        async with remote.open(ref, media_types=["a/b"]) as opened:
            assert b"".join([bytes(chunk) async for chunk in opened.chunks]) == LAYER
        assert not isinstance(remote, MirroredRemote)
    assert len(registry.asked) == 2
