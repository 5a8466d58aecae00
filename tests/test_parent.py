"""The tests' own parent: it takes good streams, and no broken one."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import sys
from pathlib import Path

import msgpack  # type: ignore[import-untyped]  # it ships no types
import pytest

from tests import parent
from tests.parent import Asked, Decoder, Parent, ProtocolViolationError, asked_by, read_stream, run
from tests.vectors import make

FOLDER = Path(make.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.bin"))

HELLO = ["hello", 1, "r.example/a", 8, 589_824, [], "s 1"]
ABC = b"abc"
DIGEST = f"sha256:{hashlib.sha256(ABC).hexdigest()}"
DESCRIBED = {"mediaType": "application/octet-stream", "digest": DIGEST, "size": 3}


def begin(number: int, **changes: object) -> list[object]:
    return ["begin", number, "a", {**DESCRIBED, **changes}, "r.example/a:a", None]


def data(number: int, content: bytes = ABC, offset: int = 0) -> list[object]:
    return ["data", number, offset, content]


def file(number: int, path: str = "/store/abc", size: int = 3) -> list[object]:
    return ["file", number, path, size]


def end(number: int, size: int = 3, digest: str | None = DIGEST, children: int = 0) -> list[object]:
    return ["end", number, size, digest, children]


def below(number: int, parent: int, content: bytes = ABC, **changes: object) -> list[object]:
    """The begin of an id below 0."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    described = {**DESCRIBED, "digest": digest, "size": len(content), **changes}
    return ["begin", number, digest, described, "r.example/a", parent]


def error(number: int, code: str = "not-found", **detail: object) -> list[object]:
    return ["error", number, code, "why", False, {"bytes_sent": 0, **detail}]


def bye(requests: int, succeeded: int, sent: int) -> list[object]:
    return ["bye", requests, succeeded, requests - succeeded, sent, {}]


def stream(*frames: list[object]) -> bytes:
    payloads = [msgpack.packb(frame) for frame in frames]
    return b"".join(struct.pack(">I", len(payload)) + payload for payload in payloads)


def large(number: int) -> tuple[list[object], list[list[object]], list[object]]:
    content = bytes(parent.MAX_DATA + 1)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    pieces = [
        data(number, content[: parent.MAX_DATA]),
        data(number, b"\0", parent.MAX_DATA),
    ]
    return (
        begin(number, size=len(content), digest=digest),
        pieces,
        end(number, len(content), digest),
    )


def decoded(name: str, size: int) -> tuple[list[parent.Frame], bool]:
    decoder = Decoder()
    frames: list[parent.Frame] = []
    stream = (FOLDER / f"{name}.bin").read_bytes()
    try:
        for start in range(0, len(stream), size):
            frames += decoder.feed(stream[start : start + size])
        decoder.feed_eof()
    except ProtocolViolationError:
        return frames, True
    return frames, False


def meaning(frame: parent.Frame) -> list[object]:
    kind = type(frame).__name__.lower()
    values: list[object] = [kind, *vars(frame).values()]
    return [simplified(value) for value in values]


def simplified(value: object) -> object:
    if isinstance(value, bytes) and len(value) > 1_024:
        return {"size": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    return value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 7, 1_000_000])
def test_its_decoder_passes_the_vectors(name: str, size: int) -> None:
    if size < 10 and (FOLDER / f"{name}.bin").stat().st_size > 100_000:
        size = 4_001
    wanted = json.loads((FOLDER / f"{name}.json").read_bytes())
    frames, is_refused = decoded(name, size)
    assert is_refused is ("error" in wanted)
    assert [meaning(frame) for frame in frames] == wanted["frames"]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("session-")])
def test_it_takes_whole_sessions(name: str) -> None:
    session = read_stream((FOLDER / f"{name}.bin").read_bytes())
    assert session.bye is not None
    assert session.open_ids == []


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("breach-")])
def test_it_refuses_every_breach(name: str) -> None:
    with pytest.raises(ProtocolViolationError):
        read_stream((FOLDER / f"{name}.bin").read_bytes())


def test_it_gives_the_answer_of_each_id() -> None:
    session = read_stream(
        stream(HELLO, begin(1), data(1), end(1), error(3, "denied", status=403), bye(2, 1, 3)),
        asked={1: Asked("a"), 3: Asked("b")},
    )
    first, third = session.answers[1], session.answers[3]
    assert (bytes(first.content), first.is_verified, first.code) == (ABC, True, "")
    assert first.descriptor["digest"] == DIGEST
    assert (third.code, third.error is not None and third.error.detail["status"]) == ("denied", 403)


def test_it_takes_content_none_and_an_empty_object() -> None:
    nothing = f"sha256:{hashlib.sha256(b'').hexdigest()}"
    session = read_stream(
        stream(
            HELLO,
            begin(1),
            end(1, 0, None),
            begin(2, digest=nothing, size=0),
            end(2, 0, nothing),
            bye(2, 2, 0),
        ),
        asked={1: Asked("a", ("content:none",)), 2: Asked("a")},
    )
    assert session.answers[2].is_verified


MANIFEST = "application/vnd.oci.image.manifest.v1+json"
# An object that has two below it.
TREE = (begin(1), data(1), end(1, children=2))


def test_a_tree_is_told_from_its_root_to_its_last_leaf() -> None:
    session = read_stream(
        stream(
            HELLO,
            *TREE,
            below(-2, 1, b"m", mediaType=MANIFEST),
            data(-2, b"m"),
            end(-2, 1, f"sha256:{hashlib.sha256(b'm').hexdigest()}", 1),
            error(-1, object=DIGEST, parent=1),
            error(-3, "cancelled", object="sha256:00", parent=-2),
            bye(4, 2, 4),
        ),
        asked={1: Asked("a", ("children:all",))},
    )
    found = [(each.id, each.parent, each.root) for each in session.answers.values()]
    assert found == [(1, None, 1), (-2, 1, 1), (-1, 1, 1), (-3, -2, 1)]
    assert session.answers[-2].is_verified


def test_the_same_digest_may_be_below_two_roots() -> None:
    one, two = (
        [begin(root), data(root), end(root, children=1), error(-root, object="d", parent=root)]
        for root in (1, 2)
    )
    session = read_stream(stream(HELLO, *one, *two, bye(4, 2, 6)))
    assert session.answers[-2].root == 2


NOTHING = f"sha256:{hashlib.sha256(b'').hexdigest()}"
LISTED = [begin(1), end(1, 0, None, 1), below(-1, 1, mediaType=MANIFEST), end(-1, 0, None)]
NAMED = [*TREE[:2], end(1, children=1), below(-1, 1, mediaType=MANIFEST), end(-1, 0, None)]
SENT = [*TREE[:2], end(1, children=1), below(-1, 1, mediaType=MANIFEST), data(-1), end(-1)]
BLOB = [*TREE[:2], end(1, children=1), below(-1, 1), data(-1), end(-1)]


@pytest.mark.parametrize(
    ("frames", "sent", "hints", "others"),
    [
        (LISTED, 0, ("children:all", "content:none"), ("children:all",)),
        (NAMED, 3, ("children:blobs",), ("children:manifests",)),
        (SENT, 6, ("children:manifests",), ("children:blobs",)),
        (BLOB, 6, ("children:all",), ("children:manifests",)),
        (BLOB, 6, ("children:manifests", "children:blobs"), ()),
    ],
)
def test_below_a_root_comes_what_was_asked_for_and_nothing_else(
    frames: list[list[object]], sent: int, hints: tuple[str, ...], others: tuple[str, ...]
) -> None:
    whole = stream(HELLO, *frames, bye(2, 2, sent))
    read_stream(whole, asked={1: Asked("a", hints)})
    with pytest.raises(ProtocolViolationError, match="for Asked"):
        read_stream(whole, asked={1: Asked("a", others)})


@pytest.mark.parametrize(
    ("hint", "content", "size"),
    [
        ("range:0-2", b"abc", 3),
        ("range:1-", b"bc", 3),
        ("range:1-1", b"b", 3),
        ("range:1-90", b"bc", 3),
        ("range:1-90", b"bc", None),
        ("range:2-", b"c", None),
    ],
)
def test_a_range_has_its_bytes_and_no_digest(hint: str, content: bytes, size: int | None) -> None:
    def told(sent: bytes, digest: str | None = None) -> bytes:
        frames = [begin(1, size=size), data(1, sent), end(1, len(sent), digest)]
        return stream(HELLO, *frames, bye(1, 1, len(sent)))

    asked = {1: Asked("a", (hint,))}
    answer = read_stream(told(content), asked=asked).answers[1]
    assert (bytes(answer.content), answer.is_verified) == (content, False)
    if size is not None:
        with pytest.raises(ProtocolViolationError, match="another range"):
            read_stream(told(content + b"x"), asked=asked)
        with pytest.raises(ProtocolViolationError, match="for Asked"):
            read_stream(told(ABC, DIGEST), asked=asked)


def test_a_range_longer_than_asked_for_is_refused_where_the_size_is_not_known() -> None:
    frames = [begin(1, size=None), data(1), end(1, 3, None), bye(1, 1, 3)]
    with pytest.raises(ProtocolViolationError, match="another range"):
        read_stream(stream(HELLO, *frames), asked={1: Asked("a", ("range:7-8",))})


def test_content_none_beside_a_range_is_stronger() -> None:
    asked = Asked("a", ("range:0-1", "content:none"))
    assert asked.part is None
    read_stream(stream(HELLO, begin(1), end(1, 0, None), bye(1, 1, 0)), asked={1: asked})


def test_large_objects_may_interleave_and_may_not_when_ordered() -> None:
    (begin_1, data_1, end_1), (begin_2, data_2, end_2) = large(1), large(2)
    sent = 2 * (parent.MAX_DATA + 1)
    mixed = stream(HELLO, begin_1, begin_2, *data_2, *data_1, end_1, end_2, bye(2, 2, sent))
    assert read_stream(mixed).bye is not None
    with pytest.raises(ProtocolViolationError, match="before 1 is closed"):
        read_stream(mixed, ordered=True)


DONE = (begin(1), data(1), end(1))
LEAF = (below(-1, 1), data(-1), end(-1))
# A leaf that turns out to be none.
INNER = (below(-1, 1), data(-1), end(-1, children=1))
LARGE_BEGIN, LARGE_DATA, LARGE_END = large(1)
ASKED = {1: Asked("a"), 2: Asked("a")}

BROKEN = {
    "no bytes": ([], "without hello"),
    "no hello": ([*DONE, bye(1, 1, 3)], "no hello"),
    "hello is second": ([HELLO, HELLO, bye(0, 0, 0)], "not the first"),
    "another version": ([["hello", 2, *HELLO[2:]], bye(0, 0, 0)], "version 2"),
    "no window": ([["hello", 1, "r", 0, *HELLO[4:]], bye(0, 0, 0)], "window"),
    "no bye": ([HELLO, *DONE], "without bye"),
    "after bye": ([HELLO, bye(0, 0, 0), error(1)], "after bye"),
    "bye twice": ([HELLO, bye(0, 0, 0), bye(0, 0, 0)], "after bye"),
    "bye while open": ([HELLO, LARGE_BEGIN, bye(0, 0, 0)], "are open"),
    "bye miscounts requests": ([HELLO, *DONE, bye(2, 1, 3)], "counted"),
    "bye miscounts success": ([HELLO, *DONE, bye(1, 0, 3)], "counted"),
    "bye miscounts bytes": ([HELLO, *DONE, bye(1, 1, 4)], "counted"),
    "end twice": ([HELLO, *DONE, end(1), bye(1, 1, 3)], "after the terminal"),
    "error after end": ([HELLO, *DONE, error(1), bye(1, 1, 3)], "after the terminal"),
    "begin after error": ([HELLO, error(1), begin(1), bye(1, 0, 0)], "after the terminal"),
    "data before begin": ([HELLO, data(1), end(1), bye(1, 1, 3)], "before begin"),
    "end before begin": ([HELLO, end(1, 0), bye(1, 1, 0)], "before begin"),
    "begin twice": ([HELLO, begin(1), *DONE, bye(1, 1, 3)], "second begin"),
    "first offset": ([HELLO, begin(1), data(1, ABC, 1), end(1), bye(1, 1, 3)], "offset 1"),
    "gap": ([HELLO, LARGE_BEGIN, LARGE_DATA[0], data(1, b"x", 9)], "offset 9"),
    "overlap": ([HELLO, LARGE_BEGIN, LARGE_DATA[0], LARGE_DATA[0]], "offset 0"),
    "empty data": ([HELLO, begin(1), data(1, b""), data(1), end(1)], "0 bytes"),
    "size in end": ([HELLO, begin(1), data(1), end(1, 4), bye(1, 1, 3)], "after 3 bytes"),
    "size in begin": ([HELLO, begin(1, size=4), data(1), end(1), bye(1, 1, 3)], "after Begin"),
    "content": ([HELLO, begin(1), data(1, b"abd"), end(1), bye(1, 1, 3)], "another digest"),
    "digest in begin": (
        [HELLO, begin(1, digest=f"sha256:{'0' * 64}"), data(1), end(1)],
        "after Begin",
    ),
    "no digest in begin": ([HELLO, begin(1, digest="abc")], "no digest"),
    "small in two frames": (
        [HELLO, begin(1), data(1, b"ab"), data(1, b"c", 2), end(1)],
        "2 data frames",
    ),
    "small torn apart": ([HELLO, begin(1), error(2), data(1), end(1)], "come together"),
    "too much in one frame": (
        [HELLO, LARGE_BEGIN, data(1, bytes(parent.MAX_DATA + 1)), LARGE_END],
        "in one data frame",
    ),
    "file before begin": ([HELLO, file(1), end(1)], "before begin"),
    "file in place of what came": ([HELLO, LARGE_BEGIN, LARGE_DATA[0], file(1)], "of what came"),
    "file twice": ([HELLO, begin(1), file(1), file(1)], "behind a file"),
    "data behind a file": ([HELLO, begin(1), file(1), data(1)], "behind a file"),
    "error behind a file": ([HELLO, begin(1), file(1), error(1)], "behind a file"),
    "a path that is not absolute": ([HELLO, begin(1), file(1, "a")], "absolute"),
    "a file of another size": ([HELLO, begin(1), file(1), end(1, 4)], "after 3 bytes"),
    "a file that nobody verified": ([HELLO, begin(1), file(1), end(1, 3, None)], "nobody has"),
    "a file torn apart": ([HELLO, begin(1), error(2), file(1), end(1)], "around a file"),
    "data of the worker": ([HELLO, data(0), bye(0, 0, 3)], "the worker's"),
    "a request has no parent": ([HELLO, [*begin(1)[:-1], 7], data(1), end(1)], "another parent"),
    "found without a parent": ([HELLO, *TREE, error(-1)], "without a parent"),
    "found by nobody": ([HELLO, *TREE, begin(-1)], "no end has announced"),
    "found by who found nothing": ([HELLO, *DONE, below(-1, 1)], "no end has announced"),
    "found before the end": ([HELLO, begin(1), below(-1, 1)], "no end has announced"),
    "found by who is not there": ([HELLO, *TREE, below(-1, 7)], "no end has announced"),
    "found, an error of nobody": (
        [HELLO, *TREE, error(-1, parent=7, object=DIGEST)],
        "no end has announced",
    ),
    "one more than announced": (
        [HELLO, *TREE, below(-1, 1), data(-1), end(-1), below(-2, 1, b"x"), below(-3, 1, b"y")],
        "no end has announced",
    ),
    "one less than announced": (
        [HELLO, *TREE, below(-1, 1), data(-1), end(-1), bye(2, 2, 6)],
        r"all was told that is below \[1\]",
    ),
    "found twice below a root": (
        [HELLO, *TREE, below(-1, 1), data(-1), end(-1), below(-2, 1)],
        "once more below 1",
    ),
    "found by another name": (
        [HELLO, *TREE, [*below(-1, 1)[:2], "a", *below(-1, 1)[3:]]],
        "the object is its digest",
    ),
    "fewer than none": ([HELLO, begin(1), data(1), end(1, children=-1)], "children"),
    "unknown code": ([HELLO, error(1, "teapot"), bye(1, 0, 0)], "unknown code"),
    "unknown code of the worker": ([HELLO, error(0, "teapot")], "unknown code"),
    "no message": ([HELLO, ["error", 1, "denied", "", False, {"bytes_sent": 0}]], "0 characters"),
    "long message": (
        [HELLO, ["error", 1, "denied", "m" * 2_001, False, {"bytes_sent": 0}]],
        "2001 characters",
    ),
    "bytes_sent": ([HELLO, error(1, bytes_sent=1), bye(1, 0, 0)], "0 bytes were sent"),
    "no bytes_sent": ([HELLO, ["error", 1, "denied", "m", False, {}]], "0 bytes were sent"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_it_refuses_a_broken_stream(case: str) -> None:
    frames, violation = BROKEN[case]
    with pytest.raises(ProtocolViolationError, match=violation):
        read_stream(stream(*frames))


@pytest.mark.parametrize(
    ("frames", "violation"),
    [
        ([HELLO, *DONE, bye(1, 1, 3)], r"requests \[2\] have no answer"),
        ([HELLO, error(1), error(2), error(3), bye(3, 0, 0)], "nobody asked for request 3"),
        ([HELLO, error(1), begin(2), end(2, 0, None), bye(2, 1, 0)], "for Asked"),
        ([HELLO, error(1), begin(2), data(2), end(2, 3, None), bye(2, 1, 3)], "for Asked"),
        (
            [
                HELLO,
                error(1),
                begin(2),
                data(2),
                end(2, children=1),
                below(-1, 2, b""),
                end(-1, 0, f"sha256:{hashlib.sha256(b'').hexdigest()}"),
                bye(3, 2, 3),
            ],
            "children: ",
        ),
        ([HELLO, error(1), ["begin", 2, "b", *begin(2)[3:]], data(2), end(2), bye(2, 1, 3)], "not"),
    ],
)
def test_it_refuses_answers_that_are_not_what_was_asked(
    frames: list[list[object]], violation: str
) -> None:
    with pytest.raises(ProtocolViolationError, match=violation):
        read_stream(stream(*frames), asked=ASKED)


@pytest.mark.parametrize(
    ("frames", "violation"),
    [
        ([HELLO, error(2), error(1)], "id 1 comes after 2"),
        ([HELLO, *TREE, error(2)], "id 2 is not below 1"),
        ([HELLO, *TREE, *LEAF, error(2)], "id 2 is not below 1"),
        ([HELLO, *TREE, *INNER, error(-3, object="d", parent=1)], "id -3 is not below -1"),
        ([HELLO, LARGE_BEGIN, error(2)], "before 1 is closed"),
    ],
)
def test_it_refuses_disorder_where_order_was_promised(
    frames: list[list[object]], violation: str
) -> None:
    with pytest.raises(ProtocolViolationError, match=violation):
        read_stream(stream(*frames), ordered=True)


def test_ordered_trees_come_depth_first() -> None:
    frames = [*TREE, *INNER, error(-2, object="d", parent=-1), error(-3, object="e", parent=1)]
    read_stream(stream(HELLO, *frames, error(4), bye(5, 2, 6)), ordered=True)


def test_it_refuses_a_frame_beyond_what_hello_promised() -> None:
    hello = [*HELLO[:4], parent.MAX_DATA + 10, *HELLO[5:]]
    with pytest.raises(ProtocolViolationError, match="exceeds 524298"):
        read_stream(stream(hello, ["x", bytes(parent.MAX_DATA + 10)]))


def test_every_cut_of_a_session_is_refused() -> None:
    whole = stream(HELLO, *DONE, error(2), bye(2, 1, 3))
    assert read_stream(whole).bye is not None
    for length in range(len(whole)):
        with pytest.raises(ProtocolViolationError):
            read_stream(whole[:length])


@pytest.mark.parametrize(
    ("line", "is_answered"),
    [
        ("!cancel 1", False),
        (" !cancel\t 1 ", False),
        ("!cancel 02\r", False),
        ("!cancel -7", False),
        ("!cancel 3", True),
        ("!cancel 4", True),
        ("!cancel 0", True),
        ("!cancel -0", True),
        ("!cancel", True),
        ("!cancel 1 2", True),
        ("!cancel one", True),
        ("!Cancel 1", True),
        ("#\x01", False),
        ("\x01", True),
    ],
)
def test_a_good_cancel_has_no_answer_of_its_own(line: str, is_answered: bool) -> None:
    assert sorted(asked_by(f"a\nb\n{line}\n".encode())) == [1, 2, 3][: 2 + is_answered]


def test_it_knows_which_lines_are_answered() -> None:
    lines = (
        b"latest\r\n\n# comment\n \t\n!stop 1\n\tv1  size:3\tcontent:none \n\xff\n#\xff\n"
        + b"#" * 65_537
        + b"\n\r\nlast"
    )
    asked = asked_by(lines)
    assert sorted(asked) == [1, 5, 6, 7, 8, 9, 11]
    assert asked[1] == Asked("latest")
    assert asked[5] == Asked("!stop", ("1",))
    assert asked[6] == Asked("v1", ("size:3", "content:none"))
    assert not asked[6].is_content_wanted
    assert asked[11] == Asked("last")


# --- a process ------------------------------------------------------------------------------

# Answers each line with the frames of its argument, and is as unbuffered as a worker is.
WORKER = """
import sys
hello, answer, bye, status = sys.argv[1:]
out = sys.stdout.buffer
out.write(bytes.fromhex(hello)); out.flush()
for line in sys.stdin.buffer:
    out.write(bytes.fromhex(answer)); out.flush()
sys.stderr.write("done\\n")
out.write(bytes.fromhex(bye)); out.flush()
sys.exit(int(status))
"""


def worker(answer: bytes, last: bytes, status: int = 0) -> list[str]:
    arguments = [stream(HELLO).hex(), answer.hex(), last.hex(), str(status)]
    return [sys.executable, "-c", WORKER, *arguments]


def test_run_gives_status_answers_and_stderr() -> None:
    done = run(worker(stream(*DONE), stream(bye(1, 1, 3))), b"a\n")
    assert (done.status, done.stderr, done.codes) == (0, "done\n", {})
    assert bytes(done.answers[1].content) == ABC
    failed = run(worker(stream(error(1)), stream(bye(1, 0, 0)), 1), b"a\n")
    assert (failed.status, failed.codes) == (1, {1: "not-found"})


def test_run_refuses_a_worker_that_forgets_a_line() -> None:
    with pytest.raises(ProtocolViolationError, match="have no answer"):
        run(worker(b"", stream(bye(0, 0, 0))), b"a\n")


def test_run_refuses_a_worker_that_dies() -> None:
    with pytest.raises(ProtocolViolationError, match="into a frame"):
        run(worker(stream(*DONE)[:-1], b""), b"a\n")
    with pytest.raises(ProtocolViolationError, match="without bye"):
        run(worker(stream(*DONE), b"", 1), b"a\n")


def test_run_writes_while_it_reads() -> None:
    """Far more than two pipes hold goes through, both ways."""
    lines = 40_000
    counting = WORKER.replace(
        "out.write(bytes.fromhex(answer))",
        "n = globals().get('n', 0) + 1; "
        "out.write(bytes.fromhex(answer).replace(b'\\xcd\\x01\\x00', b'\\xcd' + n.to_bytes(2)))",
    )
    answer, last = stream(error(256)), stream(bye(lines, 0, 0))
    arguments = [stream(HELLO).hex(), answer.hex(), last.hex(), "0"]
    done = run([sys.executable, "-c", counting, *arguments], b"a\n" * lines)
    assert len(done.answers) == lines


def test_a_conversation_goes_step_by_step() -> None:
    with Parent(worker(stream(*DONE), stream(bye(1, 1, 3)))) as talk:
        assert isinstance(talk.next_frame(), parent.Hello)
        talk.write(b"a")
        talk.write(b"\n")
        assert talk.next_closed().is_verified
        assert talk.finish() == 0
        assert talk.stderr == "done\n"


def test_a_worker_that_keeps_silent_is_an_error() -> None:
    with Parent(worker(b"", b""), timeout_seconds=0.01) as talk:
        with pytest.raises(TimeoutError):
            talk.read_to_end()
        assert talk.process.poll() is None
    assert talk.process.poll() is not None


def test_content_may_be_judged_without_being_kept() -> None:
    command = worker(stream(*DONE), stream(bye(1, 1, 3)))
    answer = run(command, b"a\n", keeps_content=False).answers[1]
    assert (answer.is_verified, answer.received, bytes(answer.content)) == (True, 3, b"")
