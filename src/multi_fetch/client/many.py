"""Many objects of one remote, in one call."""

from __future__ import annotations

from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

from multi_fetch.client.worker import Worker
from multi_fetch.limits import FETCH_MANY_AHEAD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Unpack

    from multi_fetch.client.answer import Answer
    from multi_fetch.client.launch import Options


def fetch_many(
    remote: str, requests: Iterable[str | Sequence[str]], **options: Unpack[Options]
) -> Iterator[Answer]:
    """Fetches objects with a worker of its own; gives each answer once it has succeeded or failed.

    They come in the order in which they are done. An answer's ``read`` gives the content or raises
    the error of its request, and ``error`` says beforehand which it will be; iterating over it
    gives a large content in pieces, all of it verified, since the answer is done.

    Requests are taken as answers are: there are never more than ``FETCH_MANY_AHEAD`` asked for
    that the caller has not got, so ``requests`` may be endless, and what waits here is bounded.
    The worker ends with the iteration, or when the iterator is closed.

    Args:
        remote: the repository: ``docker.io/library/redis``.
        requests: each an object, or an object and its hints: ``("latest", "content:none")``.
        options: see ``Options``.

    Raises:
        InvalidRequestError: a request does not make a line.
        WorkerDiedError: the worker has ended while there were requests to be asked for. Those that
            were asked for have this error in their answers.
        OSError: the worker cannot be started.
        TypeError: ``requests`` is one text, whose letters would be asked for.
    """
    if isinstance(requests, str):
        raise TypeError(f"requests are a list: write [{requests!r}]")
    with Worker(remote, **options) as worker:
        yield from _answers(worker, requests)


def _answers(worker: Worker, requests: Iterable[str | Sequence[str]]) -> Iterator[Answer]:
    completed: SimpleQueue[Answer] = SimpleQueue()
    waiting = 0
    for request in requests:
        asked, *hints = (request,) if isinstance(request, str) else request
        answer = worker.submit(asked, *hints)
        answer.when_done(partial(completed.put, answer))
        waiting += 1
        if waiting == FETCH_MANY_AHEAD:
            yield completed.get()
            waiting -= 1
    while waiting:
        yield completed.get()
        waiting -= 1
