"""Lines come from stdin, a file, a FIFO, or a descriptor that the shell opened."""

from __future__ import annotations

import os
import pty
import threading
from typing import TYPE_CHECKING

import pytest

from multi_fetch.cli import lines

if TYPE_CHECKING:
    from pathlib import Path


def read(path: str) -> bytes:
    with lines.opened(path) as fd:
        return os.read(fd, 100)


def test_stdin_is_what_is_read_by_default() -> None:
    with lines.opened("-") as fd:
        assert fd == 0
    os.fstat(0)  # still open
    assert lines.name_of("-") == "stdin"
    assert lines.name_of("./-") == "./-"


def test_somebody_at_a_terminal_is_told_what_is_waited_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    lines.invite(theirs, theirs)
    assert "Ctrl-D" in capsys.readouterr().err
    with (tmp_path / "file").open("wb") as file:
        lines.invite(theirs, file.fileno())
        lines.invite(file.fileno(), theirs)
    assert capsys.readouterr().err == ""
    os.close(ours)
    os.close(theirs)


def test_a_file_is_closed_afterwards(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"latest\n")
    with lines.opened(str(tmp_path / "list")) as fd:
        assert os.read(fd, 100) == b"latest\n"
        assert not os.get_inheritable(fd)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_a_fifo_is_waited_for(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(b"latest\n",))
    writer.start()
    assert read(str(fifo)) == b"latest\n"
    writer.join()


def test_a_descriptor_is_read_by_its_name() -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"latest\n")
    os.close(write_end)
    assert read(f"/dev/fd/{read_end}") == b"latest\n"
    os.close(read_end)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        read(str(tmp_path / "nope"))
