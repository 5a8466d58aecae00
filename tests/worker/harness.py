"""The worker in this process: requests as bytes or in steps, frames as values."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from multi_fetch.protocol.frames import Begin, Data, End, Error, Frame
from multi_fetch.protocol.framing import END_OF_STREAM, NEED_DATA, FrameDecoder
from multi_fetch.worker.serve import Settings, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from multi_fetch.oci.digest import Chunk
    from tests.worker.memory_remote import MemoryRemote

LOCATOR = "registry.test/app"


class MemoryReader:
    """stdin, fed by the test."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[bytes](1_000)

    def feed(self, data: bytes) -> None:
        self._send.send_nowait(data)

    def feed_eof(self) -> None:
        self._send.close()

    async def read(self) -> bytes:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            return b""


class MemoryWriter:
    """stdout, which the test may stop and close."""

    def __init__(self) -> None:
        self.flow = trio.Event()
        self.flow.set()
        self.closed = trio.Event()
        self.written = bytearray()
        self.news = trio.Event()

    async def write(self, buffers: Sequence[Chunk]) -> None:
        await trio.lowlevel.checkpoint()
        await self.flow.wait()
        if self.closed.is_set():
            raise BrokenPipeError
        self.written += b"".join(buffers)
        self.news.set()

    async def wait_closed(self) -> None:
        await self.closed.wait()

    def frames(self) -> list[Frame]:
        decoder = FrameDecoder()
        decoder.feed(self.written)
        found: list[Frame] = []
        while (frame := decoder.next_frame()) is not NEED_DATA and frame is not END_OF_STREAM:
            found.append(frame)
        return found

    async def wait_frames(self, count: int) -> list[Frame]:
        while len(self.frames()) < count:
            self.news = trio.Event()
            await self.news.wait()
        return self.frames()


class Run:
    """A worker that runs: its streams, and its status once it has ended."""

    def __init__(self) -> None:
        self.reader = MemoryReader()
        self.writer = MemoryWriter()
        self.status: int | None = None


@asynccontextmanager
async def running(remote: MemoryRemote, settings: Settings | None = None) -> AsyncIterator[Run]:
    """Starts a worker; on leaving, waits until it has ended."""
    run = Run()
    chosen = settings or Settings(software="test")

    async def work() -> None:
        run.status = await serve(remote, LOCATOR, run.reader, run.writer, chosen)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        yield run


async def answers(
    remote: MemoryRemote, lines: bytes, settings: Settings | None = None
) -> tuple[int | None, list[Frame]]:
    """All frames and the exit status for these lines."""
    async with running(remote, settings) as run:
        run.reader.feed(lines)
        run.reader.feed_eof()
    return run.status, run.writer.frames()


def ids(frames: list[Frame]) -> list[int]:
    """The id of each frame that has one, in order."""
    return [frame.id for frame in frames if isinstance(frame, Begin | Data | End | Error)]


def content(frames: list[Frame], request_id: int) -> bytes:
    """What the data frames of an id carried; their offsets must be contiguous."""
    whole = b""
    for frame in frames:
        if isinstance(frame, Data) and frame.id == request_id:
            assert frame.offset == len(whole)
            whole += frame.content
    return whole


def terminals(frames: list[Frame]) -> dict[int, End | Error]:
    """The one terminal frame of each id."""
    found: dict[int, End | Error] = {}
    for frame in frames:
        if isinstance(frame, Begin | Data | End | Error):
            assert frame.id not in found, "a frame came after the terminal one"
        if isinstance(frame, End | Error):
            found[frame.id] = frame
    return found
