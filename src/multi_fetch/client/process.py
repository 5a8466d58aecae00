"""A worker's process and the parent's ends of its pipes, which never block."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from multi_fetch.client.launch import Launch

READ_BYTES: Final = 256 * 1024


class WorkerProcess:
    """A started process; ``end`` must follow.

    Attributes:
        stdin: the pipe's file, for a selector; the same for ``stdout`` and ``stderr``.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, launch: Launch) -> None:
        self._grace_seconds = launch.grace_seconds
        # It lives as long as this object, so a with block has no place here.
        self._process = subprocess.Popen(  # noqa: S603 - the caller's own command, and no shell
            launch.argv,
            env=None if launch.env is None else dict(launch.env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.stdin = self._process.stdin
        self.stdout = self._process.stdout
        self.stderr = self._process.stderr
        for pipe in (self.stdin, self.stdout, self.stderr):
            # The other ends are descriptions of their own: the worker does not see this flag.
            os.set_blocking(pipe.fileno(), False)

    def write(self, data: memoryview) -> memoryview:
        """Writes what the pipe takes now, and gives the rest.

        Raises:
            BrokenPipeError: the worker reads no more.
        """
        return data[os.write(self.stdin.fileno(), data) :]

    def read_stdout(self) -> bytes | None:
        """What is there: nothing at the end, None where nothing is there yet."""
        return _read(self.stdout.fileno())

    def read_stderr(self) -> bytes | None:
        """The same for stderr."""
        return _read(self.stderr.fileno())

    def end(self, *, patience_seconds: float) -> int:
        """Ends the process and reaps it; stderr stays open, for what is left in it.

        stdin and stdout are closed, which a worker takes as its end; then comes SIGTERM, and
        after the grace SIGKILL.

        Args:
            patience_seconds: to wait for it to end by itself, before SIGTERM.

        Returns:
            The exit status, as subprocess has it.
        """
        self.stdin.close()
        self.stdout.close()
        if not self._has_exited(patience_seconds):
            self._process.terminate()
            if not self._has_exited(self._grace_seconds):
                self._process.kill()
        return self._process.wait()

    def kill(self) -> None:
        """Kills the process, which may be stopped and hear of nothing else; ``end`` must follow."""
        self._process.kill()

    @property
    def is_running(self) -> bool:
        """Whether it has not exited yet; others may hold its pipes open when it has."""
        return self._process.poll() is None

    def _has_exited(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


def _read(fd: int) -> bytes | None:
    try:
        return os.read(fd, READ_BYTES)
    except BlockingIOError:
        return None
