"""--ranges as a user meets it: the same bytes, over several connections."""

from __future__ import annotations

import random
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from multi_fetch.limits import LEAST_SPLIT_BYTES
from tests.end_to_end.conftest import FETCH_OBJECT, MULTI_FETCH
from tests.fakes.ranged import Part, Ranged
from tests.parent import read_stream
from tests.registry.conftest import RawServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BLOB: Final = random.Random("ranges").randbytes(LEAST_SPLIT_BYTES + 1_001)
MEDIA_TYPE: Final = "mediatype:application/octet-stream"


@asynccontextmanager
async def serving(blob: Ranged) -> AsyncIterator[RawServer]:
    """A registry whose whole blob waits until a part of it was asked for."""
    server = RawServer(blob.reply)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server.port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        yield server
        nursery.cancel_scope.cancel()


async def test_a_large_blob_comes_whole_over_several_connections() -> None:
    blob = Ranged(BLOB)
    async with serving(blob) as server:
        done = await trio.run_process(
            [MULTI_FETCH, "--ranges", "4", str(server.repository)],
            stdin=f"{blob.ask.text} {MEDIA_TYPE}\n".encode(),
            capture_stdout=True,
            capture_stderr=True,
        )
    assert server.connections > 2
    assert len(blob.asked) >= 3
    answer = read_stream(done.stdout).answers[1]
    assert answer.is_verified
    assert bytes(answer.content) == BLOB
    assert done.stderr == b""


async def test_so_it_does_for_fetch_object_and_a_registry_without_ranges_is_no_failure() -> None:
    def everything(_: Part) -> Part:
        return Part("200 OK", {}, BLOB)

    splits, does_not = Ranged(BLOB), Ranged(BLOB, {0: everything})
    does_not.stream_bytes = 100_000
    for blob in (splits, does_not):
        async with serving(blob) as server:
            done = await trio.run_process(
                [FETCH_OBJECT, "--ranges", "3", str(server.repository), blob.ask.text, MEDIA_TYPE],
                capture_stdout=True,
                capture_stderr=True,
            )
        assert done.stdout == BLOB
        assert done.stderr == b""
        assert blob.asked


def test_a_number_that_is_none_is_a_usage_error() -> None:
    for text in ("0", "17", "many"):
        done = subprocess.run(
            [MULTI_FETCH, "--ranges", text, "127.0.0.1:1/a"], capture_output=True, check=False
        )
        assert done.returncode == 2
        assert b"from 1 to 16" in done.stderr
