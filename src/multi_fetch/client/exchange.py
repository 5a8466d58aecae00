"""One request and what has come back for it so far; no I/O.

::

    queued -> asked: the line is written -> begun -> done: end
    queued, asked and begun -> failed: error, cancelled, or the worker has ended

A request that is cancelled here fails at once; what the worker still says of it is not heeded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from multi_fetch.client.filed import FiledContent
from multi_fetch.errors import MalformedFrameError, UnsupportedError
from multi_fetch.limits import CLIENT_CHILD_CHARACTERS, CLIENT_TREE_CHARACTERS, MAX_TREE
from multi_fetch.protocol.frames import Error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from multi_fetch.client.parking import Content, Piece
    from multi_fetch.errors import MultiFetchError
    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.protocol.frames import Begin, Data, End, File


class Exchange:
    """A request's state; changed by the session alone, except for taking its content.

    Attributes:
        object: as it was asked for; for a child, as ``begin`` has it.
        hints: as they were asked for.
        line: what is written to the worker; empty for a child.
        id: 0 until the line is written; below 0 for a child.
        parent_id: the id in whose content a child was found.
        begin: once the object is resolved.
        end: once it has succeeded.
        failure: once it has failed.
        children: those that have begun or failed so far.
        found_below: for a request, how many objects were found in it, at any depth.
        words_below: and how many characters too many their frames had.
        children_failure: why no more children come, though some are missing.
        content: what has come and was not taken.
        filed: the file that has the content, where the worker named one.
        is_taken: whether content was taken; then the rest alone says nothing.
        received_bytes: content that has come.
    """

    # A tree has up to 65,536 of them.
    __slots__ = (
        "_wakers",
        "begin",
        "children",
        "children_failure",
        "content",
        "end",
        "failure",
        "filed",
        "found_below",
        "hints",
        "id",
        "is_taken",
        "line",
        "object",
        "parent_id",
        "received_bytes",
        "words_below",
    )

    def __init__(self, asked: str, hints: tuple[str, ...], line: bytes, content: Content) -> None:
        self.object = asked
        self.hints = hints
        self.line = line
        self.content = content
        self.id = 0
        self.parent_id: int | None = None
        self.begin: Begin | None = None
        self.end: End | None = None
        self.failure: MultiFetchError | None = None
        # Most of a large tree have none of these, and an empty list takes 56 bytes.
        self.children: Sequence[Exchange] = ()
        self.found_below = 0
        self.words_below = 0
        self.children_failure: MultiFetchError | None = None
        self.filed: FiledContent | None = None
        self.is_taken = False
        self.received_bytes = 0
        self._wakers: tuple[Callable[[], object], ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether it has succeeded or failed."""
        return self.end is not None or self.failure is not None

    @property
    def has_begun(self) -> bool:
        """Whether there is a descriptor, or there will never be one."""
        return self.begin is not None or self.failure is not None

    @property
    def has_piece(self) -> bool:
        """Whether ``take`` has something to say."""
        return self.is_done or bool(self.content)

    @property
    def misses_children(self) -> bool:
        """Whether it has ended, and not all that it found has begun."""
        return self.end is not None and len(self.children) < self.end.children

    def require_asked(self, frame: End) -> None:
        """Judges what an end announces.

        Raises:
            MalformedFrameError: the line did not ask for what is below its object.
        """
        is_asked = any(hint.startswith("children:") for hint in self.hints)
        if frame.children and frame.id > 0 and not is_asked:
            raise MalformedFrameError(
                f"the end of {frame.id} announces objects that nobody asked for"
            )

    def child(self, index: int) -> Exchange | None:
        """The child with this index; None behind the last. ``has_child`` must be true.

        Raises:
            MultiFetchError: it will never come.
        """
        if index < len(self.children):
            return self.children[index]
        if failure := self.children_failure or self.failure:
            raise failure
        return None

    def has_child(self, index: int) -> bool:
        """Whether there is a child with this index, or there will never be one."""
        if index < len(self.children) or self.children_failure or self.failure:
            return True
        return self.end is not None and not self.misses_children

    def add_child(self, child: Exchange) -> None:
        """Adds what was found in its content."""
        if isinstance(self.children, list):
            self.children.append(child)
        else:
            self.children = [child]

    def count_below(self, frame: Begin | Error) -> None:
        """Counts what was found below a request, by its first frame.

        Raises:
            MalformedFrameError: there is more than any worker finds.
        """
        self.found_below += 1
        if self.found_below >= MAX_TREE:
            raise MalformedFrameError(f"{frame.id} makes the tree of {self.id} larger than allowed")
        if not isinstance(frame, Error):
            words = len(frame.name) + len(frame.object) + len(frame.descriptor.media_type)
            self._count(words)

    def count_words(self, frame: Error) -> None:
        """Counts what an object below a request fails with.

        Raises:
            MalformedFrameError: there is more than any worker says.
        """
        facts = [fact for fact in frame.detail.values() if isinstance(fact, str)]
        self._count(len(frame.message) + sum(map(len, facts)))

    def _count(self, words: int) -> None:
        self.words_below += max(0, words - CLIENT_CHILD_CHARACTERS)
        if self.words_below > CLIENT_TREE_CHARACTERS:
            raise MalformedFrameError(f"the names below {self.id} are longer than any need be")

    def walk(self) -> Iterator[Exchange]:
        """This one and all that was found in its content so far, and in theirs."""
        left = [self]
        while left:
            each = left.pop()
            yield each
            left.extend(each.children)

    def watch(self, wake: Callable[[], object]) -> None:
        """Calls ``wake`` at the next change, once. It must not block."""
        self._wakers = (*self._wakers, wake)

    def when_done(self, tell: Callable[[], object]) -> None:
        """Calls ``tell`` once it has succeeded or failed. It must not block."""
        if self.is_done:
            tell()
        else:
            self.watch(lambda: self.when_done(tell))

    def changed(self) -> None:
        """Tells those who watch."""
        wakers, self._wakers = self._wakers, ()
        for wake in wakers:
            wake()

    def take(self) -> Piece | FiledContent | None:
        """The next piece of content; None at the end. ``has_piece`` must be true.

        Raises:
            MultiFetchError: the request has failed, or a file was altered that has the content.
            OSError: that file could not be read.
        """
        if self.failure is not None:
            raise self.failure
        if self.filed is not None:
            self.is_taken = True
            if self.filed.failure is not None:
                raise self.filed.failure
            return None if self.filed.is_over else self.filed
        if not self.content:
            return None
        self.is_taken = True
        return self.content.take()

    def started(self) -> Begin:
        """The begin frame. ``has_begun`` must be true.

        Raises:
            MultiFetchError: the request has failed.
        """
        if self.failure is not None:
            raise self.failure
        assert self.begin is not None
        return self.begin

    def path(self) -> Path | None:
        """The file that has the content, or None. ``is_done`` must be true.

        Raises:
            MultiFetchError: the request has failed.
        """
        if self.failure is not None:
            raise self.failure
        return None if self.filed is None else self.filed.path

    def require_whole(self) -> None:
        """Refuses to read what is no longer whole.

        Raises:
            MultiFetchError: the request has failed.
            RuntimeError: content was taken before.
            OSError: the file that has it could not be read.
        """
        if failure := self.failure or (self.filed and self.filed.failure):
            raise failure
        if self.is_taken:
            raise RuntimeError(
                "content of this answer was taken already: read it once, or iterate over it"
            )

    def require_verified(self, taken_bytes: int) -> None:
        """Refuses content that nobody has verified.

        Args:
            taken_bytes: what the reader has of it.

        Raises:
            UnsupportedError: it came without a digest, as that of a range does.
            RuntimeError: another reader has the rest.
        """
        if self.end is not None and self.end.digest is None and self.end.size:
            raise UnsupportedError(
                f"what came of {self.object!r} is a part and cannot be verified: iterate over the"
                " answer instead of reading it, and judge the content yourself"
            )
        if self.end is not None and self.end.size != taken_bytes:
            raise RuntimeError(
                "content of this answer was taken by another reader at the same time: read it once,"
                " and share what comes"
            )

    def take_begin(self, frame: Begin) -> None:
        """The object is resolved. Beyond the bound of memory its descriptor is kept bare."""
        beside = _beside_bytes(frame.descriptor)
        if beside and not self.content.hold_beside(beside):
            frame = replace(frame, descriptor=frame.descriptor.bare())
        self.begin = replace(frame, object=self.object) if frame.object == self.object else frame

    def take_data(self, frame: Data) -> None:
        """Counts what a data frame carries.

        Raises:
            MalformedFrameError: it does not continue what came before.
        """
        if self.begin is None or frame.offset != self.received_bytes:
            raise MalformedFrameError(
                f"data of request {frame.id} at offset {frame.offset},"
                f" where {self.received_bytes} bytes had come"
            )
        self.received_bytes += len(frame.content)

    def take_file(self, frame: File) -> None:
        """Takes the name of a file in place of all data.

        Raises:
            MalformedFrameError: it has not begun, or content of it has come.
        """
        if self.begin is None or self.received_bytes:
            raise MalformedFrameError(f"file of request {frame.id} out of its place")
        self.filed = FiledContent(frame.path, frame.size, self.begin.descriptor)
        self.received_bytes = frame.size

    def take_end(self, frame: End) -> None:
        """Succeeds.

        Raises:
            MalformedFrameError: the frame does not fit what came before.
        """
        if self.begin is None or frame.size != self.received_bytes:
            raise MalformedFrameError(
                f"end of request {frame.id} with {frame.size} bytes,"
                f" where {self.received_bytes} had come"
            )
        if frame.digest is None and self.filed is not None:
            raise MalformedFrameError(f"end of request {frame.id} without a digest, behind a file")
        if frame.digest is not None and frame.digest != self.begin.descriptor.digest:
            raise MalformedFrameError(
                f"end of request {frame.id} with the digest {frame.digest},"
                f" but begin had {self.begin.descriptor.digest}"
            )
        self.end = frame

    def fail(self, error: MultiFetchError) -> None:
        """Fails, unless it is done; what came is worth nothing then."""
        if not self.is_done:
            self.failure = error
            self.content.drop()
            self.changed()


def _beside_bytes(descriptor: Descriptor) -> int:
    """About what a descriptor takes in memory beside the fields that each one has."""
    texts = [*descriptor.urls, *descriptor.annotations, *descriptor.annotations.values()]
    if descriptor.platform is not None:
        texts += descriptor.platform.os_features
        texts += [descriptor.platform.os, descriptor.platform.architecture]
        texts += [descriptor.platform.os_version, descriptor.platform.variant]
    texts += [each for each in (descriptor.data, descriptor.artifact_type) if each]
    # An object of its own, and its place among the others; not all of it is ASCII.
    return sum(100 + 2 * len(text) for text in texts)
