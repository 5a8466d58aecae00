"""Bytes to numbered lines, and lines to jobs."""

from __future__ import annotations

import gc
import tracemalloc
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import trio

from multi_fetch.errors import InvalidRequestError
from multi_fetch.limits import MAX_LINE_BYTES
from multi_fetch.protocol.names import IN_REPOSITORY
from multi_fetch.worker.intake import LineSplitter, take_in
from multi_fetch.worker.window import Window
from tests.turns import Turns
from tests.worker.harness import MemoryReader

if TYPE_CHECKING:
    from multi_fetch.protocol.request import Control
    from multi_fetch.worker.job import Job

LONG = b"x" * MAX_LINE_BYTES
TEXT = b"one\r\n\n# two\n" + b"last"


def split(*pieces: bytes) -> list[tuple[int, bytes]]:
    lines = LineSplitter()
    found = [each for piece in pieces for each in lines.feed(piece)]
    return found + list(lines.feed_eof())


@pytest.mark.parametrize("size", range(1, len(TEXT) + 1))
def test_lines_are_the_same_wherever_the_bytes_are_cut(size: int) -> None:
    pieces = [TEXT[start : start + size] for start in range(0, len(TEXT), size)]
    assert split(*pieces) == [(1, b"one\r"), (2, b""), (3, b"# two"), (4, b"last")]


def test_an_end_behind_the_last_lf_is_no_line() -> None:
    assert split(b"one\n") == [(1, b"one")]
    assert split(b"") == []


@pytest.mark.parametrize("size", [1_000, MAX_LINE_BYTES, MAX_LINE_BYTES + 1, 10**6])
@pytest.mark.parametrize("end", [b"", b"\n", b"\nnext"])
def test_a_line_that_is_too_long_is_cut_where_that_shows(size: int, end: bytes) -> None:
    for line in (LONG, LONG + b"x", LONG * 3):
        text = line + end
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        found = split(*pieces)
        assert found[0] == (1, line[: MAX_LINE_BYTES + 1])
        assert found[1:] == ([(2, b"next")] if end == b"\nnext" else [])


def test_no_more_than_a_line_is_kept_of_one_that_never_ends() -> None:
    lines = LineSplitter()
    for _ in range(100):
        assert list(lines.feed(LONG)) == []
    ((number, line),) = lines.feed_eof()
    assert (number, len(line)) == (1, MAX_LINE_BYTES + 1)


# --- jobs -----------------------------------------------------------------------------------


def refuse(control: Control, number: int) -> None:
    if control.verb == "bad":
        raise InvalidRequestError(f"no {control.verb} on line {number}")


def a_window(size: int) -> Window:
    started: list[Job] = []
    return Window(size, jobs=100, streams=1, is_ordered=False, on_start=started.append)


async def test_others_run_between_two_cancels_however_many_come_at_once() -> None:
    turns, at_cancel = Turns(), list[int]()

    def note(control: Control, number: int) -> None:
        at_cancel.append(turns.count)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.take)
        reader = MemoryReader()
        reader.feed(b"!cancel 1\n" * 100)
        reader.feed_eof()
        await take_in(reader, IN_REPOSITORY, a_window(4), note)
        nursery.cancel_scope.cancel()
    assert len(at_cancel) == 100
    # trio runs those that are ready in any order, so one may be late by one line.
    assert all(one < other for one, other in pairwise(at_cancel[::2]))


async def jobs_of(lines: bytes) -> list[Job]:
    reader, window = MemoryReader(), a_window(100)
    reader.feed(lines)
    reader.feed_eof()
    await take_in(reader, IN_REPOSITORY, window, refuse)
    return window.open_jobs()


async def test_each_line_that_is_answered_becomes_a_job_with_its_number() -> None:
    jobs = await jobs_of(b"latest\n\n# comment\n\xff\n!good\n!bad\nlatest x\nlast")
    assert [job.id for job in jobs] == [1, 4, 6, 7, 8]
    assert [job.id for job in jobs if job.failure is None] == [1, 8]
    assert all(isinstance(job.failure, InvalidRequestError | None) for job in jobs)


async def test_a_slip_in_a_hint_is_told_and_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    (job,) = await jobs_of(b"latest plattform:linux/arm64 colour:blue")
    assert job.failure is None
    (record,) = caplog.records
    assert "'plattform:' is not known" in record.getMessage()


@pytest.mark.parametrize(
    "line",
    [
        b"mediatype:%b" % (b"m" * 60_000),
        b" ".join(b"hint%d:%b" % (number, b"x" * 9) for number in range(4_000)),
        b" ".join(b"%d:" % (10**40 + number) for number in range(1_500)),
    ],
)
async def test_a_long_line_is_not_kept_while_its_request_is_open(line: bytes) -> None:
    count = 20
    gc.collect()
    tracemalloc.start()
    try:
        jobs = await jobs_of(b"latest %b\n" % line * count)
        gc.collect()
        kept_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(jobs) == count
    assert kept_bytes < 5 * len(line)


async def test_no_line_beyond_the_window_is_read() -> None:
    reader, window = MemoryReader(), a_window(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_in, reader, IN_REPOSITORY, window, refuse)
        reader.feed(b"one\ntwo\n# a comment takes no room\nthree\nfour\n")
        reader.feed_eof()
        await trio.testing.wait_all_tasks_blocked()
        assert [job.id for job in window.open_jobs()] == [1, 2]
        window.close(window.open_jobs()[0], None)
        await trio.testing.wait_all_tasks_blocked()
        assert [job.id for job in window.open_jobs()] == [2, 4]
        window.close(window.open_jobs()[0], None)
