"""Which bytes of an object an answer's body holds, and which of these are wanted. No I/O.

A server may answer a Range with 206 and that part, with 200 and everything, or with 416; it is
free to know no ranges at all (RFC 9110, section 14.2). A 206 must be the part that was asked for,
of an object of the size that is known: all else would put bytes into the wrong place.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from multi_fetch.advice import TELL_OPERATOR
from multi_fetch.errors import InvalidRequestError, RegistryError, SizeMismatchError
from multi_fetch.registry.api import content_length
from multi_fetch.registry.errcode import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multi_fetch.protocol.request import ByteRange

# RFC 9110, section 14.4:
#   Content-Range     = range-unit SP ( range-resp / unsatisfied-range )
#   range-resp        = first-pos "-" last-pos "/" ( complete-length / "*" )
#   unsatisfied-range = "*/" complete-length
CONTENT_RANGE = re.compile(
    r"bytes (?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})/(?P<size>[0-9]{1,18}|\*)",
    re.ASCII | re.IGNORECASE,
)
UNSATISFIED_RANGE = re.compile(r"bytes \*/(?P<size>[0-9]{1,18})", re.ASCII | re.IGNORECASE)


class Extent(msgspec.Struct, frozen=True):
    """What a body holds of what is wanted.

    Attributes:
        first: the offset, in the object, of the first byte that is wanted.
        skip: bytes of the body that come before it.
        count: bytes that are wanted; None for all that come, which the consumer judges.
        size: of the whole object, or None where nobody has told it.
        is_exact: whether the body ends with the last byte that is wanted.
    """

    first: int
    skip: int
    count: int | None
    size: int | None
    is_exact: bool

    @property
    def end(self) -> int | None:
        """The offset behind the last byte that is wanted, or None where it is not known."""
        return self.size if self.count is None else self.first + self.count


def range_header(byte_range: ByteRange) -> str:
    """The Range header's value."""
    return f"bytes={_written(byte_range)}"


def extent_of(
    status: int, headers: Mapping[str, str], byte_range: ByteRange | None, size: int | None
) -> Extent:
    """Reads the head of a 200 or 206 answer.

    Args:
        status: 200 or 206.
        headers: of the answer.
        byte_range: what was asked for; None for everything.
        size: of the whole object, or None where that is not known.

    Raises:
        RegistryError: it is another part than was asked for, or a header is wrong.
        SizeMismatchError: the object has another size.
        InvalidRequestError: the range begins at the object's end or beyond.
    """
    if status == 206 and byte_range is not None:
        return _part(headers, byte_range, size)
    told = content_length(headers)
    if size is not None and told is not None and size != told:
        raise SizeMismatchError(want=size, got=told)
    return extent_of_whole(byte_range, size if told is None else told)


def extent_of_whole(byte_range: ByteRange | None, size: int | None) -> Extent:
    """The extent in a body that is the whole object.

    Raises:
        InvalidRequestError: the range begins at the object's end or beyond.
    """
    if byte_range is None:
        return Extent(first=0, skip=0, count=None, size=size, is_exact=True)
    first, last = byte_range.first, byte_range.last
    if size is None:
        count = None if last is None else last - first + 1
        return Extent(first, skip=first, count=count, size=None, is_exact=last is None)
    if first >= size:
        raise beyond(byte_range, size)
    end = size if last is None else min(last + 1, size)
    return Extent(first, skip=first, count=end - first, size=size, is_exact=end == size)


def _part(headers: Mapping[str, str], byte_range: ByteRange, size: int | None) -> Extent:
    text = headers.get("content-range", "")
    match = CONTENT_RANGE.fullmatch(text)
    if match is None:
        raise _other_part(byte_range, size, text)
    first, last = int(match["first"]), int(match["last"])
    told = None if match["size"] == "*" else int(match["size"])
    if size is None:
        size = told
    count = last - first + 1
    is_asked_for = first == byte_range.first <= last and _is_last(last, byte_range, size)
    if not is_asked_for or told not in {None, size} or content_length(headers) not in {None, count}:
        raise _other_part(byte_range, size, text)
    return Extent(first, skip=0, count=count, size=size, is_exact=True)


def _is_last(last: int, byte_range: ByteRange, size: int | None) -> bool:
    """Whether this can be the last byte of an answer to the range."""
    asked = byte_range.last
    if size is None:  # then the object may end anywhere
        return asked is None or last <= asked
    return last == (size - 1 if asked is None else min(asked, size - 1))


def _other_part(byte_range: ByteRange, size: int | None, content_range: str) -> RegistryError:
    return RegistryError(
        f"the registry answered another part than bytes {_written(byte_range)} of"
        f" {'*' if size is None else size}: Content-Range {printable(content_range, 80)!r}"
        f"{TELL_OPERATOR}",
        status=206,
    )


def _written(byte_range: ByteRange) -> str:
    return f"{byte_range.first}-{'' if byte_range.last is None else byte_range.last}"


def refused_range(headers: Mapping[str, str], byte_range: ByteRange) -> InvalidRequestError:
    """The error that a 416 answer stands for; it is returned."""
    return beyond(byte_range, size_of_refused(headers), status=416)


def size_of_refused(headers: Mapping[str, str]) -> int | None:
    """The object's size, if a 416 answer tells it."""
    match = UNSATISFIED_RANGE.fullmatch(headers.get("content-range", ""))
    return None if match is None else int(match["size"])


def beyond(
    byte_range: ByteRange, size: int | None, *, status: int | None = None
) -> InvalidRequestError:
    """The error of a range that begins where the object has ended already."""
    known = "" if size is None else f", which has {size} bytes"
    return InvalidRequestError(
        f"the range {_written(byte_range)} begins beyond the end of the object{known}: ask for"
        " an earlier part",
        status=status,
    )
