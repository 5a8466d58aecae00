"""Frames to stdout: the sole writer.

There are two lanes. Whole small objects and all short frames take the fast one: they are taken
together, as many as wait, in one write. A large object's content takes the slow lane, one chunk
an object, in turn, and its sender waits until the chunk is written: so large objects share the
stream fairly, small ones overtake them, neither starves (every write takes from both lanes), and
the memory in use is one chunk a job, however slow the parent reads.

Nothing is held back: what is put is written as soon as the stream takes it. Payloads are not
copied.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

from multi_fetch.limits import MAX_DATA_BYTES, MAX_PENDING_BYTES

if TYPE_CHECKING:
    from multi_fetch.oci.digest import Chunk
    from multi_fetch.worker.pipes import Writer


class Outlet:
    """Takes frames, already encoded, from many jobs.

    Args:
        writer: the stream.
        is_ordered: whether all frames are written in the order in which they were put: then
            everything takes the slow lane.
    """

    def __init__(self, writer: Writer, *, is_ordered: bool) -> None:
        self._writer = writer
        self._is_ordered = is_ordered
        self._fast: list[Chunk] = []
        self._slow: deque[tuple[list[Chunk], trio.Event | None]] = deque()
        # Of what nobody waits for: of large objects no more than a chunk each can be here.
        self._pending_bytes = 0
        self._news = trio.Event()
        self._room = trio.Event()
        self._is_closed = False
        self._done = trio.Event()

    async def wait_room(self) -> None:
        """Returns once what ``put`` has put is below its bound; put then, before any wait.

        What was put slowly does not count, or many large objects would keep small ones out.
        """
        while self._pending_bytes >= MAX_PENDING_BYTES:
            if self._room.is_set():
                self._room = trio.Event()
            await self._room.wait()

    def put(self, *buffers: Chunk, is_slow: bool = False) -> None:
        """Puts whole frames out, to be written together and without delay.

        Args:
            buffers: one or more frames, in as many pieces as is convenient.
            is_slow: for the frames that follow content of the same object on the slow lane.
        """
        self._pending_bytes += sum(map(len, buffers))
        if is_slow or self._is_ordered:
            self._slow.append((list(buffers), None))
        else:
            self._fast += buffers
        self._news.set()

    def expect(self, size: int) -> None:
        """Counts what will be put later among what waits: ``wait_room`` bounds it too."""
        self._pending_bytes += size

    def put_expected(self, size: int, *buffers: Chunk) -> None:
        """Puts out what was expected to have so many bytes."""
        self._pending_bytes -= size
        self.put(*buffers)

    async def put_slowly(self, buffers: list[Chunk]) -> None:
        """Puts whole frames out on the slow lane, one turn's worth.

        Returns once they are written: until then the buffers must not change. If the wait is
        cancelled they are written all the same.
        """
        written = trio.Event()
        self._slow.append((buffers, written))
        self._news.set()
        await written.wait()

    def close(self) -> None:
        """Says that nothing more will be put; ``run`` ends when all is written."""
        self._is_closed = True
        self._news.set()

    async def wait_done(self) -> None:
        """Returns once it is closed and all is written."""
        await self._done.wait()

    async def run(self) -> None:
        """Writes until closed.

        Raises:
            BrokenPipeError: nobody reads any more.
            OSError: the stream takes no more.
        """
        while True:
            if not self._fast and not self._slow:
                if self._is_closed:
                    self._done.set()
                    return
                self._news = trio.Event()
                await self._news.wait()
            await self._write_some()

    async def _write_some(self) -> None:
        batch, self._fast = self._fast, []
        written: list[trio.Event] = []
        put_bytes = sum(map(len, batch))
        slow_bytes = 0
        while self._slow and slow_bytes < MAX_DATA_BYTES // 4:
            buffers, event = self._slow.popleft()
            batch += buffers
            size = sum(map(len, buffers))
            slow_bytes += size
            if event is None:
                put_bytes += size
            else:
                written.append(event)
        await self._writer.write(batch)
        self._pending_bytes -= put_bytes
        for event in written:
            event.set()
        if self._pending_bytes < MAX_PENDING_BYTES:
            self._room.set()
