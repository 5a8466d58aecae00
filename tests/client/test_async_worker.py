from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from multi_fetch.client import AsyncAnswer, AsyncWorker
from multi_fetch.errors import (
    InvalidRequestError,
    NotFoundError,
    RequestCancelledError,
    UnknownVersionError,
    WorkerDiedError,
)
from multi_fetch.oci.digest import digest_of
from tests.client.conftest import LARGE, SMALL, Repository, RunAsync, Shop, is_alive, open_files
from tests.client.fakes import DEATHS, DYING, fake

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("nothing_is_left")

ANSWERING = """
hello(window=64)
number = 0
while asked := line():
    number += 1
    whole(number, asked.encode())
"""
SILENT = "hello(); signal.pause()"


def test_what_there_is_is_listed(shop: Shop, run_async: RunAsync) -> None:
    async def main() -> None:
        async with AsyncWorker(shop.remote) as worker:
            assert [tag async for tag in worker.tags()] == shop.tags
            digest = str(shop.image.digest)
            found = [each.artifact_type async for each in worker.referrers(digest)]
            assert sorted(found) == ["a/sbom", "a/sig"]
            only = [each async for each in worker.referrers(digest, "a/sig")]
            assert [each.artifact_type for each in only] == ["a/sig"]
            with pytest.raises(InvalidRequestError):
                worker.referrers("a b")
            with pytest.raises(InvalidRequestError):
                async for _ in worker.referrers("latest"):
                    pass
        async with AsyncWorker("-") as worker:
            assert [tag async for tag in worker.tags(shop.remote)] == shop.tags

    run_async(main)


# --- against the worker -----------------------------------------------------------------------


def test_requests_are_submitted_while_answers_stream(
    repository: Repository, run_async: RunAsync
) -> None:
    async def main() -> None:
        async with AsyncWorker(repository.remote, jobs=2) as worker:
            large = worker.submit(repository.large.digest)
            pieces = [await anext(large)]
            manifest = worker.submit("latest")
            assert (await manifest.descriptor()).digest == repository.image.digest
            assert await manifest.name() == f"{repository.remote}:latest"
            assert digest_of(await manifest.read()) == repository.image.digest
            pieces += [piece async for piece in large]
            assert b"".join(pieces) == LARGE
            with pytest.raises(NotFoundError):
                await worker.submit("nope").read()

    run_async(main)


def test_children_come_as_answers_of_their_own(repository: Repository, run_async: RunAsync) -> None:
    async def main() -> None:
        async with AsyncWorker(repository.remote) as worker:
            image = worker.submit("latest", "children:all")
            found = {}
            async for child in image.children():
                assert child.parent == image.id
                found[(await child.descriptor()).digest] = await child.read()
            assert found[repository.small.digest] == SMALL
            assert found[repository.large.digest] == LARGE

    run_async(main)


def test_an_object_that_is_never_read_does_not_stop_the_others(
    repository: Repository, run_async: RunAsync
) -> None:
    async def main() -> None:
        async with AsyncWorker(repository.remote, jobs=2, memory_bytes=1024 * 1024) as worker:
            unread = [worker.submit(repository.large.digest) for _ in range(10)]
            for _ in range(10):
                assert await worker.submit(repository.small.digest).read() == SMALL
                assert await worker.submit(repository.large.digest).read() == LARGE
            for answer in unread:
                await answer.wait()
        assert await unread[3].read() == LARGE

    run_async(main)


def test_20_000_requests_may_be_submitted_before_anything_is_read(run_async: RunAsync) -> None:
    async def main() -> None:
        async with AsyncWorker("app", command=fake(ANSWERING), memory_bytes=0) as worker:
            answers = [worker.submit(f"o{number}") for number in range(20_000)]
            assert await answers[-1].read() == b"o19999"
            assert await answers[0].read() == b"o0"
            assert all(answer.is_done for answer in answers)

    run_async(main)


def test_answers_come_in_the_order_in_which_they_are_done(run_async: RunAsync) -> None:
    async def main() -> None:
        script = "hello(); line(); line(); error(2); whole(1, b'x'); until_closed()"
        async with AsyncWorker("app", command=fake(script)) as worker:
            first, second = worker.submit("a"), worker.submit("b")
            assert [each async for each in worker.as_completed([first, second])] == [second, first]
            assert [each async for each in worker.as_completed([first])] == [first]

    run_async(main)


def test_many_tasks_may_share_a_worker(repository: Repository, run_async: RunAsync) -> None:
    async def main() -> None:
        contents: list[bytes] = []
        async with AsyncWorker(repository.remote, window=3) as worker:

            async def fetch() -> None:
                contents.append(await worker.submit(repository.small.digest).read())

            async with anyio.create_task_group() as tasks:
                for _ in range(50):
                    tasks.start_soon(fetch)
        assert contents == [SMALL] * 50

    run_async(main)


def test_a_request_that_makes_no_line_is_refused(run_async: RunAsync) -> None:
    async def main() -> None:
        async with AsyncWorker("app", command=fake(SILENT)) as worker:
            with pytest.raises(InvalidRequestError):
                worker.submit("a b")

    run_async(main)


# --- cancelling -------------------------------------------------------------------------------


def test_a_scope_that_is_cancelled_while_it_reads_cancels_the_request_and_no_other(
    run_async: RunAsync,
) -> None:
    script = """
hello()
line(); line()
begin(1); data(1, 0, b"x")
assert line() == "!cancel 1"
error(1, "cancelled")
assert line() == "c"
whole(2, b"others"); whole(4, b"go on")
until_closed()
"""

    async def main() -> None:
        async with AsyncWorker("app", command=fake(script)) as worker:
            a, b = worker.submit("a"), worker.submit("b")
            assert await anext(a) == b"x"
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anext, a)
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
            assert isinstance(a.error, RequestCancelledError)
            c = worker.submit("c")
            assert (await b.read(), await c.read()) == (b"others", b"go on")

    run_async(main)


@pytest.mark.parametrize("how", ["read", "wait", "descriptor", "name", "anext"])
def test_every_wait_for_an_answer_cancels_it_when_it_is_cancelled(
    run_async: RunAsync, how: str
) -> None:
    async def wait_for(answer: AsyncAnswer) -> None:
        await (anext(answer) if how == "anext" else getattr(answer, how)())

    async def main() -> None:
        async with AsyncWorker("app", command=fake(SILENT)) as worker:
            answer, other = worker.submit("a"), worker.submit("b")
            with anyio.CancelScope() as scope:
                scope.cancel()
                await wait_for(answer)
            assert isinstance(answer.error, RequestCancelledError)
            assert not other.is_done

    run_async(main)


def test_a_scope_around_the_worker_ends_its_process(run_async: RunAsync) -> None:
    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with AsyncWorker("app", command=fake(SILENT)) as worker:
                pid = int((await worker.hello()).software)
                answers = [worker.submit(f"o{number}") for number in range(10)]
                scope.cancel()
                await answers[0].read()
        assert scope.cancelled_caught
        assert not is_alive(pid)
        assert all(isinstance(answer.error, RequestCancelledError) for answer in answers)

    run_async(main)


def test_an_error_in_the_block_ends_the_process_and_comes_through_as_it_is(
    run_async: RunAsync,
) -> None:
    pids = []

    async def main() -> None:
        async with AsyncWorker("app", command=fake(SILENT)) as worker:
            pids.append(int((await worker.hello()).software))
            raise KeyError

    with pytest.raises(KeyError):
        run_async(main)
    assert not is_alive(pids[0])


def test_a_worker_that_ignores_sigterm_is_killed_after_the_grace(run_async: RunAsync) -> None:
    script = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
hello()
while True:
    signal.pause()
"""

    async def main() -> None:
        async with AsyncWorker("app", command=fake(script), grace_seconds=0.1) as worker:
            pid = int((await worker.hello()).software)
        assert not is_alive(pid)

    run_async(main)


def test_a_worker_that_says_bye_and_stays_is_over_all_the_same(run_async: RunAsync) -> None:
    script = "hello(); line(); bye(); signal.pause()"

    async def main() -> None:
        async with AsyncWorker("app", command=fake(script), grace_seconds=0.1) as worker:
            with anyio.fail_after(20), pytest.raises(WorkerDiedError):
                await worker.submit("latest").read()

    run_async(main)


def test_a_worker_that_has_much_to_say_is_ended_all_the_same(run_async: RunAsync) -> None:
    script = """
import itertools
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
hello()
begin(line() and 1)
for count in itertools.count():
    data(1, count * 100_000, bytes(100_000))
"""

    async def main() -> None:
        async with AsyncWorker("app", command=fake(script), memory_bytes=0) as worker:
            answer = worker.submit("latest")
            assert len(await anext(answer)) == 100_000
        with pytest.raises(RequestCancelledError):
            await answer.read()

    run_async(main)


# --- the end ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("death", "status"), DEATHS)
def test_a_worker_that_dies_leaves_one_clear_error_for_each_open_request(
    run_async: RunAsync, death: str, status: int
) -> None:
    async def main() -> None:
        async with AsyncWorker("app", command=fake(DYING + death)) as worker:
            answers = [worker.submit(f"o{number}") for number in range(8)]
            assert await answers[0].read() == b"whole"
            for answer in answers[1:]:
                with pytest.raises(WorkerDiedError) as caught:
                    await answer.read()
                assert caught.value.exit_status == status
                assert caught.value.stderr_lines == ("its last words",)
            with pytest.raises(WorkerDiedError):
                worker.submit("latest")

    run_async(main)


@pytest.mark.parametrize(
    "lie", ["data(1, 0, b'x')", "begin(1); end(1, 7)", "raw(b'Traceback (most recent call last)')"]
)
def test_a_worker_that_breaks_the_protocol_is_ended(run_async: RunAsync, lie: str) -> None:
    async def main() -> None:
        script = f"hello(); line(); {lie}; signal.pause()"
        async with AsyncWorker("app", command=fake(script)) as worker:
            pid = int((await worker.hello()).software)
            with pytest.raises(WorkerDiedError, match="broke the protocol"):
                await worker.submit("latest").read()
        assert not is_alive(pid)

    run_async(main)


def test_a_worker_of_another_version_is_a_clear_error(run_async: RunAsync) -> None:
    async def main() -> None:
        script = "hello(version=2); signal.pause()"
        async with AsyncWorker("app", command=fake(script)) as worker:
            with pytest.raises(UnknownVersionError, match="version 2"):
                await worker.hello()

    run_async(main)


def test_a_dead_worker_is_restarted_with_what_is_unanswered(
    run_async: RunAsync, tmp_path: Path
) -> None:
    marker = str(tmp_path / "marker")
    choice = f"second = os.path.exists({marker!r}); open({marker!r}, 'w').close()\n"
    command = fake(f"{choice}exec({ANSWERING!r} if second else {DYING!r})")

    async def main() -> None:
        async with AsyncWorker("app", command=command) as worker:
            answers = [worker.submit(f"o{number}") for number in range(8)]
            for answer in answers:
                await answer.wait()
            again = await worker.restart()
            assert [await answer.read() for answer in again] == [b"o%d" % n for n in range(1, 8)]

    run_async(main)


def test_content_that_cannot_be_kept_fails_its_own_request(
    run_async: RunAsync, tmp_path: Path
) -> None:
    script = "hello(); line(); whole(1, b'x'); line(); begin(2); end(2); until_closed()"
    folder = str(tmp_path / "missing")

    async def main() -> None:
        async with AsyncWorker(
            "app", command=fake(script), memory_bytes=0, spool_folder=folder
        ) as worker:
            failed, good = worker.submit("latest"), worker.submit("latest")
            await failed.wait()
            assert failed.error is not None
            assert "could not be kept" in failed.error.message
            assert await good.read() == b""

    run_async(main)


HELD = """
import time
hello(); line(); line()
if not os.fork():
    # It holds stdin, stdout and stderr.
    time.sleep(60)
    os._exit(0)
whole(1, b"left in the pipe" * 10_000)
sys.stderr.write("its last words")
sys.stderr.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_dead_worker_whose_pipes_somebody_holds_is_noticed_and_what_it_left_is_read(
    run_async: RunAsync,
) -> None:
    async def main() -> None:
        async with AsyncWorker("app", command=fake(HELD)) as worker:
            answers = [worker.submit(each) for each in "abc"]
            with anyio.fail_after(30):
                assert await answers[0].read() == b"left in the pipe" * 10_000
                for answer in answers[1:]:
                    with pytest.raises(WorkerDiedError, match="SIGKILL") as caught:
                        await answer.read()
                    assert caught.value.stderr_lines == ("its last words",)

    run_async(main)


def test_nothing_is_open_once_the_block_is_left_though_lines_are_unwritten_and_a_child_lives_on(
    run_async: RunAsync,
) -> None:
    script = """
import time
hello(window=100_000)
if not os.fork():
    time.sleep(60)
    os._exit(0)
signal.pause()
"""

    async def main() -> None:
        files = open_files()
        async with AsyncWorker("app", command=fake(script)) as worker:
            await worker.hello()
            for _ in range(3_000):
                worker.submit("a" * 1_000)
            await anyio.wait_all_tasks_blocked()
        # What the event loop itself has open, it has by now.
        assert open_files() <= files

    async def twice() -> None:
        async with AsyncWorker("app", command=fake(SILENT)):
            pass
        await main()

    run_async(twice)


def test_a_command_that_is_not_there_fails_on_entering(run_async: RunAsync) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            async with AsyncWorker("app", command=["./not-there"]):
                pass

    run_async(main)


def test_a_worker_is_entered_once_and_before_its_use(run_async: RunAsync) -> None:
    async def main() -> None:
        worker = AsyncWorker("app", command=fake(SILENT))
        with pytest.raises(RuntimeError, match="enter the worker first"):
            worker.submit("latest")
        async with worker:
            with pytest.raises(RuntimeError, match="entered already"):
                await worker.__aenter__()

    run_async(main)
