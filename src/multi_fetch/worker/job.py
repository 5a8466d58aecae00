"""One request to its frames.

Content that fits one data frame is verified before any of it is put out; larger content streams,
and counts only once its ``end`` has come. A failure of the request is its ``error`` frame; any
other exception is a bug and ends the process.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from multi_fetch.errors import MultiFetchError
from multi_fetch.limits import MAX_DATA_BYTES, MAX_MESSAGE_CHARACTERS
from multi_fetch.protocol.frames import Begin, End, Error
from multi_fetch.protocol.framing import data_head, frame
from multi_fetch.verify import Verifier, hold

if TYPE_CHECKING:
    from multi_fetch.oci.reference import Reference
    from multi_fetch.protocol.request import Request
    from multi_fetch.remotes import Opened, Remote
    from multi_fetch.worker.outlet import Outlet
    from multi_fetch.worker.window import Job, Window

log = logging.getLogger(__name__)


class Jobs:
    """Runs jobs against one remote, each to exactly one terminal frame.

    Args:
        remote: what is fetched from.
        locator: its repository, ``docker.io/library/redis``.
        outlet: where the frames go.
        window: where a job is closed with its terminal frame.
    """

    def __init__(self, remote: Remote, locator: str, outlet: Outlet, window: Window) -> None:
        self._remote = remote
        self._locator = locator
        self._outlet = outlet
        self._window = window

    async def run(self, jobs: trio.MemoryReceiveChannel[Job]) -> None:
        """Takes jobs until there are no more; as many tasks may do this as jobs may run at once."""
        async for job in jobs:
            await self._run_one(job)

    async def _run_one(self, job: Job) -> None:
        with trio.CancelScope() as job.scope:
            try:
                if job.failure is None:
                    await self._answer(job)
                    return
            except MultiFetchError as error:
                job.failure = error
        assert job.failure is not None, "only a job that was stopped has a cancelled scope"
        await self._fail(job, job.failure)

    async def _answer(self, job: Job) -> None:
        request = job.request
        assert request is not None
        ref = request.reference(self._locator)
        if request.is_content_wanted:
            await self._send_content(job, request, ref)
            return
        resolved = await self._remote.resolve(
            ref, media_types=request.media_types, size=request.size
        )
        await self._wait_to_send(job)
        begin = Begin(job.id, request.object, resolved.descriptor, resolved.name)
        self._end(job, frame(begin), frame(End(job.id, 0, None)))

    async def _send_content(self, job: Job, request: Request, ref: Reference) -> None:
        async with self._remote.open(
            ref, media_types=request.media_types, size=request.size
        ) as opened:
            descriptor = opened.descriptor
            verifier = Verifier(descriptor.digest, descriptor.size)
            may_fit = descriptor.size is None or descriptor.size <= MAX_DATA_BYTES
            held, is_whole = await hold(
                opened.chunks, verifier, limit=MAX_DATA_BYTES if may_fit else 0
            )
            begin = Begin(job.id, request.object, descriptor, opened.name)
            if not is_whole:
                await self._stream(job, begin, held, opened, verifier)
        end = frame(End(job.id, verifier.received, descriptor.digest))
        if is_whole:
            await self._wait_to_send(job)
            job.sent_bytes = len(held)
            data = (data_head(job.id, 0, len(held)), held) if held else ()
            self._end(job, frame(begin), *data, end)
        else:
            self._end(job, end)

    async def _stream(
        self, job: Job, begin: Begin, held: bytes, opened: Opened, verifier: Verifier
    ) -> None:
        await self._wait_to_send(job)
        self._outlet.put(frame(begin))
        job.is_streaming = True
        await self._send_chunk(job, held)
        async for chunk in opened.chunks:
            verifier.update(chunk)
            await self._send_chunk(job, chunk)
        verifier.finish()

    async def _send_chunk(self, job: Job, chunk: bytes | bytearray | memoryview) -> None:
        # Counted first: a frame that is put is sent, also if waiting for it is cancelled.
        offset, job.sent_bytes = job.sent_bytes, job.sent_bytes + len(chunk)
        await self._outlet.put_content(job.id, offset, chunk)

    async def _wait_to_send(self, job: Job) -> None:
        await job.wait_turn()
        await self._outlet.wait_room()

    def _end(self, job: Job, *frames: bytes) -> None:
        # No checkpoint between these: a job is closed by the very step that puts its last frame.
        self._outlet.put(*frames, is_slow=job.is_streaming)
        self._window.close(job, None)

    async def _fail(self, job: Job, error: MultiFetchError) -> None:
        await self._wait_to_send(job)
        self._outlet.put(frame(error_frame(job, error)), is_slow=job.is_streaming)
        self._window.close(job, error)
        log.error(
            "request failed",
            extra={
                "id": job.id,
                "ref": "" if job.request is None else job.request.object,
                "code": error.code,
                "error": error.message,
                **error.detail(),
            },
        )


def error_frame(job: Job, error: MultiFetchError) -> Error:
    """The terminal frame of a job that failed."""
    return Error(
        id=job.id,
        code=error.code,
        message=error.message[:MAX_MESSAGE_CHARACTERS],
        retryable=error.retryable,
        detail={**error.detail(), "bytes_sent": job.sent_bytes},
    )
