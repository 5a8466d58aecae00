"""An answer for threads: whoever asks it for something waits until that is there."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from multi_fetch.client.answer_facts import AnswerFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from multi_fetch.client.exchange import Exchange
    from multi_fetch.client.pump import Pump
    from multi_fetch.oci.descriptor import Descriptor


class Answer(AnswerFacts):
    """What comes back for one request.

    Its content can be taken once, by one reader: as a whole with ``read``, or in pieces by
    iterating. **While you iterate, the content is provisional**: that it was complete and unaltered
    is known only when the iteration comes to its end without an error.

    It may be read in another thread than the one that asked, and after the worker was closed, if
    it was done by then. Content that nobody takes is kept until the answer is let go of.
    """

    def __init__(self, pump: Pump, exchange: Exchange) -> None:
        super().__init__(exchange)
        self._pump = pump

    @property
    def descriptor(self) -> Descriptor:
        """What the object is: waits until it is resolved. The size may be None.

        Raises:
            MultiFetchError: the request has failed.
        """
        self._wait(lambda: self._exchange.has_begun)
        return self._exchange.started().descriptor

    @property
    def name(self) -> str:
        """The whole reference in its canonical form; waits and raises as ``descriptor`` does."""
        self._wait(lambda: self._exchange.has_begun)
        return self._exchange.started().name

    @property
    def path(self) -> Path | None:
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
        self.wait()
        return self._exchange.path()

    def read(self) -> bytes:
        """The whole content, verified: waits until it has come.

        Raises:
            MultiFetchError: the request has failed.
            UnsupportedError: the content is that of a range, which cannot be verified.
            RuntimeError: content was taken before, or at the same time.
            DigestMismatchError, SizeMismatchError: the file that the worker named was altered.
            OSError: that file cannot be read, or was removed.
        """
        self._exchange.require_whole()
        content = b"".join(self)
        self._exchange.require_verified(len(content))
        return content

    def __iter__(self) -> Iterator[bytes]:
        """The pieces of the content that were not taken yet, as they come: **provisional**.

        Raises:
            MultiFetchError: the request has failed, before the first piece or behind any, or the
                file was altered that the worker named; what was given before is worth nothing
                then.
            OSError: that file cannot be read, or was removed.
        """
        while True:
            self._wait(lambda: self._exchange.has_piece)
            with self._pump.lock:
                piece = self._exchange.take()
            if piece is None:
                return
            if content := piece if isinstance(piece, bytes) else piece.read():
                yield content

    def children(self) -> Iterator[Answer]:
        """The answers to what was found in this one's content, in the order of their beginning.

        Only a request with a hint ``children:`` has any. Each is an answer like this one, with
        children of its own. Asking again begins with the first.

        Raises:
            MultiFetchError: this request has failed, or the worker ended before all were there.
        """
        index = 0
        while True:
            self._wait(partial(self._exchange.has_child, index))
            with self._pump.lock:
                child = self._exchange.child(index)
            if child is None:
                return
            yield Answer(self._pump, child)
            index += 1

    def wait(self) -> None:
        """Waits until the request has succeeded or failed, which ``error`` then says."""
        self._wait(lambda: self._exchange.is_done)

    def when_done(self, tell: Callable[[], object]) -> None:
        """Calls ``tell`` once the request has succeeded or failed: now, or in another thread.

        It must not block nor use this client.
        """
        with self._pump.lock:
            self._exchange.when_done(tell)

    def cancel(self) -> None:
        """Fails the request with RequestCancelledError, unless it is done; does not wait."""
        self._pump.cancel(self._exchange)

    def _wait(self, is_ready: Callable[[], bool]) -> None:
        self._pump.wait(is_ready, self._exchange.watch)
