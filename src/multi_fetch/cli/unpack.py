"""``multi-fetch-unpack [flags]``: a worker's frames on stdin become files, or lines of JSON.

It is no part of the worker, and starts without trio and httpx.
"""

from __future__ import annotations

import hashlib
import os
import select
import signal
import sys
from base64 import b64encode
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

from multi_fetch.advice import about_file
from multi_fetch.cli.help import CommandParser, Shown, Texts
from multi_fetch.cli.stderr import Stderr
from multi_fetch.cli.unpack_session import Unpacker, reason
from multi_fetch.cli.unpack_sinks import STDOUT, Folder, Listing
from multi_fetch.durations import STDERR_SECONDS
from multi_fetch.errors import CutStreamError, MalformedFrameError
from multi_fetch.limits import MAX_FRAME_OVERHEAD_BYTES
from multi_fetch.protocol.frames import Data
from multi_fetch.protocol.framing import END_OF_STREAM, NEED_DATA, FrameDecoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from multi_fetch.cli.unpack_sinks import NameBy
    from multi_fetch.protocol.frames import Frame

PROGRAM: Final = "multi-fetch-unpack"
STDIN: Final = 0

SUCCESS: Final = 0
FAILURE: Final = 1
USAGE: Final = 2
# As a shell reports a process that SIGPIPE ended.
STDOUT_CLOSED: Final = 128 + signal.SIGPIPE

# A pipe's capacity, where the worker has widened it (limits.PIPE_BYTES); less comes as it is.
READ_BYTES: Final = 1024 * 1024

NAMINGS: Final = ("digest", "id", "tag")

ADVICE: Final = "; check that stdin is what multi-fetch wrote, with --format msgpack"

# Longer content is shown by its size and digest, as in tests/vectors.
MAX_SHOWN_BYTES: Final = 1024

USAGE_LINES = f"{PROGRAM} [--into DIR] [--by digest|id|tag] | --list | --frames"

ABOUT = """\
Turn the frames of multi-fetch, on stdin, into files, or into lines of JSON. All
content is verified once more.

  --by digest           blobs/<algorithm>/<hex>, as in an OCI image layout
  --by id               ids/<id>: the number of the request's line
  --by tag              tags/<tag>, and by digest what was asked for without one
"""

DESCRIPTION = """\
Turn the frames of multi-fetch, on stdin, into files.

A file is written under a temporary name (.*.part), and renamed once its object
is whole and its digest, computed again here, is right. A file of that name
which is there already is replaced, in one step. Symbolic links below the folder
are not followed. Content that is in a file of the worker's store (multi-fetch
--answers paths) is copied from there, and its digest computed all the same.

names, below the folder of --into:
  --by digest   blobs/<algorithm>/<hex>, as in an OCI image layout
  --by id       ids/<id>: the number of the request's line; -1, -2... for what
                was found below it
  --by tag      tags/<tag>; the last one wins, where a tag was asked for more
                than once, or where the file system does not tell V1 from
                v1 (as on macOS mostly): --by digest keeps both there
  Content without a tag is named by its digest. Content that cannot be verified,
  as that of a range, is always named by its id. An answer without content
  (content:none) makes no file.

lines of --list, one JSON object each, these three keys first:
  id, digest (null: not verified), error (null: succeeded; a code of
  protocol.md; or "cut", where the stream ended first), size, object, name,
  parent, children, descriptor, message, retryable, detail
"""

EPILOG = """\
exit status:
  0 every object is whole, 1 some failed, or the stream ended before its bye or
  breaks the protocol (what and why is on stderr; what was whole is kept),
  2 usage, 128+n ended by signal n (temporary files are removed)
"""

EXAMPLE = """\
example:
  printf 'latest\\n' | multi-fetch redis | multi-fetch-unpack --into redis
"""

STRAY = "frames come on stdin: multi-fetch-unpack < answers"


class Complaints:
    """What people are told on stderr, without the control characters that came from elsewhere.

    Whoever reads stderr may leave it full: then lines are lost, and the frames go on. How many is
    told once there is room, behind the rest of the line for which there was not enough.
    """

    def __init__(self) -> None:
        self._lost = 0
        self._rest = b""
        self._stderr: Stderr | None = None
        with suppress(AttributeError, OSError, ValueError):  # it is closed, or no file
            self._stderr = Stderr(sys.stderr.fileno(), patience_seconds=STDERR_SECONDS)

    def __call__(self, problem: str) -> None:
        """Tells of a problem, if that does not block."""
        if self._stderr is None:
            return
        if self._lost:
            problem = f"{self._lost} lines were lost: nobody read stderr; {problem}"
        text = "".join(
            letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
            for letter in problem
        )
        line = f"{PROGRAM}: {text}\n".encode("utf-8", "backslashreplace")
        with suppress(OSError):
            left = self._rest
            written = self._stderr.write(left + line)
            self._lost = 0 if written > len(left) else self._lost + 1
            self._rest = (left if self._lost else left + line)[written:]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    complain = Complaints()
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.by is not None and (arguments.list or arguments.frames):
        parser.error("--by is about files: leave it out with --list and --frames")
    if problem := _stream_problem():
        complain(problem)
        return USAGE
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    try:
        if arguments.frames:
            return _show(Listing(), complain)
        if arguments.list:
            listing = Listing()
            return _unpack(Unpacker(listing, complain), listing.flush, complain)
    except BrokenPipeError:
        return STDOUT_CLOSED
    except OSError as error:
        complain(f"cannot write to stdout: {error.strerror}{about_file(error)}")
        return FAILURE
    return _fill(arguments.into, arguments.by or "digest", complain)


def _fill(into: str, by: NameBy, complain: Complaints) -> int:
    try:
        folder = Folder(into, by)
    except OSError as error:
        complain(f"the folder of --into cannot be used: {reason(error)}: name another")
        return USAGE
    with closing(folder):
        return _unpack(Unpacker(folder, complain), lambda: None, complain)


def _unpack(unpacker: Unpacker, flush: Callable[[], None], complain: Complaints) -> int:
    is_whole = False
    try:
        for frame in _frames(FrameDecoder(max_other_bytes=MAX_FRAME_OVERHEAD_BYTES), flush):
            unpacker.take(frame)
        is_whole = unpacker.is_over
        if not is_whole:
            complain("the stream ended before its bye: ask again for what is missing")
    except MalformedFrameError as error:
        complain(f"the stream is refused: {error}{ADVICE}")
    unpacker.cut()
    flush()
    return SUCCESS if is_whole and not unpacker.failed else FAILURE


def _show(listing: Listing, complain: Complaints) -> int:
    """Every frame as a line, by itself: whether they make a session is not asked."""
    status = SUCCESS
    try:
        for frame in _frames(FrameDecoder(), listing.flush):
            listing.show(_shown(frame))
    except MalformedFrameError as error:
        complain(f"the stream is refused: {error}{ADVICE}")
        status = FAILURE
    listing.flush()
    return status


def _shown(frame: Frame) -> object:
    if not isinstance(frame, Data):
        return frame
    content: dict[str, str | int] = {"base64": b64encode(frame.content).decode("ascii")}
    if len(frame.content) > MAX_SHOWN_BYTES:
        digest = hashlib.sha256(frame.content).hexdigest()
        content = {"size": len(frame.content), "sha256": digest}
    return "data", frame.id, frame.offset, content


def _frames(decoder: FrameDecoder, flush: Callable[[], None]) -> Iterator[Frame]:
    """The frames of stdin.

    Raises:
        MalformedFrameError: these are none.
        CutStreamError: stdin ends within a frame, or cannot be read.
    """
    while (found := decoder.next_frame()) is not END_OF_STREAM:
        if found is NEED_DATA:
            flush()
            content = _read()
            if content:
                decoder.feed(content)
            else:
                decoder.feed_eof()
            continue
        yield found


def _read() -> bytes:
    while True:
        try:
            return os.read(STDIN, READ_BYTES)
        except BlockingIOError:
            # It came to us non-blocking, and others may share it: it stays so.
            select.select([STDIN], [], [])
        except OSError as error:
            raise CutStreamError(
                f"stdin cannot be read: {error.strerror}: check where it comes from"
            ) from error


def _end(number: int, frame: FrameType | None) -> None:
    """Ends the command by way of its cleaning up; a second signal, at once."""
    signal.signal(number, signal.SIG_DFL)
    raise SystemExit(128 + number)


def _stream_problem() -> str:
    for fd, name in ((STDIN, "stdin"), (STDOUT, "stdout")):
        try:
            os.fstat(fd)
        except OSError:
            return f"{name} is closed: give it a pipe, a file or /dev/null"
    if os.isatty(STDIN):
        return "stdin is a terminal: give it the frames of multi-fetch, from a pipe or a file"
    return ""


def make_parser() -> CommandParser:
    """The command line."""
    parser = CommandParser(PROGRAM, Texts(USAGE_LINES, ABOUT, DESCRIPTION, EPILOG, EXAMPLE, STRAY))
    targets = parser.add_argument_group("where objects go").add_mutually_exclusive_group()
    targets.add_argument(
        "--into",
        default=".",
        metavar="DIR",
        help=Shown("the folder, made if need be (default: %(default)s)"),
    )
    targets.add_argument(
        "--list", action="store_true", help=Shown("no files: a JSON line an object")
    )
    targets.add_argument(
        "--frames",
        action="store_true",
        help=Shown(
            "no files: a JSON line a frame, for a look into a stream or a piece of one; content"
            f" in base64, or where it has more than {MAX_SHOWN_BYTES} bytes, its size and sha256",
            brief="no files: a JSON line a frame, for a look into a stream",
        ),
    )
    parser.add_argument(
        "--by",
        choices=NAMINGS,
        metavar="NAMING",
        help=Shown("what files are named by (default: digest)"),
    )
    return parser
