"""A registry that is silent does not hold up the others."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

import pytest
import trio
import trio.testing

from multi_fetch.errors import NotFoundError, UnavailableError
from multi_fetch.protocol.names import EVERYWHERE
from multi_fetch.protocol.request import parse_request
from multi_fetch.worker.job import Flight, Job
from multi_fetch.worker.shares import Shares
from multi_fetch.worker.window import Window

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def a_window(jobs: int, hosts: str, size: int = 100) -> Window:
    """One whose line n is for the host that the n-th letter names."""
    window = Window(
        size,
        jobs=jobs,
        streams=jobs,
        is_ordered=False,
        on_start=lambda _: None,
        shares=Shares(jobs),
    )
    for number, host in enumerate(hosts, start=1):
        assert window.admit_now(a_job(number, host))
    return window


def a_job(number: int, host: str) -> Job:
    return Job(id=number, request=parse_request(f"{host}.test/app:v{number}", [], EVERYWHERE))


def departing(window: Window) -> dict[int, Flight]:
    """All that may go now, by their lines."""
    found = {}
    while (flight := window.take_now()) is not None:
        found[flight.members[0].id] = flight
    return found


def test_one_registry_alone_may_have_all_jobs() -> None:
    assert list(departing(a_window(4, "aaaaa"))) == [1, 2, 3, 4]


def test_who_has_not_answered_gets_one_job_while_others_wait() -> None:
    assert list(departing(a_window(8, "aaaaabc"))) == [1, 6, 7, 2]


def test_half_of_the_jobs_is_left_to_who_answers() -> None:
    window = a_window(4, "aaaaabbbbb")
    first = departing(window)
    assert list(first) == [1, 6]
    window.seal(first[6])
    assert list(departing(window)) == [7, 8]


def test_one_whose_content_flows_is_not_silent_for_what_is_given_up() -> None:
    window = a_window(4, "aaaaba")
    flights = departing(window)
    assert list(flights) == [1, 5]
    window.seal(flights[1])
    flights |= departing(window)
    assert list(flights) == [1, 5, 2, 3]
    window.seal(flights[2])
    for given_up, goes_next in ((2, 4), (3, 6)):  # its own flows; another one's does
        window.abandon(flights[given_up])
        window.land(flights[given_up])
        after = departing(window)
        assert list(after) == [goes_next]
        flights |= after


def test_one_whose_streams_break_off_one_after_the_other_is_silent() -> None:
    """Two that drip would hold all jobs as long as there are lines for them."""
    window = a_window(4, "aaaaaabbbbbbc")
    flights = departing(window)
    for number in (1, 7):
        window.seal(flights[number])
    flights |= departing(window)
    assert len(flights) == 4
    for flight in flights.values():
        window.seal(flight)
    flights[1].note_failure(UnavailableError("it broke off", attempts=6))
    window.land(flights[1])
    assert list(departing(window)) == [13]


def test_one_from_which_nothing_flows_is_silent_once_a_request_is_given_up() -> None:
    window = a_window(4, "aaaaba")
    flights = departing(window)
    window.seal(flights[1])
    flights |= departing(window)
    assert list(flights) == [1, 5, 2, 3]
    window.land(flights[1])
    window.abandon(flights[2])
    window.land(flights[2])
    assert not departing(window)


def test_one_that_is_silent_keeps_no_new_ones_waiting_though_there_are_few_jobs() -> None:
    window = a_window(2, "aaabcd")
    first = departing(window)
    assert list(first) == [1, 4]
    first[1].is_in_vain = True
    window.land(first[1])
    window.land(first[4])
    assert list(departing(window)) == [2, 5]


@pytest.mark.parametrize(
    ("attempts", "status", "is_in_vain"),
    [(1, 503, False), (None, 429, False), (4, 503, True), (1, None, True), (1, 404, False)],
)
def test_who_says_at_once_that_it_is_busy_has_answered(
    attempts: int | None, status: int | None, *, is_in_vain: bool
) -> None:
    kind = NotFoundError if status == 404 else UnavailableError
    flight = Flight(members=[])
    flight.note_failure(kind("no", attempts=attempts, status=status))
    assert flight.is_in_vain is is_in_vain


def test_who_failed_gets_a_quarter_until_the_input_is_over_and_nobody_else_is_left() -> None:
    window = a_window(4, "aaaaab")
    first = departing(window)
    for number in (1, 6):
        first[number].is_in_vain = True
        window.land(first[number])
    assert list(departing(window)) == [2]
    window.end()
    assert list(departing(window)) == [3, 4, 5]


async def test_who_failed_gets_all_while_a_full_window_keeps_others_from_being_read() -> None:
    window = a_window(4, "aaaaab", size=6)
    first = departing(window)
    for number in (1, 6):
        first[number].is_in_vain = True
        window.land(first[number])
    assert list(departing(window)) == [2]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(window.admit, a_job(7, "c"))
        await trio.testing.wait_all_tasks_blocked()
        assert list(departing(window)) == [3, 4, 5]
        nursery.cancel_scope.cancel()


async def test_who_has_not_answered_leaves_half_though_the_window_is_full() -> None:
    window = a_window(4, "abcdef", size=6)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(window.admit, a_job(7, "g"))
        await trio.testing.wait_all_tasks_blocked()
        assert list(departing(window)) == [1, 2]
        nursery.cancel_scope.cancel()
    window.end()
    assert list(departing(window)) == [3, 4]


@pytest.mark.parametrize("jobs", [2, 3, 4, 16])
def test_answers_come_while_another_registry_hangs(jobs: int) -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=64) as silent,
        socket.create_server(("127.0.0.1", 0), backlog=64) as good,
    ):
        threading.Thread(target=_serve, args=(good,), daemon=True).start()
        lines = [f"127.0.0.1:{silent.getsockname()[1]}/app:v{n}" for n in range(30)]
        lines += [f"127.0.0.1:{good.getsockname()[1]}/app:v{n}" for n in range(30)]
        process = subprocess.Popen(
            [sys.executable, "-m", "multi_fetch", "-", "--format", "jsonl", "--jobs", str(jobs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        watch = threading.Timer(30, process.kill)
        watch.start()
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n".join(lines) + "\n")
            process.stdin.flush()
            frames = [process.stdout.readline() for _ in range(31)]
            process.kill()
        watch.cancel()
    assert all('"not-found"' in frame for frame in frames[1:])


def _serve(listener: socket.socket) -> None:
    while True:
        try:
            stream, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_answer, args=(stream,), daemon=True).start()


def _answer(stream: socket.socket) -> None:
    with stream:
        while stream.recv(65_536):
            stream.sendall(NOT_FOUND)
