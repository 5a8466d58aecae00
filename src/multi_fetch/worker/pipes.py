"""The standard streams under trio, whatever they are.

A pipe or a socket is polled and never blocks the loop. Everything else (a regular file, which
epoll refuses; a terminal; /dev/null; any stream on Windows) is read and written in a thread,
which works everywhere.

Setting O_NONBLOCK on a descriptor that we were given would set it for everybody who shares its
open file description: the shell, the parent, the next command. So a pipe is opened anew where
the system has /proc, a socket is asked with MSG_DONTWAIT, and only where neither is possible the
flag is set and put back when the stream is closed. A descriptor that came to us with the flag set
keeps it, and is read and written all the same.

What fails says which stream it was: the OSError's ``filename`` is STDIN_NAME or STDOUT_NAME, or
the name of a file that is read in stdin's place.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol

import trio

from multi_fetch.durations import STDOUT_WATCH_SECONDS
from multi_fetch.limits import MAX_LINE_BYTES, PIPE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from multi_fetch.oci.digest import Chunk

READ_BYTES: Final = MAX_LINE_BYTES
# POSIX: at least 16; Linux and macOS have 1024.
IOV_MAX: Final = 512

# As an OSError's ``filename``.
STDIN_NAME: Final = "stdin"
STDOUT_NAME: Final = "stdout"


class Reader(Protocol):
    """Where request lines come from."""

    async def read(self) -> bytes:
        """The next bytes; none at the end.

        Raises:
            OSError: the stream cannot be read (a descriptor that is open for writing alone).
        """


class Writer(Protocol):
    """Where frames go."""

    async def write(self, buffers: Sequence[Chunk]) -> None:
        """Writes all of the buffers.

        Raises:
            BrokenPipeError: nobody reads any more.
            OSError: the stream takes no more for another reason (a full disk).
        """

    async def wait_closed(self) -> None:
        """Returns once nobody reads any more; never, where that cannot be known."""


@contextmanager
def open_reader(fd: int, name: str = STDIN_NAME) -> Iterator[Reader]:
    """A reader over a descriptor, which stays open and as it was; its errors say the name."""
    with ExitStack() as stack:
        if not _is_pollable(fd):
            yield ThreadReader(fd, name)
            return
        own = _reopened(fd, os.O_RDONLY, stack)
        yield PollReader(fd, name) if own is None else PipeReader(own, name)


@contextmanager
def open_writer(fd: int) -> Iterator[Writer]:
    """A writer over a descriptor, which stays open and as it was."""
    with ExitStack() as stack:
        if not _is_pollable(fd):
            yield ThreadWriter(fd)
            return
        _enlarge_pipe(fd)
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            own = stack.enter_context(socket.socket(fileno=os.dup(fd)))
            yield PollWriter(fd, lambda buffers: own.sendmsg(buffers, (), socket.MSG_DONTWAIT))
            return
        pipe = _reopened(fd, os.O_WRONLY, stack)
        if pipe is None:
            pipe = fd
            stack.callback(os.set_blocking, fd, os.get_blocking(fd))
            os.set_blocking(fd, False)
        yield PollWriter(pipe, lambda buffers: os.writev(pipe, buffers))


class PipeReader:
    """Reads a pipe that is its own and never blocks.

    It reads before it polls: of a named pipe whose writers are gone, a description that was opened
    after them is told of no end (Linux, pipe_poll), but reads it.
    """

    def __init__(self, fd: int, name: str = STDIN_NAME) -> None:
        self._fd = fd
        self._name = name

    async def read(self) -> bytes:
        """The next bytes; none at the end."""
        await trio.lowlevel.checkpoint()
        while True:
            with suppress(BlockingIOError), _naming(self._name):
                return os.read(self._fd, READ_BYTES)
            await trio.lowlevel.wait_readable(self._fd)


class PollReader:
    """Reads a pipe or socket, after it was polled."""

    def __init__(self, fd: int, name: str = STDIN_NAME) -> None:
        self._fd = fd
        self._name = name

    async def read(self) -> bytes:
        """The next bytes; none at the end."""
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            # Someone who shares the stream may have been faster.
            with suppress(BlockingIOError), _naming(self._name):
                return os.read(self._fd, READ_BYTES)


class ThreadReader:
    """Reads anything, in a thread; one that hangs is left behind when the read is cancelled.

    Such threads, and those of names that are looked up, take no room from it.
    """

    def __init__(self, fd: int, name: str = STDIN_NAME) -> None:
        self._fd = fd
        self._name = name
        self._limiter = trio.CapacityLimiter(1)

    async def read(self) -> bytes:
        """The next bytes; none at the end."""
        return await trio.to_thread.run_sync(
            self._read, abandon_on_cancel=True, limiter=self._limiter
        )

    def _read(self) -> bytes:
        while True:
            try:
                with _naming(self._name):
                    return os.read(self._fd, READ_BYTES)
            except BlockingIOError:
                select.select([self._fd], [], [])


class PollWriter:
    """Writes a pipe or socket without blocking, many buffers a call, none of them copied."""

    def __init__(self, fd: int, writev: Callable[[Sequence[Chunk]], int]) -> None:
        self._fd = fd
        self._writev = writev

    async def write(self, buffers: Sequence[Chunk]) -> None:
        """Writes all of the buffers; a cancelled write may have written a part."""
        rest = list(buffers)
        start = 0
        while start < len(rest):
            batch = rest[start : start + IOV_MAX]
            try:
                with _naming(STDOUT_NAME):
                    written = self._writev(batch)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._fd)
                continue
            except ConnectionResetError as error:
                raise BrokenPipeError(errno.EPIPE, "stdout is closed") from error
            if written == sum(map(len, batch)):
                start += len(batch)
                continue
            while written >= len(rest[start]):
                written -= len(rest[start])
                start += 1
            rest[start] = memoryview(rest[start])[written:]

    async def wait_closed(self) -> None:
        """Returns once the other end is closed: polled, for no portable event says it alone."""
        if not hasattr(select, "poll"):
            await trio.sleep_forever()
        poll = select.poll()
        poll.register(self._fd, 0)
        # POLLNVAL: it was closed on this side, by who is done with it.
        while all(event == select.POLLNVAL for _, event in poll.poll(0)):  # noqa: ASYNC110 - the kernel sets no trio.Event
            await trio.sleep(STDOUT_WATCH_SECONDS)


class ThreadWriter:
    """Writes anything, in a thread that has room whatever else waits in threads.

    Args:
        fd: what is written.
        name: what an OSError says of it.
    """

    def __init__(self, fd: int, name: str = STDOUT_NAME) -> None:
        self._fd = fd
        self._name = name
        self._limiter = trio.CapacityLimiter(1)

    async def write(self, buffers: Sequence[Chunk]) -> None:
        """Writes all of the buffers."""
        await trio.to_thread.run_sync(
            self._write_all, buffers, abandon_on_cancel=True, limiter=self._limiter
        )

    def _write_all(self, buffers: Sequence[Chunk]) -> None:
        for buffer in buffers:
            rest = memoryview(buffer)
            while rest:
                try:
                    with _naming(self._name):
                        rest = rest[os.write(self._fd, rest) :]
                except BlockingIOError:
                    select.select([], [self._fd], [])

    async def wait_closed(self) -> None:
        """A file is never closed by its reader."""
        await trio.sleep_forever()


@contextmanager
def _naming(stream: str) -> Iterator[None]:
    """Says in an OSError which stream it is about; its type and errno stay."""
    try:
        yield
    except OSError as error:
        error.filename = stream
        raise


def _is_pollable(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return os.name == "posix" and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))


def _reopened(fd: int, flags: int, stack: ExitStack) -> int | None:
    """The same pipe under an open file description of its own; None where there is no way."""
    try:
        own = os.open(f"/proc/self/fd/{fd}", flags | os.O_NONBLOCK)
    except OSError:
        return None
    stack.callback(os.close, own)
    return own


def _enlarge_pipe(fd: int) -> None:
    try:
        from fcntl import F_SETPIPE_SZ, fcntl
    except ImportError:
        return
    # A user may be over his share of pipe memory; a socket has none. Either works as it is.
    with suppress(OSError):
        fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES)
