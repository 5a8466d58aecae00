"""A line of JSON for each request in place of its frames, for who has the content in a folder.

A request's line comes when all is there that was found below it, behind the lines of that. What
is then to be entered in an index has its line held back until that is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from multi_fetch.errors import InternalError
from multi_fetch.oci.descriptor import Descriptor, Platform, encode_hook
from multi_fetch.oci.digest import Digest
from multi_fetch.oci.layout import blob_name
from multi_fetch.oci.manifest import is_manifest
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.frames import Begin, End, Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from multi_fetch.oci.digest import Chunk
    from multi_fetch.protocol.frames import Frame
    from multi_fetch.worker.job import Job

# Of an ``error`` frame's detail: what a line has elsewhere, or not at all.
LEFT_OUT: Final = frozenset({"object", "parent", "bytes_sent"})

Facts: TypeAlias = dict[str, object]


class Line(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """What a line says.

    Attributes:
        id: of the request; below 0 for what was found below one.
        object: as the line of stdin has it; empty where that could not be read.
        name: the reference in its canonical form.
        media_type: this and the next three are the descriptor's.
        children: how many objects were found in the content.
        parent: the id in whose content it was found.
        path: of the file that has the content, in the folder; empty where none was asked for.
        error: why there is none of that.
    """

    id: int
    object: str = ""
    name: str = ""
    media_type: str = ""
    digest: Digest | None = None
    size: int | None = None
    platform: Platform | None = None
    children: int = 0
    parent: int | None = None
    path: str = ""
    error: Facts = {}


class Root(msgspec.Struct, kw_only=True):
    """A request whose line waits.

    Attributes:
        ref: what was asked for.
        descriptor: what it turned out to be.
        line: what will be said of it.
        is_kept: whether its content was wanted, and is in a file.
        outstanding: objects, it among them, that are not done.
        below: objects that were found below it.
        failures: those of them that failed.
        first_failure: why.
    """

    ref: Reference
    descriptor: Descriptor
    line: Line
    is_kept: bool
    outstanding: int = 1
    below: int = 0
    failures: int = 0
    first_failure: Error | None = None

    def failed(self) -> Line:
        """The line of one below which something is missing."""
        first = self.first_failure
        assert first is not None
        message = (
            f"{self.failures} of {self.below} objects below it failed, so it was not entered in the"
            f" index; the first: {first.message}"
        )
        return error_line(self.line, Error(0, first.code, message, first.retryable, {}))


_encoder = msgspec.json.Encoder(enc_hook=encode_hook)


class LinesWire:
    """Lines for frames; see ``protocol.wire.Wire``.

    Args:
        locator: the run's repository.
        open_job: the job of an id; None for the worker itself.
        enter: takes what is to be entered in an index, and has its line written after that.
    """

    def __init__(
        self,
        locator: str,
        open_job: Callable[[int], Job | None],
        enter: Callable[[Root], None],
    ) -> None:
        self._locator = locator
        self._open_job = open_job
        self._enter = enter
        # A begin is followed by its end, with no other frame between but its file's.
        self._begin: Begin | None = None
        self._roots: dict[int, Root] = {}

    def frame(self, value: Frame) -> bytes:
        """The lines that can be written now; often none."""
        match value:
            case Begin():
                self._begin = value
            case End():
                return self._end(value)
            case Error():
                return self._error(value)
        return b""

    def data(self, request_id: int, offset: int, content: Chunk) -> tuple[Chunk, ...]:
        """Raises.

        Raises:
            InternalError: always: there is no place for content in a line.
        """
        raise InternalError(f"{len(content)} bytes of {request_id} have no place in a line")

    def _end(self, end: End) -> bytes:
        begin, job = self._begin, self._open_job(end.id)
        assert begin is not None
        assert begin.id == end.id, "another frame came between"
        assert job is not None
        line = _line_of(begin, end)
        root = self._roots.get(root_id(job))
        if root is None:
            assert job.request is not None
            root = Root(
                ref=job.request.reference(self._locator),
                descriptor=begin.descriptor,
                line=line,
                is_kept=end.digest is not None,
            )
            self._roots[job.id] = root
        root.outstanding += end.children - 1
        root.below += end.children
        written = b"" if job.parent is None else line_bytes(line)
        return written + self._closed(job, root)

    def _error(self, error: Error) -> bytes:
        job = self._open_job(error.id)
        if job is None:
            return line_bytes(error_line(Line(id=error.id), error))
        name = "" if job.request is None else job.request.object
        parent = None if job.parent is None else job.parent.id
        written = line_bytes(error_line(Line(id=error.id, object=name, parent=parent), error))
        root = None if job.parent is None else self._roots[root_id(job)]
        if root is None:
            return written
        root.outstanding -= 1
        # image-layout.md lets what can be had from elsewhere be missing.
        if not (job.urls and error.code == "not-found"):
            root.failures += 1
            root.first_failure = root.first_failure or error
        return written + self._closed(job, root)

    def _closed(self, job: Job, root: Root) -> bytes:
        """What there is to say of a root, now that one more object is done."""
        if root.outstanding:
            return b""
        del self._roots[root_id(job)]
        if root.failures:
            return line_bytes(root.failed())
        if root.is_kept and is_manifest(root.descriptor.media_type):
            self._enter(root)
            return b""
        return line_bytes(root.line)


def root_id(job: Job) -> int:
    """Of the request below which a job was found, or which it is."""
    while job.parent is not None:
        job = job.parent
    return job.id


def line_bytes(line: Line) -> bytes:
    """As it is written."""
    return _encoder.encode(line) + b"\n"


def error_line(line: Line, error: Error) -> Line:
    """What is said of one that failed."""
    facts = {key: value for key, value in error.detail.items() if key not in LEFT_OUT}
    said: Facts = {
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
        **facts,
    }
    return Line(id=line.id, object=line.object, name=line.name, parent=line.parent, error=said)


def _line_of(begin: Begin, end: End) -> Line:
    found = begin.descriptor
    return Line(
        id=end.id,
        object=begin.object,
        name=begin.name,
        media_type=found.media_type,
        digest=found.digest,
        size=found.size if end.digest is None else end.size,
        platform=found.platform,
        children=end.children,
        parent=begin.parent,
        path=blob_name(end.digest) if end.digest is not None else "",
    )
