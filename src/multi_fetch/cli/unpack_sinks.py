"""Where unpacked objects go: lines on stdout, or files below a folder.

A name is made of parsed tags, digests and numbers alone, and every folder on the way to it is
opened without following symbolic links. Content goes to a temporary file, which gets its name when
it is whole. No file stays open between two frames, so as many objects may interleave as like.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from multi_fetch.cli.unpack_session import Line, line_of
from multi_fetch.cli.visible import visible_json
from multi_fetch.oci.reference import TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multi_fetch.cli.unpack_session import Answer
    from multi_fetch.oci.digest import Chunk, Digest
    from multi_fetch.protocol.frames import Begin, End

STDOUT: Final = 1

# As worker/pipes.py has it, which would import trio.
STDOUT_NAME: Final = "stdout"

# What a pipe takes at once, where somebody has widened it.
FLUSH_BYTES: Final = 1024 * 1024

NameBy: TypeAlias = Literal["digest", "id", "tag"]


class Listing:
    """Lines on stdout, written out whenever more input has to be waited for, or they are many."""

    def __init__(self) -> None:
        self._lines = bytearray()

    def write(self, answer: Answer, content: bytes) -> None:
        """Content is not kept."""

    def keep(self, answer: Answer, end: End) -> None:
        """A line with its digest."""
        line = line_of(answer.begin, end.size)
        line.digest = end.digest
        line.children = end.children
        self.drop(line)

    def drop(self, line: Line) -> None:
        """A line with its error."""
        self.show(line)

    def show(self, value: object) -> None:
        """Any value as a line."""
        self._lines += visible_json(value) + b"\n"
        if len(self._lines) >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes the lines out."""
        lines, self._lines = self._lines, bytearray()
        write_all(STDOUT, lines)


class Folder:
    """Files below a folder. Every path is walked without following symbolic links."""

    def __init__(self, into: str, by: NameBy) -> None:
        Path(into).mkdir(parents=True, exist_ok=True)
        self._root = os.open(into, os.O_RDONLY | os.O_DIRECTORY)
        self._by = by
        self._parts: dict[int, str] = {}

    def write(self, answer: Answer, content: bytes) -> None:
        """Appends to the object's temporary file."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW
        part = self._parts.get(answer.id)
        if part is None:
            part = self._parts[answer.id] = f".{os.urandom(8).hex()}.part"
            flags |= os.O_CREAT | os.O_EXCL
        fd = os.open(part, flags, 0o666, dir_fd=self._root)
        try:
            write_all(fd, content)
        finally:
            os.close(fd)

    def keep(self, answer: Answer, end: End) -> None:
        """Gives the file its name."""
        if answer.id not in self._parts:
            if end.digest is None:
                return
            self.write(answer, b"")
        *folders, name = path_of(answer.begin, end.digest, self._by)
        folder = self._folder(folders)
        try:
            part = self._parts[answer.id]
            os.rename(part, name, src_dir_fd=self._root, dst_dir_fd=folder)
        finally:
            os.close(folder)
        del self._parts[answer.id]

    def drop(self, line: Line) -> None:
        """Removes the temporary file."""
        part = self._parts.pop(line.id, None)
        if part is not None:
            with suppress(FileNotFoundError):
                os.unlink(part, dir_fd=self._root)

    def close(self) -> None:
        """Removes what has not been named."""
        for request_id in list(self._parts):
            with suppress(OSError):
                self.drop(Line(id=request_id))
        os.close(self._root)

    def _folder(self, names: Sequence[str]) -> int:
        folder = os.dup(self._root)
        for name in names:
            try:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=folder)
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
                below = os.open(name, flags, dir_fd=folder)
            finally:
                os.close(folder)
            folder = below
        return folder


def path_of(begin: Begin, digest: Digest | None, by: NameBy) -> list[str]:
    """Where an object's file stands below the folder: folders, then its name.

    Args:
        begin: its first frame.
        digest: what its content was verified to have; None where it was not.
        by: what it shall be named by, where that is possible.
    """
    if digest is None or by == "id":
        return ["ids", str(begin.id)]
    tag = begin.object.partition("@")[0]
    if by == "tag" and TAG.fullmatch(tag):
        return ["tags", tag]
    # The grammar of digests has neither slash nor dot-dot nor an empty part.
    return ["blobs", digest.algorithm, digest.encoded]


def write_all(fd: int, content: Chunk) -> None:
    """Writes everything, to a descriptor that may have come to us non-blocking too.

    Raises:
        OSError: it takes no more; of stdout, with that as its ``filename``.
    """
    rest = memoryview(content)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            select.select([], [fd], [])
        except OSError as error:
            if fd == STDOUT:
                error.filename = STDOUT_NAME
            raise
