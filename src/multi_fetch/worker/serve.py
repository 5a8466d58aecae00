"""The worker's nursery and its shutdown: read this first.

Two nurseries, one in the other. The inner one has the work: the intake and the jobs; it ends when
all that was asked is answered. The outer one has what must outlive it: the outlet, and the watch
over signals and stdout.

There are four ways to end. stdin's end drains: the inner nursery comes to its own end. A signal,
and the timeout, stop the intake and every open job, each of which then sends its error; the parent
gets a grace to read them. A closed stdout, and a second signal, cancel all at once. A bug cancels
the work and is answered with ``internal`` errors before it goes on up.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from multi_fetch.errors import (
    DeadlineExceededError,
    InternalError,
    MultiFetchError,
    RequestCancelledError,
)
from multi_fetch.limits import (
    DEFAULT_JOBS,
    DEFAULT_WINDOW,
    MAX_FRAME_BYTES,
    SHUTDOWN_GRACE_SECONDS,
)
from multi_fetch.protocol.frames import FEATURES, PROTOCOL_VERSION, Bye, Error, Hello
from multi_fetch.protocol.framing import frame
from multi_fetch.worker.intake import take_in
from multi_fetch.worker.job import Jobs, error_frame
from multi_fetch.worker.outlet import Outlet
from multi_fetch.worker.window import Job, Window

if TYPE_CHECKING:
    from multi_fetch.remotes import Remote
    from multi_fetch.worker.pipes import Reader, Writer

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
# As a shell reports a process that SIGPIPE ended.
STDOUT_CLOSED_STATUS: Final = 128 + 13


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be chosen about a run.

    Attributes:
        software: name and version, for hello.
        jobs: requests that run at the same time.
        window: requests that may be open at the same time.
        is_ordered: whether frames come in the order of the requests.
        timeout_seconds: for the whole run; None for no limit.
    """

    software: str
    jobs: int = DEFAULT_JOBS
    window: int = DEFAULT_WINDOW
    is_ordered: bool = False
    timeout_seconds: float | None = None


async def serve(
    remote: Remote, locator: str, reader: Reader, writer: Writer, settings: Settings
) -> int:
    """Answers every request of ``reader`` on ``writer``.

    Returns:
        The exit status, as protocol.md has it.

    Raises:
        OSError: stdout takes no more, for another reason than that it was closed.
    """
    worker = Worker(remote, locator, writer, settings)
    is_stdout_closed = False
    try:
        await worker.run(reader)
    except* BrokenPipeError:
        is_stdout_closed = True
    return STDOUT_CLOSED_STATUS if is_stdout_closed else worker.exit_status


class Worker:
    """One run; see ``serve``."""

    def __init__(self, remote: Remote, locator: str, writer: Writer, settings: Settings) -> None:
        self._settings = settings
        self._writer = writer
        self._window = Window(settings.window, is_ordered=settings.is_ordered)
        self._outlet = Outlet(writer, is_ordered=settings.is_ordered)
        self._jobs = Jobs(remote, locator, self._outlet, self._window)
        self._locator = locator
        self._intake_scope = trio.CancelScope()
        self._ended_by: int | None = None
        self._is_timed_out = False

    @property
    def exit_status(self) -> int:
        """What the process should exit with, once ``run`` has returned."""
        if self._ended_by is not None:
            return 128 + self._ended_by
        if self._is_timed_out or self._window.open_jobs():
            return 1
        return self._window.tally.exit_status

    async def run(self, reader: Reader) -> None:
        """From hello to bye."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._outlet.run)
            self._outlet.put(frame(self._hello()))
            await nursery.start(self._watch_signals, nursery.cancel_scope)
            nursery.start_soon(self._watch_stdout)
            nursery.start_soon(self._watch_time, nursery.cancel_scope)
            bug: BaseExceptionGroup | None = None
            try:
                await self._work(reader)
            except* Exception as found:  # noqa: BLE001 - raised again, after the last frames
                bug = found
                self._answer_with(InternalError(f"a fault of multi-fetch: {_first(found)!r}"))
            # On the slow lane: the fast one would overtake a large object's last frame.
            self._outlet.put(frame(self._bye()), is_slow=True)
            self._outlet.close()
            await self._outlet.wait_done()
            if bug is not None:
                raise bug
            nursery.cancel_scope.cancel()

    async def _work(self, reader: Reader) -> None:
        # A place for every job that the window admits, so that handing one over never waits.
        to_jobs, jobs = trio.open_memory_channel[Job](self._settings.window)
        async with trio.open_nursery() as nursery:
            for _ in range(self._settings.jobs):
                nursery.start_soon(self._jobs.run, jobs)
            with self._intake_scope:
                await take_in(reader, self._window, to_jobs)

    def _stop(self, reason: MultiFetchError, everything: trio.CancelScope) -> None:
        self._intake_scope.cancel()
        for job in self._window.open_jobs():
            job.stop(reason)
        everything.deadline = trio.current_time() + SHUTDOWN_GRACE_SECONDS

    async def _watch_signals(
        self,
        everything: trio.CancelScope,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        with trio.open_signal_receiver(*SIGNALS) as signals:
            task_status.started()
            async for number in signals:
                if self._ended_by is not None:
                    everything.cancel()
                    return
                self._ended_by = number
                name = signal.Signals(number).name
                self._stop(RequestCancelledError(f"the worker was ended by {name}"), everything)

    async def _watch_stdout(self) -> None:
        await self._writer.wait_closed()
        raise BrokenPipeError("stdout is closed")

    async def _watch_time(self, everything: trio.CancelScope) -> None:
        seconds = self._settings.timeout_seconds
        if seconds is None:
            return
        await trio.sleep(seconds)
        self._is_timed_out = True
        self._stop(
            DeadlineExceededError(f"not done when the run's timeout of {seconds:g} s was over"),
            everything,
        )

    def _answer_with(self, error: MultiFetchError) -> None:
        # Nothing runs any more, so no turn and no room is waited for.
        for job in self._window.open_jobs():
            self._outlet.put(frame(error_frame(job, error)), is_slow=job.is_streaming)
            self._window.close(job, error)
        self._outlet.put(frame(Error(0, error.code, error.message, error.retryable, {})))

    def _hello(self) -> Hello:
        return Hello(
            version=PROTOCOL_VERSION,
            remote=self._locator,
            window=self._settings.window,
            max_frame=MAX_FRAME_BYTES,
            features=FEATURES,
            software=self._settings.software,
        )

    def _bye(self) -> Bye:
        tally = self._window.tally
        return Bye(tally.requests, tally.succeeded, tally.failed, tally.bytes, {})


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
