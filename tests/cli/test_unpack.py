"""The command multi-fetch-unpack, as a process: streams, signals and exit statuses."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from multi_fetch.cli import unpack as unpack_module
from multi_fetch.limits import MAX_CHILDREN, MAX_WINDOW
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import digest_of
from multi_fetch.protocol.frames import Bye, Data, End, Error, Frame, encode
from multi_fetch.protocol.framing import LENGTH, data_head, frame
from tests.cli.unpack_streams import BYE, HELLO, NOT_FOUND, begin, frames_of, session, whole
from tests.vectors import make

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

START = (
    "from multi_fetch.cli.start import multi_fetch_unpack\nraise SystemExit(multi_fetch_unpack())"
)


def command(*arguments: str, before: str = "") -> list[str]:
    return [sys.executable, "-c", f"{before}\n{START}", *arguments]


def unpack(stream: bytes, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(*arguments), input=stream, capture_output=True, check=False)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in err
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def start(*arguments: str, before: str = "") -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command(*arguments, before=before), stdin=pipe, stdout=pipe, stderr=pipe
    )


def test_files_appear_by_digest_as_in_an_image_layout(tmp_path: Path) -> None:
    done = unpack(session(*whole(1, b"abcd")), "--into", str(tmp_path / "new" / "folder"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    blob = tmp_path / "new" / "folder" / "blobs" / "sha256" / digest_of(b"abcd").encoded
    assert blob.read_bytes() == b"abcd"


def test_ids_that_failed_are_told_and_make_the_status_1(tmp_path: Path) -> None:
    done = unpack(session(*whole(1, b"abcd"), NOT_FOUND), "--into", str(tmp_path), "--by", "id")
    assert done.returncode == 1
    assert done.stderr == "multi-fetch-unpack: 9: not-found: no\\x1b[31m such\\nobject\n"
    assert (tmp_path / "ids" / "1").read_bytes() == b"abcd"


def test_list_writes_a_line_an_object_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = unpack(session(*whole(1, b"abcd"), NOT_FOUND), "--list")
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["id"], line["error"], line["size"]) for line in lines] == [
        (1, None, 4),
        (9, "not-found", 0),
    ]
    assert list(tmp_path.iterdir()) == []


def test_frames_shows_each_frame_of_a_piece_of_a_stream() -> None:
    stream = frame(Data(1, 0, b"a")) + frame(Data(1, 1, b"b" * 1025)) + frame(BYE)
    done = unpack(stream, "--frames")
    assert done.returncode == 0
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        ["data", 1, 0, {"base64": "YQ=="}],
        ["data", 1, 1, {"size": 1025, "sha256": digest_of(b"b" * 1025).encoded}],
        ["bye", 0, 0, 0, 0, {}],
    ]


def test_a_stream_without_bye_is_a_failure(tmp_path: Path) -> None:
    cut = session(*whole(1, b"abcd"))[: -len(frame(BYE))]
    done = unpack(cut, "--into", str(tmp_path), "--by", "id")
    assert done.returncode == 1
    assert "before its bye" in done.stderr
    assert (tmp_path / "ids" / "1").read_bytes() == b"abcd"
    assert unpack(b"", "--list").returncode == 1


@pytest.mark.parametrize("stream", [b"no frames at all", session(BYE), session()[:-1]])
@pytest.mark.parametrize("flag", ["--list", "--frames"])
def test_what_is_no_stream_is_refused_with_one_line(stream: bytes, flag: str) -> None:
    done = unpack(stream, flag)
    if flag == "--frames" and stream == session(BYE):
        assert done.returncode == 0
        return
    assert done.returncode == 1
    assert done.stderr.startswith("multi-fetch-unpack: the stream is refused: ")
    assert done.stderr.count("\n") == 1


BREACHES = sorted(name for name in make.vectors() if name.startswith("breach-"))


@pytest.mark.parametrize("name", BREACHES)
@pytest.mark.parametrize("is_list", [True, False])
def test_a_breach_is_told_and_costs_nothing_that_was_whole_before(
    tmp_path: Path, name: str, *, is_list: bool
) -> None:
    stream = (make.HERE / f"{name}.bin").read_bytes()
    *_, last = frames_of(stream)
    if name != "breach-no-hello":
        # A good object first.
        first = frame(frames_of(stream)[0])
        stream = first + b"".join(map(frame, whole(1_000, b"good"))) + stream.removeprefix(first)
    arguments = ["--list"] if is_list else ["--into", str(tmp_path), "--by", "id"]
    done = unpack(stream, *arguments)
    assert done.returncode == 1
    refusals = [line for line in done.stderr.splitlines() if "the stream is refused: " in line]
    assert len(refusals) == 1
    if name == "breach-no-hello":
        return
    number = getattr(last, "id", None)
    assert number is None or str(number) in refusals[0]
    if is_list:
        good, *_ = map(json.loads, done.stdout.splitlines())
        assert (good["id"], good["error"], good["size"]) == (1_000, None, 4)
    else:
        assert (tmp_path / "ids" / "1000").read_bytes() == b"good"
    assert not list(tmp_path.glob(".*"))


def test_a_frame_above_what_hello_announced_is_refused() -> None:
    small = frame(HELLO).replace(b"\xce\x00\x09\x00\x00", b"\xce\x00\x00\x00\x40")
    assert unpack(small + frame(BYE), "--list").returncode == 0
    done = unpack(small + frame(Data(1, 0, b"x" * 64)), "--list")
    assert "longer than 64" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--by", "name"],
        ["--list", "--into", "x"],
        ["--list", "--frames"],
        ["--list", "--by", "id"],
        ["--frames", "--by", "id"],
        ["folder"],
        ["--into", "/dev/null"],
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    done = unpack(session(), *arguments)
    assert done.returncode == 2
    assert "multi-fetch-unpack" in done.stderr


def test_help_documents_names_and_statuses() -> None:
    done = unpack(b"", "--help-all")
    assert done.returncode == 0
    assert "blobs/<algorithm>/<hex>" in done.stdout
    assert "exit status" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_terminal_is_no_stream() -> None:
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(command("--list"), stdin=theirs, capture_output=True, check=False)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 2
    assert b"stdin is a terminal" in done.stderr


@pytest.mark.parametrize("fd", [0, 1])
def test_a_closed_stream_is_status_2(fd: int) -> None:
    before = f"import os; os.close({fd})"
    done = subprocess.run(command("--list", before=before), capture_output=True, check=False)
    assert done.returncode == 2
    assert b"is closed" in done.stderr


def test_a_stdin_that_cannot_be_read_is_told() -> None:
    with Path(os.devnull).open("wb") as for_writing:
        done = subprocess.run(
            command("--list"), stdin=for_writing, capture_output=True, check=False
        )
    assert done.returncode == 1
    assert b"stdin cannot be read" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_non_blocking_stdin_is_waited_for() -> None:
    before = "import os; os.set_blocking(0, False)"
    with start("--list", before=before) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for value in (HELLO, *whole(1, b"abcd")):
            process.stdin.write(frame(value))
            process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 1
        process.stdin.write(frame(BYE))
        out, err = process.communicate()
    assert (process.returncode, out, err) == (0, b"", b"")


def test_a_line_is_written_before_more_is_waited_for() -> None:
    with start("--list") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"".join(frame(value) for value in (HELLO, *whole(1, b"abcd"))))
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["error"] is None
        process.communicate(frame(BYE))
    assert process.returncode == 0


def test_a_stdout_that_nobody_reads_ends_it_quietly() -> None:
    with start("--list") as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(session(*whole(1, b"abcd")))
    assert (process.returncode, err) == (141, b"")


def test_a_stdout_that_is_closed_while_much_is_listed_ends_it_quietly() -> None:
    stream = session(*(each for number in range(1, 9_000) for each in whole(number, b"x")))
    with start("--list") as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(stream)
    assert (process.returncode, err) == (141, b"")


def test_a_full_disk_under_stdout_is_told() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("--list"),
            input=session(*whole(1, b"abcd")),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == (
        b"multi-fetch-unpack: cannot write to stdout: No space left on device; make room there\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_removes_temporary_files_and_leaves_no_traceback(
    tmp_path: Path, number: signal.Signals
) -> None:
    with start("--into", str(tmp_path)) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        started = (HELLO, begin(1, b"abcd"), Data(1, 0, b"ab"), NOT_FOUND)
        process.stdin.write(b"".join(frame(value) for value in started))
        process.stdin.flush()
        # What is told of the last frame says that those before it have been worked on.
        assert b"not-found" in process.stderr.readline()
        assert len(list(tmp_path.glob(".*.part"))) == 1
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == 128 + number
    assert err == b""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="pipes have their own size")
def test_a_line_that_found_too_little_room_goes_on_where_it_was_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unpack_module, "STDERR_SECONDS", 0.01)
    reading, writing = os.pipe()
    room = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    long = "x" * (room + 1000)
    with os.fdopen(reading, "rb", buffering=0) as told, os.fdopen(writing, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        complain = unpack_module.Complaints()
        complain(long)
        complain("there is no room for this")
        said = told.read(room)
        complain("there is room again")
        said += told.read(room)
    assert said.decode().splitlines() == [
        f"multi-fetch-unpack: {long}",
        "multi-fetch-unpack: 1 lines were lost: nobody read stderr; there is room again",
    ]


def large_stream(ids: int, pieces: int) -> Sequence[bytes]:
    """Objects of many data frames each, all interleaved."""
    piece = bytes(500_000) if ids == 1 else b"x" * 100
    content = digest_of(piece * pieces)
    opened = [begin(number, b"", digest=content) for number in range(1, ids + 1)]
    return [
        frame(HELLO),
        *(frame(value) for value in opened),
        *(
            data_head(value.id, number * len(piece), len(piece)) + piece
            for number in range(pieces)
            for value in opened
        ),
        *(frame(End(value.id, pieces * len(piece), content, 0)) for value in opened),
        frame(BYE),
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize("arguments", [["--list"], ["--into", "into"]])
def test_memory_does_not_grow_with_an_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    status, peak_bytes, _ = peak_of(large_stream(1, 200), *arguments)
    assert status == 0
    # 100 MB went through a process of some 20 MB.
    assert peak_bytes < 48_000 * 1024


def peak_of(stream: Iterable[bytes], *arguments: str) -> tuple[int, int, str]:
    """What a process has come to: its status, the most memory that it had, and its stderr."""
    before = (
        "import atexit, pathlib, sys\n"
        "status = pathlib.Path('/proc/self/status')\n"
        "atexit.register(lambda: sys.stderr.write(status.read_text()))"
    )
    with tempfile.TemporaryFile() as told:
        command_line = command(*arguments, before=before)
        with subprocess.Popen(
            command_line, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=told, bufsize=0
        ) as process:
            assert process.stdin is not None
            # It may refuse the stream before its end.
            with suppress(BrokenPipeError):
                for part in stream:
                    rest = memoryview(part)
                    while rest:  # a signal may cut a write short
                        rest = rest[process.stdin.write(rest) :]
        told.seek(0)
        err = told.read().decode()
    (peak,) = (line.split()[1] for line in err.splitlines() if "VmHWM" in line)
    return process.returncode, int(peak) * 1024, err


WIDEST = replace(HELLO, window=MAX_WINDOW)
NO_END = Descriptor(media_type="m" * 255, digest=digest_of(b"", "sha512"), size=0)


def described(number: int, notes: dict[str, str]) -> bytes:
    return frame(replace(begin(number, b""), descriptor=replace(NO_END, annotations=notes)))


def open_ids() -> Iterator[bytes]:
    """As many as hello lets be open, and more."""
    yield frame(WIDEST)
    yield from (described(number, {}) for number in range(1, 200_001))


def long_begins() -> Iterator[bytes]:
    yield frame(HELLO)
    notes = {f"{number}": "" for number in range(70_000)}
    begun = encode(replace(begin(1, b""), descriptor=replace(NO_END, annotations=notes)))
    yield LENGTH.pack(len(begun)) + begun


def long_names() -> Iterator[bytes]:
    """JSON writes each of their characters as six."""
    yield frame(WIDEST)
    for number in range(1, 10_001):
        yield frame(replace(begin(number, b""), name="\x01" * 4_700))


def many_notes() -> Iterator[bytes]:
    """Annotations that take ten times as much as values than on the wire."""
    yield frame(WIDEST)
    notes = {f"{number}": "" for number in range(9_000)}
    yield from (described(number, notes) for number in range(1, 3_001))


def endless_trees() -> Iterator[bytes]:
    yield frame(HELLO)
    for number in range(1, 400_001):
        yield frame(begin(number, b"")) + frame(End(number, 0, None, MAX_CHILDREN))


def scattered_ids() -> Iterator[bytes]:
    """Each far from the others, so that none shares the memory of another."""
    yield frame(HELLO)
    for number in range(1, 100_001):
        yield frame(replace(begin(1, b""), id=number * 10_000))
        yield frame(End(number * 10_000, 0, None, 0))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize("flag", ["--list", "--into"])
@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (open_ids, "16385 begins while 16384 others have begun"),
        (long_begins, "the limit is 65536"),
        (long_names, "more is not kept here"),
        (many_notes, "before its bye"),
        (endless_trees, "more are not kept here"),
        (scattered_ids, "before its bye"),
    ],
)
def test_no_stream_makes_it_keep_more_than_the_worker_may(
    tmp_path: Path, flag: str, stream: Callable[[], Iterator[bytes]], reason: str
) -> None:
    arguments = [flag] if flag == "--list" else [flag, str(tmp_path)]
    status, peak_bytes, err = peak_of(stream(), *arguments)
    assert status == 1
    assert reason in err
    assert peak_bytes < 150 * 1024 * 1024


def test_more_objects_may_interleave_than_files_may_be_open(tmp_path: Path) -> None:
    before = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))"
    into = ["--into", str(tmp_path), "--by", "id"]
    stream = b"".join(large_stream(200, 3))
    done = subprocess.run(command(*into, before=before), input=stream, check=False)
    assert done.returncode == 0
    assert {path.read_bytes() for path in (tmp_path / "ids").iterdir()} == {b"x" * 300}
    assert len(list((tmp_path / "ids").iterdir())) == 200


def test_a_stderr_that_is_full_and_unread_holds_up_nothing(tmp_path: Path) -> None:
    """What is lost there the exit status says."""
    failed: list[Frame] = [
        Error(number, "not-found", "x" * 500, retryable=False, detail={})
        for number in range(1, 1_001)
    ]
    frames = [HELLO, *failed, Bye(1_000, 0, 1_000, 0, {})]
    stream = b"".join(frame(each) for each in frames)
    with (tmp_path / "answers").open("w+b") as answers:
        answers.write(stream)
        answers.seek(0)
        with subprocess.Popen(
            command("--into", str(tmp_path / "into")), stdin=answers, stderr=subprocess.PIPE
        ) as started:
            assert started.stderr is not None
            try:
                assert started.wait(20) == 1
                assert b"refused" not in started.stderr.read()
            finally:
                started.kill()


def test_it_starts_without_the_engine() -> None:
    code = (
        "import sys, multi_fetch.cli.unpack\n"
        "print({'trio', 'httpx', 'logging', 'asyncio'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
