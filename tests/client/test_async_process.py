from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import anyio
import pytest

from multi_fetch.client.async_process import AsyncProcess, start_process
from multi_fetch.client.launch import plan_launch
from tests.client.conftest import open_files
from tests.client.fakes import fake

if TYPE_CHECKING:
    from tests.client.conftest import RunAsync

IGNORING = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
raw(b"r")
while True:
    signal.pause()
"""


async def start(script: str) -> AsyncProcess:
    return await start_process(plan_launch("app", {"command": fake(script)}))


def test_what_is_written_and_read_comes_through_whole(run_async: RunAsync) -> None:
    async def main() -> None:
        process = await start("raw(sys.stdin.buffer.read()); sys.stderr.write('done'); sys.exit(7)")
        content, received = bytes(range(256)) * 10_000, b""
        async with anyio.create_task_group() as tasks:

            async def write() -> None:
                await process.write(content)
                process.close_stdin()

            tasks.start_soon(write)
            while data := await process.read_stdout():
                received += data
        assert received == content
        assert await process.read_stderr() == b"done"
        await process.end(patience_seconds=30, grace_seconds=30)
        assert process.exit_status == 7
        process.close()

    run_async(main)


@pytest.mark.parametrize(
    ("script", "grace_seconds", "status"),
    [
        ('raw(b"r"); signal.pause()', 30, -signal.SIGTERM),
        (IGNORING, 0.1, -signal.SIGKILL),
        ('raw(b"r"); sys.exit(3)', 30, 3),
    ],
)
def test_an_end_has_its_own_status_however_it_comes(
    run_async: RunAsync,
    caplog: pytest.LogCaptureFixture,
    script: str,
    grace_seconds: float,
    status: int,
) -> None:
    async def main() -> None:
        process = await start(script)
        assert await process.read_stdout() == b"r"
        if status == 3:
            # It has exited, and the event loop has not heard of it yet.
            assert await process.read_stdout() == b""
        await process.end(patience_seconds=0 if status != 3 else 30, grace_seconds=grace_seconds)
        assert process.exit_status == status
        process.close()

    run_async(main)
    assert caplog.messages == []


def test_a_writer_that_waits_is_woken_when_stdin_is_closed(run_async: RunAsync) -> None:
    async def main() -> None:
        process = await start("signal.pause()")
        async with anyio.create_task_group() as tasks:

            async def write() -> None:
                with pytest.raises((anyio.ClosedResourceError, OSError)):
                    await process.write(bytes(1_000_000))

            tasks.start_soon(write)
            await anyio.wait_all_tasks_blocked()
            process.close_stdin()
        await process.end(patience_seconds=0, grace_seconds=30)
        process.close()

    run_async(main)


def test_a_process_that_is_let_go_of_is_killed_and_leaves_no_file(run_async: RunAsync) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await start_process(plan_launch("app", {"command": ["./not-there"]}))
        files = open_files()
        process = await start("signal.pause()")
        process.close()
        await process.wait()
        assert process.exit_status == -signal.SIGKILL
        assert open_files() <= files + 1

    run_async(main)
