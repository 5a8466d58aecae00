"""httpx comes with the first request, and what was opened is closed."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import httpx

from multi_fetch.registry.general_lane import GeneralLane
from multi_fetch.registry.url import parse_url

if TYPE_CHECKING:
    import pytest
    import respx

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
