"""A short way to read the lines of a long list, a fifth of the cost of the long one.

It knows one form, ``sha256:<hex> [mediatype:<type>] [size:<bytes>]``. Any other, and what is wrong
in this one, is for ``request.parse_line``, which reads the same from what is read here.
"""

from __future__ import annotations

import re
from functools import lru_cache

from multi_fetch.oci.digest import Digest
from multi_fetch.oci.media_types import is_media_type
from multi_fetch.protocol.request import Request

PLAIN_LINE = re.compile(
    rb"(sha256:[a-f0-9]{64})(?: mediatype:([!-~]{3,255}))?(?: size:([0-9]{1,18}))?\r?\n?"
)


def parse_plain(line: bytes) -> Request | None:
    """Reads one line of a run for one repository; None where it is not of that form."""
    match = PLAIN_LINE.fullmatch(line)
    if match is None:
        return None
    digest, media_type, size = match.groups()
    media_types = () if media_type is None else _one_media_type(media_type)
    if media_types is None:
        return None
    text = digest.decode("ascii")
    return Request(
        object=text,
        digest=Digest(text),
        media_types=media_types,
        size=None if size is None else int(size),
    )


@lru_cache(maxsize=64)
def _one_media_type(content: bytes) -> tuple[str] | None:
    text = content.decode("ascii")
    return (text.lower(),) if is_media_type(text) else None
