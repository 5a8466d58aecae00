"""What a command prints meets a reader that is gone, and a full disk, as frames do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent

# Buffered or not, as Python's own error at its end would come from the buffer.
BUFFERED = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
ENVIRONMENTS = pytest.mark.parametrize(
    "environment", [BUFFERED, {**BUFFERED, "PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"]
)
COMMANDS = pytest.mark.parametrize(
    "command",
    [
        "multi-fetch --help",
        "multi-fetch --help-all",
        "multi-fetch --version",
        "multi-fetch completion bash",
        "multi-fetch doctor oci:examples/layout",
        "multi-fetch doctor --json oci:examples/layout",
        "fetch-object --help",
        "multi-fetch-unpack --help",
        "multi-fetch-store --help",
        "multi-fetch-store list examples/layout",
    ],
)


def run(command: str, stdout: int, environment: dict[str, str]) -> tuple[int, str]:
    name, *words = command.split()
    done = subprocess.run(
        [BIN / name, *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=environment,
        timeout=60,
        check=False,
        text=True,
    )
    return done.returncode, done.stderr


@COMMANDS
@ENVIRONMENTS
def test_a_reader_that_is_gone_is_no_fault(command: str, environment: dict[str, str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        assert run(command, write_end, environment) == (141, "")
    finally:
        os.close(write_end)


@COMMANDS
@ENVIRONMENTS
def test_a_full_disk_is_told_of_in_one_line(command: str, environment: dict[str, str]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        status, told = run(command, full, environment)
    finally:
        os.close(full)
    assert status == 1
    assert told.endswith("cannot write to stdout: No space left on device; make room there\n")
    assert told.count("\n") == 1


@COMMANDS
def test_a_closed_stdout_is_told_of_in_one_line(command: str) -> None:
    name, *words = command.split()
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", BIN / name, *words],
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
        text=True,
    )
    assert done.returncode in {1, 2}
    assert done.stderr.endswith("stdout is closed: give it a pipe, a file or /dev/null\n")
    assert done.stderr.count("\n") == 1
