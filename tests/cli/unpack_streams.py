"""Streams of frames to unpack."""

from __future__ import annotations

from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import Digest, digest_of
from multi_fetch.protocol.frames import Begin, Bye, Data, End, Error, Frame, Hello
from multi_fetch.protocol.framing import END_OF_STREAM, NEED_DATA, FrameDecoder, frame

HELLO = Hello(1, "registry.example/app", 1_024, 589_824, (), "multi-fetch 0.1.0")
BYE = Bye(0, 0, 0, 0, {})
NOT_FOUND = Error(
    9, "not-found", "no\x1b[31m such\nobject", retryable=False, detail={"status": 404}
)


def begin(
    request_id: int,
    content: bytes,
    name: str = "",
    *,
    digest: str = "",
    parent: int | None = None,
) -> Begin:
    found = Digest(digest) if digest else digest_of(content)
    descriptor = Descriptor(media_type="text/plain", digest=found, size=len(content))
    return Begin(request_id, name or str(found), descriptor, "registry.example/app:x", parent)


def whole(
    request_id: int,
    content: bytes,
    name: str = "",
    *,
    parent: int | None = None,
    children: int = 0,
) -> list[Frame]:
    data = [Data(request_id, 0, content)] if content else []
    end = End(request_id, len(content), digest_of(content), children)
    return [begin(request_id, content, name, parent=parent), *data, end]


def session(*frames: Frame) -> bytes:
    return b"".join(frame(value) for value in (HELLO, *frames, BYE))


def frames_of(stream: bytes) -> list[Frame]:
    """The whole frames of a stream, which may be cut."""
    decoder = FrameDecoder()
    decoder.feed(stream)
    frames: list[Frame] = []
    while (found := decoder.next_frame()) is not NEED_DATA:
        assert found is not END_OF_STREAM
        frames.append(found)
    return frames
