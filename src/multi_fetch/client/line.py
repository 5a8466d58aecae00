"""Request lines, written: no part of one can add a hint, a line or a control (protocol.md, 10)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from multi_fetch.errors import InvalidRequestError
from multi_fetch.limits import MAX_LINE_BYTES
from multi_fetch.oci.quote import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

# What ends a part or a line there: blanks, LF, CR, and the controls that the grammar refuses.
SEPARATOR = re.compile(r"[\x00-\x20\x7f]")


# protocol.md, "Listings"
TAGS: Final = "!tags"
REFERRERS: Final = "!referrers"


def tags_words(repository: str) -> tuple[str, ...]:
    """The words that ask for a listing of tags; a repository where the remote is ``-``."""
    return (TAGS, repository) if repository else (TAGS,)


def referrers_words(digest: str, artifact_type: str) -> tuple[str, ...]:
    """The words that ask for a listing of what refers to a digest."""
    kind = (f"artifacttype:{artifact_type}",) if artifact_type else ()
    return (REFERRERS, digest, *kind)


def listing_line(words: Sequence[str]) -> bytes:
    """The line of a listing, with its LF; as ``request_line``.

    Raises:
        InvalidRequestError: as for ``request_line``.
    """
    return _line(words)


def request_line(asked: str, hints: Sequence[str]) -> bytes:
    """The line that asks for an object, with its LF. What object and hints mean is not judged.

    Raises:
        InvalidRequestError: a part is empty, has a blank or control character or is not Unicode
            text; the object begins as a comment or control does; or the line is too long.
    """
    if asked and asked[0] in "#!":
        raise InvalidRequestError(f"{quote(asked)} is not an object: it begins with {asked[0]}")
    return _line((asked, *hints))


def _line(parts: Sequence[str]) -> bytes:
    for part in parts:
        if not part or SEPARATOR.search(part):
            raise InvalidRequestError(
                f"{quote(part)} cannot stand in a request: give the object and each hint as an"
                " argument of its own, without blanks"
            )
    try:
        line = " ".join(parts).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequestError("the request is not Unicode text") from error
    if len(line) > MAX_LINE_BYTES:
        raise InvalidRequestError(f"the request is longer than {MAX_LINE_BYTES} bytes")
    return line + b"\n"
