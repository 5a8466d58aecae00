"""One stream of frames, from hello to bye: what becomes of each of its objects. Does no I/O.

The stream is another program's output, so nothing in it is trusted: a frame out of place ends it
(protocol.md, "The life of one id"), and content is verified once more. Ids that are done are not
remembered, so that memory depends on what is open alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from multi_fetch.errors import (
    DigestMismatchError,
    MalformedFrameError,
    MultiFetchError,
    SizeMismatchError,
    UnsupportedError,
)
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import Digest
from multi_fetch.protocol.frames import (
    PROTOCOL_VERSION,
    Begin,
    Bye,
    Data,
    Detail,
    End,
    Error,
    Hello,
)
from multi_fetch.verify import Verifier

if TYPE_CHECKING:
    from collections.abc import Callable

    from multi_fetch.protocol.frames import Frame

# What --list says of an object that the stream did not get to the end of; no code of the wire.
CUT: Final = "cut"


class Line(msgspec.Struct, kw_only=True):
    """A line of --list: what became of one object. Scripts rely on the order of the first keys."""

    id: int
    digest: Digest | None = None
    error: str | None = None
    size: int = 0
    object: str | None = None
    name: str | None = None
    parent: int | None = None
    children: int = 0
    descriptor: Descriptor | None = None
    message: str | None = None
    retryable: bool | None = None
    detail: Detail | None = None


def line_of(begin: Begin, size: int) -> Line:
    """The line of an object that has begun."""
    return Line(
        id=begin.id,
        size=size,
        object=begin.object,
        name=begin.name,
        parent=begin.parent,
        descriptor=begin.descriptor,
    )


class Answer:
    """An object between its begin and its terminal frame.

    Attributes:
        begin: its frame.
        received: bytes of content so far.
        is_lost: whether it has failed here, though the worker goes on sending it.
    """

    def __init__(self, begin: Begin) -> None:
        self.begin = begin
        self.received = 0
        self.is_lost = False
        # A digest that nobody can compute matters only if the end claims that it was.
        self._verifier: Verifier | UnsupportedError
        try:
            self._verifier = Verifier(begin.descriptor.digest, None)
        except UnsupportedError as error:
            self._verifier = error

    def update(self, content: bytes) -> None:
        """Takes the next content."""
        self.received += len(content)
        if isinstance(self._verifier, Verifier):
            self._verifier.update(content)

    def finish(self, end: End) -> None:
        """Judges the whole.

        Raises:
            SizeMismatchError, DigestMismatchError: what came is not what was sent.
            UnsupportedError: its digest cannot be computed here.
        """
        if end.size != self.received:
            raise SizeMismatchError(want=end.size, got=self.received)
        if end.digest is None:
            return
        if end.digest != self.begin.descriptor.digest:
            raise DigestMismatchError(want=self.begin.descriptor.digest, got=end.digest)
        if isinstance(self._verifier, UnsupportedError):
            raise self._verifier
        self._verifier.finish()


class Sink(Protocol):
    """Where objects go. What it cannot do raises OSError, and costs that object alone."""

    def write(self, answer: Answer, content: bytes) -> None:
        """Takes content that is not yet verified."""

    def keep(self, answer: Answer, end: End) -> None:
        """The object is whole."""

    def drop(self, line: Line) -> None:
        """The object of this line has failed, begun or not."""


class Unpacker:
    """Holds a stream to the rules of a session, and passes its objects on.

    Args:
        sink: where to.
        complain: is told of each failure, for people.

    Attributes:
        failed: objects that failed.
        is_over: whether bye has come.
    """

    def __init__(self, sink: Sink, complain: Callable[[str], None]) -> None:
        self._sink = sink
        self._complain = complain
        self._open: dict[int, Answer] = {}
        self._is_greeted = False
        self.failed = 0
        self.is_over = False

    def take(self, frame: Frame) -> None:
        """Takes the next frame.

        Raises:
            MalformedFrameError: the stream breaks the protocol, and is of no more use.
        """
        if self.is_over or isinstance(frame, Hello) is self._is_greeted:
            kind = type(frame).__name__.lower()
            raise MalformedFrameError(f"a {kind} is out of place: hello is first, bye is last")
        match frame:
            case Hello():
                self._hello(frame)
            case Begin():
                self._begin(frame)
            case Data():
                self._data(frame)
            case End():
                self._end(frame)
            case Error():
                self._error(frame)
            case Bye():
                self._bye()

    def cut(self) -> None:
        """No more will come: fails what has no terminal frame."""
        for answer in self._open.values():
            if not answer.is_lost:
                self._lose(answer, CUT, "the stream ended before its end")
        self._open.clear()

    def _hello(self, frame: Hello) -> None:
        if frame.version != PROTOCOL_VERSION:
            raise MalformedFrameError(f"version {frame.version} is not known here")
        self._is_greeted = True

    def _begin(self, frame: Begin) -> None:
        if frame.id == 0 or frame.id in self._open:
            raise MalformedFrameError(f"{frame.id} begins, which cannot be")
        self._open[frame.id] = Answer(frame)

    def _bye(self) -> None:
        if self._open:
            raise MalformedFrameError(f"bye comes before the end of {min(self._open)}")
        self.is_over = True

    def _data(self, frame: Data) -> None:
        answer = self._begun(frame.id)
        if answer.is_lost:
            return
        if frame.offset != answer.received:
            raise MalformedFrameError(
                f"content of {frame.id} at {frame.offset} instead of {answer.received}"
            )
        answer.update(frame.content)
        try:
            self._sink.write(answer, frame.content)
        except OSError as error:
            self._lose(answer, "internal", reason(error))

    def _end(self, frame: End) -> None:
        answer = self._begun(frame.id)
        del self._open[frame.id]
        if answer.is_lost:
            return
        try:
            answer.finish(frame)
            self._sink.keep(answer, frame)
        except MultiFetchError as error:
            self._lose(answer, error.code, f"{error} (after the worker had verified it)")
        except OSError as error:
            self._lose(answer, "internal", reason(error))

    def _error(self, frame: Error) -> None:
        answer = self._open.pop(frame.id, None)
        if answer is None:
            line = Line(id=frame.id)
        elif answer.is_lost:
            return
        else:
            line = line_of(answer.begin, answer.received)
        line.error, line.message = frame.code, frame.message
        line.retryable, line.detail = frame.retryable, frame.detail
        self._drop(line)

    def _lose(self, answer: Answer, code: str, message: str) -> None:
        answer.is_lost = True
        line = line_of(answer.begin, answer.received)
        line.error, line.message = code, message
        self._drop(line)

    def _drop(self, line: Line) -> None:
        self.failed += 1
        what = "the worker" if line.id == 0 else f"{line.id}"
        if line.object is not None:
            what += f" ({line.object})"
        self._complain(f"{what}: {line.error}: {line.message}")
        try:
            self._sink.drop(line)
        except OSError as error:
            self._complain(f"{what}: {reason(error)}")

    def _begun(self, request_id: int) -> Answer:
        answer = self._open.get(request_id)
        if answer is None:
            raise MalformedFrameError(f"a frame for {request_id}, which has not begun")
        return answer


def reason(error: OSError) -> str:
    """What the system says, and about which file."""
    return ": ".join(str(part) for part in (error.filename, error.strerror) if part)
