"""stderr, written without ever blocking for longer than it is told to.

Whoever reads it may leave it full, and a process that waited there would hear no signal. As for
stdout (worker/pipes.py), the flag O_NONBLOCK is not set on what others share: a pipe or terminal
is opened anew where the system has /proc, a socket is asked with MSG_DONTWAIT, and only where
neither is possible little is written at a time, after it was polled.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import time
from typing import Final

# poll(2) promises room for so much in a pipe; POSIX has 512 at least, Linux 4096.
PIECE_BYTES: Final = getattr(select, "PIPE_BUF", 512)


class Stderr:
    """Takes what there is room for.

    Args:
        fd: stderr's, which stays open and as it was.
        patience_seconds: waited in all, over everything that is written, while it is full.

    Raises:
        OSError: there is no such file.
    """

    def __init__(self, fd: int, *, patience_seconds: float) -> None:
        self._fd = fd
        self._patience_seconds = patience_seconds
        self._own: int | None = None
        self._socket: socket.socket | None = None
        mode = os.fstat(fd).st_mode
        if hasattr(socket, "MSG_DONTWAIT") and stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=_out_of_the_way(os.dup(fd)))
        elif stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            self._own = _reopened(fd)

    def write(self, data: bytes) -> int:
        """Writes what there is room for, or will be soon; how many bytes that was.

        Raises:
            OSError: nobody reads any more.
        """
        rest = memoryview(data)
        while rest:
            taken = self._take(rest)
            if not taken and not self._has_room_soon():
                break
            rest = rest[taken:]
        return len(data) - len(rest)

    def close(self) -> None:
        """Closes what is its own."""
        if self._own is not None:
            os.close(self._own)
            self._own = None
        if self._socket is not None:
            self._socket.close()

    def _take(self, data: memoryview) -> int:
        try:
            if self._socket is not None:
                return self._socket.send(data, socket.MSG_DONTWAIT)
            if self._own is not None:
                return os.write(self._own, data)
            return os.write(self._fd, data[:PIECE_BYTES]) if self._is_writable(0) else 0
        except BlockingIOError:
            return 0

    def _has_room_soon(self) -> bool:
        """Waits for as long as there is patience left."""
        began = time.monotonic()
        is_writable = self._is_writable(self._patience_seconds)
        self._patience_seconds -= min(time.monotonic() - began, self._patience_seconds)
        return is_writable and self._patience_seconds > 0

    def _is_writable(self, seconds: float) -> bool:
        if not hasattr(select, "poll"):
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(seconds * 1_000))


def _reopened(fd: int) -> int | None:
    """The same file under an open file description of its own; None where there is no way."""
    try:
        own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    return _out_of_the_way(own)


def _out_of_the_way(fd: int) -> int:
    """The same, with no standard stream's number: that of a closed one is found to be missing."""
    if fd > 2:
        return fd
    from fcntl import F_DUPFD_CLOEXEC, fcntl

    try:
        return fcntl(fd, F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)
