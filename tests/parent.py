"""A parent, written from protocol.md with msgpack, and without a line of multi_fetch.

Three parts, each usable alone: ``Decoder`` turns bytes into frames, ``Session`` holds a stream of
frames to every rule of the protocol, and ``Parent`` (or ``run``, in one call) starts a worker and
talks to it. What breaks the protocol is a ProtocolViolationError that says which rule.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import selectors
import struct
import subprocess
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final, TypeAlias, TypeGuard, get_args

import msgpack  # type: ignore[import-untyped]  # it ships no types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import IO, Self

VERSION: Final = 1
MAX_FRAME: Final = 589_824
MAX_DATA: Final = 524_288
MAX_MESSAGE: Final = 2_000
CODES: Final = frozenset(
    {
        "invalid-request",
        "not-found",
        "unauthorized",
        "denied",
        "rate-limited",
        "unavailable",
        "timeout",
        "digest-mismatch",
        "size-mismatch",
        "too-large",
        "unsupported",
        "registry-error",
        "cancelled",
        "internal",
    }
)


class ProtocolViolationError(Exception):
    """The stream breaks a rule of protocol.md."""


Map: TypeAlias = dict[str, object]


# --- frames ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hello:
    version: int
    remote: str
    window: int
    max_frame: int
    features: list[str]
    software: str


@dataclass(frozen=True)
class Begin:
    id: int
    object: str
    descriptor: Map
    name: str
    parent: int | None


@dataclass(frozen=True)
class Data:
    id: int
    offset: int
    content: bytes


@dataclass(frozen=True)
class File:
    id: int
    path: str
    size: int


@dataclass(frozen=True)
class End:
    id: int
    size: int
    digest: str | None
    children: int


@dataclass(frozen=True)
class Error:
    id: int
    code: str
    message: str
    retryable: bool
    detail: Map


@dataclass(frozen=True)
class Bye:
    requests: int
    succeeded: int
    failed: int
    bytes: int
    detail: Map


Frame: TypeAlias = Hello | Begin | Data | File | End | Error | Bye

KINDS: Final[Mapping[str, type[Frame]]] = {kind.__name__.lower(): kind for kind in get_args(Frame)}


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _is_text(value: object) -> TypeGuard[str]:
    # A byte that is no UTF-8 was read as a surrogate.
    return isinstance(value, str) and re.search("[\ud800-\udfff]", value) is None


def _is_map(value: object) -> TypeGuard[Map]:
    return isinstance(value, dict) and all(map(_is_text, value))


# Fields of a descriptor, each with its types.
_FIELDS: Final[Mapping[str, Callable[[object], bool]]] = {
    "mediaType": _is_text,
    "digest": _is_text,
    "size": lambda value: value is None or _is_int(value),
    "urls": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "annotations": lambda value: _is_map(value) and all(map(_is_text, value.values())),
    "data": _is_text,
    "artifactType": _is_text,
    "platform": _is_map,
}


def _is_fact(value: object) -> bool:
    return _is_int(value) or isinstance(value, float) or _is_text(value)


def _known(name: str, value: object) -> object:
    """An element, without the fields of a descriptor and keys of a detail that are ignored."""
    if name == "descriptor" and isinstance(value, dict):
        return {key: each for key, each in value.items() if key in _FIELDS and _FIELDS[key](each)}
    if name == "detail" and _is_map(value):
        return {
            key: each
            for key, each in value.items()
            if _is_fact(each) or (_is_map(each) and all(map(_is_fact, each.values())))
        }
    return value


def _is_descriptor(value: object) -> bool:
    return isinstance(value, dict) and value.keys() >= {"mediaType", "digest", "size"}


# By the annotations above, as they are written.
_TYPES: Final[Mapping[str, Callable[[object], bool]]] = {
    "int": _is_int,
    "str": _is_text,
    "bool": lambda value: isinstance(value, bool),
    "bytes": lambda value: isinstance(value, bytes),
    "int | None": lambda value: value is None or _is_int(value),
    "str | None": lambda value: value is None or _is_text(value),
    "list[str]": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "Map": _is_map,
}


def read_payload(payload: bytes) -> Frame | None:
    """One frame's MessagePack array; None for a kind that is not known."""
    try:
        value = msgpack.unpackb(payload, strict_map_key=False, unicode_errors="surrogateescape")
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise ProtocolViolationError(f"no MessagePack: {error!r}") from error
    if not isinstance(value, list) or not value or not _is_text(value[0]):
        raise ProtocolViolationError("no array with a kind in front")
    kind = KINDS.get(value[0])
    if kind is None:
        return None
    named = fields(kind)
    if len(value) <= len(named):
        raise ProtocolViolationError(f"{value[0]} has {len(value) - 1} of {len(named)} elements")
    for position, element in enumerate(named, start=1):
        is_right = _is_descriptor if element.name == "descriptor" else _TYPES[str(element.type)]
        value[position] = _known(element.name, value[position])
        if not is_right(value[position]):
            raise ProtocolViolationError(f"{value[0]}: {element.name} is {value[position]!r:.80}")
    return kind(*value[1 : len(named) + 1])


class Decoder:
    """Bytes in, frames out; frames of unknown kinds are left out."""

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self.max_frame = max_frame
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Takes bytes, cut anywhere; gives the frames that are whole now, one by one."""
        self._buffer += data
        return self._take_frames()

    def _take_frames(self) -> Iterator[Frame]:
        while (payload := self._take()) is not None:
            frame = read_payload(payload)
            if isinstance(frame, Hello):
                self.max_frame = frame.max_frame
            if frame is not None:
                yield frame

    def feed_eof(self) -> None:
        """Says that the stream has ended."""
        if self._buffer:
            raise ProtocolViolationError(f"the stream ends {len(self._buffer)} bytes into a frame")

    def _take(self) -> bytes | None:
        if len(self._buffer) < 4:
            return None
        (length,) = struct.unpack_from(">I", self._buffer)
        if length > self.max_frame:
            raise ProtocolViolationError(f"a frame of {length} bytes exceeds {self.max_frame}")
        if len(self._buffer) < 4 + length:
            return None
        payload = bytes(self._buffer[4 : 4 + length])
        del self._buffer[: 4 + length]
        return payload


# --- what was asked -------------------------------------------------------------------------


MANIFEST_TYPES: Final = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.artifact.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    }
)


@dataclass(frozen=True)
class Asked:
    """A line that is answered: a request, a control, or one that cannot be read."""

    object: str
    hints: tuple[str, ...] = ()

    @property
    def is_content_wanted(self) -> bool:
        return "content:none" not in self.hints

    @property
    def children(self) -> str:
        """What is wanted below it: all, manifests, blobs; empty for nothing."""
        return self._last("children")

    @property
    def part(self) -> tuple[int, int | None] | None:
        """The first byte of a range and the last one, if that is told; None without a range."""
        found = RANGE.fullmatch(self._last("range"))
        if found is None or not self.is_content_wanted:
            return None
        return int(found[1]), int(found[2]) if found[2] else None

    @property
    def is_listing(self) -> bool:
        """Whether it asks what there is; nothing of that can be verified."""
        return self.object.startswith("!")

    def _last(self, kind: str) -> str:
        values = [hint.partition(":")[2] for hint in self.hints if hint.startswith(f"{kind}:")]
        return values[-1] if values else ""


RANGE: Final = re.compile(r"(\d+)-(\d*)", re.ASCII)
CANCEL: Final = re.compile(r"!cancel[ \t]+(-?\d{1,18})", re.ASCII)


def asked_by(stdin: bytes, remote: str = "") -> dict[int, Asked]:
    """The ids that a worker must answer, for all that was written to it.

    With the remote ``-``, a listing of tags has a repository behind its verb.
    """
    arguments = {"!referrers": 1, "!tags": int(remote == "-")}
    lines = stdin.split(b"\n")
    if not lines[-1]:
        lines.pop()
    asked: dict[int, Asked] = {}
    for number, line in enumerate(lines, start=1):
        text = line.removesuffix(b"\r").strip(b" \t").decode("utf-8", "replace")
        if not _is_readable(line) or not _is_silent(text, number):
            words = [word for word in text.replace("\t", " ").split(" ") if word]
            count = 1 + arguments.get(words[0], 0) if words else 0
            asked[number] = Asked(" ".join(words[:count]), tuple(words[count:]))
    return asked


def _is_readable(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return len(line) <= 65_536


def _is_silent(text: str, number: int) -> bool:
    """Whether a line that can be read has no answer of its own."""
    if found := CANCEL.fullmatch(text):
        return int(found[1]) != 0 and int(found[1]) < number
    return not text or text.startswith("#")


# --- the rules of a stream ------------------------------------------------------------------


@dataclass
class Answer:
    """All that came for one id.

    ``is_verified`` says that this parent has computed the digest over the content itself, and that
    it is the one in ``end`` and in ``begin``. ``parent`` is the id in whose content an id below 0
    was found, ``root`` the one of the line above them all, and ``untold`` how many that were found
    in its own content have had no frame yet.
    """

    id: int
    parent: int | None = None
    root: int = 0
    untold: int = 0
    begin: Begin | None = None
    end: End | None = None
    error: Error | None = None
    content: bytearray = field(default_factory=bytearray)
    received: int = 0
    data_frames: int = 0
    path: str | None = None
    is_verified: bool = False
    began_at: int = 0

    @property
    def is_closed(self) -> bool:
        return self.end is not None or self.error is not None

    @property
    def descriptor(self) -> dict[str, object]:
        assert self.begin is not None, f"request {self.id} has no begin: {self.error}"
        return self.begin.descriptor

    @property
    def is_manifest(self) -> bool:
        return self.descriptor["mediaType"] in MANIFEST_TYPES

    @property
    def code(self) -> str:
        """The error's code; empty for a success."""
        return "" if self.error is None else self.error.code


class Session:
    """Holds a stream to the rules, frame by frame.

    Args:
        ordered: whether the worker was started with --ordered.
        keeps_content: whether answers have their content, or its digest and size alone.
        reads_files: whether files that frames name are looked into; they have to be there.
    """

    def __init__(
        self, *, ordered: bool = False, keeps_content: bool = True, reads_files: bool = False
    ) -> None:
        self.hello: Hello | None = None
        self.bye: Bye | None = None
        self.answers: dict[int, Answer] = {}
        self.worker_errors: list[Error] = []
        self._is_ordered = ordered
        self._keeps_content = keeps_content
        self._reads_files = reads_files
        self._hashes: dict[int, hashlib._Hash] = {}
        self._latest = 0
        self._taken = 0
        self._content_bytes = 0
        # With --ordered: those of which something is still to come below, the deepest last.
        self._branch: list[Answer] = []
        self._told: set[tuple[int, str]] = set()

    def take(self, frame: Frame) -> None:
        """The next frame of the stream."""
        self._taken += 1
        _check(self.bye is None, "a frame after bye", frame)
        if isinstance(frame, Hello):
            _check(self._taken == 1, "hello is not the first frame")
            self._take_hello(frame)
            return
        _check(self.hello is not None, "the first frame is no hello", frame)
        match frame:
            case Bye():
                self._take_bye(frame)
            case Error(id=0):
                self._check_error(frame)
                self.worker_errors.append(frame)
            case _:
                answer = self._answer(frame)
                self._check_order(answer)
                self._take_for(answer, frame)

    def finish(self, asked: Mapping[int, Asked] | None = None) -> None:
        """Says that the stream has ended; ``asked`` is all that was asked, if that was read."""
        _check(self.hello is not None, "a stream without hello")
        _check(self.bye is not None, "a stream without bye")
        if asked is not None:
            missing = sorted(set(asked) - set(self.answers))
            _check(not missing, f"requests {missing[:10]} have no answer")
            self.check_asked(asked)

    def check_asked(self, asked: Mapping[int, Asked]) -> None:
        """Each answer belongs to a request, and is what that request asked for."""
        for answer in self.answers.values():
            _check(answer.root in asked, f"nobody asked for request {answer.root}")
            request = asked[answer.root]
            if answer.begin is not None and answer.parent is None:
                _check(answer.begin.object == request.object, f"{answer.begin} is not {request}")
            if answer.end is None:
                continue
            why = f"{answer.end} for {request}"
            _check(not answer.end.children or bool(request.children), f"children: {why}")
            _check(
                answer.parent is None or request.children != "manifests" or answer.is_manifest,
                f"a blob: {why}",
            )
            if request.is_listing:
                _check(answer.end.digest is None, why)
                _check(answer.descriptor["digest"] == "none:unverified", why)
            elif request.part is not None:
                _check(answer.end.digest is None, why)
                _check(answer.received in _sizes(request.part, answer), f"another range: {why}")
            else:
                is_sent = answer.end.digest is not None
                _check(is_sent is _is_content_due(request, answer), why)
                _check(is_sent or not answer.received, f"content that was not verified: {why}")

    @property
    def open_ids(self) -> list[int]:
        """Ids that have begun and are not closed."""
        return [answer.id for answer in self.answers.values() if not answer.is_closed]

    def _answer(self, frame: Begin | Data | File | End | Error) -> Answer:
        """The answer that a frame belongs to; its first frame opens it."""
        number = frame.id
        _check(number != 0, "id 0 is the worker's", frame)
        if number not in self.answers:
            self.answers[number] = Answer(number, root=number) if number > 0 else self._found(frame)
        return self.answers[number]

    def _found(self, frame: Begin | Data | File | End | Error) -> Answer:
        """An id below 0, taken by the parent that its first frame names."""
        match frame:
            case Begin():
                parent, found = frame.parent, frame.object
            case Error(detail={"parent": int(parent), "object": str(found)}):
                pass
            case _:
                raise ProtocolViolationError(f"a first frame without a parent: {frame!r:.200}")
        above = None if parent is None else self.answers.get(parent)
        if above is None or not above.untold:
            raise ProtocolViolationError(f"no end has announced it: {frame!r:.200}")
        above.untold -= 1
        _check((above.root, found) not in self._told, f"once more below {above.root}: {frame}")
        self._told.add((above.root, found))
        return Answer(frame.id, parent=parent, root=above.root)

    def _check_order(self, answer: Answer) -> None:
        if not self._is_ordered or answer.id == self._latest:
            return
        latest = self.answers.get(self._latest)
        _check(
            latest is None or latest.is_closed,
            f"id {answer.id} comes before {self._latest} is closed",
        )
        if latest is not None and (latest.untold or answer.parent == latest.id):
            self._branch.append(latest)
        above = self._branch[-1] if self._branch else None
        _check(
            answer.parent == (None if above is None else above.id),
            f"id {answer.id} is not below {above and above.id}",
        )
        if above is None:
            last = 0 if latest is None else latest.root
            _check(answer.id > last, f"id {answer.id} comes after {last}")
        while self._branch and not self._branch[-1].untold:
            self._branch.pop()
        self._latest = answer.id

    def _take_hello(self, hello: Hello) -> None:
        _check(hello.version == VERSION, f"version {hello.version}")
        _check(hello.window >= 1, f"a window of {hello.window}")
        _check(hello.max_frame >= MAX_DATA, f"max_frame is {hello.max_frame}")
        self.hello = hello

    def _take_for(self, answer: Answer, frame: Begin | Data | File | End | Error) -> None:
        _check(not answer.is_closed, "a frame after the terminal frame", frame)
        _check(answer.path is None or isinstance(frame, End), "a frame behind a file", frame)
        match frame:
            case Begin():
                self._take_begin(answer, frame)
            case Data():
                self._take_data(answer, frame)
            case File():
                self._take_file(answer, frame)
            case End():
                self._take_end(answer, frame)
            case Error():
                self._check_error(frame)
                _check(
                    frame.detail.get("bytes_sent") == answer.received,
                    f"{answer.received} bytes were sent before {frame}",
                )
                answer.error = frame
                self._hashes.pop(answer.id, None)

    def _take_begin(self, answer: Answer, begin: Begin) -> None:
        _check(answer.begin is None, f"a second begin: {begin}")
        _check(begin.parent == answer.parent, f"another parent than {answer.parent}: {begin}")
        _check(
            begin.parent is None or begin.object == begin.descriptor["digest"],
            f"below a root, the object is its digest: {begin}",
        )
        _check(bool(begin.name) and bool(begin.object), f"an empty name: {begin}")
        algorithm, _, encoded = str(begin.descriptor["digest"]).partition(":")
        _check(bool(algorithm) and bool(encoded), f"no digest: {begin}")
        answer.begin = begin
        answer.began_at = self._taken
        if algorithm in hashlib.algorithms_available:
            self._hashes[answer.id] = hashlib.new(algorithm)

    def _take_data(self, answer: Answer, data: Data) -> None:
        _check(answer.begin is not None, f"data of {data.id} before begin")
        _check(
            data.offset == answer.received,
            f"request {data.id}: offset {data.offset} after {answer.received} bytes",
        )
        _check(0 < len(data.content) <= MAX_DATA, f"{len(data.content)} bytes in one data frame")
        answer.received += len(data.content)
        answer.data_frames += 1
        self._content_bytes += len(data.content)
        if data.id in self._hashes:
            self._hashes[data.id].update(data.content)
        if self._keeps_content:
            answer.content += data.content

    def _take_file(self, answer: Answer, file: File) -> None:
        """The content of a file, which is there by now, takes the place of all data."""
        _check(answer.begin is not None, f"{file} before begin")
        _check(answer.path is None and not answer.data_frames, f"{file} in place of what came")
        _check(file.path.startswith("/"), f"no absolute path: {file}")
        answer.path = file.path
        answer.received = file.size
        self._content_bytes += file.size
        if not self._reads_files:
            self._hashes.pop(file.id, None)
            return
        with open(file.path, "rb") as opened:  # noqa: PTH123 - a path is text here
            content = opened.read()
        _check(len(content) == file.size, f"{len(content)} bytes in {file}")
        if file.id in self._hashes:
            self._hashes[file.id].update(content)
        if self._keeps_content:
            answer.content += content

    def _take_end(self, answer: Answer, end: End) -> None:
        _check(answer.begin is not None, f"{end} before begin")
        _check(end.size == answer.received, f"{end} after {answer.received} bytes")
        _check(end.children >= 0, f"children: {end}")
        # Where nothing is verified, a range of that size may not be known to be no longer.
        if answer.path is not None:
            _check(end.digest is not None, f"a file that nobody has verified: {end}")
            _check(self._taken - answer.began_at == 2, f"frames around a file's: {end}")
        elif answer.received <= MAX_DATA and (end.digest is not None or not answer.received):
            _check(answer.data_frames <= 1, f"{answer.data_frames} data frames before {end}")
            _check(
                self._taken - answer.began_at == answer.data_frames + 1,
                f"a small object's frames do not come together: {end}",
            )
        hashed = self._hashes.pop(end.id, None)
        if end.digest is not None:
            want = end.digest.partition(":")[2]
            _check(hashed is None or hashed.hexdigest() == want, f"another digest than in {end}")
            _check(end.digest == answer.descriptor["digest"], f"{end} after {answer.begin}")
            size = answer.descriptor["size"]
            _check(size is None or size == end.size, f"{end} after {answer.begin}")
            answer.is_verified = hashed is not None
        answer.end = end
        answer.untold = end.children

    def _check_error(self, error: Error) -> None:
        _check(error.code in CODES, f"an unknown code: {error}")
        _check(0 < len(error.message) <= MAX_MESSAGE, f"{len(error.message)} characters: {error}")

    def _take_bye(self, bye: Bye) -> None:
        _check(not self.open_ids, f"bye while {self.open_ids[:10]} are open")
        untold = [answer.id for answer in self.answers.values() if answer.untold]
        _check(not untold, f"bye before all was told that is below {untold[:10]}")
        failed = sum(answer.error is not None for answer in self.answers.values())
        counted = (len(self.answers), len(self.answers) - failed, failed, self._content_bytes)
        said = (bye.requests, bye.succeeded, bye.failed, bye.bytes)
        _check(said == counted, f"{bye}, but these were counted: {counted}")
        self.bye = bye


def _is_content_due(request: Asked, answer: Answer) -> bool:
    """Whether the content of an answer is wanted, and not a part of it alone."""
    is_named_alone = request.children == "blobs" and answer.is_manifest
    return request.is_content_wanted and not (answer.parent is not None and is_named_alone)


def _sizes(part: tuple[int, int | None], answer: Answer) -> range:
    """How many bytes a range may have: one number, where the size of the whole is known."""
    first, last = part
    whole = answer.descriptor["size"]
    ends = [end for end in (whole, None if last is None else last + 1) if isinstance(end, int)]
    longest = max(0, min(ends, default=2**63) - first)
    return range(longest if isinstance(whole, int) else 1, longest + 1)


def _check(is_kept: bool, violation: str, frame: Frame | None = None) -> None:
    if not is_kept:  # a frame is written out only then: of much content that takes long
        raise ProtocolViolationError(violation if frame is None else f"{violation}: {frame!r:.200}")


def read_stream(
    stream: bytes, *, ordered: bool = False, asked: Mapping[int, Asked] | None = None
) -> Session:
    """A whole stream, from hello to bye, held to all rules."""
    decoder, session = Decoder(), Session(ordered=ordered)
    for frame in decoder.feed(stream):
        session.take(frame)
    decoder.feed_eof()
    session.finish(asked)
    return session


# --- the process ----------------------------------------------------------------------------


class Parent:
    """Starts a worker and talks to it; every wait has an end.

    Args:
        command: the worker's command line.
        ordered: whether it has --ordered among its flags.
        env: the worker's whole environment; None for that of this process.
        keeps_content: as for Session.
        timeout_seconds: for each single wait.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        ordered: bool = False,
        env: Mapping[str, str] | None = None,
        keeps_content: bool = True,
        timeout_seconds: float = 60.0,
    ) -> None:
        self.session = Session(ordered=ordered, keeps_content=keeps_content, reads_files=True)
        self._timeout_seconds = timeout_seconds
        self._decoder = Decoder()
        self._frames: deque[Frame] = deque()
        self._is_at_eof = False
        self._written = bytearray()
        self._writer: threading.Thread | None = None
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=env,
                bufsize=0,
            )
        except BaseException:
            self._stderr.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self._writer is not None:
            self._writer.join()
        self.close_stdin()
        self.close_stdout()
        self._stderr.close()

    @property
    def stderr(self) -> str:
        """What the worker has written to stderr until now."""
        # The position is shared with the worker, so it is left alone.
        descriptor = self._stderr.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode("utf-8", "replace")

    @property
    def asked(self) -> dict[int, Asked]:
        """All that was written."""
        return asked_by(bytes(self._written))

    def write(self, data: bytes) -> None:
        """Writes lines, or pieces of them, and waits until the pipe has taken them."""
        assert self.process.stdin is not None
        self._written += data
        rest = memoryview(data)
        while rest:
            rest = rest[self.process.stdin.write(rest) :]

    def write_all(self, data: bytes) -> None:
        """Writes lines from another thread, and closes stdin behind them."""

        def feed() -> None:
            # A worker that ends before it has read all is judged by what it wrote.
            with contextlib.suppress(BrokenPipeError):
                self.write(data)
            self.close_stdin()

        self._writer = threading.Thread(target=feed)
        self._writer.start()

    def close_stdin(self) -> None:
        """Says that there are no more requests."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def close_stdout(self) -> None:
        """Reads no more: the worker gets a broken pipe."""
        assert self.process.stdout is not None
        self.process.stdout.close()

    def next_frame(self) -> Frame | None:
        """The next frame, which has kept all rules; None at the end of the stream.

        Raises:
            TimeoutError: none came in time.
        """
        deadline = time.monotonic() + self._timeout_seconds
        while not self._frames:
            if self._is_at_eof:
                return None
            self._read_some(deadline)
        frame = self._frames.popleft()
        self.session.take(frame)
        return frame

    def next_closed(self) -> Answer:
        """Reads on until a request is closed."""
        while (frame := self.next_frame()) is not None:
            if isinstance(frame, End | Error) and frame.id:
                return self.session.answers[frame.id]
        raise ProtocolViolationError(f"the stream ended; stderr: {self.stderr}")

    def read_to_end(self) -> None:
        """Takes all frames until the stream ends, wherever that is."""
        while self.next_frame() is not None:
            pass

    def finish(self, *, reads_all: bool = True) -> int:
        """Closes stdin, unless ``write_all`` does, and takes the rest of a whole stream.

        Args:
            reads_all: whether the worker must have answered every line that was written; a worker
                that was ended by a signal need not have.

        Returns:
            The exit status, negative for a signal, as subprocess has it.
        """
        if self._writer is None:
            self.close_stdin()
        self.read_to_end()
        status = self.wait()
        if self._writer is not None:
            self._writer.join()
        asked = self.asked
        self.session.finish(asked if reads_all else None)
        self.session.check_asked(asked)
        return status

    def wait(self) -> int:
        """Waits until the process has ended; its exit status."""
        return self.process.wait(self._timeout_seconds)

    def _read_some(self, deadline: float) -> None:
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(
                    f"no frame within {self._timeout_seconds} s; stderr: {self.stderr}"
                )
        data = os.read(descriptor, 1024 * 1024)
        if data:
            self._frames += self._decoder.feed(data)
        else:
            self._decoder.feed_eof()
            self._is_at_eof = True


@dataclass(frozen=True)
class Run:
    """A worker's whole life."""

    status: int
    session: Session
    stderr: str

    @property
    def answers(self) -> dict[int, Answer]:
        return self.session.answers

    @property
    def codes(self) -> dict[int, str]:
        """The error codes of the requests that failed."""
        return {number: answer.code for number, answer in self.answers.items() if answer.code}


def run(
    command: Sequence[str],
    stdin: bytes,
    *,
    ordered: bool = False,
    env: Mapping[str, str] | None = None,
    keeps_content: bool = True,
    timeout_seconds: float = 60.0,
) -> Run:
    """Starts a worker, writes all lines while it reads, and takes the whole stream.

    Raises:
        ProtocolViolationError: a rule is broken; a line without an answer is such a rule too.
    """
    with Parent(
        command,
        ordered=ordered,
        env=env,
        keeps_content=keeps_content,
        timeout_seconds=timeout_seconds,
    ) as parent:
        parent.write_all(stdin)
        status = parent.finish()
        return Run(status, parent.session, parent.stderr)
