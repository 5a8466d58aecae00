"""The worker as a whole, against a remote in memory."""

from __future__ import annotations

import os
import random
import signal
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from multi_fetch.durations import SHUTDOWN_GRACE_SECONDS, WARM_UP_AFTER_SECONDS
from multi_fetch.errors import NotFoundError, UnavailableError
from multi_fetch.limits import MAX_DATA_BYTES, MAX_FRAME_BYTES
from multi_fetch.oci.digest import digest_of
from multi_fetch.protocol.frames import Begin, Bye, Data, End, Error, Hello
from multi_fetch.worker.serve import SIGNALS, Settings
from tests.worker.harness import LOCATOR, answers, content, ids, running, terminals
from tests.worker.memory_remote import MemoryRemote

if TYPE_CHECKING:
    from trio.testing import MockClock

SMALL = b"a small object"
LARGE = random.Random(1).randbytes(3 * MAX_DATA_BYTES + 17)


@pytest.fixture
def remote() -> MemoryRemote:
    remote = MemoryRemote()
    remote.add(SMALL, "small")
    remote.add(LARGE, "large")
    remote.add(b"", "empty")
    return remote


def settings(
    *,
    jobs: int = 16,
    window: int = 1024,
    is_ordered: bool = False,
    timeout_seconds: float | None = None,
) -> Settings:
    return Settings(
        software="test",
        jobs=jobs,
        window=window,
        is_ordered=is_ordered,
        timeout_seconds=timeout_seconds,
    )


def large_objects(remote: MemoryRemote, count: int) -> bytes:
    """The lines that ask for so many different large objects."""
    digests = [remote.add(LARGE + bytes([number])) for number in range(count)]
    return "".join(f"{digest}\n" for digest in digests).encode()


async def test_hello_comes_first_and_bye_last_even_if_nothing_is_asked(
    remote: MemoryRemote,
) -> None:
    status, frames = await answers(remote, b"")
    hello, bye = frames
    assert isinstance(hello, Hello)
    assert (hello.version, hello.remote, hello.window) == (1, LOCATOR, 1024)
    assert hello.max_frame == MAX_FRAME_BYTES
    assert bye == Bye(0, 0, 0, 0, {"retries": 0})
    assert status == 0


async def test_a_small_object_is_answered_by_begin_data_end(remote: MemoryRemote) -> None:
    status, frames = await answers(remote, b"small\n")
    _, begin, data, end, bye = frames
    assert isinstance(begin, Begin)
    assert (begin.id, begin.object, begin.parent) == (1, "small", None)
    assert begin.name == f"{LOCATOR}:small"
    assert begin.descriptor.digest == digest_of(SMALL)
    assert data == Data(1, 0, SMALL)
    assert end == End(1, len(SMALL), digest_of(SMALL), 0)
    assert bye == Bye(1, 1, 0, len(SMALL), {"retries": 0})
    assert status == 0


async def test_an_empty_object_has_no_data_frame(remote: MemoryRemote) -> None:
    _, frames = await answers(remote, b"empty\n")
    assert [type(frame) for frame in frames[1:-1]] == [Begin, End]


@pytest.mark.parametrize("is_size_known", [True, False])
@pytest.mark.parametrize("chunk_bytes", [1000, 64 * 1024, 10**7])
async def test_a_large_object_arrives_whole_in_frames_within_the_limit(
    remote: MemoryRemote, chunk_bytes: int, is_size_known: bool
) -> None:
    remote.chunk_bytes = chunk_bytes
    remote.is_size_known = is_size_known
    _, frames = await answers(remote, b"large\n")
    assert content(frames, 1) == LARGE
    assert all(len(frame.content) <= MAX_DATA_BYTES for frame in frames if isinstance(frame, Data))
    assert terminals(frames)[1] == End(1, len(LARGE), digest_of(LARGE), 0)


async def test_content_none_asks_for_the_descriptor_alone(remote: MemoryRemote) -> None:
    _, frames = await answers(remote, b"large content:none\n")
    _, begin, end, bye = frames
    assert isinstance(begin, Begin)
    assert begin.descriptor.size == len(LARGE)
    assert end == End(1, 0, None, 0)
    assert bye == Bye(1, 1, 0, 0, {"retries": 0})
    assert remote.opened == []


async def test_ids_are_line_numbers_and_every_bad_line_fails_alone(remote: MemoryRemote) -> None:
    lines = b"# comment\n\nsmall\r\n\xff\nsmall bad\n" + b"x" * 70_000 + b"\n!dance\n  \nsmall"
    status, frames = await answers(remote, lines)
    ends = terminals(frames)
    assert {number: type(frame) for number, frame in ends.items()} == {
        3: End,
        4: Error,
        5: Error,
        6: Error,
        7: Error,
        9: End,
    }
    assert {frame.code for frame in ends.values() if isinstance(frame, Error)} == {
        "invalid-request"
    }
    assert frames[-1] == Bye(6, 2, 4, 2 * len(SMALL), {"retries": 0})
    assert status == 1


async def test_small_content_that_does_not_verify_is_never_sent(remote: MemoryRemote) -> None:
    remote.lies[digest_of(SMALL)] = b"a forged object"[: len(SMALL)]
    status, frames = await answers(remote, b"small\n")
    _, error, _ = frames
    assert isinstance(error, Error)
    assert (error.code, error.retryable) == ("digest-mismatch", False)
    assert error.detail["bytes_sent"] == 0
    assert status == 1


@pytest.mark.parametrize(
    ("forged", "code"),
    [
        (LARGE[:-1] + b"\0", "digest-mismatch"),
        (LARGE[:-1], "size-mismatch"),
        (LARGE + b"\0", "size-mismatch"),
    ],
)
async def test_large_content_that_does_not_verify_has_no_end(
    remote: MemoryRemote, forged: bytes, code: str
) -> None:
    remote.lies[digest_of(LARGE)] = forged
    _, frames = await answers(remote, b"large\n")
    error = terminals(frames)[1]
    assert isinstance(error, Error)
    assert error.code == code
    assert error.detail["bytes_sent"] == len(content(frames, 1))


async def test_answers_come_in_the_order_of_completion(remote: MemoryRemote) -> None:
    remote.gates["large"] = trio.Event()
    async with running(remote) as run:
        run.reader.feed(b"large\nsmall\n")
        run.reader.feed_eof()
        await run.writer.wait_frames(4)
        remote.gates["large"].set()
    assert list(terminals(run.writer.frames())) == [2, 1]


async def test_ordered_answers_come_in_the_order_of_the_requests(remote: MemoryRemote) -> None:
    remote.gates["large"] = trio.Event()
    async with running(remote, settings(is_ordered=True)) as run:
        run.reader.feed(b"large\nsmall\nbad line\n\nnowhere\nlarge\nsmall content:none\nsmall\n")
        run.reader.feed_eof()
        await trio.testing.wait_all_tasks_blocked()
        assert len(run.writer.frames()) == 1
        remote.gates["large"].set()
    frames = run.writer.frames()
    assert ids(frames) == sorted(ids(frames))
    assert list(terminals(frames)) == [1, 2, 3, 5, 6, 7, 8]
    assert content(frames, 6) == LARGE


async def test_a_line_is_answered_before_the_next_is_written(remote: MemoryRemote) -> None:
    async with running(remote) as run:
        for number in range(1, 4):
            run.reader.feed(b"small\n")
            frames = await run.writer.wait_frames(1 + 3 * number)
            assert isinstance(frames[-1], End)
        run.reader.feed_eof()


async def test_no_more_than_jobs_run_and_no_more_than_the_window_are_read(
    remote: MemoryRemote,
) -> None:
    gate = trio.Event()
    for number in range(20):
        remote.add(b"%d" % number, f"tag{number}")
        remote.gates[f"tag{number}"] = gate
    async with running(remote, settings(jobs=3, window=5)) as run:
        for number in range(20):
            run.reader.feed(b"tag%d\n" % number)
        run.reader.feed_eof()
        await trio.testing.wait_all_tasks_blocked()
        assert remote.running == 3
        assert run.reader._receive.statistics().current_buffer_used == 20 - 6
        gate.set()
    assert remote.peak == 3
    assert len(terminals(run.writer.frames())) == 20


async def test_a_parent_that_does_not_read_stops_the_fetching(remote: MemoryRemote) -> None:
    lines = large_objects(remote, 40)
    async with running(remote) as run:
        await run.writer.wait_frames(1)
        run.writer.flow = trio.Event()
        run.reader.feed(lines)
        run.reader.feed_eof()
        await trio.testing.wait_all_tasks_blocked()
        assert remote.running == 16
        assert len(remote.opened) == 16
        run.writer.flow.set()
    frames = run.writer.frames()
    ends = terminals(frames)
    assert all(isinstance(ends[number], End) for number in range(1, 41))


async def test_a_small_object_overtakes_large_ones_on_the_stream(remote: MemoryRemote) -> None:
    async with running(remote) as run:
        await run.writer.wait_frames(1)
        run.writer.flow = trio.Event()
        run.reader.feed(large_objects(remote, 8))
        await trio.testing.wait_all_tasks_blocked()
        run.reader.feed(b"small\n")
        run.reader.feed_eof()
        await trio.testing.wait_all_tasks_blocked()
        run.writer.flow.set()
    assert next(iter(terminals(run.writer.frames()))) == 9


async def test_large_objects_share_the_stream_fairly(remote: MemoryRemote) -> None:
    # A thread's hash takes as long as it takes, and who waits for it lets a turn pass.
    inline = Settings(software="test", hash_thread_bytes=sys.maxsize)
    _, frames = await answers(remote, large_objects(remote, 4), inline)
    sent = dict.fromkeys(range(1, 5), 0)
    for frame in frames:
        if isinstance(frame, Data):
            sent[frame.id] += len(frame.content)
            running_now = [sent[number] for number in sent if sent[number] < len(LARGE)]
            if len(running_now) == 4:
                assert max(running_now) - min(running_now) <= 4 * remote.chunk_bytes


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_cancels_each_open_request_and_says_bye(
    remote: MemoryRemote, number: signal.Signals
) -> None:
    remote.add(b"another", "another")
    remote.gates |= {"large": trio.Event(), "another": trio.Event()}
    async with running(remote, settings(jobs=2)) as run:
        run.reader.feed(b"large\nlarge\nanother\nsmall\n")
        await trio.testing.wait_all_tasks_blocked()
        os.kill(os.getpid(), number)
    ends = terminals(run.writer.frames())
    assert sorted(ends) == [1, 2, 3, 4]
    assert {frame.code for frame in ends.values() if isinstance(frame, Error)} == {"cancelled"}
    assert run.writer.frames()[-1] == Bye(4, 0, 4, 0, {"retries": 0})
    assert run.status == 128 + number


async def test_after_a_signal_a_parent_that_does_not_read_is_left_behind(
    remote: MemoryRemote, autojump_clock: MockClock
) -> None:
    async with running(remote) as run:
        await run.writer.wait_frames(1)
        run.writer.flow = trio.Event()
        run.reader.feed(b"small\nlarge\n")
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        os.kill(os.getpid(), signal.SIGTERM)
    assert run.status == 128 + signal.SIGTERM
    assert trio.current_time() - began <= SHUTDOWN_GRACE_SECONDS + 1


async def test_a_second_signal_ends_at_once(remote: MemoryRemote) -> None:
    async with running(remote) as run:
        await run.writer.wait_frames(1)
        run.writer.flow = trio.Event()
        run.reader.feed(b"small\n")
        await trio.testing.wait_all_tasks_blocked()
        os.kill(os.getpid(), signal.SIGTERM)
        # The first one has to be taken in: the system would merge two that wait.
        await trio.testing.wait_all_tasks_blocked(cushion=0.1)
        os.kill(os.getpid(), signal.SIGTERM)
    assert run.status == 128 + signal.SIGTERM
    assert len(run.writer.frames()) == 1


async def test_a_closed_stdout_ends_the_worker_while_it_waits(remote: MemoryRemote) -> None:
    remote.gates["large"] = trio.Event()
    async with running(remote) as run:
        run.reader.feed(b"large\n")
        await trio.testing.wait_all_tasks_blocked()
        run.writer.closed.set()
    assert run.status == 141
    assert remote.running == 0


async def test_the_timeout_fails_what_is_left(
    remote: MemoryRemote, autojump_clock: MockClock
) -> None:
    remote.gates["large"] = trio.Event()
    async with running(remote, settings(jobs=2, timeout_seconds=90)) as run:
        run.reader.feed(b"small\nlarge\nlarge\nlarge\n")
    ends = terminals(run.writer.frames())
    assert isinstance(ends[1], End)
    assert [getattr(ends[number], "code", "") for number in (2, 3, 4)] == ["timeout"] * 3
    assert run.status == 1


async def test_a_run_that_times_out_while_it_waits_for_lines_has_failed(
    remote: MemoryRemote, autojump_clock: MockClock
) -> None:
    async with running(remote, settings(timeout_seconds=90)) as run:
        run.reader.feed(b"small\n")
    assert run.writer.frames()[-1] == Bye(1, 1, 0, len(SMALL), {"retries": 0})
    assert run.status == 1


async def test_a_failure_has_its_facts_in_the_detail(remote: MemoryRemote) -> None:
    remote.failures["small"] = NotFoundError("gone", status=404, registry_code="MANIFEST_UNKNOWN")
    _, frames = await answers(remote, b"small\n")
    assert frames[1] == Error(
        1,
        "not-found",
        "gone",
        False,
        {"status": 404, "registry_code": "MANIFEST_UNKNOWN", "bytes_sent": 0},
    )


@pytest.mark.parametrize(("lines", "status"), [(b"small\nlarge\n", 3), (b"small\nnowhere\n", 1)])
async def test_a_remote_that_no_request_could_use_has_its_own_status(
    remote: MemoryRemote, lines: bytes, status: int
) -> None:
    for name in ("small", "large"):
        remote.failures[name] = UnavailableError("no route to host")
    assert (await answers(remote, lines))[0] == status


@pytest.mark.parametrize("is_ordered", [False, True])
async def test_a_bug_answers_each_open_request_and_ends_the_process(
    remote: MemoryRemote, is_ordered: bool
) -> None:
    remote.failures["small"] = ZeroDivisionError("a bug")
    remote.gates["large"] = trio.Event()
    frames = []
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with running(remote, settings(is_ordered=is_ordered)) as run:
            run.reader.feed(b"large\nlarge\n")
            await trio.testing.wait_all_tasks_blocked()
            run.reader.feed(b"small\n")
    frames = run.writer.frames()
    ends = terminals(frames[:-2])
    assert sorted(ends) == [1, 2, 3]
    assert {frame.code for frame in ends.values() if isinstance(frame, Error)} == {"internal"}
    assert isinstance(frames[-2], Error)
    assert frames[-2].id == 0
    assert isinstance(frames[-1], Bye)


@pytest.mark.parametrize("jobs", [1, 3, 64])
@pytest.mark.parametrize("is_ordered", [False, True])
async def test_a_thousand_mixed_requests_all_arrive(jobs: int, is_ordered: bool) -> None:
    chance = random.Random(jobs)
    remote = MemoryRemote(chunk_bytes=100_000)
    contents = [chance.randbytes(chance.choice([0, 10, 4096, 700_000])) for _ in range(30)]
    digests = [remote.add(each, f"tag{number}") for number, each in enumerate(contents)]
    wanted = [chance.randrange(30) for _ in range(1_000)]
    lines = "".join(
        f"{digests[number]}\n" if chance.random() < 0.5 else f"tag{number}\n" for number in wanted
    )
    status, frames = await answers(
        remote, lines.encode(), settings(jobs=jobs, is_ordered=is_ordered)
    )
    assert status == 0
    ends = terminals(frames)
    assert len(ends) == 1_000
    if is_ordered:
        assert ids(frames) == sorted(ids(frames))
    for request_id, number in enumerate(wanted, start=1):
        end = ends[request_id]
        assert isinstance(end, End)
        assert end.digest == digests[number]
        assert end.size == len(contents[number])


# --- the remote, made ready ---------------------------------------------------------------------


class WarmableRemote(MemoryRemote):
    """One that counts how often it was made ready, and takes a while."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.warmed: list[float] = []
        self.seconds = seconds

    async def warm_up(self) -> None:
        self.warmed.append(trio.current_time())
        await trio.sleep(self.seconds)


WARM = Settings(software="test", is_warmed_up=True)


async def test_the_remote_is_made_ready_once_while_the_first_request_is_awaited(
    autojump_clock: MockClock,
) -> None:
    remote = WarmableRemote()
    remote.add(b"content", "v1")
    async with running(remote, WARM) as run:
        await run.writer.wait_frames(1)
        assert remote.warmed == []
        await trio.sleep(60)
        assert remote.warmed == [pytest.approx(WARM_UP_AFTER_SECONDS)]
        run.reader.feed(b"v1\n")
        run.reader.feed_eof()
    assert len(remote.warmed) == 1
    assert content(run.writer.frames(), 1) == b"content"


@pytest.mark.parametrize("settings", [WARM, Settings(software="test")])
async def test_it_is_not_where_a_request_is_there_or_nobody_wants_it(
    autojump_clock: MockClock, settings: Settings
) -> None:
    remote = WarmableRemote()
    remote.add(b"content", "v1")
    async with running(remote, settings) as run:
        if settings.is_warmed_up:
            run.reader.feed(b"v1\n")
        await trio.sleep(60)
        run.reader.feed_eof()
    assert remote.warmed == []


@pytest.mark.parametrize("lines", [b"", b"v1\n"])
async def test_who_makes_it_ready_holds_nothing_up(autojump_clock: MockClock, lines: bytes) -> None:
    remote = WarmableRemote(seconds=1_000)
    remote.add(b"content", "v1")
    async with running(remote, WARM) as run:
        await trio.sleep(10)
        assert remote.warmed
        run.reader.feed(lines)
        run.reader.feed_eof()
    assert trio.current_time() < 11
    assert run.status == 0
