"""Text from outside, made fit for a message: quoted, cut, and without what may be a password."""

from __future__ import annotations

import re
from typing import Final

# ``user:password@host/name`` is an old way to carry credentials. In a reference an @ stands before
# a digest alone, and those that are met in practice begin so.
DIGEST_START = re.compile(r"(?:sha256|sha384|sha512|blake3):")

# No reference has a query; a URL that somebody takes for one may be signed in it.
QUERY = re.compile(r"\?.+", re.DOTALL)

HIDDEN: Final = "'***'"


def may_hold_password(text: str) -> bool:
    """Whether an @ stands in the text with anything but a registered algorithm's digest behind."""
    return any(not DIGEST_START.match(rest) for rest in text.split("@")[1:])


def quote(part: str, whole: str = "", *, limit: int = 150) -> str:
    """The text in quotes, cut to ``limit`` characters; only asterisks where it must stay secret.

    Args:
        part: what the message is about.
        whole: the text that it was cut from, which decides for it too.
        limit: characters that are worth reading.
    """
    is_of_query = part and part in whole.partition("?")[2]
    if is_of_query or may_hold_password(part) or may_hold_password(whole):
        return HIDDEN
    part = QUERY.sub("?...", part)
    return repr(part) if len(part) <= limit else f"{part[:limit]!r}..."
