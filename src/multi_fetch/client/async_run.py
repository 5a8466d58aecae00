"""One run of a worker for tasks: its process, and the tasks that talk to it.

One task reads stdout, one stderr, one writes stdin, so reading never waits for writing, and what
the worker says is always taken in. One waits for the process, since others may hold its pipes open
after its death, and one watches for a silence that is too long. All of them, and all callers, are
on one event loop, so the session needs no lock; only the temporary file is written and read in
threads.

The tasks are shielded: they end when the run does, not when the scope around it is cancelled,
because ending a process in order needs them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from multi_fetch.client.async_parking import keep_chunk
from multi_fetch.client.launch import StderrTail, end_error
from multi_fetch.client.leftover import Leftover
from multi_fetch.client.parking import Content, Parking
from multi_fetch.client.session import Session
from multi_fetch.client.silence import WATCH_SECONDS, Silence
from multi_fetch.durations import EXIT_GRACE_SECONDS
from multi_fetch.errors import (
    MalformedFrameError,
    MultiFetchError,
    RequestCancelledError,
    UnknownVersionError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from multi_fetch.client.async_process import AsyncProcess
    from multi_fetch.client.exchange import Exchange
    from multi_fetch.client.launch import Launch


class AsyncRun:
    """A started worker; ``run`` must follow at once.

    Attributes:
        session: what is asked and answered.
    """

    def __init__(self, launch: Launch, process: AsyncProcess) -> None:
        self._parking = Parking(memory_bytes=launch.memory_bytes, folder=launch.spool_folder)
        self.session = Session(lambda: Content(self._parking))
        self._process = process
        self._grace_seconds = launch.grace_seconds
        self._silence = Silence(launch.idle_seconds)
        self._tail = StderrTail()
        self._has_lines = anyio.Event()
        self._is_ending = anyio.Event()
        self._is_silent = anyio.Event()
        self._is_over = anyio.Event()
        self._is_closing = False
        self._is_eof = False
        self._is_keeping = False
        self._received_bytes = 0
        self._broken: MultiFetchError | None = None

    # --- for callers --------------------------------------------------------------------------

    def submit(self, asked: str, hints: tuple[str, ...]) -> Exchange:
        """As ``Session.submit``."""
        exchange = self.session.submit(asked, hints)
        self._has_lines.set()
        return exchange

    def submit_listing(self, words: Sequence[str]) -> Exchange:
        """As ``Session.submit_listing``."""
        exchange = self.session.submit_listing(words)
        self._has_lines.set()
        return exchange

    def cancel(self, exchange: Exchange) -> None:
        """As ``Session.cancel``."""
        self.session.cancel(exchange)
        self._has_lines.set()

    async def wait(
        self, is_ready: Callable[[], bool], watch: Callable[[Callable[[], object]], None]
    ) -> None:
        """Returns once ``is_ready``; ``watch`` hears of the changes that may make it so."""
        await anyio.lowlevel.checkpoint()
        while not is_ready():
            arrived = anyio.Event()
            watch(arrived.set)
            await arrived.wait()

    async def close(self) -> None:
        """Fails what is open, ends the process and returns when it has ended."""
        self._is_closing = True
        self._is_ending.set()
        with anyio.CancelScope(shield=True):
            await self._is_over.wait()

    # --- the tasks ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Talks to the worker until it has ended."""
        try:
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._write_stdin)
                    tasks.start_soon(self._read_stdout)
                    tasks.start_soon(self._read_stderr)
                    tasks.start_soon(self._watch_exit)
                    if self._silence.is_limited:
                        tasks.start_soon(self._watch_silence)
                    await self._is_ending.wait()
                    await self._end_process()
                    tasks.cancel_scope.cancel()
        finally:
            self._process.close()
            self._finish()
            self._is_over.set()

    async def _write_stdin(self) -> None:
        # A broken pipe is a worker that reads no more; what it has left to say comes on stdout.
        with suppress(anyio.ClosedResourceError, OSError):
            while True:
                self._has_lines = anyio.Event()
                while lines := self.session.take_lines():
                    await self._process.write(lines)
                await self._has_lines.wait()

    async def _read_stderr(self) -> None:
        while data := await self._process.read_stderr():
            self._silence.heard()
            self._tail.feed(data)
        self._is_silent.set()

    async def _read_stdout(self) -> None:
        try:
            while data := await self._process.read_stdout():
                await self._take(data)
            self._is_eof = True
            if self._broken is None:
                self.session.receive_eof()
        except (MalformedFrameError, UnknownVersionError) as error:
            self._broken = error
        self._is_ending.set()

    async def _watch_exit(self) -> None:
        await self._process.wait()
        # What the worker left in the pipe is taken; who else holds that gets a moment.
        leftover = Leftover(self._received_bytes)
        while not self._is_ending.is_set():
            with anyio.move_on_after(EXIT_GRACE_SECONDS):
                await self._is_ending.wait()
            if leftover.is_read(self._received_bytes):
                self._is_ending.set()

    async def _watch_silence(self) -> None:
        while True:
            await anyio.sleep(WATCH_SECONDS)
            if self._is_ending.is_set():
                return
            # Nothing is read while a slow disk keeps what was read before.
            is_owed = self.session.is_owed and not self._is_keeping
            if error := self._silence.look(is_owed=is_owed):
                self._broken = error
                self._process.kill()
                self._is_ending.set()

    async def _take(self, data: bytes) -> None:
        self._silence.heard()
        self._received_bytes += len(data)
        # A worker that is being ended is read all the same, so that nothing holds it up.
        if self._is_ending.is_set():
            return
        try:
            for exchange, chunk in self.session.receive(data):
                await self._keep(exchange, chunk)
        except (MalformedFrameError, UnknownVersionError) as error:
            self._broken = error
            self._is_ending.set()
        if self.session.bye is not None:  # behind it nothing comes, whether or not the worker ends
            self._is_eof = True
            self._is_ending.set()
        # There may be room in the window now, or it was hello.
        self._has_lines.set()

    async def _keep(self, exchange: Exchange, chunk: bytes) -> None:
        self._is_keeping = True
        try:
            await keep_chunk(self._parking, exchange.content, chunk)
        except OSError as error:
            self.session.lose_content(exchange, error)
        self._is_keeping = False

    # --- the end ------------------------------------------------------------------------------

    async def _end_process(self) -> None:
        if self._is_closing:
            # Those who wait need not wait for the process too.
            self._finish()
        self._process.close_stdin()
        # A worker that closed its stdout is about to exit, with a status of its own.
        await self._process.end(
            patience_seconds=self._grace_seconds if self._is_eof else 0.0,
            grace_seconds=self._grace_seconds,
        )
        if not self._is_closing:
            with anyio.move_on_after(EXIT_GRACE_SECONDS):
                await self._is_silent.wait()

    def _finish(self) -> None:
        self.session.finish(self._end_error)
        self._parking.close()

    def _end_error(self) -> MultiFetchError:
        if self._is_closing:
            return RequestCancelledError("the worker was closed before the request was done")
        told = self.session.worker_error
        return end_error(self._broken, self._process.exit_status, told, self._tail)
