from __future__ import annotations

import anyio
import pytest

from multi_fetch.client import AsyncWorker
from multi_fetch.errors import (
    DigestMismatchError,
    RequestCancelledError,
    UnsupportedError,
    WorkerDiedError,
)
from tests.client.conftest import SMALL, Repository, RunAsync
from tests.client.fakes import ALTERED, fake


def test_what_streams_is_provisional_until_the_iteration_ends_without_an_error(
    run_async: RunAsync,
) -> None:
    async def main() -> None:
        async with AsyncWorker("app", command=fake(ALTERED)) as worker:
            answer = worker.submit("latest")
            assert await anext(answer) == b"provisional"
            worker.submit("go-on")
            with pytest.raises(DigestMismatchError):
                await anext(answer)

    run_async(main)


def test_read_gives_nothing_of_what_was_not_verified(run_async: RunAsync) -> None:
    async def main() -> None:
        async with AsyncWorker("app", command=fake(ALTERED)) as worker:
            answer = worker.submit("latest")
            assert await answer.name() == "r.example/app:latest"
            worker.submit("go-on")
            with pytest.raises(DigestMismatchError):
                await answer.read()

    run_async(main)


def test_content_is_taken_once(run_async: RunAsync) -> None:
    async def main() -> None:
        script = "hello(); line(); whole(1, b'x'); until_closed()"
        async with AsyncWorker("app", command=fake(script)) as worker:
            answer = worker.submit("latest")
            assert await answer.read() == b"x"
            with pytest.raises(RuntimeError, match="taken already"):
                await answer.read()

    run_async(main)


def test_two_who_read_at_the_same_time_never_get_a_part_as_the_whole(run_async: RunAsync) -> None:
    script = """
hello(); line(); begin(1); line(); data(1, 0, b"some "); line(); data(1, 5, b"content"); end(1, 12)
until_closed()
"""

    async def main() -> None:
        async with AsyncWorker("app", command=fake(script)) as worker:
            answer = worker.submit("latest")
            read: list[bytes | None] = []

            async def read_whole() -> None:
                try:
                    read.append(await answer.read())
                except RuntimeError:
                    read.append(None)

            async with anyio.create_task_group() as tasks:
                for _ in range(2):
                    tasks.start_soon(read_whole)
                await answer.name()
                for _ in range(2):
                    worker.submit("go-on")
            assert None in read
            assert set(read) <= {None, b"some content"}

    run_async(main)


def test_a_range_can_be_iterated_over_and_is_never_said_to_be_verified(
    repository: Repository, run_async: RunAsync
) -> None:
    async def main() -> None:
        async with AsyncWorker(repository.remote) as worker:
            digest = repository.small.digest
            part, read = (worker.submit(digest, "range:2-5") for _ in range(2))
            assert b"".join([piece async for piece in part]) == SMALL[2:6]
            with pytest.raises(UnsupportedError, match="cannot be verified"):
                await read.read()

    run_async(main)


def test_a_cancelled_answer_says_so_at_once(run_async: RunAsync) -> None:
    async def main() -> None:
        script = "hello(); line(); begin(1); data(1, 0, b'x'); line(); error(1); until_closed()"
        async with AsyncWorker("app", command=fake(script)) as worker:
            answer = worker.submit("latest")
            assert await anext(answer) == b"x"
            answer.cancel()
            with pytest.raises(RequestCancelledError):
                await anext(answer)

    run_async(main)


def test_children_are_given_as_they_begin_and_a_dead_worker_ends_them(run_async: RunAsync) -> None:
    script = """
hello()
line()
begin(1); end(1, children=2)
begin(-1, "config", 1); data(-1, 0, b"c"); end(-1, 1)
line()
"""

    async def main() -> None:
        async with AsyncWorker("app", command=fake(script)) as worker:
            parent = worker.submit("latest", "children:all")
            children = parent.children()
            config = await anext(children)
            assert (config.object, await config.read()) == ("config", b"c")
            worker.submit("die")
            with pytest.raises(WorkerDiedError):
                await anext(children)

    run_async(main)


def test_a_wait_that_has_nothing_to_wait_for_still_lets_others_run(run_async: RunAsync) -> None:
    """Each is a checkpoint, as trio's manual wants it of all that is awaited."""

    async def main() -> None:
        script = "hello(); line(); whole(1, b'x'); until_closed()"
        async with AsyncWorker("app", command=fake(script)) as worker:
            answer = worker.submit("latest")
            await answer.wait()
            order: list[str] = []

            async def other() -> None:
                order.append("other")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other)
                await answer.wait()
                await answer.wait()
                order.append("waited")
            assert order == ["other", "waited"]

    run_async(main)
