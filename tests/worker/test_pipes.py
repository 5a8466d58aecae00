"""Standard streams of every kind behave alike, and are left as they were."""

from __future__ import annotations

import errno
import os
import random
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeAlias

import pytest
import trio

from multi_fetch.worker.pipes import (
    IOV_MAX,
    PipeReader,
    PollReader,
    PollWriter,
    Reader,
    ThreadReader,
    ThreadWriter,
    Writer,
    open_reader,
    open_writer,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trio.testing import MockClock

    from multi_fetch.oci.digest import Chunk

CONTENT = random.Random(1).randbytes(3_000_000)
Ends: TypeAlias = tuple[int, int]


@pytest.fixture(params=["pipe", "fallback", "socket", "thread"])
def variant(request: pytest.FixtureRequest) -> str:
    """How the streams are reached: polled, polled without /proc, with MSG_DONTWAIT, in a thread."""
    return str(request.param)


@pytest.fixture
def ends(variant: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    """Two descriptors: what is written to the second is read from the first."""
    if variant == "fallback":
        monkeypatch.setattr(os, "open", without_proc(os.open))
    if variant == "socket":
        read_end, write_end = (each.detach() for each in socket.socketpair())
    else:
        read_end, write_end = os.pipe()
    yield read_end, write_end
    # The writing end first: it wakes a thread that still reads.
    for fd in (write_end, read_end):
        close(fd)


def without_proc(real: Callable[..., int]) -> Callable[..., int]:
    """os.open on a system that has no /proc."""

    def opened(path: str, *arguments: int) -> int:
        if str(path).startswith("/proc/"):
            raise FileNotFoundError(errno.ENOENT, "no /proc here", path)
        return real(path, *arguments)

    return opened


def close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return  # the test did it


@contextmanager
def reading(fd: int, variant: str) -> Iterator[Reader]:
    if variant == "thread":
        yield ThreadReader(fd)
        return
    with open_reader(fd) as reader:
        assert isinstance(reader, PipeReader | PollReader)
        yield reader


@contextmanager
def writing(fd: int, variant: str) -> Iterator[Writer]:
    if variant == "thread":
        yield ThreadWriter(fd)
        return
    with open_writer(fd) as writer:
        assert isinstance(writer, PollWriter)
        yield writer


async def read_all(fd: int, variant: str) -> bytes:
    pieces = []
    with reading(fd, variant) as reader:
        while piece := await reader.read():
            pieces.append(piece)
    return b"".join(pieces)


async def test_what_is_written_is_read_in_order_and_to_the_end(ends: Ends, variant: str) -> None:
    """Also buffers that are empty, larger than a pipe, or more than one call takes."""
    read_end, write_end = ends
    small = [CONTENT[n : n + 3] for n in range(0, 9 * IOV_MAX, 3)]
    whole: list[Chunk] = [b"", CONTENT, bytearray(b"two"), memoryview(b"three"), b"", *small, b""]
    received = b""

    async def read() -> None:
        nonlocal received
        received = await read_all(read_end, variant)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        with writing(write_end, variant) as writer:
            await writer.write(whole)
            await writer.write([])
        os.close(write_end)
    assert received == b"".join(whole)


async def test_a_read_waits_for_the_first_byte_and_no_longer(ends: Ends, variant: str) -> None:
    read_end, write_end = ends
    received: list[bytes] = []

    async def read() -> None:
        with reading(read_end, variant) as reader:
            received.append(await reader.read())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        assert received == []
        os.write(write_end, b"x")
    assert received == [b"x"]


async def test_a_read_that_is_cancelled_waits_no_longer(ends: Ends, variant: str) -> None:
    with reading(ends[0], variant) as reader, trio.move_on_after(0.01) as scope:
        await reader.read()
    assert scope.cancelled_caught


async def test_a_write_that_is_cancelled_waits_no_longer(ends: Ends, variant: str) -> None:
    with writing(ends[1], variant) as writer, trio.move_on_after(0.01) as scope:
        await writer.write([CONTENT])
    assert scope.cancelled_caught
    # A thread that was left behind in a write ends here.
    os.close(ends[0])


async def test_a_write_that_nobody_reads_says_so(ends: Ends, variant: str) -> None:
    read_end, write_end = ends
    os.close(read_end)
    with pytest.raises(BrokenPipeError), writing(write_end, variant) as writer:
        await writer.write([b"x"])


async def test_a_reader_that_goes_while_a_write_waits_ends_it(ends: Ends, variant: str) -> None:
    read_end, write_end = ends

    async def go_away() -> None:
        await trio.testing.wait_all_tasks_blocked()
        os.close(read_end)

    with writing(write_end, variant) as writer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(go_away)
            with pytest.raises(BrokenPipeError):
                await writer.write([CONTENT])


async def test_it_is_noticed_when_nobody_reads_any_more(
    ends: Ends, variant: str, autojump_clock: MockClock
) -> None:
    read_end, write_end = ends
    with writing(write_end, variant) as writer:
        with trio.move_on_after(60) as patience:
            await writer.wait_closed()
        assert patience.cancelled_caught, "the reader is still there"
        os.close(read_end)
        with trio.move_on_after(60) as patience:
            await writer.wait_closed()
    # A thread's stream may be a file, which nobody closes.
    assert patience.cancelled_caught is (variant == "thread")


async def test_who_has_closed_it_is_not_told_that_nobody_reads(
    ends: Ends, variant: str, autojump_clock: MockClock
) -> None:
    """A task that watches may begin only once all is over."""
    with writing(ends[1], variant) as writer:
        pass
    os.close(ends[1])
    with trio.move_on_after(60) as patience:
        await writer.wait_closed()
    assert patience.cancelled_caught


@pytest.mark.parametrize("is_blocking", [True, False])
async def test_the_mode_of_the_descriptors_is_left_as_it_was(
    ends: Ends, variant: str, is_blocking: bool
) -> None:
    """Only where there is no other way is it changed, and then put back."""
    for fd in ends:
        os.set_blocking(fd, is_blocking)
    with reading(ends[0], variant), writing(ends[1], variant):
        assert os.get_blocking(ends[0]) is is_blocking
        assert os.get_blocking(ends[1]) is (is_blocking and variant != "fallback")
    assert [os.get_blocking(fd) for fd in ends] == [is_blocking, is_blocking]


async def test_descriptors_that_do_not_block_are_read_and_written_all_the_same(
    ends: Ends, variant: str
) -> None:
    for fd in ends:
        os.set_blocking(fd, False)
    received = b""

    async def read() -> None:
        nonlocal received
        received = await read_all(ends[0], variant)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        with writing(ends[1], variant) as writer:
            await writer.write([CONTENT])
        os.close(ends[1])
    assert received == CONTENT


async def test_what_fails_names_its_stream(tmp_path: Path) -> None:
    """A file that is open for the other direction alone."""
    path = tmp_path / "file"
    path.touch()
    with ExitStack() as stack:
        readable = stack.enter_context(path.open("rb"))
        writable = stack.enter_context(path.open("wb"))
        with pytest.raises(OSError, match="stdout"), open_writer(readable.fileno()) as writer:
            await writer.write([b"x"])
        with pytest.raises(OSError, match="stdin"), open_reader(writable.fileno()) as reader:
            await reader.read()


async def test_a_named_pipe_whose_writers_are_gone_has_an_end(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    early = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write_end = os.open(path, os.O_WRONLY)
    os.write(write_end, b"latest")
    os.close(write_end)
    with trio.fail_after(5), open_reader(early, "fifo") as reader:
        assert await reader.read() == b"latest"
        assert await reader.read() == b""
    os.close(early)


async def test_a_regular_file_is_read_and_written(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file:
        with open_writer(file.fileno()) as writer:
            assert isinstance(writer, ThreadWriter)
            await writer.write([CONTENT, b"", b"end"])
        file.seek(0)
        received = b""
        with open_reader(file.fileno()) as reader:
            assert isinstance(reader, ThreadReader)
            while piece := await reader.read():
                received += piece
    assert received == CONTENT + b"end"


async def test_a_file_is_read_and_written_while_all_other_threads_hang(tmp_path: Path) -> None:
    """As those do in which names are looked up that nobody answers for."""
    others = trio.to_thread.current_default_thread_limiter()
    for _ in range(int(others.available_tokens)):
        others.acquire_on_behalf_of_nowait(object())
    with (tmp_path / "file").open("w+b") as file, trio.fail_after(5):
        with open_writer(file.fileno()) as writer:
            await writer.write([b"content"])
        file.seek(0)
        with open_reader(file.fileno()) as reader:
            assert await reader.read() == b"content"
