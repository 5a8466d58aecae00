"""Listings, from lines of bytes to what they mean (protocol.md, "Listings"); no I/O.

Whatever a worker wrote is read with care: the last line counts only with its LF.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from multi_fetch.errors import MalformedFrameError
from multi_fetch.oci.descriptor import Descriptor, decode_hook

if TYPE_CHECKING:
    from collections.abc import Iterator

_decoder = msgspec.json.Decoder(Descriptor, dec_hook=decode_hook)


class Lines:
    """Pieces of content in, whole lines out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Takes a piece, cut anywhere; gives the lines that it ends, without their LF."""
        *lines, rest = piece.split(b"\n")
        if lines:
            lines[0] = self._rest + lines[0]
        else:
            rest = self._rest + rest
        self._rest = rest
        yield from lines

    def feed_eof(self) -> None:
        """Takes the end.

        Raises:
            MalformedFrameError: it came within a line.
        """
        if self._rest:
            raise MalformedFrameError("a listing ends within a line")


def tag_of(line: bytes) -> str:
    """A line of ``!tags``.

    Raises:
        MalformedFrameError: it is no text.
    """
    try:
        return line.decode("ascii")
    except UnicodeDecodeError as error:
        raise MalformedFrameError("a line of a listing is no tag") from error


def referrer_of(line: bytes) -> Descriptor:
    """A line of ``!referrers``.

    Raises:
        MalformedFrameError: it is no descriptor.
    """
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedFrameError(f"a line of a listing is no descriptor: {error}") from error
