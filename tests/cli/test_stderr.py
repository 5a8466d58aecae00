"""stderr that is full, slow, shared or no pipe at all: nobody waits for it."""

from __future__ import annotations

import os
import pty
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from multi_fetch.cli.stderr import Stderr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Ends = Callable[[], tuple[int, int]]

LONG = b"x" * 10_000_000


def socket_ends() -> tuple[int, int]:
    one, other = socket.socketpair()
    return one.detach(), other.detach()


@pytest.fixture(params=[os.pipe, socket_ends, pty.openpty], ids=["pipe", "socket", "terminal"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    reader, writer = request.param()
    yield reader, writer
    os.close(reader)
    os.close(writer)


@contextmanager
def opened(fd: int, patience_seconds: float = 0.0) -> Iterator[Stderr]:
    stderr = Stderr(fd, patience_seconds=patience_seconds)
    try:
        yield stderr
    finally:
        stderr.close()


def test_what_has_no_room_is_not_waited_for_however_long_it_is(ends: tuple[int, int]) -> None:
    with opened(ends[1]) as stderr:
        assert 0 < stderr.write(LONG) < len(LONG)
        # A terminal passes on what it took, a little later, and then has room again.
        assert not all(stderr.write(LONG) == len(LONG) for _ in range(3))
        assert os.get_blocking(ends[1])


def test_nor_where_a_pipe_cannot_be_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError

    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", 0) as read, os.fdopen(writer):
        monkeypatch.setattr(os, "open", refuse)
        with opened(writer) as stderr:
            taken = stderr.write(LONG)
            assert 0 < taken < len(LONG)
            assert stderr.write(b"more") == 0
            assert len(read.read(len(LONG))) == taken
            assert stderr.write(b"more") == 4


def test_a_reader_that_comes_in_time_gets_all(ends: tuple[int, int]) -> None:
    received = bytearray()
    size = 1_000_000

    def read() -> None:
        while len(received) < size:
            received.extend(os.read(ends[0], 65_536))

    reader = threading.Thread(target=read)
    with opened(ends[1], patience_seconds=60.0) as stderr:
        reader.start()
        assert stderr.write(b"x" * size) == size
        reader.join()
    assert received == b"x" * size


def test_the_patience_is_for_everything_that_is_written() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader), os.fdopen(writer), opened(writer, patience_seconds=0.2) as stderr:
        stderr.write(LONG)
        began = time.monotonic()
        assert [stderr.write(b"more") for _ in range(50)] == [0] * 50
        assert time.monotonic() - began < 5.0


def test_a_reader_that_has_gone_is_an_error() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer), opened(writer) as stderr:
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            stderr.write(b"to nobody")


def test_a_file_takes_everything(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file, opened(file.fileno()) as stderr:
        assert stderr.write(LONG) == len(LONG)
    assert (tmp_path / "log").read_bytes() == LONG
