"""Files in threads, closed by who is last."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from multi_fetch.budget import Budget
from multi_fetch.errors import NotFoundError, UnavailableError
from multi_fetch.layout.contents import Contents, Found, Wanted
from multi_fetch.layout.folder import Folder
from multi_fetch.layout.loan import CHUNK_BYTES, Loan, Threads
from multi_fetch.limits import MAX_READ_THREADS
from tests.layout.conftest import LARGE, SMALL, Sample

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def contents(sample: Sample) -> Contents:
    return Contents(Folder(sample.locator, str(sample.folder)))


def open_files() -> set[str]:
    return {path.name for path in Path("/dev/fd").iterdir()}


class Gate:
    """A find that hangs as a file system may, until the test opens it."""

    def __init__(self, find: Callable[[], Found]) -> None:
        self._find = find
        self._gate = threading.Event()
        self._reached = threading.Event()
        self._done = threading.Event()

    def find(self) -> Found:
        found = self._find()
        self._reached.set()
        self._gate.wait(10)
        self._done.set()
        return found

    @property
    def is_reached(self) -> bool:
        return self._reached.is_set()

    async def reached(self) -> None:
        assert await trio.to_thread.run_sync(self._reached.wait, 10)

    async def open(self) -> None:
        self._gate.set()
        assert await trio.to_thread.run_sync(self._done.wait, 10)


@pytest.mark.parametrize("first", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(LARGE)])
async def test_the_bytes_between_two_offsets_come_in_chunks(
    sample: Sample, contents: Contents, first: int
) -> None:
    loan = Loan(Threads())
    found = await loan.take(partial(contents.find, Wanted("", sample.large.digest)))
    for end in (first, first + 1, len(LARGE)):
        pieces = [bytes(chunk) async for chunk in loan.chunks(found, first, end)]
        assert b"".join(pieces) == LARGE[first:end]
        assert all(0 < len(piece) <= CHUNK_BYTES for piece in pieces)
    loan.give_back()


async def test_content_that_is_read_has_room_first_and_is_counted(
    sample: Sample, contents: Contents
) -> None:
    budget = Budget(10_000)
    find = partial(contents.find, Wanted("", sample.small.digest))
    loan, other = Loan(Threads()), Loan(Threads())
    with budget.share(lambda: False):
        await loan.take(find, 9_000)
        assert budget.held == len(SMALL)

        async def take_other() -> None:
            with budget.share(lambda: False):
                await other.take(find, 9_500)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_other)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert budget.held == len(SMALL)
            nursery.cancel_scope.cancel()
        absent = partial(contents.find, Wanted("none", None))
        with pytest.raises(NotFoundError):
            await Loan(Threads()).take(absent, 9_000)
        assert budget.held == len(SMALL)
    loan.give_back()
    other.give_back()


async def test_content_that_is_there_already_is_one_chunk(
    sample: Sample, contents: Contents
) -> None:
    loan = Loan(Threads())
    found = await loan.take(partial(contents.find, Wanted("", sample.small.digest)))
    assert [chunk async for chunk in loan.chunks(found, 10, 20)] == [SMALL[10:20]]
    assert [chunk async for chunk in loan.chunks(found, 5, 5)] == []
    loan.give_back()


async def test_a_file_that_is_cut_while_it_is_read_ends_early(
    sample: Sample, contents: Contents
) -> None:
    loan = Loan(Threads())
    found = await loan.take(partial(contents.find, Wanted("", sample.large.digest)))
    got = bytearray()
    async for chunk in loan.chunks(found, 0, len(LARGE)):
        got += chunk
        with sample.path(sample.large.digest).open("r+b") as file:
            file.truncate(CHUNK_BYTES + 5)
    loan.give_back()
    assert got == LARGE[: CHUNK_BYTES + 5]


async def test_what_is_given_back_is_closed(sample: Sample, contents: Contents) -> None:
    before = open_files()
    loan = Loan(Threads())
    await loan.take(partial(contents.find, Wanted("", sample.large.digest)))
    assert len(open_files()) == len(before) + 1
    loan.give_back()
    loan.give_back()
    assert open_files() == before


async def test_a_task_does_not_wait_for_a_thread_that_hangs_which_closes_the_file(
    sample: Sample, contents: Contents
) -> None:
    before = open_files()
    gate = Gate(partial(contents.find, Wanted("", sample.large.digest)))
    loan = Loan(Threads())
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(loan.take, gate.find)
            await gate.reached()
            nursery.cancel_scope.cancel()
        loan.give_back()
        assert len(open_files()) == len(before) + 1
        await gate.open()
        while open_files() != before:
            await trio.lowlevel.checkpoint()


async def test_a_loan_that_is_over_opens_nothing(sample: Sample, contents: Contents) -> None:
    loan = Loan(Threads())
    loan.give_back()
    with pytest.raises(OSError, match="nobody waits"):
        await loan.take(partial(contents.find, Wanted("", sample.large.digest)))


async def test_no_more_threads_hang_than_the_limit(sample: Sample, contents: Contents) -> None:
    """Who comes later waits, and may be cancelled."""
    threads = Threads()
    gates = [
        Gate(partial(contents.find, Wanted("", sample.small.digest)))
        for _ in range(MAX_READ_THREADS + 1)
    ]
    loans = [Loan(threads) for _ in gates]
    async with trio.open_nursery() as nursery:
        for loan, gate in zip(loans, gates, strict=True):
            nursery.start_soon(loan.take, gate.find)
        while sum(gate.is_reached for gate in gates) < MAX_READ_THREADS:
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        assert sum(gate.is_reached for gate in gates) == MAX_READ_THREADS
        nursery.cancel_scope.cancel()
    for loan, gate in zip(loans, gates, strict=True):
        loan.give_back()
        if gate.is_reached:
            await gate.open()


async def test_a_read_that_fails_is_a_requests_error(sample: Sample, contents: Contents) -> None:
    loan = Loan(Threads())
    found = await loan.take(partial(contents.find, Wanted("", sample.large.digest)))
    found.part.close()
    with pytest.raises(UnavailableError, match=sample.large.digest):
        async for _ in loan.chunks(found, 0, 10):
            pass
    loan.give_back()


async def test_what_takes_long_learns_when_nobody_waits_for_it(contents: Contents) -> None:
    loan = Loan(Threads())
    await loan.take(partial(contents.find, Wanted("latest", None)))
    loan.require_interest()
    loan.give_back()
    with pytest.raises(OSError, match="nobody waits"):
        loan.require_interest()
