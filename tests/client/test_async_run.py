from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import anyio
import pytest

from multi_fetch.client.async_process import start_process
from multi_fetch.client.async_run import AsyncRun
from multi_fetch.client.launch import plan_launch
from multi_fetch.errors import RequestCancelledError, WorkerDiedError
from tests.client.fakes import SILENT, fake

if TYPE_CHECKING:
    from tests.client.conftest import RunAsync


async def start(script: str) -> AsyncRun:
    launch = plan_launch("app", {"command": fake(script)})
    return AsyncRun(launch, await start_process(launch))


def test_a_run_ends_by_itself_with_its_worker(run_async: RunAsync) -> None:
    async def main() -> None:
        run = await start("hello(); sys.exit(3)")
        await run.run()
        with pytest.raises(WorkerDiedError) as caught:
            run.submit("latest", ())
        assert caught.value.exit_status == 3

    run_async(main)


def test_it_may_be_closed_before_the_worker_has_said_anything_and_often(
    run_async: RunAsync,
) -> None:
    async def main() -> None:
        run = await start("signal.pause()")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run.run)
            await run.close()
            await run.close()
        with pytest.raises(RequestCancelledError):
            run.submit("latest", ())

    run_async(main)


def test_a_worker_that_closes_stdin_is_heard_to_its_end(run_async: RunAsync) -> None:
    script = """
hello(window=1000)
line()
os.close(0)
begin(1); data(1, 0, b"heard"); end(1, 5)
"""

    async def main() -> None:
        run = await start(script)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run.run)
            first = run.submit("latest", ())
            # More than a pipe holds, so that writing goes on when the worker has closed its end.
            others = [run.submit("a" * 60_000, ()) for _ in range(100)]
            await run.wait(lambda: others[-1].is_done, others[-1].watch)
        assert first.take() == b"heard"
        assert {type(other.failure) for other in others} == {WorkerDiedError}

    run_async(main)


def test_a_worker_that_closes_stdout_alone_keeps_its_exit_status(run_async: RunAsync) -> None:
    async def main() -> None:
        run = await start("hello(); os.close(1); until_closed(); os._exit(9)")
        exchange = run.submit("latest", ())
        await run.run()
        assert isinstance(exchange.failure, WorkerDiedError)
        assert exchange.failure.exit_status == 9

    run_async(main)


@pytest.mark.parametrize(("script", "seconds"), SILENT)
def test_a_worker_that_stands_still_and_owes_something_is_killed_after_the_idle_timeout(
    run_async: RunAsync, script: str, seconds: float
) -> None:
    async def main() -> None:
        launch = plan_launch("app", {"command": fake(script), "idle_timeout": seconds})
        run = AsyncRun(launch, await start_process(launch))
        exchange = run.submit("latest", ())
        await run.run()
        assert isinstance(exchange.failure, WorkerDiedError)
        assert (exchange.begin is not None) is ("begin" in script)
        assert exchange.failure.exit_status == -signal.SIGKILL
        assert f"said nothing for {seconds} s (idle_timeout)" in exchange.failure.message
        assert "so it was ended by SIGKILL" in exchange.failure.message

    run_async(main)
