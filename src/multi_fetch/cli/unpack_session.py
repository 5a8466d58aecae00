"""One stream of frames, from hello to bye: what becomes of each of its objects.

Does no I/O, but for reading the files that frames name. The stream is another program's output, so
nothing in it is trusted: a frame out of place ends it (protocol.md, "The life of one id"), and
content is verified once more. Memory is bounded by what may be open, and by a sum for what is kept
of it.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from msgspec.structs import replace

from multi_fetch.advice import about_file
from multi_fetch.errors import (
    DigestMismatchError,
    MalformedFrameError,
    MultiFetchError,
    SizeMismatchError,
    UnsupportedError,
)
from multi_fetch.limits import MAX_DATA_BYTES, MAX_KEPT_BEGIN_BYTES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import Digest
from multi_fetch.protocol.frames import (
    PROTOCOL_VERSION,
    Begin,
    Data,
    Detail,
    End,
    Error,
    File,
    Hello,
    decode,
    encode,
)
from multi_fetch.protocol.lives import Lives
from multi_fetch.verify import Verifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
        id: its id.
        digest: what it shall have.
        packed: its begin frame; as values, one of 64 KiB may take ten times as much.
        received: bytes of content so far.
        is_filed: whether they are those of a file that the worker named.
        is_lost: whether it has failed here, though the worker goes on sending it.
    """

    __slots__ = ("_verifier", "digest", "id", "is_filed", "is_lost", "packed", "received")

    def __init__(self, begin: Begin) -> None:
        self.id = begin.id
        self.digest = begin.descriptor.digest
        # A copy: behind what the encoder gives there is room for half as much again.
        self.packed = bytes(memoryview(encode(begin)))
        self.received = 0
        self.is_filed = False
        self.is_lost = False
        # A digest that nobody can compute matters only if the end claims that it was. Its error is
        # made anew then: its traceback would keep the begin frame as values.
        self._verifier: Verifier | None = None
        with suppress(UnsupportedError):
            self._verifier = Verifier(self.digest, None)

    @property
    def begin(self) -> Begin:
        """Its begin frame."""
        begin = decode(self.packed)
        assert isinstance(begin, Begin)
        return begin

    def update(self, content: bytes) -> None:
        """Takes the next content."""
        self.received += len(content)
        if self._verifier is not None:
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
        if end.digest != self.digest:
            raise DigestMismatchError(want=self.digest, got=end.digest)
        (self._verifier or Verifier(self.digest, None)).finish()


class Sink(Protocol):
    """Where objects go.

    What it cannot do raises OSError, and costs that object alone; a BrokenPipeError ends it all.
    """

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
    """

    def __init__(self, sink: Sink, complain: Callable[[str], None]) -> None:
        self._sink = sink
        self._complain = complain
        self._lives = Lives()
        self._open: dict[int, Answer] = {}
        self._kept_bytes = 0
        self.failed = 0

    @property
    def is_over(self) -> bool:
        """Whether bye has come, in its place."""
        return self._lives.is_over

    def take(self, frame: Frame) -> None:
        """Takes the next frame.

        Raises:
            MalformedFrameError: the stream breaks the protocol, and is of no more use.
        """
        if isinstance(frame, Hello) and frame.version != PROTOCOL_VERSION:
            raise MalformedFrameError(
                f"version {frame.version} is not known here: use one release of both"
            )
        self._lives.take(frame)
        match frame:
            case Begin():
                self._begin(frame)
            case Data():
                self._data(frame)
            case File():
                self._file(frame)
            case End():
                self._end(frame)
            case Error():
                self._error(frame)

    def cut(self) -> None:
        """No more will come: fails what has no terminal frame."""
        for answer in self._open.values():
            if not answer.is_lost:
                self._lose(answer, CUT, "the stream ended before its end")
        self._open.clear()
        for number, missing in self._lives.untold():
            self.failed += missing
            self._complain(f"{number}: {CUT}: {missing} of what its end announced never came")

    def _begin(self, frame: Begin) -> None:
        answer = Answer(frame)
        if self._kept_bytes + len(answer.packed) > MAX_KEPT_BEGIN_BYTES // 2:
            answer = Answer(replace(frame, descriptor=frame.descriptor.bare()))
        self._kept_bytes += len(answer.packed)
        if self._kept_bytes > MAX_KEPT_BEGIN_BYTES:
            raise MalformedFrameError(
                f"{frame.id} begins while what is open fills {MAX_KEPT_BEGIN_BYTES} bytes with"
                " names and types: more is not kept here"
            )
        self._open[frame.id] = answer

    def _data(self, frame: Data) -> None:
        answer = self._open[frame.id]
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
            self._lose(answer, "internal", f"{reason(error)}{about_file(error)}")

    def _file(self, frame: File) -> None:
        """Takes the content of a file of the worker's store, as if it had been sent."""
        answer = self._open[frame.id]
        answer.is_filed = True
        if answer.is_lost:
            return
        try:
            for content in content_of(frame.path, frame.size):
                answer.update(content)
                self._sink.write(answer, content)
        except OSError as error:
            self._lose(answer, "internal", f"{reason(error)}{about_file(error)}")

    def _end(self, frame: End) -> None:
        answer = self._close(frame.id)
        if answer is None or answer.is_lost:
            return
        if answer.is_filed and frame.digest is None:  # it might be any file of this machine
            raise MalformedFrameError(f"the end of {frame.id} has no digest, but it has a file")
        try:
            answer.finish(frame)
            self._sink.keep(answer, frame)
        except MultiFetchError as error:
            self._lose(answer, error.code, f"{error} (after the worker had verified it)")
        except BrokenPipeError:
            raise
        except OSError as error:
            self._lose(answer, "internal", f"{reason(error)}{about_file(error)}")

    def _error(self, frame: Error) -> None:
        answer = self._close(frame.id)
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
        except BrokenPipeError:
            raise
        except OSError as error:
            self._complain(f"{what}: {reason(error)}{about_file(error)}")

    def _close(self, request_id: int) -> Answer | None:
        answer = self._open.pop(request_id, None)
        if answer is not None:
            self._kept_bytes -= len(answer.packed)
        return answer


def content_of(path: str, size: int) -> Iterator[bytes]:
    """What a regular file has, in pieces, and at most so much of it.

    Raises:
        OSError: there is none of that name.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    fd = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "no regular file", path)
        left = size
        while left and (content := os.read(fd, min(left, MAX_DATA_BYTES))):
            left -= len(content)
            yield content
    finally:
        os.close(fd)


def reason(error: OSError) -> str:
    """What the system says, and about which file: of two, the one that was to be."""
    name = error.filename2 or error.filename
    return ": ".join(str(part) for part in (name, error.strerror) if part)
