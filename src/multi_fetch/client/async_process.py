"""A worker's process for tasks, and the parent's ends of its pipes.

The pipes are made here. asyncio keeps what it could not write to a pipe of its own, and closes
that only when nobody can read it any more, which whoever else holds the other end may put off for
ever. These are closed when we say so, and an ``AsyncProcess`` that has ended holds nothing.

Signals go through a pidfd where the system has one: subprocess looks whether a process has ended
before it sends a signal, and so may take the exit status away from the event loop.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from signal import SIGKILL, SIGTERM, Signals
from typing import TYPE_CHECKING, Final

import anyio
import anyio.lowlevel

if sys.platform == "linux":
    from signal import pidfd_send_signal

if TYPE_CHECKING:
    from anyio.abc import Process

    from multi_fetch.client.launch import Launch

READ_BYTES: Final = 256 * 1024

CLOSED: Final = -1


class AsyncProcess:
    """A started process; ``end`` and ``close`` must follow.

    Args:
        process: it.
        pipes: the parent's ends of its stdin, stdout and stderr, which do not block.
    """

    def __init__(self, process: Process, pipes: tuple[int, int, int]) -> None:
        self._process = process
        self._stdin, self._stdout, self._stderr = pipes
        self._pidfd = _pidfd(process.pid)

    @property
    def exit_status(self) -> int | None:
        """As subprocess has it; None while it runs."""
        return self._process.returncode

    async def wait(self) -> None:
        """Waits until it has exited; others may hold its pipes open then."""
        await self._process.wait()

    async def write(self, data: bytes) -> None:
        """Writes all of it.

        Raises:
            OSError, ClosedResourceError: the worker reads no more, or ``close_stdin`` was called.
        """
        rest = memoryview(data)
        while rest:
            await anyio.lowlevel.checkpoint()
            try:
                rest = rest[os.write(self._stdin, rest) :]
            except BlockingIOError:
                await anyio.wait_writable(self._stdin)

    async def read_stdout(self) -> bytes:
        """What comes next; nothing at the end."""
        return await _read(self._stdout)

    async def read_stderr(self) -> bytes:
        """The same for stderr."""
        return await _read(self._stderr)

    def close_stdin(self) -> None:
        """Lets the worker see the end; once."""
        fd, self._stdin = self._stdin, CLOSED
        anyio.notify_closing(fd)
        os.close(fd)

    async def end(self, *, patience_seconds: float, grace_seconds: float) -> None:
        """Ends the process: SIGTERM, and after the grace SIGKILL.

        Args:
            patience_seconds: to wait for it to end by itself, before SIGTERM.
            grace_seconds: the grace.
        """
        if not await self._has_exited(patience_seconds):
            self._signal(SIGTERM)
            if not await self._has_exited(grace_seconds):
                self._signal(SIGKILL)
        await self._process.wait()

    def kill(self) -> None:
        """Kills the process, which may be stopped and hear of nothing else."""
        self._signal(SIGKILL)

    def close(self) -> None:
        """Lets go of everything, and kills a process that has not ended; once.

        Nobody may be reading or writing.
        """
        self._signal(SIGKILL)
        for fd in (self._stdin, self._stdout, self._stderr, self._pidfd):
            if fd != CLOSED:
                os.close(fd)

    async def _has_exited(self, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            await self._process.wait()
        return self._process.returncode is not None

    def _signal(self, number: Signals) -> None:
        if self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            if sys.platform == "linux" and self._pidfd != CLOSED:
                pidfd_send_signal(self._pidfd, number)
            else:
                self._process.send_signal(number)


async def start_process(launch: Launch) -> AsyncProcess:
    """Starts a worker's process.

    Raises:
        OSError: it cannot be started.
    """
    ends: list[int] = []
    try:
        for _ in range(3):
            ends += os.pipe()
        child_in, stdin, stdout, child_out, stderr, child_err = ends
        for fd in (stdin, stdout, stderr):
            # The other ends are descriptions of their own: the worker does not see this flag.
            os.set_blocking(fd, False)
        process = await anyio.open_process(
            launch.argv, stdin=child_in, stdout=child_out, stderr=child_err, env=launch.env
        )
        started = AsyncProcess(process, (stdin, stdout, stderr))
        ends = [child_in, child_out, child_err]
        return started
    finally:
        for fd in ends:
            os.close(fd)


async def _read(fd: int) -> bytes:
    while True:
        await anyio.lowlevel.checkpoint()
        try:
            return os.read(fd, READ_BYTES)
        except BlockingIOError:
            await anyio.wait_readable(fd)


def _pidfd(pid: int) -> int:
    if sys.platform == "linux":
        # An old kernel has none, and the process may have ended by now.
        with suppress(OSError):
            return os.pidfd_open(pid)
    return CLOSED
