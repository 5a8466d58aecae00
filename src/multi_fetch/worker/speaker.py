"""Puts a job's frames out, in the order that the protocol has, and closes it with the last.

A job's terminal frame and its closing are one step without a checkpoint between, so whatever
happens, each job gets exactly one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio
from msgspec.structs import replace

from multi_fetch.errors import InternalError, RequestCancelledError
from multi_fetch.limits import MAX_DATA_BYTES, MAX_MESSAGE_CHARACTERS
from multi_fetch.protocol.frames import Begin, End, Error, File

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from multi_fetch.errors import MultiFetchError
    from multi_fetch.oci.digest import Chunk, Digest
    from multi_fetch.protocol.frames import Detail
    from multi_fetch.protocol.wire import Wire
    from multi_fetch.worker.deadlines import Deadlines
    from multi_fetch.worker.job import Flight, Job
    from multi_fetch.worker.outlet import Outlet
    from multi_fetch.worker.window import Window

log = logging.getLogger(__name__)


class Speaker:
    """Frames for jobs.

    Args:
        wire: how frames become bytes.
        outlet: where they go.
        window: where a job is closed.
        deadlines: which stand still while a job waits for its turn.
    """

    def __init__(self, wire: Wire, outlet: Outlet, window: Window, deadlines: Deadlines) -> None:
        self._wire = wire
        self._outlet = outlet
        self._window = window
        self._deadlines = deadlines

    async def wait_turn(self, job: Job) -> None:
        """Returns once the job may send and there is room for it; put then, before any wait."""
        if job.turn is not None and not job.turn.is_set():
            left = self._deadlines.pause(job)
            await job.turn.wait()
            self._deadlines.resume(job, left)
        await self._outlet.wait_room()
        # Neither wait tells of a stop that came in the moment in which it ended.
        await trio.lowlevel.checkpoint_if_cancelled()

    async def answer(
        self,
        job: Job,
        begin: Begin,
        content: bytes,
        proved: Digest | None,
        find: Callable[[], Sequence[Job]],
    ) -> None:
        """All frames of a job whose content is there and verified, and its closing.

        Args:
            job: nothing is put out for it if it is closed already.
            begin: its first frame.
            content: all of it.
            proved: the digest that it has.
            find: what is below the job; called only when its last frame will follow, so that
                nothing is numbered, and counted as seen, that is never announced.

        Raises:
            MultiFetchError: as ``find`` does; nothing, or all of the content, was put then.
        """
        await self.wait_turn(job)
        if job.is_closed:
            return
        if len(content) > MAX_DATA_BYTES:
            self.begin(job, begin)
            await self._slowly([job], content)
            if not job.is_closed:
                self.end(job, proved, find())
            return
        first = self._begin_bytes(begin)
        children = find()
        job.sent_bytes = len(content)
        self._outlet.put(first, *(self._wire.data(job.id, 0, content) if content else ()))
        self.end(job, proved, children)

    async def wait_room(self) -> None:
        """Returns once there is room; ``answer_now`` then, before any wait."""
        await self._outlet.wait_room()

    def answer_now(self, job: Job, begin: Begin, content: bytes, proved: Digest) -> None:
        """The same as ``answer``, of a job that waits for no turn, and of what fits one frame.

        Nothing is below it that was asked for.
        """
        job.sent_bytes = len(content)
        data = self._wire.data(job.id, 0, content) if content else ()
        end = self._wire.frame(End(job.id, len(content), proved, 0))
        self._outlet.put(self._begin_bytes(begin), *data, end)
        self._window.close(job, None)

    async def name_file(
        self,
        job: Job,
        begin: Begin,
        file: File,
        proved: Digest,
        find: Callable[[], Sequence[Job]],
    ) -> None:
        """The same of a job whose content is in a file: that takes the place of all data.

        Raises:
            MultiFetchError: as ``find`` does; nothing was put then.
        """
        await self.wait_turn(job)
        if job.is_closed:
            return
        first = self._begin_bytes(begin)
        children = find()
        job.sent_bytes = file.size
        self._outlet.put(first, self._wire.frame(file))
        self.end(job, proved, children)

    def begin(self, job: Job, begin: Begin) -> None:
        """The first frame of a job whose content streams."""
        self._outlet.put(self._begin_bytes(begin))
        job.is_streaming = True

    async def content(self, flight: Flight, chunk: Chunk) -> None:
        """Content for all jobs of a flight; returns once it is written."""
        await self._slowly(flight.members, chunk)

    async def _slowly(self, jobs: list[Job], chunk: Chunk) -> None:
        view = memoryview(chunk)
        for start in range(0, len(view), MAX_DATA_BYTES):
            piece = view[start : start + MAX_DATA_BYTES]
            # However many share a fetch, they are one among the large objects: one turn writes
            # no more for all of them than it would for one.
            for some in _batches(jobs, MAX_DATA_BYTES // len(piece)):
                await self._outlet.put_slowly(self._data(some, piece))

    def _data(self, jobs: Sequence[Job], piece: Chunk) -> list[Chunk]:
        frames: list[Chunk] = []
        for job in jobs:
            if job.is_closed:
                continue
            frames += self._wire.data(job.id, job.sent_bytes, piece)
            # Counted at once: what is put is sent, also if waiting for it is cancelled.
            job.sent_bytes += len(piece)
        return frames

    def end(self, job: Job, proved: Digest | None, children: Sequence[Job] = ()) -> None:
        """The last frame of a job that succeeded."""
        end = End(job.id, job.sent_bytes, proved, len(children))
        self._outlet.put(self._wire.frame(end), is_slow=job.is_streaming)
        self._window.add_children(job, children)
        self._window.close(job, None)

    async def fail(self, job: Job, error: MultiFetchError) -> None:
        """The last frame of a job that failed, in its turn."""
        await self.wait_turn(job)
        self.fail_now(job, error)

    def fail_now(self, job: Job, error: MultiFetchError) -> None:
        """The last frame of a job that failed; nothing, if it has had its last."""
        if job.is_closed:
            return
        frame = Error(
            id=job.id,
            code=error.code,
            message=error.message[:MAX_MESSAGE_CHARACTERS],
            retryable=error.retryable,
            detail=_detail(job, error),
        )
        self._outlet.put(self._wire.frame(frame), is_slow=job.is_streaming)
        self._window.close(job, error)
        # What the parent has cancelled, or ended us for, is no news to it.
        level = logging.INFO if isinstance(error, RequestCancelledError) else logging.ERROR
        log.log(
            level,
            "request failed",
            extra={
                "id": job.id,
                "ref": "" if job.request is None else job.request.object,
                "code": error.code,
                "error": error.message,
                **error.detail(),
            },
        )

    def _begin_bytes(self, begin: Begin) -> bytes:
        try:
            return self._wire.frame(begin)
        except InternalError:
            # A manifest may describe at more length than a frame has room for.
            told = begin.descriptor
            bare = told.bare()
            return self._wire.frame(replace(begin, descriptor=bare))


def _batches(jobs: Sequence[Job], size: int) -> list[Sequence[Job]]:
    return [jobs[start : start + size] for start in range(0, len(jobs), size)]


def _detail(job: Job, error: MultiFetchError) -> Detail:
    detail: Detail = {**error.detail(), "bytes_sent": job.sent_bytes}
    if job.parent is not None and job.request is not None:
        detail |= {"object": job.request.object, "parent": job.parent.id}
    return detail
