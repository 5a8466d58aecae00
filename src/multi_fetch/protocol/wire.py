"""The forms in which frames go out: MessagePack with a length in front, or a JSON object a line."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from multi_fetch.errors import InternalError
from multi_fetch.limits import MAX_JSON_LINE_BYTES
from multi_fetch.oci.descriptor import encode_hook
from multi_fetch.protocol.framing import data_head, frame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multi_fetch.oci.digest import Chunk
    from multi_fetch.protocol.frames import Frame


class Wire(Protocol):
    """How a frame becomes bytes."""

    def frame(self, value: Frame) -> bytes:
        """A whole frame.

        Raises:
            InternalError: it is longer than every parent was told to expect.
        """

    def data(self, request_id: int, offset: int, content: Chunk) -> tuple[Chunk, ...]:
        """A data frame, in pieces, so that content need not be copied."""


class MessagePackWire:
    """Length-prefixed MessagePack: the protocol's own form."""

    def frame(self, value: Frame) -> bytes:
        """A whole frame."""
        return frame(value)

    def data(self, request_id: int, offset: int, content: Chunk) -> tuple[Chunk, ...]:
        """A head and the content as it is."""
        return data_head(request_id, offset, len(content)), content


class JsonLinesWire:
    """One JSON object a line: ``frame`` has the kind, the other names are the elements'."""

    def frame(self, value: Frame) -> bytes:
        """A line."""
        fields = msgspec.structs.asdict(value)
        return _json_line({"frame": value.__struct_config__.tag, **fields})

    def data(self, request_id: int, offset: int, content: Chunk) -> tuple[Chunk, ...]:
        """A line, the content in base64."""
        line = {
            "frame": "data",
            "id": request_id,
            "offset": offset,
            "content": b64encode(content).decode(),
        }
        return (_json_line(line),)


def _json_line(document: Mapping[str, object]) -> bytes:
    line = msgspec.json.encode(document, enc_hook=encode_hook) + b"\n"
    if len(line) > MAX_JSON_LINE_BYTES:
        raise InternalError(f"a line of {len(line)} bytes exceeds {MAX_JSON_LINE_BYTES}")
    return line


WIRES: Final[Mapping[str, type[MessagePackWire | JsonLinesWire]]] = {
    "msgpack": MessagePackWire,
    "jsonl": JsonLinesWire,
}
