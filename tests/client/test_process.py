from __future__ import annotations

import select
import signal

import pytest

from multi_fetch.client.launch import plan_launch
from multi_fetch.client.process import WorkerProcess
from tests.client.fakes import fake

IGNORING = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
raw(b"r")
while True:
    signal.pause()
"""


def start(script: str, *, grace_seconds: float = 10.0) -> WorkerProcess:
    launch = plan_launch("app", {"command": fake(script), "grace_seconds": grace_seconds})
    return WorkerProcess(launch)


def wait_readable(process: WorkerProcess) -> None:
    assert select.select([process.stdout], [], [], 30)[0]


def test_nothing_blocks_and_what_does_not_fit_the_pipe_is_left() -> None:
    process = start('raw(b"r"); signal.pause()')
    assert process.read_stderr() is None
    wait_readable(process)
    assert process.read_stdout() == b"r"
    assert process.read_stdout() is None
    lines = memoryview(bytes(10 * 1024 * 1024))
    rest = process.write(lines)
    assert 0 < len(rest) < len(lines)
    process.end(patience_seconds=0)
    process.stderr.close()


def test_a_worker_that_ends_by_itself_keeps_its_exit_status() -> None:
    process = start("until_closed(); sys.stderr.write('done'); sys.exit(7)")
    assert process.end(patience_seconds=30) == 7
    assert process.read_stderr() == b"done"
    assert process.read_stderr() == b""
    process.stderr.close()


@pytest.mark.parametrize(
    ("script", "status"),
    [('raw(b"r"); signal.pause()', -signal.SIGTERM), (IGNORING, -signal.SIGKILL)],
)
def test_first_comes_sigterm_and_after_the_grace_sigkill(script: str, status: int) -> None:
    process = start(script, grace_seconds=0.1 if script is IGNORING else 30)
    wait_readable(process)
    assert process.end(patience_seconds=0) == status
    process.stderr.close()


def test_a_command_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        WorkerProcess(plan_launch("app", {"command": ["./not-there"]}))
