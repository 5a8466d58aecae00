"""An answer for tasks, under trio and asyncio."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Self

import anyio

from multi_fetch.client.answer_facts import AnswerFacts
from multi_fetch.client.async_parking import read_piece

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from multi_fetch.client.async_run import AsyncRun
    from multi_fetch.client.exchange import Exchange
    from multi_fetch.oci.descriptor import Descriptor


class AsyncAnswer(AnswerFacts):
    """What comes back for one request.

    Its content can be taken once, by one reader: as a whole with ``read``, or in pieces with
    ``async for``. **While you iterate, the content is provisional**: that it was complete and
    unaltered is known only when the iteration comes to its end without an error.

    A task that is cancelled while it waits for an answer cancels the request, whoever else may
    wait for it. What was done when the worker was closed can be read afterwards. Content that
    nobody takes is kept until the answer is let go of.
    """

    def __init__(self, run: AsyncRun, exchange: Exchange) -> None:
        super().__init__(exchange)
        self._run = run

    async def descriptor(self) -> Descriptor:
        """What the object is: waits until it is resolved. The size may be None.

        Raises:
            MultiFetchError: the request has failed.
        """
        await self._wait(lambda: self._exchange.has_begun)
        return self._exchange.started().descriptor

    async def name(self) -> str:
        """The whole reference in its canonical form; waits and raises as ``descriptor`` does."""
        await self._wait(lambda: self._exchange.has_begun)
        return self._exchange.started().name

    async def path(self) -> Path | None:
        """The file in the store that has the content: waits until the worker has named it.

        That it has the content is the worker's word, who has verified it: whoever may write into
        the store can alter the file later. What ``read`` and iterating give of it is verified once
        more; whoever opens the path reads what is there by then. The file is the store's: it may
        be read, linked and copied.

        None where the content comes otherwise: without ``answers="paths"``, without content, and
        for a part or a listing.

        Raises:
            MultiFetchError: the request has failed.
        """
        await self.wait()
        return self._exchange.path()

    async def read(self) -> bytes:
        """The whole content, verified: waits until it has come.

        Raises:
            MultiFetchError: the request has failed.
            UnsupportedError: the content is that of a range, which cannot be verified.
            RuntimeError: content was taken before, or at the same time.
            DigestMismatchError, SizeMismatchError: the file that the worker named was altered.
            OSError: that file cannot be read, or was removed.
        """
        self._exchange.require_whole()
        content = b"".join([piece async for piece in self])
        self._exchange.require_verified(len(content))
        return content

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next piece of the content, as it comes: **provisional**.

        Raises:
            MultiFetchError: the request has failed, before the first piece or behind any, or the
                file was altered that the worker named; what was given before is worth nothing
                then.
            OSError: that file cannot be read, or was removed.
        """
        while True:
            await self._wait(lambda: self._exchange.has_piece)
            piece = self._exchange.take()
            if piece is None:
                raise StopAsyncIteration
            if content := await read_piece(piece):
                return content

    async def children(self) -> AsyncIterator[AsyncAnswer]:
        """The answers to what was found in this one's content, in the order of their beginning.

        Only a request with a hint ``children:`` has any. Each is an answer like this one, with
        children of its own. Asking again begins with the first.

        Raises:
            MultiFetchError: this request has failed, or the worker ended before all were there.
        """
        index = 0
        while True:
            await self._wait(partial(self._exchange.has_child, index))
            child = self._exchange.child(index)
            if child is None:
                return
            yield AsyncAnswer(self._run, child)
            index += 1

    async def wait(self) -> None:
        """Waits until the request has succeeded or failed, which ``error`` then says."""
        await self._wait(lambda: self._exchange.is_done)

    def when_done(self, tell: Callable[[], object]) -> None:
        """Calls ``tell`` once the request has succeeded or failed: now, or in a task of the worker.

        It must not block.
        """
        self._exchange.when_done(tell)

    def cancel(self) -> None:
        """Fails the request with RequestCancelledError, unless it is done; does not wait.

        To be called where the loop runs: in a signal by asyncio's ``add_signal_handler``, as a
        handler of ``signal``'s own does not wake that loop.
        """
        self._run.cancel(self._exchange)

    async def _wait(self, is_ready: Callable[[], bool]) -> None:
        try:
            await self._run.wait(is_ready, self._exchange.watch)
        except anyio.get_cancelled_exc_class():
            self.cancel()
            raise
