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
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from multi_fetch.ceiling import DEFAULT_CEILING, Ceiling
from multi_fetch.durations import SHUTDOWN_GRACE_SECONDS, WARM_UP_AFTER_SECONDS
from multi_fetch.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidRequestError,
    MultiFetchError,
    RequestCancelledError,
)
from multi_fetch.keeping import Gathering
from multi_fetch.limits import DEFAULT_JOBS, DEFAULT_WINDOW, MAX_FRAME_BYTES
from multi_fetch.protocol.frames import FEATURES, PROTOCOL_VERSION, Bye, Error, Hello
from multi_fetch.protocol.names import ANYWHERE, names_of
from multi_fetch.protocol.request import parse_id
from multi_fetch.protocol.wire import MessagePackWire, Wire
from multi_fetch.remotes import Warmable
from multi_fetch.worker.answer import Answerer
from multi_fetch.worker.deadlines import Deadlines
from multi_fetch.worker.entries import Entries
from multi_fetch.worker.hashing import LEAST_BYTES, HashThread
from multi_fetch.worker.intake import take_in
from multi_fetch.worker.lines import LinesWire
from multi_fetch.worker.outlet import Outlet
from multi_fetch.worker.progress import Observer, look_at
from multi_fetch.worker.speaker import Speaker
from multi_fetch.worker.window import Window

if TYPE_CHECKING:
    from multi_fetch.protocol.frames import Detail, Frame
    from multi_fetch.protocol.request import Control
    from multi_fetch.remotes import Remote
    from multi_fetch.worker.job import Job
    from multi_fetch.worker.pipes import Reader, Writer
    from multi_fetch.worker.shares import Shares

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# As a shell reports a process that SIGPIPE ended.
STDOUT_CLOSED_STATUS: Final = 128 + 13


def heard_signals() -> list[signal.Signals]:
    """Those that end a run. nohup has SIGHUP ignored, and that stays."""
    is_deaf = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [each for each in SIGNALS if each != signal.SIGHUP or not is_deaf]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be chosen about a run.

    Attributes:
        software: name and version, for hello.
        jobs: fetches that run at the same time.
        window: requests that may be open at the same time.
        is_ordered: whether frames come in the order of the requests.
        timeout_seconds: for the whole run; None for no limit.
        wire: the form of the frames.
        is_warmed_up: whether the remote is made ready while the first request is awaited.
        observer: who watches the run; None for nobody.
        is_content_in_files: whether frames name the files that have content, and carry none; the
            remote must keep what it opens.
        is_gathered: whether there is a line for each request in place of frames, content is in
            files, and what was asked for is entered in an index; the remote must be ``Gathering``.
        hash_thread_bytes: of a chunk that a thread hashes; a smaller one is hashed in line.
        ceiling: for the content of each object.
    """

    software: str
    jobs: int = DEFAULT_JOBS
    window: int = DEFAULT_WINDOW
    is_ordered: bool = False
    timeout_seconds: float | None = None
    wire: Wire = MessagePackWire()
    is_warmed_up: bool = False
    observer: Observer | None = None
    is_content_in_files: bool = False
    is_gathered: bool = False
    hash_thread_bytes: int = LEAST_BYTES
    ceiling: Ceiling = DEFAULT_CEILING

    @property
    def streams(self) -> int:
        """How many of the jobs may be large objects: a quarter is left for small ones."""
        return max(1, self.jobs - max(1, self.jobs // 4))


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
        self._remote = remote
        self._locator = locator
        self._writer = writer
        self._settings = settings
        self._deadlines = Deadlines()
        self._window = Window(
            settings.window,
            jobs=settings.jobs,
            streams=settings.streams,
            is_ordered=settings.is_ordered,
            on_start=self._deadlines.arm,
            shares=_shares(locator, settings),
        )
        self._outlet = Outlet(writer, is_ordered=settings.is_ordered)
        self._wire = settings.wire
        self._entries: Entries | None = None
        if settings.is_gathered and isinstance(remote, Gathering):
            self._entries = Entries(remote, self._outlet)
            self._wire = LinesWire(locator, self._window.open_job, self._entries.put)
        self._speaker = Speaker(self._wire, self._outlet, self._window, self._deadlines)
        self._hashes = HashThread(settings.hash_thread_bytes)
        self._answerer = Answerer(
            remote,
            locator,
            self._speaker,
            self._window,
            self._hashes,
            is_content_in_files=settings.is_content_in_files or settings.is_gathered,
            may_send=not settings.is_gathered,
            ceiling=settings.ceiling,
        )
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
        if self._entries is not None and self._entries.failures:
            return 1
        return self._window.tally.exit_status

    async def run(self, reader: Reader) -> None:
        """From hello to bye."""
        async with trio.open_nursery() as nursery:
            # Before hello: whoever has read that may send a signal.
            await nursery.start(self._watch_signals, nursery.cancel_scope)
            nursery.start_soon(self._outlet.run)
            if self._entries is not None:
                nursery.start_soon(self._entries.run)
            self._outlet.put(self._wire.frame(self._hello()))
            nursery.start_soon(self._watch_stdout)
            nursery.start_soon(self._watch_time, nursery.cancel_scope)
            nursery.start_soon(self._deadlines.watch, self._stop)
            if self._settings.observer is not None:
                nursery.start_soon(self._settings.observer.watch, partial(look_at, self._window))
            bug: BaseExceptionGroup | None = None
            try:
                await self._work(reader)
            except* Exception as found:  # noqa: BLE001 - raised again, after the last frames
                bug = found
                fault = _first(found)
                # not its repr: a UnicodeError's has all of the text, which may be a secret
                self._confess(
                    InternalError(
                        f"a fault of multi-fetch: {type(fault).__name__}: {fault}; report it, with"
                        " the traceback on stderr"
                    )
                )
            if self._entries is not None:
                await self._entries.finish()
            self._say(self._bye())
            self._outlet.close()
            await self._outlet.wait_done()
            if bug is not None:
                raise bug
            nursery.cancel_scope.cancel()

    async def _work(self, reader: Reader) -> None:
        with self._hashes, self._answerer.direct.over(self._remote):
            async with trio.open_nursery() as lasting:
                lasting.start_soon(self._answerer.direct.run)
                lasting.start_soon(self._warm_up)
                async with trio.open_nursery() as nursery:
                    for _ in range(self._settings.jobs):
                        nursery.start_soon(self._answerer.run)
                    with self._intake_scope:
                        names = names_of(self._locator)
                        await take_in(reader, names, self._window, self._control)
                    self._window.end()
                lasting.cancel_scope.cancel()

    async def _warm_up(self) -> None:
        """Has the remote ready for the first request, if that is still awaited."""
        if not self._settings.is_warmed_up or not isinstance(self._remote, Warmable):
            return
        await trio.sleep(WARM_UP_AFTER_SECONDS)
        if not self._window.tally.requests:
            await self._remote.warm_up()

    def _control(self, control: Control, line: int) -> None:
        """Does what a control line says.

        Raises:
            InvalidRequestError: it says nothing that is known here.
        """
        if control.verb != "cancel":
            raise InvalidRequestError(
                f"!{control.verb[:40]} is not a control that is known here: there are !cancel <id>,"
                " !tags and !referrers <digest>"
            )
        root_id = parse_id(control.arguments)
        if root_id >= line:
            raise InvalidRequestError(
                f"!cancel {root_id}: no line before this one has that id: use one that has"
            )
        root = self._window.open_job(root_id)
        jobs = [] if root is None else [root]
        if self._window.found.has_more_below(root_id):  # else all need not be looked at
            jobs = [job for job in self._window.open_jobs() if job.is_below(root_id)]
        for job in jobs:
            self._stop(job, RequestCancelledError(f"cancelled on line {line}"))

    def _stop(self, job: Job, reason: MultiFetchError) -> None:
        """Ends an open job: at once, or in its turn where answers are ordered."""
        if job.is_closed:
            return
        if not self._settings.is_ordered:
            self._speaker.fail_now(job, job.failure or reason)
            if job.flight is not None and not job.flight.members:
                self._window.abandon(job.flight)
        elif job.failure is None:
            job.failure = reason
            if job.flight is not None:
                self._window.abandon(job.flight)

    def _stop_all(self, reason: MultiFetchError, everything: trio.CancelScope) -> None:
        self._intake_scope.cancel()
        self._window.stopped = reason
        for job in self._window.open_jobs():
            self._stop(job, reason)
        everything.deadline = trio.current_time() + SHUTDOWN_GRACE_SECONDS

    async def _watch_signals(
        self,
        everything: trio.CancelScope,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        with trio.open_signal_receiver(*heard_signals()) as signals:
            task_status.started()
            async for number in signals:
                if self._ended_by is not None:
                    everything.cancel()
                    return
                self._ended_by = number
                name = signal.Signals(number).name
                self._stop_all(RequestCancelledError(f"the worker was ended by {name}"), everything)

    async def _watch_stdout(self) -> None:
        await self._writer.wait_closed()
        raise BrokenPipeError("stdout is closed")

    async def _watch_time(self, everything: trio.CancelScope) -> None:
        seconds = self._settings.timeout_seconds
        if seconds is None:
            return
        await trio.sleep(seconds)
        self._is_timed_out = True
        self._stop_all(
            DeadlineExceededError(
                f"not done when the run's timeout of {seconds:g} s was over: raise --timeout"
            ),
            everything,
        )

    def _confess(self, error: InternalError) -> None:
        # Nothing runs any more, so no turn and no room is waited for.
        for job in self._window.open_jobs():
            self._speaker.fail_now(job, error)
        self._say(Error(0, error.code, error.message, error.retryable, {}))

    def _say(self, frame: Frame) -> None:
        self._outlet.put(self._wire.frame(frame), is_slow=True)

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
        report = self._remote.report()
        detail: Detail = {"retries": report.retries}
        if report.ratelimit:
            detail["ratelimit"] = dict(report.ratelimit)
        return Bye(tally.requests, tally.succeeded, tally.failed, tally.bytes, detail)


def _shares(locator: str, settings: Settings) -> Shares | None:
    """Those of registries, where lines name them; not where one line waits for another anyway."""
    if locator != ANYWHERE or settings.is_ordered:
        return None
    from multi_fetch.worker.shares import Shares

    return Shares(settings.jobs)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
