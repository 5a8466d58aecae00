"""The worker for threads."""

from __future__ import annotations

from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Self, TypeVar

from multi_fetch.client.answer import Answer
from multi_fetch.client.launch import plan_launch
from multi_fetch.client.line import referrers_words, tags_words
from multi_fetch.client.lists import Lines, referrer_of, tag_of
from multi_fetch.client.pump import Pump

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Unpack

    from multi_fetch.client.launch import Options
    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.protocol.frames import Hello


T = TypeVar("T")


class Worker:
    """A worker process, for the time of a ``with`` block. Its methods may be called in any thread.

    ``submit`` never waits: what the worker's window has no room for is queued here. What it says
    is taken in at all times, and what nobody reads is kept aside, so no order of submitting and
    reading can bring the two to a halt. Leaving the block cancels what is open, and returns when
    the process has ended.

    Args:
        remote: the repository: ``docker.io/library/redis``.
        options: see ``Options``: ``jobs=8, ordered=True, env={...}``.

    Raises:
        TypeError: an option is not known.
        OSError: on entering, the process cannot be started.
    """

    def __init__(self, remote: str, **options: Unpack[Options]) -> None:
        self._launch = plan_launch(remote, options)
        self._current: Pump | None = None

    def __enter__(self) -> Self:
        if self._current is not None:
            raise RuntimeError("this worker was entered already")
        self._current = Pump(self._launch)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._current is not None:
            self._current.close()

    @property
    def _pump(self) -> Pump:
        if self._current is None:
            raise RuntimeError("enter the worker first: with Worker(...) as worker")
        self._current.require_own()
        return self._current

    def hello(self) -> Hello:
        """What the worker said of itself: its version, window and features. Waits for it.

        Raises:
            WorkerDiedError: it ended before.
            UnknownVersionError: it speaks another version of the protocol.
        """
        pump = self._pump
        pump.wait(lambda: pump.session.is_started, pump.session.watch)
        return pump.session.started()

    def submit(self, asked: str, *hints: str) -> Answer:
        """Asks for an object, and returns at once.

        Args:
            asked: a tag, a digest, ``@<digest>`` or ``<tag>@<digest>``.
            hints: each as the protocol writes it: ``"mediatype:...", "size:1234"``.

        Raises:
            InvalidRequestError: the arguments do not make a line. What they mean is judged by the
                worker; the answer then has the error.
            MultiFetchError: the worker has ended, and the error says why. See ``restart``.
        """
        pump = self._pump
        with pump.lock:
            exchange = pump.session.submit(asked, hints)
            pump.wake()
        return Answer(pump, exchange)

    def tags(self, repository: str = "") -> Iterator[str]:
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

    def referrers(self, digest: str, artifact_type: str = "") -> Iterator[Descriptor]:
        """Asks for what refers to a manifest, and gives it as ``tags`` gives tags.

        Args:
            digest: of the manifest; behind its repository, ``<repository>@<digest>``, where the
                worker's remote is ``-``.
            artifact_type: that they are to have; empty for all.

        Raises:
            MultiFetchError: as for ``tags``.
        """
        return _each(referrer_of, self._submit_listing(referrers_words(digest, artifact_type)))

    def _submit_listing(self, words: Sequence[str]) -> Answer:
        pump = self._pump
        with pump.lock:
            exchange = pump.session.submit_listing(words)
            pump.wake()
        return Answer(pump, exchange)

    def as_completed(self, answers: Iterable[Answer]) -> Iterator[Answer]:
        """Gives each answer once it has succeeded or failed, in the order in which they do.

        Answers that are done already come first. The iteration raises nothing of its own.
        """
        completed: SimpleQueue[Answer] = SimpleQueue()
        waiting = list(answers)
        for answer in waiting:
            answer.when_done(partial(completed.put, answer))
        for _ in waiting:
            yield completed.get()

    def restart(self) -> list[Answer]:
        """Starts a new process in place of one that has ended, and asks again what is unanswered.

        The old answers keep their errors. A request is asked again if it had no answer, or if an
        object that was found in it had none. A worker that still runs is ended first.

        Returns:
            The new answers, in the order in which they were asked for at first.

        Raises:
            OSError: the process cannot be started.
        """
        old = self._pump
        old.close()
        self._current = Pump(self._launch)
        with old.lock:
            lost = old.session.take_lost()
        return [self.submit(each.object, *each.hints) for each in lost]


def _each(read: Callable[[bytes], T], answer: Answer) -> Iterator[T]:
    """What the lines of a listing mean."""
    lines = Lines()
    try:
        for piece in answer:
            yield from map(read, lines.feed(piece))
        lines.feed_eof()
    finally:
        answer.cancel()  # which has no effect where it is done
