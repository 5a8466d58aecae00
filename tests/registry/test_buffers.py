"""Large buffers: few, used again, and never while somebody still needs what is in one."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import pytest
import trio

from multi_fetch.limits import (
    LARGE_BUFFERS,
    MAX_DATA_BYTES,
    MAX_HEAD_BYTES,
    MAX_JOBS,
    RECEIVE_BYTES,
    RECEIVE_MEMORY,
)
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCTET_STREAM
from multi_fetch.oci.reference import Reference
from multi_fetch.registry import open_registry
from multi_fetch.registry.buffers import MOST_FREE, Buffers, Loan, own_bytes_for
from tests.fakes.consumer import QUICK, Ask, consume_from
from tests.registry.conftest import raw_answer

if TYPE_CHECKING:
    from multi_fetch.oci.digest import Chunk
    from tests.registry.conftest import StartServer

BLOBS: Final = [
    random.Random(seed).randbytes(1_500_000 + seed) for seed in range(LARGE_BUFFERS + 4)
]


def test_so_many_are_lent_and_what_comes_back_is_lent_again() -> None:
    buffers = Buffers(2)
    one, other = buffers.lend(), buffers.lend()
    assert one is not None
    assert other is not None
    assert one is not other
    assert len(one) == MAX_DATA_BYTES
    assert buffers.lend() is None
    buffers.take_back(one)
    assert buffers.lend() is one


def test_what_is_lost_is_never_lent_again_and_another_is_in_its_place() -> None:
    buffers = Buffers(1)
    one = buffers.lend()
    buffers.lose()
    other = buffers.lend()
    assert other is not None
    assert other is not one


def test_a_loan_is_for_what_does_not_fit_and_ends_once() -> None:
    buffers = Buffers(1, own_bytes=10)
    loan = Loan(buffers)
    own = loan.own()
    assert loan.enlarge(10) is own
    large = loan.enlarge(11)
    assert large is not own
    assert loan.enlarge(1) is large
    other = Loan(buffers)
    assert other.own() is not own
    assert other.enlarge(11) is other.own()
    assert loan.shrink() is own
    loan.close()
    assert buffers.lend() is large


def test_a_loan_that_is_closed_in_the_middle_gives_nothing_back() -> None:
    buffers = Buffers(1, own_bytes=10)
    loan = Loan(buffers)
    own, large = loan.own(), loan.enlarge(11)
    assert not loan.close()
    assert not loan.close()
    assert not loan.shrink()
    assert Loan(buffers).own() is not own
    assert buffers.lend() is not large
    assert buffers.lend() is None


def test_what_rests_has_no_buffer_and_another_uses_it_again() -> None:
    buffers = Buffers(own_bytes=10)
    loan = Loan(buffers)
    own = loan.own()
    assert loan.own() is own
    assert not loan.rest()
    assert not loan.rest()
    assert Loan(buffers).own() is own
    assert loan.own() is not own


def test_no_more_buffers_are_kept_than_are_used_again_soon() -> None:
    buffers = Buffers(own_bytes=10)
    loans = [Loan(buffers) for _ in range(MOST_FREE + 1)]
    first = {id(loan.own()): loan.own() for loan in loans}
    for loan in loans:
        loan.rest()
    again = [Loan(buffers).own() for _ in loans]
    assert sum(id(buffer) in first for buffer in again) == MOST_FREE


@pytest.mark.parametrize("jobs", [1, 16, 128, 192, MAX_JOBS])
def test_the_buffers_of_all_jobs_are_bounded_together(jobs: int) -> None:
    assert own_bytes_for(jobs) * jobs <= RECEIVE_MEMORY
    assert MAX_HEAD_BYTES <= own_bytes_for(jobs) <= RECEIVE_BYTES


async def test_more_bodies_at_once_than_there_are_buffers_all_come_right(
    start_server: StartServer,
) -> None:
    """Twice, so that each buffer is used for several of them."""
    by_digest = {str(digest_of(blob)): blob for blob in BLOBS}

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        digest = head.split(" ")[1].rpartition("/")[2]
        await stream.send_all(raw_answer("200 OK", by_digest[digest]))
        return True

    server = await start_server(reply)
    address = f"127.0.0.1:{server.port}"
    async with open_registry(server.repository, patience=QUICK) as remote:

        async def check(blob: bytes) -> None:
            for _ in range(2):
                ask = Ask(digest_of(blob), blob, (OCTET_STREAM,))
                verdict = await consume_from(remote, ask, address)
                assert verdict.error is None
                assert verdict.content == blob

        async with trio.open_nursery() as nursery:
            for blob in BLOBS:
                nursery.start_soon(check, blob)


@pytest.mark.parametrize("taken", [1, 2, 3])
async def test_a_chunk_that_is_held_when_its_body_is_left_stays_as_it_is(
    start_server: StartServer, taken: int
) -> None:
    """As the outlet does with what was put before a cancellation."""
    first, second = BLOBS[:2]

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        blob = first if digest_of(first) in head else second
        await stream.send_all(raw_answer("200 OK", blob))
        return True

    server = await start_server(reply)
    address = f"127.0.0.1:{server.port}"
    async with open_registry(server.repository, patience=QUICK) as remote:
        ref = Reference(f"{address}/a", f"@{digest_of(first)}")
        chunk: Chunk = b""
        start = end = 0
        async with remote.open(ref, media_types=[OCTET_STREAM]) as opened:
            for _ in range(taken):
                chunk = await anext(opened.chunks)
                start, end = end, end + len(chunk)
        ask = Ask(digest_of(second), second, (OCTET_STREAM,))
        assert (await consume_from(remote, ask, address)).error is None
        assert bytes(chunk) == first[start:end]
