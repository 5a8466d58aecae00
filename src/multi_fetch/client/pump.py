"""One run of a worker for threads: its process, and the one thread that talks to it.

The thread alone touches the pipes. It waits for all three at once and for the callers' wake-up,
so reading never waits for writing, and what the worker says is always taken in. Since others may
hold the pipes open after the worker's death, it looks after the process too. Callers change the
session under the lock, which nobody holds while waiting for anything but a disk.
"""

from __future__ import annotations

import os
import selectors
import threading
from collections import deque
from functools import partial
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Final

from multi_fetch.client.launch import StderrTail, end_error
from multi_fetch.client.leftover import Leftover
from multi_fetch.client.parking import Content, Parking
from multi_fetch.client.process import WorkerProcess
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
    from collections.abc import Callable

    from multi_fetch.client.exchange import Exchange
    from multi_fetch.client.launch import Launch

# Of stderr, once the worker has ended: more than a pipe holds.
MAX_LAST_READS: Final = 8

THREAD_NAME: Final = "multi-fetch client"

# For what another thread does under the lock; only a slow disk takes longer.
LOCK_SECONDS: Final = 0.05


class Pump:
    """Starts the worker; it is over after ``close``, or when the worker has ended by itself.

    Attributes:
        lock: for the session and the content of its requests.
        session: to be touched under the lock alone.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(self, launch: Launch) -> None:
        self.lock = threading.Lock()
        self._parking = Parking(memory_bytes=launch.memory_bytes, folder=launch.spool_folder)
        self.session = Session(lambda: Content(self._parking))
        self._patience_seconds = launch.grace_seconds
        self._silence = Silence(launch.idle_seconds)
        self._stderr = StderrTail()
        self._unsent = memoryview(b"")
        self._unwanted: deque[Exchange] = deque()
        self._cancelling: set[int] = set()
        self._pid = os.getpid()
        self._is_closing = False
        self._is_deaf = False
        self._is_awake = False
        self._is_eof = False
        self._looks_at = 0.0
        self._received_bytes = 0
        self._leftover: Leftover | None = None
        self._broken: MultiFetchError | None = None
        self._exit_status: int | None = None
        self._process = WorkerProcess(launch)
        self._wake_end, self._wake_fd = os.pipe()
        # A program that ends without closing its worker must not wait for this thread. The worker
        # then sees its pipes close.
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        self._thread.start()

    # --- for callers --------------------------------------------------------------------------

    def wake(self) -> None:
        """Tells the thread that there is something to do. The lock must be held."""
        if not self._is_awake and not self.session.is_finished:
            self._is_awake = True
            os.write(self._wake_fd, b"\0")

    def wait(
        self, is_ready: Callable[[], bool], watch: Callable[[Callable[[], object]], None]
    ) -> None:
        """Returns once ``is_ready``; ``watch`` hears of the changes that may make it so.

        Raises:
            RuntimeError: this process is a fork of the one that has the thread.
        """
        self.require_own()
        while True:
            with self.lock:
                if is_ready():
                    return
                # No event: that has a lock, which whoever ``cancel`` interrupted may hold. This may
                # be put into while it is taken from, by the same thread too.
                arrived: SimpleQueue[None] = SimpleQueue()
                watch(partial(arrived.put, None))
            arrived.get()

    def require_own(self) -> None:
        """Refuses a process that has forked: there is no thread in it, and nothing would come.

        Raises:
            RuntimeError: this is one.
        """
        if os.getpid() != self._pid:
            raise RuntimeError(
                "this worker belongs to the process that this one is a fork of: start another here"
            )

    def cancel(self, exchange: Exchange) -> None:
        """As ``Session.cancel``, wherever it is called: by the garbage collector or a signal too.

        These may have interrupted this very thread while it holds the lock, and who then waits for
        that waits for ever. So after a moment it is left to the worker's own thread; and to the
        call that was interrupted, where this is within another one.
        """
        self._unwanted.append(exchange)
        thread = threading.get_ident()
        if os.getpid() != self._pid or thread in self._cancelling:
            return
        try:
            self._cancelling.add(thread)
            while self._unwanted and self.lock.acquire(timeout=LOCK_SECONDS):
                try:
                    self._cancel_unwanted()
                    self.wake()
                finally:
                    self.lock.release()
        finally:
            self._cancelling.discard(thread)

    def close(self) -> None:
        """Fails what is open, ends the process and waits until it has ended; nothing in a fork."""
        if os.getpid() != self._pid:
            return
        with self.lock:
            self._is_closing = True
            self.wake()
        self._thread.join()

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                self._talk(selector)
        finally:
            self._end()

    def _talk(self, selector: selectors.BaseSelector) -> None:
        selector.register(self._wake_end, selectors.EVENT_READ, self._take_wake)
        selector.register(self._process.stdout, selectors.EVENT_READ, self._take_stdout)
        selector.register(self._process.stderr, selectors.EVENT_READ, self._take_stderr)
        is_writing = False
        while not self._is_eof and self._broken is None and not self._is_over():
            with self.lock:
                if self._is_closing:
                    return
                self._cancel_unwanted()
                if not self._unsent and not self._is_deaf:
                    self._unsent = memoryview(self.session.take_lines())
            if bool(self._unsent) != is_writing:
                is_writing = not is_writing
                if is_writing:
                    selector.register(self._process.stdin, selectors.EVENT_WRITE, self._send)
                else:
                    selector.unregister(self._process.stdin)
            for key, _ in selector.select(WATCH_SECONDS):
                key.data(selector)

    def _cancel_unwanted(self) -> None:
        while self._unwanted:
            self.session.cancel(self._unwanted.popleft())

    def _is_over(self) -> bool:
        """Whether the process has exited, and nothing more comes from who else holds its pipes.

        One that has been silent for too long is killed here.
        """
        now = monotonic()
        if now < self._looks_at:
            return False
        if self._process.is_running:
            self._looks_at = now + WATCH_SECONDS
            with self.lock:
                self._broken = self._silence.look(is_owed=self.session.is_owed)
            if self._broken is not None:
                self._process.kill()
            return self._broken is not None
        self._looks_at = now + EXIT_GRACE_SECONDS
        if self._leftover is None:
            self._leftover = Leftover(self._received_bytes)
            return False
        return self._leftover.is_read(self._received_bytes)

    def _take_wake(self, selector: selectors.BaseSelector) -> None:
        with self.lock:
            os.read(self._wake_end, 1)
            self._is_awake = False

    def _send(self, selector: selectors.BaseSelector) -> None:
        try:
            self._unsent = self._process.write(self._unsent)
        except BrokenPipeError:
            # The worker reads no more. What it has left to say still comes on stdout.
            self._unsent, self._is_deaf = memoryview(b""), True

    def _take_stderr(self, selector: selectors.BaseSelector) -> None:
        data = self._process.read_stderr()
        if data == b"":
            selector.unregister(self._process.stderr)
        self._silence.heard()
        self._stderr.feed(data or b"")

    def _take_stdout(self, selector: selectors.BaseSelector) -> None:
        data = self._process.read_stdout()
        if data is None:
            return
        self._silence.heard()
        self._received_bytes += len(data)
        with self.lock:
            try:
                for exchange, chunk in self.session.receive(data):
                    self._keep(exchange, chunk)
                # Behind bye nothing comes, whether or not the worker then ends.
                self._is_eof = not data or self.session.bye is not None
                if not data:
                    self.session.receive_eof()
            except (MalformedFrameError, UnknownVersionError) as error:
                self._broken = error

    def _keep(self, exchange: Exchange, chunk: bytes) -> None:
        try:
            self._parking.keep(exchange.content, chunk)
        except OSError as error:
            self.session.lose_content(exchange, error)

    # --- the end ------------------------------------------------------------------------------

    def _end(self) -> None:
        try:
            if self._is_closing:
                # Those who wait need not wait for the process too.
                self._finish()
            # A worker that closed its stdout is about to exit, with a status of its own.
            patience = self._patience_seconds if self._is_eof else 0.0
            self._exit_status = self._process.end(patience_seconds=patience)
            # What is left there; not what a process of its own may go on writing.
            for _ in range(MAX_LAST_READS):
                self._stderr.feed(self._process.read_stderr() or b"")
        finally:
            self._finish()
            self._process.stderr.close()
            for fd in (self._wake_end, self._wake_fd):
                os.close(fd)

    def _finish(self) -> None:
        with self.lock:
            self.session.finish(self._end_error)
            self._parking.close()

    def _end_error(self) -> MultiFetchError:
        if self._is_closing:
            return RequestCancelledError("the worker was closed before the request was done")
        told = self.session.worker_error
        return end_error(self._broken, self._exit_status, told, self._stderr)
