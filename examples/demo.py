"""multi-fetch in one minute: eight requests to a folder and to a registry, frames and files.

    python examples/demo.py        (or: make demo)

It needs no network: the folder is examples/layout, which the registry, on this machine, serves
too. The exit status is 0 if every request ended as it says here, the two that are meant to fail
included, and both remotes gave the same content.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from multi_fetch.oci.digest import Digest, digest_of
from multi_fetch.protocol.frames import Begin, Bye, Data, End, Error, File, Frame, Hello
from multi_fetch.protocol.framing import END_OF_STREAM, NEED_DATA, FrameDecoder
from multi_fetch.testing.layout import Layout, blob_path, read_layout
from multi_fetch.testing.process import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).parent
LAYOUT = HERE / "layout"
ABSENT = "sha256:" + "0" * 64
SOME_FAILED = 1  # the worker's exit status if at least one request failed
WIDTH = 76


class Asked(msgspec.Struct, frozen=True):
    """A request line, what it shows, and how it has to end: ``end``, or an error's code."""

    line: str
    purpose: str
    outcome: str = "end"


class Manifest(msgspec.Struct):
    """Of an image manifest, what the demo asks for next."""

    config: dict[str, object]
    layers: list[dict[str, object]]


class Answered(msgspec.Struct):
    """What has come for one request so far; the content counts once there is a digest."""

    content: bytearray = msgspec.field(default_factory=bytearray)
    digest: Digest | None = None
    outcome: str = "nothing"


def choose_requests(layout: Layout) -> list[Asked]:
    """A few requests of each kind, with the digests that the layout has."""
    index = layout.tags["latest"]
    image = next(each for each in layout.manifests.values() if each.platform)
    manifest = msgspec.json.decode(
        blob_path(layout.folder, image.digest).read_bytes(), type=Manifest
    )
    config, layer = manifest.config, manifest.layers[1]
    return [
        Asked("latest", "a tag"),
        Asked(index.digest, "a digest, of what kind we don't say"),
        Asked(
            f"{image.digest} mediatype:{image.media_type} size:{image.size}",
            "a manifest, with hints: it is found at once, and its size is checked",
        ),
        Asked(f"{config['digest']} mediatype:{config['mediaType']}", "the image's config"),
        Asked(str(layer["digest"]), "one of its layers"),
        Asked("notes content:none", "only what it is: its descriptor"),
        Asked(ABSENT, "what isn't there", "not-found"),
        Asked("latest size:big", "a line that cannot be read", "invalid-request"),
    ]


def run_worker(remote: str, asked: Sequence[Asked], log: Path) -> tuple[dict[int, Answered], int]:
    """Writes all requests, prints the frames as they come; gives the answers and exit status."""
    answers = {number: Answered() for number in range(1, len(asked) + 1)}
    command = [sys.executable, "-m", "multi_fetch", remote]
    pipe = subprocess.PIPE
    with (
        log.open("wb") as stderr,
        # Without a buffer a read gives what there is, and does not wait for more.
        subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=stderr, bufsize=0, cwd=HERE
        ) as worker,
    ):
        assert worker.stdin is not None
        # So few lines fit the pipe. A parent with many reads while it writes.
        with worker.stdin as stdin:
            stdin.write("".join(f"{each.line}\n" for each in asked).encode())
        for frame in read_frames(worker):
            print(describe(frame))
            take(frame, answers)
    return answers, worker.returncode


def read_frames(worker: subprocess.Popen[bytes]) -> Iterator[Frame]:
    """The worker's frames, each as soon as it is whole."""
    assert worker.stdout is not None
    decoder = FrameDecoder()
    while True:
        found = decoder.next_frame()
        if found is END_OF_STREAM:
            return
        if found is not NEED_DATA:
            yield found
        elif data := worker.stdout.read(64 * 1024):
            decoder.feed(data)
        else:
            decoder.feed_eof()


def take(frame: Frame, answers: dict[int, Answered]) -> None:
    """Keeps what a frame brought."""
    match frame:
        case Data(id=number, content=content):
            answers[number].content += content
        case End(id=number, digest=digest):
            answers[number].digest = digest
            answers[number].outcome = "end"
        case Error(id=number, code=code) if number in answers:
            answers[number].outcome = code


def describe(frame: Frame) -> str:
    """A frame as one line of the table."""
    match frame:
        case Hello():
            return row("", "hello", f"protocol {frame.version}, {frame.software}")
        case Bye():
            counts = f"{frame.succeeded} succeeded, {frame.failed} failed"
            return row("", "bye", f"{frame.requests} requests: {counts}")
        case Begin(descriptor=descriptor):
            size = "size not known yet" if descriptor.size is None else f"{descriptor.size} bytes"
            return row(frame.id, "begin", f"{descriptor.media_type}, {size}")
        case Data() | File():
            return row(frame.id, "data", content_of(frame))
        case End():
            verdict = "verified: " + short(frame.digest) if frame.digest else "nothing to verify"
            return row(frame.id, "end", f"{frame.size} bytes, {verdict}")
        case Error():
            return row(frame.id, "error", f"{frame.code}: {why(frame)}")


def content_of(frame: Data | File) -> str:
    """Which content a frame has."""
    if isinstance(frame, File):
        return f"{frame.size} bytes, in {frame.path}"
    return f"{len(frame.content)} bytes, from {frame.offset} on"


def why(error: Error) -> str:
    """What the registry answered, where it did; else the message."""
    facts = [
        str(error.detail[name]) for name in ("status", "registry_code") if name in error.detail
    ]
    return f"the registry says {' '.join(facts)}" if facts else error.message


def row(number: int | str, kind: str, text: str) -> str:
    """Three columns, cut to the width of a terminal."""
    line = f"  {number:>3}  {kind:<6} {text}"
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..."


def short(text: str) -> str:
    """The beginning of a digest."""
    return text[:19] + "..."


def write_files(folder: Path, answers: dict[int, Answered]) -> bool:
    """Writes what was verified, and hashes each file again; whether all are as they should be."""
    is_well = True
    for number, answer in answers.items():
        if answer.digest is None:
            continue
        path = folder / f"{number}-{answer.digest.encoded[:12]}"
        path.write_bytes(answer.content)
        is_same = digest_of(path.read_bytes(), answer.digest.algorithm) == answer.digest
        is_well = is_well and is_same
        verdict = "digest ok" if is_same else "DIGEST DIFFERS"
        print(f"  {path.name:<16} {path.stat().st_size:>6} bytes  {verdict}")
    return is_well


def step(title: str, *lines: str) -> None:
    """A heading, and a few words below it."""
    print(f"\n{title}")
    for line in lines:
        print(f"  {line}")


def main() -> int:
    """Runs the demo; gives the exit status."""
    asked = choose_requests(read_layout(LAYOUT))
    show_requests(asked)
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "log"
        step(
            "2. A folder answers",
            "A small image for two platforms lies in examples/layout, an OCI image",
            "layout. One worker is started, once: multi-fetch oci:layout",
            "Frames come in the order in which they are ready, not in that of the",
            "requests. Each id has one end, or one error.\n",
        )
        answers, status = run_worker("oci:layout", asked, log)
        wrong = compare(asked, answers, status)
        with running_registry(LAYOUT) as address:
            remote = f"{address}/demo/app"
            step(
                "3. A registry answers the same lines",
                f"It serves that folder over HTTP: multi-fetch {remote}\n",
            )
            again, status = run_worker(remote, asked, log)
            wrong += compare(asked, again, status)
        if answers != again:
            wrong.append("the folder and the registry should give the same, but differ")
        step("4. The files", "What had its end is whole and verified. Hashed once more:\n")
        is_well = write_files(Path(name), answers)
        if wrong or not is_well:
            step("The demo did not go as it should.", *wrong)
            step("The last worker's log:", log.read_text())
            return 1
    step(
        "All went as it should.",
        f"Each worker ended with status {status}: two requests failed, as they were meant to.",
        "What the frames are, byte for byte: protocol.md.",
    )
    return 0


def show_requests(asked: Sequence[Asked]) -> None:
    """What will be asked for, and why."""
    step("1. The requests", "A line's number is its request's id.\n")
    for number, each in enumerate(asked, start=1):
        print(f"  {number:>3}  {each.purpose}\n       {shorten(each.line)}")


def shorten(line: str) -> str:
    """A request line with its digest cut, to be looked at."""
    first, *hints = line.split(" ")
    first = short(first) if first.startswith("sha256:") else first
    return " ".join([first, *hints])


def compare(asked: Sequence[Asked], answers: dict[int, Answered], status: int) -> list[str]:
    """What is not as expected, a sentence each."""
    wrong = [
        f"request {number} should end with {each.outcome}, but has {answers[number].outcome}"
        for number, each in enumerate(asked, start=1)
        if answers[number].outcome != each.outcome
    ]
    if status != SOME_FAILED:
        wrong.append(f"the worker's exit status should be {SOME_FAILED}, but is {status}")
    return wrong


if __name__ == "__main__":
    raise SystemExit(main())
