"""One request on its way: who waits for whom at a busy host, and what is never sent twice."""

from __future__ import annotations

from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import trio
from httpx import Response
from msgspec.structs import replace

from multi_fetch.errors import NotFoundError, RegistryError, UnavailableError
from multi_fetch.oci.reference import Reference
from multi_fetch.registry import open_registry
from multi_fetch.registry.exchange import ATTEMPTS_OF_BAD_LUCK, Exchange
from multi_fetch.registry.general_lane import GeneralLane
from multi_fetch.registry.hosts import default_host, load_hosts
from multi_fetch.registry.url import Url, parse_url
from tests.fakes.consumer import QUICK
from tests.registry.conftest import ONCE
from tests.registry.tls_server import Authority, tls_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import respx

    from multi_fetch.registry.hosts import Host
    from multi_fetch.registry.url import Origin
    from multi_fetch.remotes import Patience

ONE = parse_url("https://one.example/x")
OTHER = parse_url("https://other.example/x")
BUSY = Response(429, headers={"retry-after": "1"})


@asynccontextmanager
async def exchange(
    patience: Patience = QUICK, own: tuple[Origin, dict[str, str]] | None = None
) -> AsyncIterator[Exchange]:
    lane = GeneralLane(jobs=8, stall_seconds=patience.stall_seconds)
    yield Exchange(lane, jobs=8, patience=patience, own=own)
    await lane.aclose()


async def status_of(asked: Exchange, url: Url, attempt: int = 1) -> int:
    answer = await asked.follow("GET", url, {}, "", attempt=attempt)
    await answer.drain()
    return answer.status


async def test_a_429_holds_back_what_goes_to_that_host_and_nothing_else(
    respx_mock: respx.MockRouter, autojump_clock: trio.testing.MockClock
) -> None:
    respx_mock.get(str(ONE)).side_effect = [BUSY, Response(200), Response(200)]
    respx_mock.get(str(OTHER)).respond(200)
    async with exchange() as asked:
        assert await status_of(asked, ONE) == 429
        begun = trio.current_time()
        assert await status_of(asked, OTHER) == 200
        assert trio.current_time() == begun
        assert await status_of(asked, ONE) == 200
        assert trio.current_time() - begun == 1


async def test_a_wait_that_is_too_long_for_one_holds_back_no_other(
    respx_mock: respx.MockRouter, autojump_clock: trio.testing.MockClock
) -> None:
    """Docker Hub counts manifests alone: blobs may still be had."""
    far = Response(429, headers={"retry-after": "21600"})
    respx_mock.get(str(ONE)).side_effect = [far, Response(200)]
    async with exchange() as asked:
        assert await status_of(asked, ONE) == 429
        begun = trio.current_time()
        assert await status_of(asked, ONE) == 200
        assert trio.current_time() == begun


async def test_without_retries_the_caller_paces(
    respx_mock: respx.MockRouter, autojump_clock: trio.testing.MockClock
) -> None:
    respx_mock.get(str(ONE)).side_effect = [BUSY, Response(200)]
    async with exchange(replace(QUICK, retries=0)) as asked:
        begun = trio.current_time()
        assert await status_of(asked, ONE) == 429
        assert await status_of(asked, ONE) == 200
        assert trio.current_time() == begun


async def test_a_request_that_fails_at_a_busy_host_leaves_its_place_to_the_next(
    respx_mock: respx.MockRouter, autojump_clock: trio.testing.MockClock
) -> None:
    respx_mock.get(str(ONE)).side_effect = [BUSY, OSError("no"), Response(200)]
    async with exchange() as asked:
        assert await status_of(asked, ONE) == 429
        with pytest.raises(OSError, match="no"):
            await status_of(asked, ONE)
        with trio.fail_after(10):
            assert await status_of(asked, ONE) == 200


async def test_refusals_while_others_get_through_count_for_less(
    respx_mock: respx.MockRouter, autojump_clock: trio.testing.MockClock
) -> None:
    respx_mock.get(str(ONE)).side_effect = [Response(429), Response(429), Response(200), BUSY]
    async with exchange() as asked:
        for number, refusals in [(1, 1), (2, 2)]:
            answer = await asked.follow("GET", ONE, {}, "", attempt=number)
            answer.attempts = number
            assert asked.tries_in_vain(answer) == refusals
        assert await status_of(asked, ONE) == 200
        answer = await asked.follow("GET", ONE, {}, "", attempt=3)
        answer.attempts = 3
        assert asked.tries_in_vain(answer) == 1
        answer.attempts = 5 * ATTEMPTS_OF_BAD_LUCK
        assert asked.tries_in_vain(answer) == 5


async def test_other_troubles_count_as_they_are(respx_mock: respx.MockRouter) -> None:
    respx_mock.get(str(ONE)).respond(503)
    async with exchange() as asked:
        answer = await asked.follow("GET", ONE, {}, "")
        answer.attempts = 3
        assert asked.tries_in_vain(answer) == 3


async def test_a_form_follows_no_redirect(respx_mock: respx.MockRouter) -> None:
    respx_mock.post(str(ONE)).respond(307, headers={"location": str(OTHER)})
    async with exchange() as asked:
        answer = await asked.follow("POST", ONE, {}, "", form="password=s3cret")
        await answer.drain()
    assert answer.status == 307
    assert respx_mock.calls.call_count == 1


async def test_a_hosts_own_headers_go_to_it_and_not_where_others_lead_back_to_it(
    respx_mock: respx.MockRouter,
) -> None:
    way = [ONE, parse_url("https://one.example/y"), OTHER, parse_url("https://one.example/z")]
    for url, following in pairwise(way):
        respx_mock.get(str(url)).respond(307, headers={"location": str(following)})
    respx_mock.get(str(way[-1])).respond(200)
    async with exchange(own=(ONE.origin, {"X-Key": "s3cret"})) as asked:
        answer = await asked.follow("GET", ONE, {}, "Basic abc")
        await answer.drain()
    assert answer.status == 200
    sent = [call.request.headers for call in respx_mock.calls]
    assert [each.get("x-key") for each in sent] == ["s3cret", "s3cret", None, None]
    assert [each.get("authorization") for each in sent] == ["Basic abc", "Basic abc", None, None]


async def test_a_host_leads_to_whom_its_own_headers_name(respx_mock: respx.MockRouter) -> None:
    there = "https://registry.upstream.example/x"
    respx_mock.get(str(ONE)).respond(307, headers={"location": there})
    respx_mock.get(there).respond(200)
    async with exchange(own=(ONE.origin, {"X-Forwarded-Host": there[:-2]})) as asked:
        assert await status_of(asked, ONE) == 200
    async with exchange(own=(ONE.origin, {"X-Tenant": "upstream.example/x"})) as asked:
        assert await status_of(asked, ONE) == 200
    async with exchange(own=(ONE.origin, {"X-Tenant": "registry.upstream.example/x"})) as asked:
        with pytest.raises(RegistryError, match=r"let no password, nor header in hosts\.toml"):
            await status_of(asked, ONE)


@pytest.mark.usefixtures("lane")
async def test_a_port_that_breaks_off_plain_http_may_speak_tls_alone(
    tmp_path: Path,
) -> None:
    """--ca-file does not mean https here; a folder of certificates does, as the error says."""

    async def answer(stream: trio.abc.SendStream, _: object) -> bool:
        await stream.send_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
        return True

    authority = Authority()
    async with tls_server(authority.certified("127.0.0.1"), answer) as server:
        registry = f"127.0.0.1:{server.port}"
        ref = Reference(f"{registry}/a", "v1")
        with pytest.raises(UnavailableError, match=r"if the port speaks TLS, ask it by https"):
            await resolve(ref, default_host(registry))
        folder = tmp_path / registry
        folder.mkdir()
        authority.ca.cert_pem.write_to_path(str(folder / "ca.crt"))
        with pytest.raises(NotFoundError):
            await resolve(ref, *load_hosts(tmp_path, registry))


async def resolve(ref: Reference, *hosts: Host) -> None:
    async with open_registry(ref, patience=ONCE, hosts=hosts) as remote:
        await remote.resolve(ref)
