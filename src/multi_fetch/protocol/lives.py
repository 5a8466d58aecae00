"""What may come next: the order of a session, and the life of each id (protocol.md, section 4).

Each frame is either allowed by what came before, or a breach, which ends the stream. No request
line is seen here, so every id above 0 counts as asked until it is closed; who wrote the lines
knows more. Memory is bounded: by hello's window for what lines asked for, by the limits of
protocol.md for what was found below, and by a bit for each id that is closed.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from multi_fetch.errors import MalformedFrameError
from multi_fetch.limits import (
    MAX_BEGUN_IDS,
    MAX_CHILDREN,
    MAX_CLOSED_PAGES,
    MAX_DATA_BYTES,
    MAX_MEDIA_TYPE_CHARACTERS,
    MAX_MESSAGE_CHARACTERS,
    MAX_REFERENCE_CHARACTERS,
    MAX_UNTOLD_PARENTS,
)
from multi_fetch.protocol.frames import Begin, Bye, Data, End, Error, File, Hello

if TYPE_CHECKING:
    from collections.abc import Iterator

    from multi_fetch.protocol.frames import Frame

PAGE_BITS: Final = 4_096


class ClosedIds:
    """Numbers from 1: a bit for each, in pages, since most are close to one another.

    There are never more than ``MAX_CLOSED_PAGES``: beyond that the lowest page goes, and all
    that is as low counts as closed.
    """

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self._numbers: list[int] = []
        self._floor = 0

    def add(self, number: int) -> None:
        """Closes a number."""
        page, bit = divmod(number, PAGE_BITS)
        if page < self._floor:
            return
        if page not in self._pages:
            self._pages[page] = bytearray(PAGE_BITS // 8)
            heappush(self._numbers, page)
        self._pages[page][bit >> 3] |= 1 << (bit & 7)
        if len(self._numbers) > MAX_CLOSED_PAGES:
            lowest = heappop(self._numbers)
            del self._pages[lowest]
            self._floor = lowest + 1

    def __contains__(self, number: int) -> bool:
        page, bit = divmod(number, PAGE_BITS)
        if page < self._floor:
            return True
        return page in self._pages and bool(self._pages[page][bit >> 3] >> (bit & 7) & 1)


class Lives:
    """All ids of a run, as far as its frames have told of them.

    Attributes:
        is_greeted: whether hello has come.
        is_over: whether bye has come.
    """

    def __init__(self) -> None:
        self.is_greeted = False
        self.is_over = False
        self._window = 0
        self._begun: set[int] = set()
        self._begun_roots = 0
        # Of those that have begun: whose content has begun to come, and who had it in a file.
        self._fed: set[int] = set()
        self._filed: set[int] = set()
        # What ends have announced and has had no frame yet: how many, by the parent.
        self._untold: dict[int, int] = {}
        self._closed = ClosedIds()
        self._closed_below = ClosedIds()

    def take(self, frame: Frame) -> None:
        """Judges the next frame.

        Raises:
            MalformedFrameError: it may not come now; the message names the id and the breach.
        """
        if self.is_over or isinstance(frame, Hello) is self.is_greeted:
            raise MalformedFrameError(f"{_name(frame)} is out of place: hello is first, bye last")
        match frame:
            case Hello():
                self.is_greeted = True
                self._window = max(frame.window, 1)
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
            case Bye():
                self._bye()

    def untold(self) -> Iterator[tuple[int, int]]:
        """Ids whose end has announced what never came, and how many of it."""
        yield from self._untold.items()

    def _begin(self, frame: Begin) -> None:
        number = frame.id
        if number in self._begun:
            raise MalformedFrameError(f"{number} begins a second time")
        self._open(number, "begin", frame.parent)
        for what, text, limit in (
            ("object", frame.object, MAX_REFERENCE_CHARACTERS),
            ("name", frame.name, MAX_REFERENCE_CHARACTERS),
            ("media type", frame.descriptor.media_type, MAX_MEDIA_TYPE_CHARACTERS),
        ):
            _limit(what, number, text, limit)
        self._begun.add(number)
        self._begun_roots += number > 0
        if self._begun_roots > self._window:
            raise MalformedFrameError(
                f"{number} begins as one more than hello's window of {self._window} lets be open"
            )
        if len(self._begun) > MAX_BEGUN_IDS:
            raise MalformedFrameError(
                f"{number} begins while {MAX_BEGUN_IDS} others have begun and not ended: more are"
                " not kept here; a worker with a smaller --window stays below"
            )

    def _data(self, frame: Data) -> None:
        self._require_begun(frame.id, "data")
        if not 0 < len(frame.content) <= MAX_DATA_BYTES:
            raise MalformedFrameError(
                f"data of {frame.id} has {len(frame.content)} bytes, and 1 to {MAX_DATA_BYTES} are"
                " allowed"
            )
        self._refuse_filed(frame.id, "data")
        self._fed.add(frame.id)

    def _file(self, frame: File) -> None:
        number = frame.id
        self._require_begun(number, "file")
        self._refuse_filed(number, "file")
        if number in self._fed:
            raise MalformedFrameError(f"file of {number}, whose content has come as data")
        if frame.size < 0:
            raise MalformedFrameError(f"file of {number} has {frame.size} bytes")
        if not frame.path.startswith("/") or "\0" in frame.path:
            raise MalformedFrameError(
                f"file of {number} has a path that is not absolute, or has a NUL"
            )
        self._filed.add(number)

    def _end(self, frame: End) -> None:
        number = frame.id
        self._require_begun(number, "end")
        if not 0 <= frame.children <= MAX_CHILDREN:
            raise MalformedFrameError(
                f"the end of {number} announces {frame.children} objects, and 0 to {MAX_CHILDREN}"
                " are allowed"
            )
        self._close(number)
        if frame.children:
            self._untold[number] = frame.children
        if len(self._untold) > MAX_UNTOLD_PARENTS:
            raise MalformedFrameError(
                f"the end of {number} announces objects while those of {MAX_UNTOLD_PARENTS} others"
                " have not come: more are not kept here"
            )

    def _error(self, frame: Error) -> None:
        number = frame.id
        _limit("message", number, frame.message, MAX_MESSAGE_CHARACTERS)
        if number == 0:
            return
        if number not in self._begun:
            parent = frame.detail.get("parent") if number < 0 else None
            self._open(number, "error", parent if isinstance(parent, int) else None)
        self._refuse_filed(number, "error")
        self._close(number)

    def _bye(self) -> None:
        if self._begun:
            raise MalformedFrameError(f"bye comes before the end of {min(self._begun, key=abs)}")
        if self._untold:
            number, missing = next(iter(self._untold.items()))
            raise MalformedFrameError(
                f"bye comes while {missing} of what the end of {number} announced never came"
            )
        self.is_over = True

    def _open(self, number: int, kind: str, parent: int | None) -> None:
        """The first frame of an id."""
        self._refuse_closed(number, kind)
        if number > 0:
            if parent is not None:
                raise MalformedFrameError(
                    f"the {kind} of {number} names {parent} as its parent, but a line asked for it"
                )
            return
        if parent is None:
            raise MalformedFrameError(f"{number} was announced by nobody: its {kind} has no parent")
        if parent not in self._untold:
            raise MalformedFrameError(
                f"{number} was announced by nobody: its {kind} names {parent}, whose end has"
                " announced no further object"
            )
        self._untold[parent] -= 1
        if not self._untold[parent]:
            del self._untold[parent]

    def _require_begun(self, number: int, kind: str) -> None:
        if number not in self._begun:
            self._refuse_closed(number, kind)
            raise MalformedFrameError(f"{kind} of {number}, which has not begun")

    def _refuse_filed(self, number: int, kind: str) -> None:
        if number in self._filed:
            raise MalformedFrameError(f"{kind} of {number}, whose content is in a file")

    def _refuse_closed(self, number: int, kind: str) -> None:
        if number == 0:
            raise MalformedFrameError(f"{kind} of 0, which is the worker itself")
        if abs(number) in (self._closed if number > 0 else self._closed_below):
            raise MalformedFrameError(f"{kind} of {number}, which has had its last frame")

    def _close(self, number: int) -> None:
        if number in self._begun:
            self._begun.remove(number)
            self._begun_roots -= number > 0
            self._fed.discard(number)
            self._filed.discard(number)
        (self._closed if number > 0 else self._closed_below).add(abs(number))


def _limit(what: str, number: int, text: str, limit: int) -> None:
    if len(text) > limit:
        raise MalformedFrameError(
            f"the {what} of {number} has {len(text)} characters, and the limit is {limit}"
        )


def _name(frame: Frame) -> str:
    kind = type(frame).__name__.lower()
    return kind if isinstance(frame, Hello | Bye) else f"{kind} of {frame.id}"
