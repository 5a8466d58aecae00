"""A repository's tags and referrers over HTTP: every page, and never more than there are."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from multi_fetch.errors import (
    MultiFetchError,
    NotFoundError,
    RegistryError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedError,
)
from multi_fetch.limits import TAGS_OF_PAGE
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.reference import Reference
from multi_fetch.registry import listing, open_registry
from multi_fetch.registry.hosts import Host
from multi_fetch.registry.pages import fallback_tag
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.faults import (
    Fault,
    answer_error,
    answer_status,
    change_body,
    close_after,
    redirect_to,
    require_bearer,
    set_header,
)
from multi_fetch.testing.registry import LoopbackRegistry, serve_layout
from tests.registry.conftest import QUICK, raw_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    import trio

    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.remotes import Remote
    from multi_fetch.testing.faults import Effect, Respond
    from multi_fetch.testing.layout import Layout
    from multi_fetch.testing.messages import Answer, Request
    from tests.registry.conftest import StartServer

pytestmark = pytest.mark.usefixtures("lane")

TAGS = "*/tags/list"
REFERRERS = "*/referrers/*"


class Shop:
    """A repository with an image that two artifacts refer to."""

    def __init__(self, folder: Path) -> None:
        builder = LayoutBuilder(folder)
        config = builder.add_empty()
        self.image = builder.add_image(config, [])
        self.referrers = [
            builder.add_image(config, [], artifact_type=kind, subject=self.image)
            for kind in ("a/sbom", "a/sig")
        ]
        self.tags = [f"v{number:04}" for number in range(7)]
        for tag in self.tags:
            builder.tag(tag, self.image)
        self.layout: Layout = builder.finish()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@asynccontextmanager
async def opened(
    layout: Layout, *faults: Fault
) -> AsyncIterator[tuple[Remote, Reference, LoopbackRegistry]]:
    async with serve_layout(layout, faults=faults) as registry:
        ref = Reference(f"{registry.address}/shop")
        async with open_registry(ref, patience=QUICK) as remote:
            yield remote, ref, registry


async def tags_of(remote: Remote, ref: Reference) -> list[str]:
    return [name async for page in remote.tags(ref) for name in page]


async def referrers_of(
    remote: Remote, ref: Reference, digest: str, artifact_type: str = ""
) -> list[str]:
    about = Reference(ref.locator, f"@{digest}")
    return [each.digest async for page in remote.referrers(about, artifact_type) for each in page]


def digests(referrers: Sequence[Descriptor]) -> list[str]:
    return [each.digest for each in referrers]


def pages_of(count: int, link: str) -> Effect:
    """Gives so many tags a page, with a link of this form: see ``str.format``."""

    def effect(request: Request, respond: Respond) -> Answer:
        last = request.query.partition("last=")[2].partition("&")[0]
        answer = respond(replace(request, query=f"n={count}&last={last}"))
        if not answer.header("Link"):
            return answer
        last = json.loads(answer.body)["tags"][-1]  # type: ignore[arg-type]  # it is in memory
        return answer.with_header("Link", link.format(last=last, path=request.path))

    return effect


# --- tags -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "link",
    [
        '<{path}?last={last}&n=2>; rel="next"',
        '<?n=2&last={last}>; rel="next"',
        '<list?last={last}>; rel="next"',
        # behind a proxy, a registry does not know its own name
        '<http://registry.internal:5000{path}?last={last}>; rel="next"',
        '<https://user:secret@elsewhere.test{path}?last={last}>; rel="next"',
        "<{path}?last={last}>",
        '</>; rel="first", <{path}?last={last}>; rel="next"; title="a, b"',
    ],
)
async def test_every_page_is_asked_for_and_no_other_host(shop: Shop, link: str) -> None:
    async with opened(shop.layout, Fault(pages_of(2, link), path=TAGS)) as (remote, ref, registry):
        assert await tags_of(remote, ref) == shop.tags
        assert len(registry.requests) == 4
        assert f"n={TAGS_OF_PAGE}" in registry.requests[0].query


@pytest.mark.parametrize("tags", [b"null", b"[]"])
async def test_no_tags_are_an_empty_list(shop: Shop, tags: bytes) -> None:
    nothing = Fault(change_body(lambda _: b'{"name": "shop", "tags": %b}' % tags), path=TAGS)
    async with opened(shop.layout, nothing) as (remote, ref, _):
        assert await tags_of(remote, ref) == []


async def test_an_empty_page_with_a_link_is_not_the_end(shop: Shop) -> None:
    faults = [
        Fault(set_header("Link", '<?last=a>; rel="next"'), path=TAGS, times=1),
        Fault(change_body(lambda _: b'{"tags": []}'), path=TAGS, times=1),
    ]
    async with opened(shop.layout, *faults) as (remote, ref, _):
        assert await tags_of(remote, ref) == shop.tags


async def test_pages_in_a_circle_end(shop: Shop) -> None:
    circle = Fault(set_header("Link", '<?last=a>; rel="next"'), path=TAGS)
    async with opened(shop.layout, circle) as (remote, ref, registry):
        with pytest.raises(RegistryError, match="circle"):
            await tags_of(remote, ref)
        assert len(registry.requests) == 2


async def test_pages_without_end_end(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_LISTING_PAGES", 5)

    def effect(request: Request, respond: Respond) -> Answer:
        return respond(request).with_header("Link", f"<?last={request.query}x>; rel=next")

    async with opened(shop.layout, Fault(effect, path=TAGS)) as (remote, ref, registry):
        with pytest.raises(TooLargeError, match="5 pages"):
            await tags_of(remote, ref)
        assert len(registry.requests) == 5


async def test_a_link_that_cannot_be_read_ends_no_list_quietly(shop: Shop) -> None:
    for link in ("nonsense", "<ftp://x/y>; rel=next"):
        fault = Fault(set_header("Link", link), path=TAGS)
        async with opened(shop.layout, fault) as (remote, ref, _):
            with pytest.raises(RegistryError):
                await tags_of(remote, ref)


async def test_a_registry_that_refuses_the_number_is_asked_without(shop: Shop) -> None:
    refusal = answer_error(400, "PAGINATION_NUMBER_INVALID")
    async with opened(shop.layout, Fault(refusal, path=TAGS, times=1)) as (remote, ref, registry):
        assert await tags_of(remote, ref) == shop.tags
        assert registry.requests[-1].query == ""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """As many tags as a page is asked for, and some."""
    builder = LayoutBuilder(tmp_path_factory.mktemp("full"))
    image = builder.add_image(builder.add_empty(), [])
    for number in range(2 * TAGS_OF_PAGE + 3):
        builder.tag(f"v{number:05}", image)
    return builder.finish()


async def test_a_full_page_without_a_link_may_not_be_the_last(full: Layout) -> None:
    fault = Fault(lambda request, respond: respond(request).without_header("Link"), path=TAGS)
    async with opened(full, fault) as (remote, ref, registry):
        assert await tags_of(remote, ref) == sorted(full.tags)
        assert len(registry.requests) == 3


@pytest.mark.parametrize("refusal", [None, answer_error(405, "UNSUPPORTED")])
async def test_a_registry_that_knows_no_last_is_asked_once_more(
    full: Layout, refusal: Effect | None
) -> None:
    def ignorant(request: Request, respond: Respond) -> Answer:
        return respond(replace(request, query=f"n={TAGS_OF_PAGE}")).without_header("Link")

    faults = [Fault(ignorant, path=TAGS)]
    if refusal is not None:
        faults.insert(0, Fault(refusal, path=TAGS, skip=1))
    async with opened(full, *faults) as (remote, ref, registry):
        assert await tags_of(remote, ref) == sorted(full.tags)[:TAGS_OF_PAGE]
        assert len(registry.requests) == 2


async def test_a_page_that_breaks_off_is_asked_for_again(shop: Shop) -> None:
    faults = [Fault(close_after(5), path=TAGS, times=2), Fault(answer_status(503), skip=2, times=1)]
    async with opened(shop.layout, *faults) as (remote, ref, registry):
        assert await tags_of(remote, ref) == shop.tags
        assert len(registry.requests) == 4
        assert remote.report().retries == 3
    async with opened(shop.layout, Fault(close_after(5), path=TAGS)) as (remote, ref, _):
        with pytest.raises(UnavailableError):
            await tags_of(remote, ref)


async def test_the_registrys_no_is_the_listings(shop: Shop) -> None:
    unknown = Fault(answer_error(404, "NAME_UNKNOWN"))
    async with opened(shop.layout, unknown) as (remote, ref, _):
        with pytest.raises(NotFoundError, match="NAME_UNKNOWN"):
            await tags_of(remote, ref)
        with pytest.raises(NotFoundError, match="NAME_UNKNOWN"):
            await referrers_of(remote, ref, shop.image.digest)
    async with opened(shop.layout, Fault(require_bearer("t", username="u"))) as (remote, ref, _):
        with pytest.raises(UnauthorizedError):
            await tags_of(remote, ref)


async def test_a_page_beyond_the_limit_is_not_held(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_PAGE_BYTES", 20)
    async with opened(shop.layout) as (remote, ref, _):
        with pytest.raises(TooLargeError):
            await tags_of(remote, ref)


async def test_credentials_stay_with_the_registry(start_server: StartServer) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        link = f'<http://127.0.0.1:{stranger.port}/v2/a/tags/list?last=x>; rel="next"'
        extra = {} if "last=" in head else {"Link": link}
        challenge = {"WWW_Authenticate": 'Basic realm="r"'}
        is_known = "authorization" in head.lower()
        answer = raw_answer("200 OK", b'{"tags": ["x"]}', **extra)
        await stream.send_all(answer if is_known else raw_answer("401 No", b"", **challenge))
        return True

    server, stranger = await start_server(reply), await start_server(reply)
    ref = server.repository
    async with open_registry(ref, username="u", password="p", patience=QUICK) as remote:
        assert await tags_of(remote, ref) == ["x", "x"]
    assert not stranger.heads


# --- referrers ------------------------------------------------------------------------------


async def test_what_refers_to_a_digest_is_listed(shop: Shop) -> None:
    async with opened(shop.layout) as (remote, ref, registry):
        found = await referrers_of(remote, ref, shop.image.digest)
        assert sorted(found) == sorted(digests(shop.referrers))
        assert await referrers_of(remote, ref, digest_of(b"nothing")) == []
        sbom = await referrers_of(remote, ref, shop.image.digest, "a/sbom")
        assert sbom == [shop.referrers[0].digest]
        assert registry.requests[-1].query == "artifactType=a%2Fsbom"


async def test_what_the_registry_does_not_filter_is_filtered_here(shop: Shop) -> None:
    def ignorant(request: Request, respond: Respond) -> Answer:
        return respond(replace(request, query=""))

    async with opened(shop.layout, Fault(ignorant, path=REFERRERS)) as (remote, ref, _):
        sig = await referrers_of(remote, ref, shop.image.digest, "a/sig")
        assert sig == [shop.referrers[1].digest]


async def test_what_the_registry_says_that_it_has_filtered_is_taken_as_it_is(shop: Shop) -> None:
    says = Fault(set_header("OCI-Filters-Applied", "artifactType"), path=REFERRERS)
    ignorant = Fault(lambda request, respond: respond(replace(request, query="")), path=REFERRERS)
    async with opened(shop.layout, says, ignorant) as (remote, ref, _):
        assert len(await referrers_of(remote, ref, shop.image.digest, "a/sig")) == 2


async def test_referrers_have_pages_too(shop: Shop) -> None:
    first = Fault(set_header("Link", "<?page=2>; rel=next"), path=REFERRERS, times=1)
    async with opened(shop.layout, first) as (remote, ref, registry):
        assert len(await referrers_of(remote, ref, shop.image.digest)) == 4
        assert registry.requests[-1].query == "page=2"


@pytest.fixture
def old(tmp_path: Path, shop: Shop) -> Layout:
    """The same shop, with the tag that stands in for the referrers API."""
    builder = LayoutBuilder(tmp_path / "old")
    config = builder.add_empty()
    image = builder.add_image(config, [])
    named = [
        replace(builder.add_image(config, [], artifact_type=kind), artifact_type=kind)
        for kind in ("a/sbom", "a/sig")
    ]
    builder.tag(fallback_tag(image.digest), builder.add_index(named))
    builder.tag(fallback_tag(named[0].digest), named[1])
    return builder.finish()


NO_API = [
    Fault(answer_status(404, body=b"404 page not found"), path=REFERRERS),
    Fault(answer_error(400, "NAME_INVALID"), path=REFERRERS),
    Fault(answer_status(405), path=REFERRERS),
    Fault(answer_status(406), path=REFERRERS),
    Fault(
        answer_status(200, headers={"Content-Type": "text/html"}, body=b"<html>log in"),
        path=REFERRERS,
    ),
    Fault(redirect_to("/login"), path=REFERRERS),
]


@pytest.mark.parametrize("no_api", NO_API, ids=range(len(NO_API)))
async def test_without_the_api_a_tag_stands_in_for_it(
    shop: Shop, old: Layout, no_api: Fault
) -> None:
    login = Fault(
        answer_status(200, headers={"Content-Type": "text/html"}, body=b"<html>"), path="/login"
    )
    async with opened(old, no_api, login) as (remote, ref, _):
        image = shop.image.digest
        assert len(await referrers_of(remote, ref, image)) == 2
        assert len(await referrers_of(remote, ref, image, "a/sig")) == 1
        assert await referrers_of(remote, ref, digest_of(b"nothing")) == []
        # a tag that names no index stands for nothing
        (sbom,) = await referrers_of(remote, ref, image, "a/sbom")
        assert await referrers_of(remote, ref, sbom) == []


async def test_a_damaged_index_of_referrers_is_no_list(shop: Shop, old: Layout) -> None:
    damaged = Fault(change_body(lambda body: body.replace(b"a/sig", b"a/sbo")), path="*/sha256-*")
    async with opened(old, NO_API[0], damaged) as (remote, ref, _):
        with pytest.raises(MultiFetchError, match="digest"):
            await referrers_of(remote, ref, shop.image.digest)


# --- mirrors --------------------------------------------------------------------------------


def host(registry: LoopbackRegistry, **changes: object) -> Host:
    made = {"namespace": "upstream.example", **changes}
    return Host("http", registry.address, **made)  # type: ignore[arg-type]


REF = Reference("upstream.example/shop")


async def test_the_first_host_that_can_list_does(shop: Shop) -> None:
    pages = Fault(pages_of(3, '<{path}?last={last}>; rel="next"'), path=TAGS)
    down = Fault(answer_status(503))
    async with (
        serve_layout(shop.layout, faults=[down]) as first,
        serve_layout(shop.layout, faults=[pages]) as second,
        serve_layout(shop.layout) as last,
    ):
        blind = host(last, may_resolve=False)
        hosts = [blind, host(first), host(second), host(last, namespace="")]
        async with open_registry(REF, patience=QUICK, hosts=hosts) as remote:
            assert await tags_of(remote, REF) == shop.tags
            about = Reference(REF.locator, f"@{shop.image.digest}")
            assert [len(page) async for page in remote.referrers(about)] == [2]
    # a proxy learns with every page whose repository is meant
    assert ["ns=upstream.example" in each.query for each in second.requests] == [True] * 4
    assert not last.requests
    assert len(first.requests) == 1


async def test_a_mirror_without_the_api_does_not_say_that_there_are_none(shop: Shop) -> None:
    async with (
        serve_layout(shop.layout, faults=[NO_API[0]]) as mirror,
        serve_layout(shop.layout) as last,
    ):
        hosts = [host(mirror), host(last, namespace="")]
        async with open_registry(REF, patience=QUICK, hosts=hosts) as remote:
            assert len(await referrers_of(remote, REF, shop.image.digest)) == 2
        async with open_registry(REF, patience=QUICK, hosts=hosts[:1]) as remote:
            assert await referrers_of(remote, REF, shop.image.digest) == []
        hosts = [host(mirror, may_resolve=False)]
        async with open_registry(REF, patience=QUICK, hosts=hosts) as remote:
            with pytest.raises(UnsupportedError):
                await tags_of(remote, REF)


async def test_under_another_root_a_link_leads_there_too(shop: Shop) -> None:
    def moved(request: Request, respond: Respond) -> Answer:
        path = "/v2" + request.path.removeprefix("/proxy/v2")
        answer = pages_of(3, "</proxy{path}?last={last}>; rel=next")(
            replace(request, path=path), respond
        )
        assert request.path.startswith("/proxy/v2/shop/")
        return answer

    async with serve_layout(shop.layout, faults=[Fault(moved)]) as registry:
        hosts = [host(registry, root="/proxy/v2", namespace="")]
        async with open_registry(REF, patience=QUICK, hosts=hosts) as remote:
            assert await tags_of(remote, REF) == shop.tags


async def test_where_foreign_urls_are_allowed_listings_are_the_registrys_alone(shop: Shop) -> None:
    async with serve_layout(shop.layout) as registry:
        ref = Reference(f"{registry.address}/shop")
        async with open_registry(ref, patience=QUICK, foreign_urls=True) as remote:
            assert await tags_of(remote, ref) == shop.tags
            assert len(await referrers_of(remote, ref, shop.image.digest)) == 2
