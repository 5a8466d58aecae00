"""stdin and stdout of every kind, as a shell, Node or a scheduler gives them."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import threading
import tty
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING

import pytest

from tests.end_to_end.conftest import AT_ONCE_SECONDS, LARGE, MULTI_FETCH, Sample
from tests.parent import Parent, asked_by, read_stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# EOT at the start of a line: a terminal's end of file.
END_OF_INPUT = b"\x04"


def work(
    remote: str, *flags: str, stdin: int | IO[bytes], stdout: int | IO[bytes]
) -> subprocess.CompletedProcess[bytes]:
    """A worker on these streams, until it ends."""
    return subprocess.run(
        [MULTI_FETCH, *flags, remote],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )


@contextmanager
def pair(kind: str) -> Iterator[tuple[int, int]]:
    """Two descriptors: what is written to the second is read from the first."""
    with ExitStack() as stack:
        if kind == "pipe":
            read_end, write_end = os.pipe()
        elif kind == "socket":
            read_end, write_end = (each.detach() for each in socket.socketpair())
        else:
            write_end, read_end = pty.openpty()
        for fd in (read_end, write_end):
            stack.callback(_close, fd)
        yield read_end, write_end


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return  # the test did it


def read_all(fd: int) -> bytes:
    """Until the end, which a terminal tells with EIO."""
    pieces = []
    try:
        while piece := os.read(fd, 1024 * 1024):
            pieces.append(piece)
    except OSError:
        pass
    return b"".join(pieces)


# --- stdin ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pipe", "socket", "pty"])
def test_lines_are_read_from_a_stream_until_its_end(sample: Sample, remote: str, kind: str) -> None:
    lines = f"latest\n# comment\n{sample.large} content:none\n".encode()
    with pair(kind) as (read_end, write_end):
        os.write(write_end, lines + (END_OF_INPUT if kind == "pty" else b""))
        if kind != "pty":
            os.close(write_end)
        done = work(remote, stdin=read_end, stdout=subprocess.PIPE)
    session = read_stream(done.stdout, asked=asked_by(lines))
    assert (done.returncode, done.stderr) == (0, b"")
    assert session.answers[1].content == sample.latest


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_lines_are_read_from_a_regular_file(
    sample: Sample, remote: str, tmp_path: Path, end: bytes
) -> None:
    lines = "\n".join(sample.contents).encode() + end
    (tmp_path / "list.txt").write_bytes(lines)
    with (tmp_path / "list.txt").open("rb") as file:
        done = work(remote, stdin=file, stdout=subprocess.PIPE)
    read_stream(done.stdout, asked=asked_by(lines))
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_file_with_more_lines_than_the_window_is_answered_whole(
    sample: Sample, remote: str, tmp_path: Path
) -> None:
    lines = f"{sample.small}\n".encode() * 300
    (tmp_path / "list.txt").write_bytes(lines)
    with (tmp_path / "list.txt").open("rb") as file:
        done = work(remote, "--window", "7", stdin=file, stdout=subprocess.PIPE)
    session = read_stream(done.stdout, asked=asked_by(lines))
    assert len(session.answers) == 300


def test_dev_null_asks_for_nothing(remote: str) -> None:
    done = work(remote, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")
    assert read_stream(done.stdout, asked={}).answers == {}


@pytest.mark.parametrize("kind", ["socket", "pty"])
def test_a_line_is_answered_at_once_whatever_the_stream(remote: str, kind: str) -> None:
    with (
        pair(kind) as (read_end, write_end),
        subprocess.Popen(
            [MULTI_FETCH, remote], stdin=read_end, stdout=subprocess.PIPE, bufsize=0
        ) as worker,
    ):
        assert worker.stdout is not None
        assert worker.stdout.read(4)
        os.write(write_end, b"latest\n")
        received = b""
        while b"\xa3end" not in received:
            piece = os.read(worker.stdout.fileno(), 65_536)
            assert piece
            received += piece
        worker.terminate()


# --- stdout ---------------------------------------------------------------------------------


def test_a_regular_file_takes_the_frames(sample: Sample, remote: str, tmp_path: Path) -> None:
    lines = "\n".join(sample.contents).encode()
    (tmp_path / "list.txt").write_bytes(lines)
    with (tmp_path / "list.txt").open("rb") as stdin, (tmp_path / "answers").open("wb") as stdout:
        done = work(remote, stdin=stdin, stdout=stdout)
    session = read_stream((tmp_path / "answers").read_bytes(), asked=asked_by(lines))
    assert (done.returncode, done.stderr) == (0, b"")
    assert [bytes(each.content) for _, each in sorted(session.answers.items())] == list(
        sample.contents.values()
    )


def test_a_file_that_is_appended_to_keeps_what_it_has(remote: str, tmp_path: Path) -> None:
    path = tmp_path / "answers"
    path.write_bytes(b"before")
    with path.open("ab") as stdout:
        work(remote, stdin=subprocess.DEVNULL, stdout=stdout)
    assert path.read_bytes().startswith(b"before")
    read_stream(path.read_bytes().removeprefix(b"before"))


def test_dev_null_takes_the_frames(sample: Sample, remote: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{sample.large}\nlatest\n")
    with (tmp_path / "list.txt").open("rb") as stdin:
        done = work(remote, stdin=stdin, stdout=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("kind", ["socket", "pty"])
def test_a_stream_takes_the_frames(sample: Sample, remote: str, kind: str, tmp_path: Path) -> None:
    lines = f"{sample.large}\nlatest\n".encode()
    (tmp_path / "list.txt").write_bytes(lines)
    received: list[bytes] = []
    with ExitStack() as stack:
        if kind == "pty":
            ours, theirs = pty.openpty()
            tty.setraw(theirs)
        else:
            ours, theirs = (each.detach() for each in socket.socketpair())
        stack.callback(os.close, ours)
        reader = threading.Thread(target=lambda: received.append(read_all(ours)))
        reader.start()
        with (tmp_path / "list.txt").open("rb") as stdin:
            done = work(remote, "--force", stdin=stdin, stdout=theirs)
        os.close(theirs)
        reader.join()
    assert (done.returncode, done.stderr) == (0, b"")
    session = read_stream(received[0], asked=asked_by(lines))
    assert session.answers[1].content == LARGE


def test_a_terminal_is_refused_unless_forced(remote: str) -> None:
    with pair("pty") as (terminal, _):
        done = work(remote, stdin=subprocess.DEVNULL, stdout=terminal)
    assert done.returncode == 2
    assert done.stderr.startswith(b"multi-fetch: stdout is a terminal")
    assert b"--force" in done.stderr


def test_a_socket_whose_reader_goes_ends_the_worker(remote: str) -> None:
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        subprocess.Popen(
            [MULTI_FETCH, remote],
            stdin=subprocess.PIPE,
            stdout=theirs.fileno(),
            stderr=subprocess.PIPE,
        ) as worker,
    ):
        assert ours.recv(4)
        ours.close()
        assert worker.wait(AT_ONCE_SECONDS) == 141
        assert worker.stderr is not None
        assert worker.stderr.read() == b""


# --- streams that are missing or full -------------------------------------------------------


@pytest.mark.parametrize(
    ("redirection", "status", "words"),
    [
        ("<&-", 2, "multi-fetch: stdin is closed: give it a pipe, a file or /dev/null\n"),
        (">&- </dev/null", 2, "multi-fetch: stdout is closed: give it a pipe, a file or"),
        ("<&- >&-", 2, "multi-fetch: stdin is closed"),
        (
            "</dev/null >/dev/full",
            1,
            "multi-fetch: cannot write to stdout: No space left on device; make room there\n",
        ),
        ("0>{folder}/written >/dev/null", 1, "multi-fetch: cannot read stdin: Bad file descriptor"),
        (
            "</dev/null 1</dev/null",
            1,
            "multi-fetch: cannot write to stdout: Bad file descriptor; check where it leads\n",
        ),
    ],
)
def test_a_stream_that_cannot_be_used_is_told(
    remote: str, redirection: str, status: int, words: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        f"{MULTI_FETCH} {remote} {redirection.format(folder=tmp_path)}",
        shell=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status
    assert done.stderr.startswith(words)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("remote_word", ["{remote}:latest", "{remote}", "--wrong {remote}"])
def test_a_stderr_that_is_closed_changes_no_status(remote: str, remote_word: str) -> None:
    command = f"echo nowhere | {MULTI_FETCH} {remote_word.format(remote=remote)} 2>&- >/dev/null"
    done = subprocess.run(command, shell=True, check=False)
    assert done.returncode == (1 if remote_word == "{remote}" else 2)


# --- the mode of what is shared -------------------------------------------------------------


@pytest.mark.parametrize("is_blocking", [True, False])
@pytest.mark.parametrize("kind", ["pipe", "socket", "pty"])
def test_the_mode_of_a_shared_stdin_stays_as_it_is(
    remote: str, kind: str, *, is_blocking: bool
) -> None:
    with pair(kind) as (read_end, write_end):
        os.set_blocking(read_end, is_blocking)
        with subprocess.Popen(
            [MULTI_FETCH, remote], stdin=read_end, stdout=subprocess.PIPE, bufsize=0
        ) as worker:
            assert worker.stdout is not None
            assert worker.stdout.read(4)
            assert os.get_blocking(read_end) is is_blocking
            os.write(write_end, b"latest\n" + (END_OF_INPUT if kind == "pty" else b""))
            if kind != "pty":
                os.close(write_end)
            read_all(worker.stdout.fileno())
            assert worker.wait(AT_ONCE_SECONDS) == 0
        assert os.get_blocking(read_end) is is_blocking


@pytest.mark.parametrize("is_blocking", [True, False])
@pytest.mark.parametrize("kind", ["pipe", "socket", "pty"])
def test_the_mode_of_a_shared_stdout_stays_as_it_is(
    sample: Sample, remote: str, kind: str, *, is_blocking: bool
) -> None:
    """And a stream that is full, and does not block, still gets all frames."""
    if kind == "pty":
        ours, theirs = pty.openpty()
        tty.setraw(theirs)
    else:
        ours, theirs = (
            os.pipe() if kind == "pipe" else [each.detach() for each in socket.socketpair()]
        )
    os.set_blocking(theirs, is_blocking)
    lines = f"{sample.large}\n".encode() * 2
    with subprocess.Popen(
        [MULTI_FETCH, "--force", remote], stdin=subprocess.PIPE, stdout=theirs
    ) as worker:
        assert worker.stdin is not None
        worker.stdin.write(lines)
        worker.stdin.close()
        received = os.read(ours, 4)
        assert os.get_blocking(theirs) is is_blocking
        rest: list[bytes] = []
        reader = threading.Thread(target=lambda: rest.append(read_all(ours)))
        reader.start()
        assert worker.wait(60) == 0
    assert os.get_blocking(theirs) is is_blocking
    os.close(theirs)
    reader.join()
    os.close(ours)
    session = read_stream(received + rest[0], asked=asked_by(lines))
    assert session.answers[2].content == LARGE


def test_a_window_of_requests_is_read_though_nobody_reads_the_answers(
    sample: Sample, remote: str
) -> None:
    """What protocol.md promises to a parent that writes its window, and only then reads."""
    window = 2_000
    with Parent([MULTI_FETCH, "--window", str(window), remote]) as parent:
        parent.write(f"{sample.large} size:{len(LARGE)}\n".encode() * window)
        parent.process.terminate()
        assert parent.finish(reads_all=False) == 143
