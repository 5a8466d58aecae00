"""What is done before a command's imports: SIGINT, and when cycles are looked for."""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from multi_fetch.cli import start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMANDS = pytest.mark.parametrize("command", [start.multi_fetch, start.fetch_object])


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "argv", ["command", "--version"])
    before, threshold = signal.getsignal(signal.SIGINT), gc.get_threshold()
    yield
    signal.signal(signal.SIGINT, before)
    gc.set_threshold(*threshold)
    gc.unfreeze()


@COMMANDS
def test_it_ends_the_command_as_sigterm_does(command: Callable[[], int]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(SystemExit):
        command()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def test_before_it_is_heeded_next_to_nothing_is_imported() -> None:
    """What is imported until then takes milliseconds, in which it leaves a traceback."""
    code = "import sys; import multi_fetch.cli.start; print(*sys.modules)"
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path}; {code}"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "multi_fetch.cli.start" in told
    assert not {"contextlib", "re", "typing"} & set(told)


@COMMANDS
def test_it_stays_ignored_where_it_was(command: Callable[[], int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with pytest.raises(SystemExit):
        command()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@COMMANDS
def test_what_was_imported_is_not_looked_through_for_cycles(command: Callable[[], int]) -> None:
    with pytest.raises(SystemExit):
        command()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold()[0] == start.YOUNG_OBJECTS


@pytest.mark.parametrize("name", ["multi-fetch", "fetch-object"])
def test_what_stands_in_for_stderr_is_not_taken_for_stdout(name: str) -> None:
    """Both are closed: then nothing can be said, but the exit status says that nothing came."""
    words = ["oci:examples/layout", *(["latest"] if name == "fetch-object" else [])]
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&- 2>&-', "sh", Path(sys.executable).with_name(name), *words],
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2


FEW_FILES = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({n}, {n}))"
NO_THREADS = """
import threading
def refuse(*_): raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
"""
RUN = "\nimport sys\nfrom multi_fetch.cli import start\nsys.argv = {argv}\nsys.exit(start.{name}())"


def run(
    before: str, name: str, *argv: str, stdout: IO[bytes] | int
) -> subprocess.CompletedProcess[bytes]:
    code = before + RUN.format(argv=[name, *argv], name=name)
    return subprocess.run(
        [sys.executable, "-c", code],
        input=b"latest children:all\n",
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize("count", [5, 6, 7])
def test_too_few_files_are_told_in_one_line(tmp_path: Path, count: int) -> None:
    with (tmp_path / "out").open("wb") as out:
        before = FEW_FILES.format(n=count)
        done = run(before, "multi_fetch", "oci:examples/layout", stdout=out)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert b"Too many open files: raise the limit" in line


def test_where_there_are_no_threads_that_is_told_without_a_traceback(tmp_path: Path) -> None:
    """stdout is a file, which is written in one."""
    with (tmp_path / "out").open("wb") as out:
        done = run(NO_THREADS, "multi_fetch", "oci:examples/layout", stdout=out)
    assert done.returncode == 1
    assert b"no more threads" in done.stderr
    assert b"Traceback" not in done.stderr


def test_what_needs_no_thread_is_answered_without_one() -> None:
    """What does fails, and may be asked for again."""
    argv = ["--format", "jsonl", "oci:examples/layout"]
    done = run(NO_THREADS, "multi_fetch", *argv, stdout=subprocess.PIPE)
    hello, error, bye = map(json.loads, done.stdout.splitlines())
    assert (hello["frame"], error["code"], error["retryable"]) == ("hello", "unavailable", True)
    assert bye["failed"] == 1
    assert b"Traceback" not in done.stderr
