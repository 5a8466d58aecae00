"""The Range header of a request for one range of bytes (RFC 9110, section 14.1.2)."""

from __future__ import annotations

import re

# ranges-specifier = "bytes" "=" first-pos "-" [ last-pos ] / "bytes" "=" "-" suffix-length
# A list of ranges is allowed to be ignored, and is.
RANGE = re.compile(r"bytes=(?P<first>[0-9]*)-(?P<last>[0-9]*)", re.ASCII | re.IGNORECASE)


class UnsatisfiableRangeError(ValueError):
    """The range begins behind the content's last byte: 416."""


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Reads a Range header for content of ``size`` bytes.

    Returns:
        The offset of the first byte and the number of bytes; or None where the header is to be
        ignored, since it is empty, malformed, or asks for several ranges.

    Raises:
        UnsatisfiableRangeError: no byte of the content lies in the range.
    """
    match = RANGE.fullmatch(header.strip())
    if match is None or not (match["first"] or match["last"]):
        return None
    if not match["first"]:
        count = min(int(match["last"]), size)
        first, last = size - count, size - 1
    else:
        first = int(match["first"])
        last = int(match["last"] or size)
        if last < first:
            return None
        last = min(last, size - 1)
    if first > last:
        raise UnsatisfiableRangeError(f"{header!r} of {size} bytes")
    return first, last - first + 1
