"""Request lines: ``<object> [<hint> ...]``, and control lines, ``!<verb> ...``.

``!tags`` and ``!referrers`` are control lines by their form, and requests by what becomes of them.

A line is read once, into a value that proves it; a line that cannot be read raises
InvalidRequestError, which fails that line's id alone.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from multi_fetch.errors import InvalidRequestError
from multi_fetch.limits import MAX_LINE_BYTES, MAX_MEDIA_TYPES
from multi_fetch.oci.descriptor import Platform
from multi_fetch.oci.digest import Digest, parse_digest
from multi_fetch.oci.media_types import is_media_type
from multi_fetch.oci.platform import parse_platform
from multi_fetch.oci.quote import quote
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.duration import parse_duration
from multi_fetch.protocol.names import IN_REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from multi_fetch.protocol.names import Names

BLANKS = re.compile(r"[ \t]+")
CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# containerd's hints, remotes.go: <type>:<content>
HINT = re.compile(r"(?P<type>[^:]+):(?P<content>.*)", re.DOTALL)
ID = re.compile(r"-?[0-9]{1,18}", re.ASCII)
SIZE = re.compile(r"[0-9]{1,18}", re.ASCII)
# As in RFC 9110, section 14.1.2, without its suffix form
RANGE = re.compile(r"(?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})?", re.ASCII)


class Children(Enum):
    """What is wanted of the tree below an object."""

    NONE = "none"
    ALL = "all"
    MANIFESTS = "manifests"
    BLOBS = "blobs"


class ByteRange(msgspec.Struct, frozen=True):
    """Bytes ``first`` to ``last`` of a blob, counted from 0; to its end where ``last`` is None."""

    first: int
    last: int | None = None

    def most_bytes(self, size: int | None) -> int | None:
        """How many bytes it has of an object of this size; None where nothing bounds them."""
        ends = [end for end in (self.last, None if size is None else size - 1) if end is not None]
        return max(0, min(ends) - self.first + 1) if ends else None


class Listing(Enum):
    """What is listed of a repository; each value is its control's verb."""

    TAGS = "tags"
    REFERRERS = "referrers"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One object that is asked for, and how it may be fetched; or a listing.

    Attributes:
        object: as it was written; of a listing, the control line without its hints.
        locator: its repository; empty for the run's own.
        tag: its tag, or empty.
        digest: its digest, or None; with a tag and a digest, the digest decides.
        media_types: from ``mediatype:`` hints, in their order: the first chooses the endpoint.
        size: from ``size:``, in bytes; the content must have it.
        is_content_wanted: False after ``content:none``: the descriptor alone.
        platform: from ``platform:``, normalised; an index is followed to its manifest.
        byte_range: from ``range:``; what comes then cannot be verified.
        children: from ``children:``, what of the tree below the object is wanted too.
        pin: from ``digest:``; what the object must resolve to.
        deadline_seconds: from ``deadline:``; time in a queue is not counted.
        listing: what is listed, of the repository or of what refers to the digest; None for an
            object.
        artifact_type: from ``artifacttype:``, of the referrers that are wanted; empty for all.
        ignored: the types of hints that are not known.
    """

    object: str
    locator: str = ""
    tag: str = ""
    digest: Digest | None = None
    media_types: tuple[str, ...] = ()
    size: int | None = None
    is_content_wanted: bool = True
    platform: Platform | None = None
    byte_range: ByteRange | None = None
    children: Children = Children.NONE
    pin: Digest | None = None
    deadline_seconds: float | None = None
    listing: Listing | None = None
    artifact_type: str = ""
    ignored: tuple[str, ...] = ()

    def is_plain(self) -> bool:
        """Whether it is for one object of the run's repository, by sha256, whole, and no more."""
        return (
            self.digest is not None
            and self.digest.startswith("sha256:")
            and self.is_content_wanted
            and self.children is Children.NONE
            and self.listing is None
            and self.byte_range is None
            and self.platform is None
            and not self.locator
            and (self.pin is None or self.pin == self.digest)
        )

    def reference(self, locator: str) -> Reference:
        """The whole reference of the object, or of what is listed.

        Args:
            locator: the run's repository, for what names none.
        """
        named = self.tag if self.digest is None else f"{self.tag}@{self.digest}"
        return Reference(self.locator or locator, named)


class Control(msgspec.Struct, frozen=True):
    """A line that asks for no object: ``!<verb> <argument> ...``."""

    verb: str
    arguments: tuple[str, ...] = ()


def parse_line(line: bytes, names: Names = IN_REPOSITORY) -> Request | Control | None:
    """Reads one line, with or without its LF or CRLF.

    Args:
        line: its bytes.
        names: how it names objects and repositories.

    Returns:
        A request, for an object or a listing; a control; or None for an empty line and a comment.

    Raises:
        InvalidRequestError: the line is too long, no UTF-8, or names no object or hint.
    """
    if len(line) > MAX_LINE_BYTES:
        raise InvalidRequestError(
            f"the line is longer than {MAX_LINE_BYTES} bytes: leave hints out"
        )
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            f"the line is not UTF-8 (at byte {error.start + 1}): write it so"
        ) from error
    text = text.removesuffix("\n").removesuffix("\r").strip(" \t")
    if not text or text.startswith("#"):
        return None
    if found := CONTROL_CHARACTER.search(text):
        raise InvalidRequestError(f"the line has a control character, {found[0]!r}: leave it out")
    first, *rest = BLANKS.split(text)
    if first == f"!{Listing.TAGS.value}":
        return _parse_tags(rest, names)
    if first == f"!{Listing.REFERRERS.value}":
        return _parse_referrers(rest, names)
    if first.startswith("!"):
        return Control(first[1:], tuple(rest))
    return parse_request(first, rest, names)


def parse_id(arguments: tuple[str, ...]) -> int:
    """Reads the one argument of ``!cancel``: an id, never 0.

    Raises:
        InvalidRequestError: it is not there, not alone, or no id.
    """
    if len(arguments) == 1 and ID.fullmatch(arguments[0]) and int(arguments[0]):
        return int(arguments[0])
    raise InvalidRequestError("!cancel takes one id: the number of a line, or of what it led to")


def parse_request(text: str, hints: Sequence[str], names: Names = IN_REPOSITORY) -> Request:
    """Reads an object and its hints, as a request line or a command line has them.

    Raises:
        InvalidRequestError: the object or a hint cannot be read; the message says which.
    """
    name = names.object(text)
    request = Request(object=text, locator=name.locator, tag=name.tag, digest=name.digest)
    request = _take_hints(request, hints, _HINTS)
    if request.byte_range is not None and request.children is not Children.NONE:
        raise InvalidRequestError(
            "the hints range: and children: do not go together: leave one out"
        )
    if request.byte_range is not None and request.platform is not None:
        raise InvalidRequestError(
            "the hints range: and platform: do not go together: leave one out"
        )
    if request.pin is not None and request.digest not in {None, request.pin}:
        raise InvalidRequestError(
            "the hint digest: differs from the digest that is asked for: leave one out"
        )
    return request


def _parse_tags(words: Sequence[str], names: Names) -> Request:
    locator, hints = names.repository(words)
    named = words[: len(words) - len(hints)]
    request = Request(object=" ".join(("!tags", *named)), locator=locator, listing=Listing.TAGS)
    return _take_hints(request, hints, _HINTS_OF_TAGS)


def _parse_referrers(words: Sequence[str], names: Names) -> Request:
    if not words:
        raise InvalidRequestError("!referrers takes a digest: what is listed refers to it")
    text, *hints = words
    name = names.object(text)
    if name.tag or name.digest is None:
        raise InvalidRequestError(
            f"!referrers takes a digest, not the tag in {quote(text)}: ask for that with"
            " content:none, and begin tells it"
        )
    request = Request(
        object=f"!referrers {text}",
        locator=name.locator,
        digest=name.digest,
        listing=Listing.REFERRERS,
    )
    return _take_hints(request, hints, _HINTS_OF_REFERRERS)


def _take_hints(
    request: Request,
    hints: Sequence[str],
    known: Mapping[str, Callable[[Request, str], Request]],
) -> Request:
    ignored: list[str] = []
    for hint in hints:
        match = HINT.fullmatch(hint)
        if match is None:
            raise InvalidRequestError(
                f"{quote(hint)} is not a hint: write <type>:<content>, as in size:1234"
            )
        take = known.get(match["type"])
        if take is not None:
            request = take(request, match["content"])
        elif request.listing is not None and match["type"] in _HINTS:
            raise InvalidRequestError(
                f"the hint {match['type']}: does not go with !{request.listing.value}: leave it out"
            )
        else:
            ignored.append(match["type"])
    return replace(request, ignored=tuple(ignored)) if ignored else request


def _media_type(request: Request, content: str) -> Request:
    if not is_media_type(content):
        raise InvalidRequestError(f"{quote(content)} is not a media type: write <type>/<subtype>")
    if len(request.media_types) >= MAX_MEDIA_TYPES:
        raise InvalidRequestError(
            f"the hint mediatype: is given more than {MAX_MEDIA_TYPES} times: give fewer"
        )
    return replace(request, media_types=(*request.media_types, content.lower()))


def _size(request: Request, content: str) -> Request:
    if not SIZE.fullmatch(content):
        raise InvalidRequestError(f"{quote(content)} is not a size: write a number of bytes")
    if request.size not in {None, int(content)}:
        raise InvalidRequestError("the hint size: is given twice, and differs: leave one out")
    return replace(request, size=int(content))


def _content(request: Request, content: str) -> Request:
    if content != "none":
        raise InvalidRequestError(
            f"the hint content: takes none, or is left out; here it is {quote(content)}"
        )
    return replace(request, is_content_wanted=False)


def _platform(request: Request, content: str) -> Request:
    return replace(request, platform=parse_platform(content))


def _range(request: Request, content: str) -> Request:
    match = RANGE.fullmatch(content)
    if match is None or (match["last"] and int(match["last"]) < int(match["first"])):
        raise InvalidRequestError(
            f"{quote(content)} is not a range: write <first>-<last> or <first>-, counted from 0"
        )
    last = int(match["last"]) if match["last"] else None
    return replace(request, byte_range=ByteRange(int(match["first"]), last))


def _children(request: Request, content: str) -> Request:
    if content not in {"all", "manifests", "blobs"}:
        raise InvalidRequestError(
            f"the hint children: takes all, manifests or blobs; here it is {quote(content)}"
        )
    return replace(request, children=Children(content))


def _digest(request: Request, content: str) -> Request:
    return replace(request, pin=parse_digest(content))


def _deadline(request: Request, content: str) -> Request:
    seconds = parse_duration(content)
    if not seconds:
        raise InvalidRequestError("the hint deadline: takes a duration above zero")
    return replace(request, deadline_seconds=seconds)


def _artifact_type(request: Request, content: str) -> Request:
    if not is_media_type(content):
        raise InvalidRequestError(f"{quote(content)} is not a media type: write <type>/<subtype>")
    return replace(request, artifact_type=content)


# A hint of another type is ignored, as in containerd's remotes package.
_HINTS: Final[Mapping[str, Callable[[Request, str], Request]]] = {
    "mediatype": _media_type,
    "size": _size,
    "content": _content,
    "platform": _platform,
    "range": _range,
    "children": _children,
    "digest": _digest,
    "deadline": _deadline,
}

# Those that go with a listing.
_HINTS_OF_TAGS: Final[Mapping[str, Callable[[Request, str], Request]]] = {"deadline": _deadline}
_HINTS_OF_REFERRERS: Final[Mapping[str, Callable[[Request, str], Request]]] = {
    "artifacttype": _artifact_type,
    "deadline": _deadline,
}
