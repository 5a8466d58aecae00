"""What the unpacker makes of a stream, and which streams it refuses."""

from __future__ import annotations

import os
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from multi_fetch.cli.unpack_session import CUT, Answer, Line, Unpacker
from multi_fetch.errors import MalformedFrameError
from multi_fetch.limits import MAX_KEPT_BEGIN_BYTES
from multi_fetch.oci.digest import digest_of
from multi_fetch.protocol.frames import Begin, Data, End, Error, File, Hello, decode, encode
from tests.cli.unpack_streams import BYE, HELLO, NOT_FOUND, begin, whole

if TYPE_CHECKING:
    from pathlib import Path

    from multi_fetch.protocol.frames import Frame


# More than is read at once.
LARGE = bytes(range(256)) * 3_000


class Kept:
    """A sink that remembers, and whose disk may be full."""

    def __init__(self, full_for: int = 0) -> None:
        self.content: dict[int, bytes] = {}
        self.kept: dict[int, bytes] = {}
        self.lines: list[Line] = []
        self.full_for = full_for

    def write(self, answer: Answer, content: bytes) -> None:
        if answer.begin.id == self.full_for:
            raise OSError(28, "No space left on device")
        self.content[answer.begin.id] = self.content.get(answer.begin.id, b"") + content

    def keep(self, answer: Answer, end: End) -> None:
        self.kept[end.id] = self.content.pop(end.id, b"")

    def drop(self, line: Line) -> None:
        self.content.pop(line.id, None)
        self.lines.append(line)

    def errors(self) -> list[tuple[int, str | None]]:
        return [(line.id, line.error) for line in self.lines]


class Taken:
    def __init__(self, *frames: Frame, full_for: int = 0) -> None:
        self.sink = Kept(full_for)
        self.said: list[str] = []
        self.unpacker = Unpacker(self.sink, self.said.append)
        for frame in frames:
            self.unpacker.take(frame)


def test_objects_that_interleave_are_each_put_together_in_order() -> None:
    done = Taken(
        HELLO,
        begin(1, b"abcd"),
        begin(2, b"xy"),
        Data(1, 0, b"ab"),
        Data(2, 0, b"x"),
        Data(1, 2, b"cd"),
        Data(2, 1, b"y"),
        End(2, 2, digest_of(b"xy"), 0),
        End(1, 4, digest_of(b"abcd"), 0),
        BYE,
    )
    assert done.sink.kept == {1: b"abcd", 2: b"xy"}
    assert done.unpacker.is_over
    assert done.unpacker.failed == 0


def test_content_in_a_file_is_verified_like_what_was_sent(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(LARGE)

    def told(name: str, size: int = len(LARGE)) -> list[Frame]:
        end = End(1, size, digest_of(LARGE), 0)
        return [HELLO, begin(1, LARGE), File(1, name, size), end, BYE]

    assert Taken(*told(str(path))).sink.kept == {1: LARGE}
    assert Taken(*told(str(path), len(LARGE) - 1)).sink.errors() == [(1, "digest-mismatch")]
    path.write_bytes(LARGE[:-1] + b"x")
    assert Taken(*told(str(path))).sink.errors() == [(1, "digest-mismatch")]
    path.write_bytes(LARGE[:-1])
    assert Taken(*told(str(path))).sink.errors() == [(1, "size-mismatch")]


def test_a_file_of_which_nothing_is_proved_is_not_taken(tmp_path: Path) -> None:
    """A stream from elsewhere might name any file that is here."""
    path = tmp_path / "private"
    path.write_bytes(b"secret")
    done = Taken(HELLO, begin(1, b"x"), File(1, str(path), 6))
    with pytest.raises(MalformedFrameError, match="has no digest"):
        done.unpacker.take(End(1, 6, None, 0))
    done.unpacker.cut()
    assert done.sink.kept == {}


def test_a_file_that_is_none_costs_its_object_alone(tmp_path: Path) -> None:
    """And a stream that names a FIFO or a device holds nobody up."""
    os.mkfifo(tmp_path / "fifo")
    for name in (str(tmp_path / "fifo"), "/dev/zero", str(tmp_path), str(tmp_path / "nope")):
        end = End(1, 1, digest_of(b"x"), 0)
        done = Taken(HELLO, begin(1, b"x"), File(1, name, 1), end, *whole(2, b"y"), BYE)
        assert done.sink.errors() == [(1, "internal")]
        assert done.sink.kept == {2: b"y"}


def test_children_are_objects_like_others() -> None:
    done = Taken(
        HELLO,
        *whole(1, b"index", children=1),
        *whole(-1, b"child", parent=1),
        BYE,
    )
    assert done.sink.kept == {1: b"index", -1: b"child"}


def test_a_failure_says_what_and_why_and_drops_what_had_come() -> None:
    done = Taken(
        HELLO,
        begin(3, b"abcd", "v1"),
        Data(3, 0, b"ab"),
        Error(3, "unavailable", "reset", retryable=True, detail={"bytes_sent": 2}),
        NOT_FOUND,
        BYE,
    )
    assert done.sink.kept == done.sink.content == {}
    first, second = done.sink.lines
    assert (first.id, first.error, first.size, first.object) == (3, "unavailable", 2, "v1")
    assert (first.retryable, first.detail, first.message) == (True, {"bytes_sent": 2}, "reset")
    assert (second.id, second.error, second.object) == (9, "not-found", None)
    assert done.said[0] == "3 (v1): unavailable: reset"
    assert done.unpacker.failed == 2


def test_an_error_of_the_worker_itself_is_a_failure() -> None:
    done = Taken(HELLO, Error(0, "internal", "a fault", retryable=False, detail={}), BYE)
    assert done.unpacker.failed == 1
    assert done.said == ["the worker: internal: a fault"]


def test_content_that_was_altered_in_the_pipe_is_not_kept() -> None:
    altered: list[Frame] = [
        begin(1, b"abcd"),
        Data(1, 0, b"abcX"),
        End(1, 4, digest_of(b"abcd"), 0),
    ]
    done = Taken(HELLO, *altered, *whole(2, b"fine"), BYE)
    assert done.sink.kept == {2: b"fine"}
    assert done.sink.errors() == [(1, "digest-mismatch")]


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (End(1, 3, digest_of(b"abcd"), 0), "size-mismatch"),
        (End(1, 4, digest_of(b"other"), 0), "digest-mismatch"),
    ],
)
def test_an_end_that_does_not_fit_its_content_fails_the_object(end: End, code: str) -> None:
    done = Taken(HELLO, begin(1, b"abcd"), Data(1, 0, b"abcd"), end, BYE)
    assert done.sink.kept == {}
    assert done.sink.errors() == [(1, code)]


def test_a_digest_that_cannot_be_computed_here_is_not_believed() -> None:
    opened = begin(1, b"abcd", digest="md+5.x:abc_-=")
    done = Taken(HELLO, opened, Data(1, 0, b"abcd"), End(1, 4, opened.descriptor.digest, 0), BYE)
    assert done.sink.kept == {}
    assert done.sink.errors() == [(1, "unsupported")]


def test_a_range_is_kept_though_nobody_can_verify_it() -> None:
    opened = begin(1, b"abcd", digest="md+5.x:abc_-=")
    done = Taken(HELLO, opened, Data(1, 0, b"bc"), End(1, 2, None, 0), BYE)
    assert done.sink.kept == {1: b"bc"}
    assert done.unpacker.failed == 0


def test_what_cannot_be_written_costs_its_object_alone_and_is_told_once() -> None:
    content: list[Frame] = [Data(1, 0, b"ab"), Data(1, 2, b"cd"), End(1, 4, digest_of(b"abcd"), 0)]
    done = Taken(HELLO, begin(1, b"abcd"), *content, *whole(2, b"fine"), BYE, full_for=1)
    assert done.sink.kept == {2: b"fine"}
    assert done.said == [
        f"1 ({digest_of(b'abcd')}): internal: No space left on device; make room there"
    ]
    error = Error(1, "timeout", "late", retryable=True, detail={})
    done = Taken(HELLO, begin(1, b"abcd"), content[0], error, BYE, full_for=1)
    assert done.unpacker.failed == 1


def test_what_the_stream_did_not_get_to_the_end_of_has_failed() -> None:
    done = Taken(HELLO, begin(1, b"abcd"), Data(1, 0, b"ab"), begin(2, b"x"))
    done.unpacker.cut()
    assert not done.unpacker.is_over
    assert done.sink.errors() == [(1, CUT), (2, CUT)]
    assert done.sink.content == {}


def test_what_was_announced_and_did_not_come_has_failed() -> None:
    done = Taken(HELLO, *whole(1, b"index", children=3), *whole(-1, b"child", parent=1))
    done.unpacker.cut()
    assert done.said == ["1: cut: 2 of what its end announced never came"]
    assert done.unpacker.failed == 2
    assert done.sink.kept == {1: b"index", -1: b"child"}


def noted(number: int, size: int, key: str = "a") -> Begin:
    """A begin whose descriptor has so many bytes of annotations."""
    opened = begin(number, b"x")
    return replace(opened, descriptor=replace(opened.descriptor, annotations={key: "n" * size}))


def test_annotations_are_kept_until_they_are_too_many_at_a_time() -> None:
    fit = MAX_KEPT_BEGIN_BYTES // 2 // 60_000
    opened = [noted(number, 60_000) for number in range(1, fit + 2)]
    done = Taken(HELLO, *opened)
    done.unpacker.cut()
    shown = [
        line.descriptor is not None and line.descriptor.annotations for line in done.sink.lines
    ]
    assert shown[:-2] == [each.descriptor.annotations for each in opened[:-2]]
    assert shown[-1] == {}
    again = Taken(HELLO, *(each for one in opened for each in (one, End(one.id, 0, None, 0))))
    assert again.unpacker.failed == 0


def test_names_that_fill_more_than_their_bound_are_refused() -> None:
    opened = replace(begin(1, b"x"), name="n" * 4_700)
    fit = MAX_KEPT_BEGIN_BYTES // len(encode(replace(opened, id=1_000)))
    widest = replace(HELLO, window=10_000)
    done = Taken(widest, *(replace(opened, id=number) for number in range(1_000, 1_000 + fit)))
    with pytest.raises(MalformedFrameError, match="is not kept here"):
        done.unpacker.take(replace(opened, id=1))


def test_what_is_open_takes_little_more_than_its_begin_packed_whatever_its_digest() -> None:
    """A begin as values may take ten times as much, and 16,384 of them may be open."""
    frames = [begin(number, b"x", digest="blake9:ab") for number in range(1, 201)]
    widest = [replace(frame, name="n" * 4_000) for frame in frames]
    packed_bytes = sum(len(encode(frame)) for frame in widest)
    tracemalloc.start()
    try:
        opened = [Answer(decoded_anew(frame)) for frame in widest]
        kept_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(opened) == len(widest)
    assert kept_bytes < packed_bytes + 1_000 * len(opened)


def decoded_anew(frame: Begin) -> Begin:
    again = decode(encode(frame))
    assert isinstance(again, Begin)
    return again


ONE = begin(1, b"abcd")
AGAIN = Begin(1, ONE.object, ONE.descriptor, ONE.name, None)


@pytest.mark.parametrize(
    "frames",
    [
        [BYE],
        [ONE],
        [HELLO, HELLO],
        [Hello(2, "r", 1, 589_824, (), "")],
        [HELLO, ONE, AGAIN],
        [HELLO, begin(0, b"")],
        [HELLO, Data(1, 0, b"x")],
        [HELLO, End(1, 0, None, 0)],
        [HELLO, ONE, Data(1, 1, b"x")],
        [HELLO, ONE, Data(1, 0, b"x"), Data(1, 0, b"x")],
        [HELLO, *whole(1, b"x"), Data(1, 1, b"y")],
        [HELLO, *whole(1, b"x"), End(1, 1, None, 0)],
        [HELLO, ONE, BYE],
        [HELLO, BYE, BYE],
        [HELLO, BYE, ONE],
        [HELLO, BYE, HELLO],
    ],
)
def test_a_frame_out_of_place_ends_the_stream(frames: list[Frame]) -> None:
    done = Taken(*frames[:-1])
    with pytest.raises(MalformedFrameError):
        done.unpacker.take(frames[-1])
