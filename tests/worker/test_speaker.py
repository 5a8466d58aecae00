from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from multi_fetch.errors import DigestMismatchError, NotFoundError, RegistryError
from multi_fetch.limits import MAX_DATA_BYTES, MAX_FRAME_OVERHEAD_BYTES, MAX_MESSAGE_CHARACTERS
from multi_fetch.oci.descriptor import Descriptor, Platform
from multi_fetch.oci.digest import digest_of
from multi_fetch.protocol.frames import Begin, Data, End, Error, Frame
from multi_fetch.protocol.request import Request
from multi_fetch.protocol.wire import MessagePackWire
from multi_fetch.worker.deadlines import Deadlines
from multi_fetch.worker.job import Flight, Job
from multi_fetch.worker.outlet import Outlet
from multi_fetch.worker.speaker import Speaker
from multi_fetch.worker.window import Window
from tests.worker.harness import MemoryWriter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DIGEST = digest_of(b"hello")


class Stage:
    """A speaker before an outlet that runs, and jobs that are open."""

    def __init__(self) -> None:
        self.writer = MemoryWriter()
        self.outlet = Outlet(self.writer, is_ordered=False)
        deadlines = Deadlines()
        self.window = Window(100, jobs=100, streams=1, is_ordered=False, on_start=deadlines.arm)
        self.speaker = Speaker(MessagePackWire(), self.outlet, self.window, deadlines)

    async def flight(self, count: int) -> Flight:
        for number in range(1, count + 1):
            await self.window.admit(Job(id=number, request=Request(object="a")))
        flight = await self.window.take()
        assert flight is not None
        assert len(flight.members) == count
        return flight

    async def job(self) -> Job:
        return (await self.flight(1)).members[0]

    async def frames(self) -> list[Frame]:
        """All that was put, once it is written."""
        self.outlet.close()
        await self.outlet.wait_done()
        return self.writer.frames()


@pytest.fixture
async def stage(nursery: trio.Nursery) -> AsyncIterator[Stage]:
    stage = Stage()
    nursery.start_soon(stage.outlet.run)
    yield stage
    nursery.cancel_scope.cancel()


def begin(number: int = 1, descriptor: Descriptor | None = None) -> Begin:
    plain = Descriptor(media_type="a/b", digest=DIGEST, size=5)
    return Begin(number, "a", descriptor or plain, "registry.test/app:a", None)


async def test_a_small_answer_is_put_whole_and_closes_its_job(stage: Stage) -> None:
    job = await stage.job()
    await stage.speaker.answer(job, begin(), b"hello", DIGEST, list)
    assert job.is_closed
    assert await stage.frames() == [begin(), Data(1, 0, b"hello"), End(1, 5, DIGEST, 0)]


async def test_what_is_found_below_is_counted_and_opened_with_the_last_frame(stage: Stage) -> None:
    job = await stage.job()
    child = Job(id=-1, request=Request(object="b"), parent=job)
    await stage.speaker.answer(job, begin(), b"", None, lambda: [child])
    assert stage.window.open_jobs() == [child]
    assert (await stage.frames())[-1] == End(1, 0, None, 1)


async def test_what_cannot_be_found_leaves_nothing_put(stage: Stage) -> None:
    def find() -> list[Job]:
        raise RegistryError("no manifest")

    job = await stage.job()
    with pytest.raises(RegistryError):
        await stage.speaker.answer(job, begin(), b"hello", DIGEST, find)
    await stage.speaker.fail(job, RegistryError("no manifest"))
    (error,) = await stage.frames()
    assert isinstance(error, Error)
    assert error.detail == {"bytes_sent": 0}


async def test_a_job_that_was_closed_is_not_searched_for_what_is_below(stage: Stage) -> None:
    """Or what it named would be counted as found, and missing where it is named again."""

    def find() -> list[Job]:
        raise AssertionError("nobody asked")

    job = await stage.job()
    stage.speaker.fail_now(job, NotFoundError("gone"))
    await stage.speaker.answer(job, begin(), b"hello", DIGEST, find)
    assert [type(frame) for frame in await stage.frames()] == [Error]


async def test_a_job_fails_once(stage: Stage) -> None:
    job = await stage.job()
    stage.speaker.fail_now(job, NotFoundError("x" * 9_999, status=404))
    stage.speaker.fail_now(job, NotFoundError("again"))
    (error,) = await stage.frames()
    message = "x" * MAX_MESSAGE_CHARACTERS
    assert error == Error(1, "not-found", message, False, {"status": 404, "bytes_sent": 0})


async def test_an_error_below_an_object_says_what_and_whose_it_is(stage: Stage) -> None:
    parent = await stage.job()
    child = Job(id=-1, request=Request(object="b"), parent=parent)
    stage.speaker.end(parent, None, [child])
    stage.speaker.fail_now(child, DigestMismatchError(want="a", got="b"))
    error = (await stage.frames())[-1]
    assert isinstance(error, Error)
    assert error.detail == {"want": "a", "got": "b", "bytes_sent": 0, "object": "b", "parent": 1}


LONG = "x" * MAX_FRAME_OVERHEAD_BYTES


@pytest.mark.parametrize(
    "descriptor",
    [
        Descriptor(media_type="a/b", digest=DIGEST, size=5, annotations={"a": LONG}),
        Descriptor(media_type="a/b", digest=DIGEST, size=5, artifact_type=LONG),
        Descriptor(
            media_type="a/b", digest=DIGEST, size=5, platform=Platform(os=LONG, architecture="a")
        ),
    ],
)
async def test_a_descriptor_too_long_for_a_frame_is_cut_to_what_every_one_has(
    stage: Stage, descriptor: Descriptor
) -> None:
    await stage.speaker.answer(await stage.job(), begin(1, descriptor), b"", None, list)
    assert (await stage.frames())[0] == begin()


async def test_one_turn_for_many_readers_is_no_longer_than_one_for_one(stage: Stage) -> None:
    """However many share a large object, a small one overtakes it as soon."""
    flight = await stage.flight(20)
    for job in flight.members:
        stage.speaker.begin(job, begin(job.id))
    stage.writer.flow = trio.Event()
    chunk = b"x" * (MAX_DATA_BYTES // 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.speaker.content, flight, chunk)
        await trio.testing.wait_all_tasks_blocked()
        stage.outlet.put(MessagePackWire().frame(End(99, 0, None, 0)))
        # In mid-turn some leave, and nobody else loses anything by that.
        for job in flight.members[5:15:3]:
            stage.speaker.fail_now(job, NotFoundError("left"))
        stage.writer.flow.set()
    frames = await stage.frames()
    before = frames[: frames.index(End(99, 0, None, 0))]
    assert sum(isinstance(frame, Data) for frame in before) <= 2
    received = [frame.id for frame in frames if isinstance(frame, Data)]
    assert received == [job.id for job in flight.members]


async def test_a_stop_in_the_moment_in_which_the_turn_comes_is_heard(stage: Stage) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await stage.speaker.wait_turn(Job(id=1, request=Request(object="a")))
    assert scope.cancelled_caught
