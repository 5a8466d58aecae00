"""stdin's bytes to jobs.

Lines are counted, all of them: a request's id is its line number. A line that cannot be read
becomes a job that has failed already, so that it is answered like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from msgspec.structs import replace

from multi_fetch.errors import InvalidRequestError
from multi_fetch.limits import MAX_LINE_BYTES
from multi_fetch.protocol.names import IN_REPOSITORY
from multi_fetch.protocol.plain import parse_plain
from multi_fetch.protocol.request import Control, parse_line
from multi_fetch.worker.job import Job
from multi_fetch.worker.misspelt import Misspelt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from multi_fetch.protocol.names import Names
    from multi_fetch.worker.pipes import Reader
    from multi_fetch.worker.window import Window


async def take_in(
    reader: Reader, names: Names, window: Window, control: Callable[[Control, int], None]
) -> None:
    """Reads lines until the end of stdin; stops reading while the window is full.

    Args:
        reader: stdin.
        names: how lines name objects.
        window: where each request is admitted.
        control: called with each control line and its number; may raise InvalidRequestError.
    """
    lines, misspelt = LineSplitter(), Misspelt()
    while data := await reader.read():
        for number, line in lines.feed(data):
            job = _job(number, line, names, control, misspelt)
            if job is None:
                # Of thousands of cancels at once, each may have a whole tree looked through.
                await trio.lowlevel.checkpoint()
            elif not window.admit_now(job):
                await window.admit(job)
    for number, line in lines.feed_eof():
        job = _job(number, line, names, control, misspelt)
        if job is not None:
            await window.admit(job)


def _job(
    number: int,
    line: bytes,
    names: Names,
    control: Callable[[Control, int], None],
    misspelt: Misspelt,
) -> Job | None:
    try:
        plain = parse_plain(line) if names is IN_REPOSITORY else None
        asked = plain or parse_line(line, names)
        if isinstance(asked, Control):
            control(asked, number)
            return None
    except InvalidRequestError as error:
        return Job(id=number, request=None, failure=error.alone())
    if asked is None:
        return None
    if asked.ignored:
        misspelt.look_at(asked, number)
        asked = replace(asked, ignored=())  # which may be as long as the line
    return Job(id=number, request=asked)


class LineSplitter:
    """Bytes in, numbered lines out; sans-IO.

    A line that is too long is cut to one byte more than MAX_LINE_BYTES, which tells it from one
    that is not; its rest is skipped and never kept.
    """

    def __init__(self) -> None:
        self._number = 0
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Takes bytes, cut anywhere; gives the lines that they end, from 1, without their LF."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = self._rest + lines[0]
        else:
            rest = self._rest + rest
        self._rest = rest[: MAX_LINE_BYTES + 1]
        for line in lines:
            self._number += 1
            yield self._number, line[: MAX_LINE_BYTES + 1]

    def feed_eof(self) -> Iterator[tuple[int, bytes]]:
        """Gives the last line, if it lacks its end."""
        if self._rest:
            self._number += 1
            yield self._number, self._rest
            self._rest = b""
