"""One run of a worker for tasks: its process, and the three tasks that talk to it.

One task reads stdout, one stderr, one writes stdin, so reading never waits for writing, and what
the worker says is always taken in. All of them, and all callers, are on one event loop, so the
session needs no lock; only the temporary file is written and read in threads.

The tasks are shielded: they end when the run does, not when the scope around it is cancelled,
because ending a process in order needs them.
"""

from __future__ import annotations

from contextlib import suppress
from subprocess import PIPE
from typing import TYPE_CHECKING, Final

import anyio
import anyio.lowlevel
import anyio.to_thread

from multi_fetch.client.launch import StderrTail, end_error
from multi_fetch.client.parking import Content, Parking
from multi_fetch.client.session import Session
from multi_fetch.errors import (
    MalformedFrameError,
    MultiFetchError,
    RequestCancelledError,
    UnknownVersionError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import Process

    from multi_fetch.client.exchange import Exchange
    from multi_fetch.client.launch import Launch

READ_BYTES: Final = 256 * 1024


class AsyncRun:
    """A started worker; ``run`` must follow at once.

    Attributes:
        session: what is asked and answered.
    """

    def __init__(self, launch: Launch, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._parking = Parking(memory_bytes=launch.memory_bytes, folder=launch.spool_folder)
        self.session = Session(lambda: Content(self._parking))
        self._process = process
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        self._grace_seconds = launch.grace_seconds
        self._tail = StderrTail()
        self._has_lines = anyio.Event()
        self._is_ending = anyio.Event()
        self._is_silent = anyio.Event()
        self._is_over = anyio.Event()
        self._is_closing = False
        self._is_eof = False
        self._broken: MultiFetchError | None = None

    # --- for callers --------------------------------------------------------------------------

    def submit(self, asked: str, hints: tuple[str, ...]) -> Exchange:
        """As ``Session.submit``."""
        exchange = self.session.submit(asked, hints)
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
                    await self._is_ending.wait()
                    await self._end_process()
                    tasks.cancel_scope.cancel()
                await self._process.aclose()
        finally:
            self._finish()
            self._is_over.set()

    async def _write_stdin(self) -> None:
        # A broken pipe is a worker that reads no more; what it has left to say comes on stdout.
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            while True:
                self._has_lines = anyio.Event()
                while lines := self.session.take_lines():
                    await self._stdin.send(lines)
                await self._has_lines.wait()

    async def _read_stderr(self) -> None:
        with suppress(anyio.EndOfStream):
            while True:
                self._tail.feed(await self._stderr.receive(READ_BYTES))
        self._is_silent.set()

    async def _read_stdout(self) -> None:
        try:
            with suppress(anyio.EndOfStream):
                while True:
                    await self._take(await self._stdout.receive(READ_BYTES))
            self._is_eof = True
            if self._broken is None:
                self.session.receive_eof()
        except (MalformedFrameError, UnknownVersionError) as error:
            self._broken = error
        self._is_ending.set()

    async def _take(self, data: bytes) -> None:
        # A worker that is being ended is read all the same, so that nothing holds it up.
        if self._is_ending.is_set():
            return
        try:
            for exchange, chunk in self.session.receive(data):
                await self._keep(exchange, chunk)
        except (MalformedFrameError, UnknownVersionError) as error:
            self._broken = error
            self._is_ending.set()
        # There may be room in the window now, or it was hello.
        self._has_lines.set()

    async def _keep(self, exchange: Exchange, chunk: bytes) -> None:
        if self._parking.has_room(exchange.content, len(chunk)):
            exchange.content.add(chunk)
            return
        try:
            exchange.content.add(await anyio.to_thread.run_sync(self._parking.park, chunk))
        except OSError as error:
            self.session.lose_content(exchange, error)

    # --- the end ------------------------------------------------------------------------------

    async def _end_process(self) -> None:
        if self._is_closing:
            # Those who wait need not wait for the process too.
            self._finish()
        with suppress(OSError, anyio.BrokenResourceError):
            await self._stdin.aclose()
        # A worker that closed its stdout is about to exit, with a status of its own.
        if not (self._is_eof and await self._has_exited()):
            self._process.terminate()
            if not await self._has_exited():
                self._process.kill()
        await self._process.wait()
        if not self._is_closing:
            with anyio.move_on_after(self._grace_seconds):
                await self._is_silent.wait()

    async def _has_exited(self) -> bool:
        with anyio.move_on_after(self._grace_seconds):
            await self._process.wait()
        return self._process.returncode is not None

    def _finish(self) -> None:
        self.session.finish(self._end_error)
        self._parking.close()

    def _end_error(self) -> MultiFetchError:
        if self._is_closing:
            return RequestCancelledError("the worker was closed before the request was done")
        told = self.session.worker_error
        return end_error(self._broken, self._process.returncode, told, self._tail)


async def start_process(launch: Launch) -> Process:
    """Starts a worker's process.

    Raises:
        OSError: it cannot be started.
    """
    return await anyio.open_process(
        launch.argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=launch.env
    )
