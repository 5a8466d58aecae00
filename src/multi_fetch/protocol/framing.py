"""Frames as bytes.

A frame is a uint32 big-endian length, then that many bytes of MessagePack. The decoder takes one
whole frame or nothing; the length is judged before any payload is buffered. A data frame can be
written as a head and its content, so that content is never copied: byte for byte what ``frame``
gives.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal

from multi_fetch.errors import CutStreamError, InternalError, MalformedFrameError
from multi_fetch.limits import MAX_FRAME_BYTES, MAX_FRAME_OVERHEAD_BYTES
from multi_fetch.protocol.frames import Data, Frame, Hello, decode, encode

if TYPE_CHECKING:
    from multi_fetch.oci.digest import Chunk

LENGTH: Final = struct.Struct(">I")

# MessagePack spec, "Formats": a 4-element fixarray, then the fixstr "data".
_DATA_HEAD: Final = b"\x94\xa4data"


class _Need(Enum):
    DATA = "data"
    END = "end"


NEED_DATA: Final = _Need.DATA
END_OF_STREAM: Final = _Need.END


def frame(value: Frame) -> bytes:
    """A frame with its length prefix.

    Raises:
        InternalError: it is longer than every parent was told to expect.
    """
    payload = encode(value)
    limit = MAX_FRAME_BYTES if isinstance(value, Data) else MAX_FRAME_OVERHEAD_BYTES
    if len(payload) > limit:
        raise InternalError(f"a frame of {len(payload)} bytes exceeds the limit of {limit}")
    return LENGTH.pack(len(payload)) + payload


def data_head(request_id: int, offset: int, size: int) -> bytes:
    """All of a data frame that stands before its ``size`` bytes of content."""
    head = _DATA_HEAD + _integer(request_id) + _integer(offset) + _bin_head(size)
    return LENGTH.pack(len(head) + size) + head


def _integer(value: int) -> bytes:
    if 0 <= value < 0x80:
        return bytes((value,))
    if -0x20 <= value < 0:
        return bytes((value & 0xFF,))
    if value < 0:
        for code, form, bits in ((0xD0, ">Bb", 7), (0xD1, ">Bh", 15), (0xD2, ">Bi", 31)):
            if value >= -(1 << bits):
                return struct.pack(form, code, value)
        return struct.pack(">Bq", 0xD3, value)
    for code, form, bits in ((0xCC, ">BB", 8), (0xCD, ">BH", 16), (0xCE, ">BI", 32)):
        if value < 1 << bits:
            return struct.pack(form, code, value)
    return struct.pack(">BQ", 0xCF, value)


def _bin_head(size: int) -> bytes:
    if size < 0x100:
        return struct.pack(">BB", 0xC4, size)
    if size < 0x10000:
        return struct.pack(">BH", 0xC5, size)
    return struct.pack(">BI", 0xC6, size)


class FrameDecoder:
    """Bytes in, frames out; sans-IO.

    ``feed`` bytes as they come, then call ``next_frame`` until it says NEED_DATA. After
    ``feed_eof`` it says END_OF_STREAM once all is taken. An error is final.

    Args:
        max_frame_bytes: the longest frame to accept; hello may make it less.
        max_other_bytes: the longest one that carries no content. A decoder need not judge that,
            but who keeps what is in such frames should (protocol.md, section 9).
    """

    def __init__(
        self, max_frame_bytes: int = MAX_FRAME_BYTES, max_other_bytes: int = MAX_FRAME_BYTES
    ) -> None:
        self.max_frame_bytes = max_frame_bytes
        self._max_other_bytes = max_other_bytes
        self._buffer = bytearray()
        self._position = 0
        self._is_at_eof = False

    def feed(self, data: Chunk) -> None:
        """Takes the next bytes of the stream, cut anywhere."""
        if self._position:
            del self._buffer[: self._position]
            self._position = 0
        self._buffer += data

    def feed_eof(self) -> None:
        """Says that no more bytes will come."""
        self._is_at_eof = True

    def next_frame(self) -> Frame | Literal[_Need.DATA, _Need.END]:
        """The next frame, skipping those of unknown kinds; or what is needed to go on.

        Raises:
            MalformedFrameError: the bytes are no frame, or one longer than allowed.
            CutStreamError: the stream ended within a frame.
        """
        while True:
            payload = self._take_payload()
            if isinstance(payload, _Need):
                return payload
            found = decode(payload)
            if found is None:
                continue
            if len(payload) > self._max_other_bytes and not isinstance(found, Data):
                raise MalformedFrameError(
                    f"a frame without content has {len(payload)} bytes, and the limit is"
                    f" {self._max_other_bytes}"
                )
            if isinstance(found, Hello):
                self.max_frame_bytes = min(self.max_frame_bytes, found.max_frame)
            return found

    def _take_payload(self) -> bytes | Literal[_Need.DATA, _Need.END]:
        available = len(self._buffer) - self._position
        if available < LENGTH.size:
            return self._starved(available)
        (length,) = LENGTH.unpack_from(self._buffer, self._position)
        if length > self.max_frame_bytes:
            raise MalformedFrameError(
                f"a frame of {length} bytes is longer than {self.max_frame_bytes}: this is no"
                " stream of frames, or the decoder's limit is below hello's max_frame"
            )
        start = self._position + LENGTH.size
        if available < LENGTH.size + length:
            return self._starved(available)
        self._position = start + length
        return bytes(memoryview(self._buffer)[start : start + length])

    def _starved(self, available: int) -> Literal[_Need.DATA, _Need.END]:
        if not self._is_at_eof:
            return NEED_DATA
        if available:
            raise CutStreamError(f"the stream ends within a frame, {available} bytes into it")
        return END_OF_STREAM
