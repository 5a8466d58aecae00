"""The client's side of the protocol: bytes in, lines out; no I/O, no waiting.

``submit`` and ``cancel`` say what is wanted. ``take_lines`` gives what may be written now: never
more requests are open than hello's window, and none before hello, so a write always comes to an
end. ``receive`` takes what the worker wrote, and gives the content that someone has to keep.
``finish`` fails all that is open, and remembers what has to be asked again.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from multi_fetch.client.exchange import Exchange
from multi_fetch.client.failure import error_of
from multi_fetch.client.line import listing_line, request_line
from multi_fetch.errors import (
    InternalError,
    MalformedFrameError,
    RequestCancelledError,
    UnknownVersionError,
)
from multi_fetch.limits import MAX_FRAME_BYTES, MAX_FRAME_OVERHEAD_BYTES, MAX_LINE_BYTES
from multi_fetch.protocol.frames import (
    PROTOCOL_VERSION,
    Begin,
    Bye,
    Data,
    End,
    Error,
    File,
    Frame,
    Hello,
)
from multi_fetch.protocol.framing import FrameDecoder
from multi_fetch.protocol.lives import Lives

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from multi_fetch.client.parking import Content
    from multi_fetch.errors import MultiFetchError

# protocol.md, "Features": the worker knows !cancel.
CANCEL_FEATURE: Final = "cancel"


class Session:
    """One run of a worker, from its hello to its end.

    Args:
        new_content: makes the place for the content of one answer.

    Attributes:
        hello: once it has come.
        bye: once it has come.
        worker_error: what the worker said of itself, with id 0.
    """

    def __init__(self, new_content: Callable[[], Content]) -> None:
        self.hello: Hello | None = None
        self.bye: Bye | None = None
        self.worker_error: Error | None = None
        self._new_content = new_content
        self._decoder = FrameDecoder(max_other_bytes=MAX_FRAME_OVERHEAD_BYTES)
        self._lives = Lives()
        self._last_id = 0
        self._queued: deque[Exchange] = deque()
        self._cancelled_ids: deque[int] = deque()
        # Without a terminal frame: what lines asked for, and what the worker found in it.
        self._asked: dict[int, Exchange] = {}
        self._found: dict[int, Exchange] = {}
        # Ended, and children are still to begin.
        self._parents: dict[int, Exchange] = {}
        # For each child that stands in one of the above, the request that it goes back to.
        self._roots: dict[int, Exchange] = {}
        self._lost: list[Exchange] = []
        self._end_error: Callable[[], MultiFetchError] | None = None
        self._wakers: list[Callable[[], object]] = []

    @property
    def is_finished(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._end_error is not None

    @property
    def is_started(self) -> bool:
        """Whether ``started`` has something to say."""
        return self.hello is not None or self.is_finished

    @property
    def is_owed(self) -> bool:
        """Whether the worker has anything to say: its hello, or the rest of an answer."""
        return self.hello is None or bool(self._asked or self._found or self._parents)

    # --- what the caller wants ----------------------------------------------------------------

    def submit(self, asked: str, hints: Sequence[str] = ()) -> Exchange:
        """Queues a request.

        Raises:
            InvalidRequestError: object and hints do not make a line.
            MultiFetchError: the run is finished; the error says why.
        """
        return self._queue(asked, tuple(hints), request_line(asked, hints))

    def submit_listing(self, words: Sequence[str]) -> Exchange:
        """Queues a listing; raises as ``submit`` does."""
        return self._queue(words[0], tuple(words[1:]), listing_line(words))

    def _queue(self, asked: str, hints: tuple[str, ...], line: bytes) -> Exchange:
        if self._end_error is not None:
            raise self._end_error()
        exchange = Exchange(asked, hints, line, self._new_content())
        self._queued.append(exchange)
        return exchange

    def cancel(self, exchange: Exchange) -> None:
        """Fails a request, and all that was or will be found in it, unless they are done.

        Here that is so at once; the worker is told as soon as it hears.
        """
        self._abandon(
            exchange,
            lambda: RequestCancelledError(f"{exchange.object}: cancelled by the caller"),
        )

    def _abandon(self, exchange: Exchange, make_error: Callable[[], MultiFetchError]) -> None:
        is_open = False
        for each in exchange.walk():
            if each.misses_children and each.children_failure is None:
                each.children_failure = make_error()
                is_open = True
            is_open = is_open or not each.is_done
            each.fail(make_error())
        if is_open and exchange.id:
            self._cancelled_ids.append(exchange.id)

    def lose_content(self, exchange: Exchange, error: OSError) -> None:
        """Fails a request whose content could not be kept here; the disk may be full."""

        def make_error() -> InternalError:
            lost = InternalError(f"{exchange.object}: its content could not be kept: {error}")
            # Its traceback would hold the file open for as long as somebody has the error.
            lost.__cause__ = error.with_traceback(None)
            return lost

        self._abandon(exchange, make_error)

    def watch(self, wake: Callable[[], object]) -> None:
        """Calls ``wake`` once hello has come or the run is finished."""
        self._wakers.append(wake)

    def started(self) -> Hello:
        """The worker's hello. ``is_started`` must be true.

        Raises:
            MultiFetchError: the run was finished before.
        """
        if self.hello is not None:
            return self.hello
        assert self._end_error is not None
        raise self._end_error()

    # --- to the worker ------------------------------------------------------------------------

    def take_lines(self) -> bytes:
        """Lines to be written now, some 64 KiB at a time; empty if there is nothing to write."""
        lines: list[bytes] = []
        size = 0
        while size < MAX_LINE_BYTES and (line := self._next_line()):
            lines.append(line)
            size += len(line)
        return b"".join(lines)

    def _next_line(self) -> bytes:
        if self.hello is None or self.is_finished:
            return b""
        if self._cancelled_ids:
            if CANCEL_FEATURE in self.hello.features:
                # A line like any other: it takes a number.
                self._last_id += 1
                return b"!cancel %d\n" % self._cancelled_ids.popleft()
            self._cancelled_ids.clear()
        while self._queued and self._queued[0].is_done:
            self._queued.popleft()
        if not self._queued or len(self._asked) >= max(self.hello.window, 1):
            return b""
        exchange = self._queued.popleft()
        self._last_id += 1
        exchange.id = self._last_id
        self._asked[exchange.id] = exchange
        return exchange.line

    # --- from the worker ----------------------------------------------------------------------

    def receive(self, data: bytes) -> Iterator[tuple[Exchange, bytes]]:
        """Takes bytes from the worker, cut anywhere.

        Yields:
            Each piece of content, with the request whose ``content`` it has to be added to before
            the next is asked for.

        Raises:
            MalformedFrameError: the worker broke the protocol.
            UnknownVersionError: it speaks another version.
        """
        self._decoder.feed(data)
        while isinstance(frame := self._decoder.next_frame(), Frame):
            if isinstance(frame, Hello) and frame.version != PROTOCOL_VERSION:
                raise UnknownVersionError(frame.version, known=PROTOCOL_VERSION)
            self._lives.take(frame)
            if isinstance(frame, Hello):
                self._take_hello(frame)
            elif isinstance(frame, Bye):
                self.bye = frame
            elif (exchange := self._find(frame)) is not None:
                yield from self._advance(exchange, frame)

    def receive_eof(self) -> None:
        """Takes the end of the worker's stdout.

        Raises:
            CutStreamError: it came within a frame.
        """
        self._decoder.feed_eof()
        self._decoder.next_frame()

    def _take_hello(self, hello: Hello) -> None:
        self.hello = hello
        self._decoder.max_frame_bytes = min(hello.max_frame, MAX_FRAME_BYTES)
        self._wake()

    def _find(self, frame: Begin | Data | File | End | Error) -> Exchange | None:
        # None for what is below a request that failed here: it is not heeded.
        if frame.id == 0:
            if isinstance(frame, Error):
                self.worker_error = frame
            return None
        if frame.id > 0:
            if frame.id not in self._asked:
                raise MalformedFrameError(f"an answer for {frame.id}, which nobody asked for")
            return self._asked[frame.id]
        found = self._found.get(frame.id)
        return found if found is not None else self._adopt(frame)

    def _adopt(self, frame: Begin | Data | File | End | Error) -> Exchange | None:
        # A child is known by its begin; one that fails before has its parent in the detail.
        if isinstance(frame, Begin):
            # One text for both, where they are the same.
            digest = frame.descriptor.digest
            parent_id, name = frame.parent, digest if frame.object == digest else frame.object
        elif isinstance(frame, Error):
            told = frame.detail.get("parent")
            parent_id = told if isinstance(told, int) else None
            name = said if isinstance(said := frame.detail.get("object"), str) else ""
        else:
            return None
        parent = self._open_or_parent(parent_id) if parent_id is not None else None
        if parent_id is None or parent is None or frame.id in self._roots:
            return None
        root = self._roots.get(parent_id, parent)
        root.count_below(frame)
        child = Exchange(name, (), b"", self._new_content())
        child.id, child.parent_id = frame.id, parent_id
        self._found[child.id] = child
        self._roots[child.id] = root
        parent.add_child(child)
        if failure := parent.failure or parent.children_failure:
            child.fail(failure)
        if parent.id in self._parents and not parent.misses_children:
            del self._parents[parent.id]
            self._roots.pop(parent.id, None)
        parent.changed()
        return child

    def _open_or_parent(self, request_id: int) -> Exchange | None:
        among = self._asked if request_id > 0 else self._found
        return among.get(request_id) or self._parents.get(request_id)

    def _advance(
        self, exchange: Exchange, frame: Begin | Data | File | End | Error
    ) -> Iterator[tuple[Exchange, bytes]]:
        if isinstance(frame, End | Error):
            self._close(exchange, frame)
        elif exchange.failure is not None:
            return
        elif isinstance(frame, Begin):
            exchange.take_begin(frame)
            exchange.changed()
        elif isinstance(frame, File):
            exchange.take_file(frame)
            exchange.changed()
        else:
            exchange.take_data(frame)
            yield exchange, frame.content
            exchange.changed()

    def _close(self, exchange: Exchange, frame: End | Error) -> None:
        if isinstance(frame, End):
            exchange.require_asked(frame)
            if exchange.failure is None:
                exchange.take_end(frame)
        (self._asked if frame.id > 0 else self._found).pop(frame.id)
        if isinstance(frame, Error):
            if root := self._roots.get(frame.id):
                root.count_words(frame)
            exchange.fail(error_of(frame))
        if exchange.misses_children:
            self._parents[exchange.id] = exchange
        else:
            self._roots.pop(exchange.id, None)
        exchange.changed()

    # --- the end ------------------------------------------------------------------------------

    def finish(self, make_error: Callable[[], MultiFetchError]) -> None:
        """Fails everything that is open or queued, each with an error of its own; once."""
        if self._end_error is not None:
            return
        self._end_error = make_error
        for exchange in (*self._asked.values(), *self._found.values(), *self._queued):
            if not exchange.is_done:
                self._lost.append(self._roots.get(exchange.id, exchange))
                exchange.fail(make_error())
        for exchange in self._parents.values():
            if exchange.children_failure is None:
                self._lost.append(self._roots.get(exchange.id, exchange))
                exchange.children_failure = make_error()
                exchange.changed()
        for each in (self._asked, self._found, self._parents, self._roots):
            each.clear()
        self._queued.clear()
        self._wake()

    def take_lost(self) -> list[Exchange]:
        """The requests that ``finish`` left without their whole answer, in the order of asking.

        A request counts that has ended itself, while some object below it has not; a listing does
        not. They are given once.
        """
        lost = {id(each): each for each in self._lost if not each.object.startswith("!")}
        self._lost = []
        # Those that were never written have no number yet: they come last, in their own order.
        return sorted(lost.values(), key=lambda each: each.id or self._last_id + 1)

    def _wake(self) -> None:
        wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()
