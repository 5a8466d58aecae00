"""What --output writes to, and when a file has its name."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
import trio

from multi_fetch.cli.output import DASH, open_output

if TYPE_CHECKING:
    from pathlib import Path

OLD = b"what was there"
NEW = b"what comes"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "layer.tar"
    path.write_bytes(OLD)
    return path


def test_a_file_is_replaced_when_all_is_written(path: Path) -> None:
    async def write() -> None:
        async with open_output(str(path)) as writer:
            await writer.write([NEW])
            seen.append(await trio.to_thread.run_sync(path.read_bytes))
            await writer.write([NEW])

    seen: list[bytes] = []
    trio.run(write)
    assert seen == [OLD]
    assert path.read_bytes() == NEW * 2
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_what_was_there_and_nothing_else(path: Path) -> None:
    async def fail() -> None:
        async with open_output(str(path)) as writer:
            await writer.write([NEW])
            raise ValueError("half of it")

    with pytest.raises(ValueError, match="half"):
        trio.run(fail)
    assert path.read_bytes() == OLD
    assert list(path.parent.iterdir()) == [path]


async def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        async with open_output(str(tmp_path / "new")):
            pass
    finally:
        os.umask(old)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


def test_behind_a_link_the_file_is_replaced_and_the_link_stays(path: Path) -> None:
    async def write() -> None:
        async with open_output(str(link)) as writer:
            await writer.write([NEW])

    link = path.with_name("link")
    link.symlink_to(path.name)
    trio.run(write)
    assert link.is_symlink()
    assert path.read_bytes() == NEW


async def test_a_fifo_is_written_to_as_it_is(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    async with open_output(str(fifo)) as writer:
        await writer.write([NEW])
    reader.join(10)
    assert read == [NEW]
    assert fifo.is_fifo()


async def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "file"
    with pytest.raises(FileNotFoundError) as caught:
        async with open_output(str(path)):
            pass
    assert caught.value.filename == str(path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")  # noqa: PTH110 - a constant
async def test_a_full_disk_is_told_with_the_name() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        async with open_output("/dev/full") as writer:
            await writer.write([NEW])
    assert caught.value.filename == "/dev/full"


async def test_a_dash_is_stdout(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    async with open_output(DASH) as writer:
        await writer.write([NEW])
    assert capfdbinary.readouterr().out == NEW
