"""The worker for tasks, under trio and asyncio; needs anyio."""

from __future__ import annotations

from collections import deque
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

import anyio

from multi_fetch.client.async_answer import AsyncAnswer
from multi_fetch.client.async_process import start_process
from multi_fetch.client.async_run import AsyncRun
from multi_fetch.client.launch import plan_launch
from multi_fetch.client.line import referrers_words, tags_words
from multi_fetch.client.lists import Lines, referrer_of, tag_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Unpack

    from multi_fetch.client.launch import Options
    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.protocol.frames import Hello


T = TypeVar("T")


class AsyncWorker:
    """A worker process, for the time of an ``async with`` block, which one task enters and leaves.

    ``submit`` never waits: what the worker's window has no room for is queued here. What it says
    is taken in at all times, and what nobody reads is kept aside, so no order of submitting and
    reading can bring the two to a halt. Leaving the block, also by cancellation, cancels what is
    open, and returns when the process has ended.

    Whoever closes asyncio's loop within the block, with no ``cancel`` for the task before as
    ``asyncio.run`` has it, leaves the process running until this one ends: nothing can be awaited
    any more, and asyncio itself keeps the loop, and with it the pipes, for as long as the process
    runs.

    Args:
        remote: the repository: ``docker.io/library/redis``.
        options: see ``Options``: ``jobs=8, ordered=True, env={...}``.

    Raises:
        TypeError: an option is not known.
        OSError: on entering, the process cannot be started.
    """

    def __init__(self, remote: str, **options: Unpack[Options]) -> None:
        self._launch = plan_launch(remote, options)
        self._current: AsyncRun | None = None
        self._stack = AsyncExitStack()
        self._scope = anyio.CancelScope()
        self._tasks = anyio.create_task_group()

    async def __aenter__(self) -> Self:
        if self._current is not None:
            raise RuntimeError("this worker was entered already")
        self._current = AsyncRun(self._launch, await start_process(self._launch))
        self._stack.enter_context(self._scope)
        await self._stack.enter_async_context(self._tasks)
        self._tasks.start_soon(self._current.run)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # What the block raised goes on as it is: the tasks here have no part in it.
        self._scope.shield = True
        await self._run.close()
        await self._stack.aclose()

    @property
    def _run(self) -> AsyncRun:
        if self._current is None:
            raise RuntimeError("enter the worker first: async with AsyncWorker(...) as worker")
        return self._current

    async def hello(self) -> Hello:
        """What the worker said of itself: its version, window and features. Waits for it.

        Raises:
            WorkerDiedError: it ended before.
            UnknownVersionError: it speaks another version of the protocol.
        """
        session = self._run.session
        await self._run.wait(lambda: session.is_started, session.watch)
        return session.started()

    def submit(self, asked: str, *hints: str) -> AsyncAnswer:
        """Asks for an object, and returns at once.

        Args:
            asked: a tag, a digest, ``@<digest>`` or ``<tag>@<digest>``.
            hints: each as the protocol writes it: ``"mediatype:...", "size:1234"``.

        Raises:
            InvalidRequestError: the arguments do not make a line. What they mean is judged by the
                worker; the answer then has the error.
            MultiFetchError: the worker has ended, and the error says why. See ``restart``.
        """
        return AsyncAnswer(self._run, self._run.submit(asked, hints))

    def tags(self, repository: str = "") -> AsyncIterator[str]:
        """Asks for the repository's tags, and gives them as they come, to the registry's last page.

        They are the registry's claim. **What was given counts only when the iteration ends without
        an error**; leaving it early cancels the rest.

        Args:
            repository: where the worker's remote is ``-``; else empty.

        Raises:
            InvalidRequestError: the arguments do not make a line, or the worker knows no listings.
            MultiFetchError: the worker has ended; or, while iterating, the listing has failed.
        """
        return _each(tag_of, self._submit_listing(tags_words(repository)))

    def referrers(self, digest: str, artifact_type: str = "") -> AsyncIterator[Descriptor]:
        """Asks for what refers to a manifest, and gives it as ``tags`` gives tags.

        Args:
            digest: of the manifest; behind its repository, ``<repository>@<digest>``, where the
                worker's remote is ``-``.
            artifact_type: that they are to have; empty for all.

        Raises:
            MultiFetchError: as for ``tags``.
        """
        return _each(referrer_of, self._submit_listing(referrers_words(digest, artifact_type)))

    def _submit_listing(self, words: Sequence[str]) -> AsyncAnswer:
        return AsyncAnswer(self._run, self._run.submit_listing(words))

    async def as_completed(self, answers: Iterable[AsyncAnswer]) -> AsyncIterator[AsyncAnswer]:
        """Gives each answer once it has succeeded or failed, in the order in which they do.

        Answers that are done already come first. The iteration raises nothing of its own, and a
        task that is cancelled in it cancels no request.
        """
        completed = _Completed()
        waiting = list(answers)
        for answer in waiting:
            answer.when_done(partial(completed.add, answer))
        for _ in waiting:
            yield await completed.next()

    async def restart(self) -> list[AsyncAnswer]:
        """Starts a new process in place of one that has ended, and asks again what is unanswered.

        The old answers keep their errors. A request is asked again if it had no answer, or if an
        object that was found in it had none. A worker that still runs is ended first.

        Returns:
            The new answers, in the order in which they were asked for at first.

        Raises:
            OSError: the process cannot be started.
        """
        old = self._run
        await old.close()
        self._current = AsyncRun(self._launch, await start_process(self._launch))
        self._tasks.start_soon(self._current.run)
        return [self.submit(each.object, *each.hints) for each in old.session.take_lost()]


async def _each(read: Callable[[bytes], T], answer: AsyncAnswer) -> AsyncIterator[T]:
    """What the lines of a listing mean."""
    lines = Lines()
    try:
        async for piece in answer:
            for line in lines.feed(piece):
                yield read(line)
        lines.feed_eof()
    finally:
        answer.cancel()  # which has no effect where it is done


class _Completed:
    """A queue of answers; as many are put in as were waited for."""

    def __init__(self) -> None:
        self._answers: deque[AsyncAnswer] = deque()
        self._arrived = anyio.Event()

    def add(self, answer: AsyncAnswer) -> None:
        self._answers.append(answer)
        self._arrived.set()

    async def next(self) -> AsyncAnswer:
        while not self._answers:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        return self._answers.popleft()
