"""The forms of frames: both say the same."""

from __future__ import annotations

import base64
import json

import msgpack  # type: ignore[import-untyped]
import pytest

from multi_fetch.errors import InternalError
from multi_fetch.limits import MAX_DATA_BYTES, MAX_JSON_LINE_BYTES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import digest_of
from multi_fetch.protocol.frames import Begin, Bye, Data, End, Error, Frame, Hello
from multi_fetch.protocol.wire import WIRES, JsonLinesWire, MessagePackWire

DESCRIPTOR = Descriptor(media_type="a/b", digest=digest_of(b"x"), size=None)

FRAMES: list[Frame] = [
    Hello(1, "host/repository", 1024, 589_824, ("cancel",), "multi-fetch 1"),
    Begin(1, "läst", DESCRIPTOR, "host/repository:x", None),
    Begin(-1, "@x", DESCRIPTOR, "host/repository:x", 1),
    Data(1, 7, b"\x00\xff\ncontent"),
    End(1, 9, digest_of(b"x"), 2),
    End(1, 9, None, 0),
    Error(0, "internal", "line\nbreak", False, {"status": 500, "ratelimit": {"a": "b"}}),
    Bye(3, 1, 2, 77, {"retries": 0}),
]


@pytest.mark.parametrize("frame", FRAMES)
def test_a_json_line_names_what_messagepack_counts(frame: Frame) -> None:
    line = JsonLinesWire().frame(frame)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    document = json.loads(line)
    kind, *elements = msgpack.unpackb(MessagePackWire().frame(frame)[4:])
    assert document.pop("frame") == kind
    if "content" in document:
        document["content"] = base64.b64decode(document["content"])
    assert list(document) == list(frame.__struct_fields__)
    assert list(document.values()) == elements


@pytest.mark.parametrize("wire", [each() for each in WIRES.values()])
@pytest.mark.parametrize("content", [b"", b"abc", bytes(70_000)])
def test_data_in_pieces_is_the_whole_frame(
    wire: MessagePackWire | JsonLinesWire, content: bytes
) -> None:
    for view in (content, bytearray(content), memoryview(content)):
        assert b"".join(wire.data(-3, 5, view)) == wire.frame(Data(-3, 5, content))


def test_messagepack_content_is_not_copied() -> None:
    content = bytes(1_000)
    assert MessagePackWire().data(1, 0, content)[-1] is content


def test_a_json_line_has_room_for_all_of_a_data_frame() -> None:
    longest = JsonLinesWire().frame(Data(-(2**63), 2**63 - 1, bytes(MAX_DATA_BYTES)))
    assert len(longest) <= MAX_JSON_LINE_BYTES


def test_a_json_line_that_is_too_long_is_not_written() -> None:
    told = "\0" * (MAX_JSON_LINE_BYTES // 6)
    with pytest.raises(InternalError, match="exceeds 700000"):
        JsonLinesWire().frame(Error(1, "internal", told, False, {}))
