"""httpx comes with the first request, and what was opened is closed."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import TYPE_CHECKING

import h11
import httpx
import pytest

from multi_fetch.errors import RegistryError
from multi_fetch.registry.general_lane import GeneralLane
from multi_fetch.registry.proxies import Proxies
from multi_fetch.registry.url import parse_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    import respx
    import trio

    from tests.registry.conftest import StartServer

BAD_ANSWERS = [b"\x16\x03\x03" * 10_000, b"a" * 70_000]
URL = parse_url("https://registry.example/v2/")


def test_httpx_is_not_imported_before_the_first_request() -> None:
    """It takes some 40 ms, which the fast lane need not wait for."""
    program = (
        "import sys, multi_fetch.registry\n"
        "from multi_fetch.registry.general_lane import GeneralLane\n"
        "assert not {'httpx', 'httpcore', 'anyio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


async def test_one_client_serves_all_requests_and_is_closed_at_the_end(
    monkeypatch: pytest.MonkeyPatch, respx_mock: respx.MockRouter
) -> None:
    opened: list[httpx.AsyncClient] = []
    init = httpx.AsyncClient.__init__

    def note(client: httpx.AsyncClient, *args: object, **kwargs: object) -> None:
        opened.append(client)
        init(client, *args, **kwargs)  # type: ignore[arg-type]  # whatever it was given

    monkeypatch.setattr(httpx.AsyncClient, "__init__", note)
    respx_mock.get(str(URL)).respond(200, content=b"ab")
    lane = GeneralLane(jobs=1, stall_seconds=1)
    assert opened == []
    for _ in range(2):
        answer = await lane.send("GET", URL, {})
        assert await answer.read(10) == b"ab"
        await answer.aclose()
    (client,) = opened
    assert not client.is_closed
    await lane.aclose()
    assert client.is_closed


async def test_a_lane_that_was_not_asked_has_nothing_to_close() -> None:
    lane = GeneralLane(jobs=1, stall_seconds=1)
    await lane.aclose()
    assert lane._client is None


@pytest.fixture
def _without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_without_collector")
@pytest.mark.parametrize("is_proxied", [False, True])
@pytest.mark.parametrize("wire", BAD_ANSWERS, ids=["no HTTP", "no end"])
async def test_what_a_failed_request_had_received_does_not_wait_for_the_collector(
    start_server: StartServer, wire: bytes, *, is_proxied: bool
) -> None:
    """A thousand jobs that fail together would keep a thousand buffers, beside those in use."""

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        await stream.send_all(wire)
        return False

    server = await start_server(reply)
    here = f"http://127.0.0.1:{server.port}"
    proxies = Proxies(all=here, loopback=True) if is_proxied else None
    lane = GeneralLane(jobs=1, stall_seconds=10, proxies=proxies)
    with pytest.raises(RegistryError, match="breaks HTTP") as caught:
        await lane.send("GET", parse_url(f"{here}/v2/"), {})
    assert isinstance(caught.value.__cause__, httpx.RemoteProtocolError)
    assert not [each for each in gc.get_objects() if isinstance(each, h11.Connection)]
    await lane.aclose()
