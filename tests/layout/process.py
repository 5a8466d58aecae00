"""The worker as a process, its frames gathered by request; also those of children and ranges."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import digest_of
from multi_fetch.protocol.frames import Begin, Data, End, Error
from multi_fetch.protocol.framing import END_OF_STREAM, NEED_DATA, FrameDecoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from multi_fetch.protocol.frames import Frame

MULTI_FETCH: Final = str(Path(sys.executable).with_name("multi-fetch"))


class Got(msgspec.Struct):
    """What came for one id, but for the remote's name and for words."""

    object: str = ""
    descriptor: Descriptor | None = None
    content: bytearray = msgspec.field(default_factory=bytearray)
    digest: str | None = None
    children: int = 0
    outcome: str = "nothing"


def ask(remote: str, *lines: str) -> tuple[dict[int, Got], int]:
    """What comes for the lines, by id, and the exit status. What is verified is hashed again."""
    command = [MULTI_FETCH, "--jobs", "1", "--ordered", "--log-level", "error", remote]
    stdin = "".join(f"{line}\n" for line in lines).encode()
    done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=60)
    found: dict[int, Got] = {}
    for frame in _frames(done.stdout):
        match frame:
            case Begin():
                got = found.setdefault(frame.id, Got())
                got.object, got.descriptor = frame.object, frame.descriptor
            case Data():
                found[frame.id].content += frame.content
            case End():
                got = found[frame.id]
                got.digest, got.children, got.outcome = frame.digest, frame.children, "end"
                if frame.digest is not None:
                    algorithm = frame.digest.partition(":")[0]
                    assert digest_of(got.content, algorithm) == frame.digest
            case Error():
                found.setdefault(frame.id, Got()).outcome = frame.code
            case _:
                pass
    return found, done.returncode


def _frames(data: bytes) -> Iterator[Frame]:
    decoder = FrameDecoder()
    decoder.feed(data)
    decoder.feed_eof()
    while (frame := decoder.next_frame()) is not END_OF_STREAM:
        assert frame is not NEED_DATA
        yield frame
