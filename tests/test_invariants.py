"""Whatever is asked, however slowly anybody is: what must be true of every run.

A run is drawn whole: the lines, where stdin's bytes are cut, how long each side takes for each of
its steps, when the run is stopped. It plays on a clock that jumps, so delays cost no time, and two
things that are drawn to happen at the same moment do. To look longer:
``pytest --hypothesis-profile=thorough tests/test_invariants.py``.
"""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from multi_fetch.limits import MAX_DATA_BYTES, MAX_FRAME_BYTES, MAX_PENDING_BYTES
from multi_fetch.oci.digest import digest_of, parse_digest
from multi_fetch.oci.media_types import MANIFEST_TYPES
from multi_fetch.protocol.frames import Begin, Bye, Data, End, Error, Frame, Hello
from multi_fetch.protocol.framing import END_OF_STREAM, NEED_DATA, FrameDecoder
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.worker.serve import STDOUT_CLOSED_STATUS, Settings, Worker
from tests.loopback import loopback
from tests.parent import asked_by
from tests.worker.harness import LOCATOR, MemoryReader, MemoryWriter, ids, terminals
from tests.worker.memory_direct import DirectWorld
from tests.world import Ask, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from multi_fetch.oci.digest import Chunk
    from multi_fetch.testing.layout import Layout

# On the jumping clock: who waits this long waits for ever.
FOREVER_SECONDS: Final = 1e7
MANIFEST_NAMES: Final = ("odd", "one", "two", "bad", "multi", "nested", "wide", "weird")
NAMES: Final = (
    *("empty", "small", "edge", "large", "forged", "forged-large", "broken", "down", "nowhere"),
    *MANIFEST_NAMES,
)
SMALL_DIGEST: Final = digest_of(b"small")
# Worth a line of its own kind: they are all answered with invalid-request.
UNREADABLE: Final = (b"a b", b"\xff", b"x/y", b"small size:x", b"!dance", b"!cancel", b"!cancel 0")


# --- what is drawn ----------------------------------------------------------------------------

HINTS: Final = st.sampled_from(
    [
        *("children:all", "children:manifests", "children:blobs", "content:none", "colour:blue"),
        *("platform:linux/amd64", "platform:linux/arm64", "platform:linux/s390x"),
        *("range:0-", "range:1-3", "range:0-600000"),
        *(f"digest:{SMALL_DIGEST}", "deadline:1s", "deadline:3s", "deadline:1h"),
        "mediatype:a/b",
    ]
)
ASKS: Final = st.builds(
    Ask,
    name=st.sampled_from(NAMES),
    is_by_digest=st.booleans(),
    hints=st.lists(HINTS, max_size=3, unique_by=lambda hint: hint.partition(":")[0]).map(tuple),
)
CANCELS: Final = st.integers(-25, 25).map(lambda number: b"!cancel %d" % number)
SILENT: Final = st.sampled_from([b"", b"# a comment", b" \t"])
RUBBISH: Final = st.binary(max_size=12).filter(lambda line: b"\n" not in line)
WAYS: Final = st.sampled_from(["taken", "taken", "left", "refused"])
DELAYS: Final = st.lists(st.sampled_from([0, 0, 1, 2, 60]), min_size=1, max_size=8)


@dataclass(frozen=True)
class Play:
    """One run, as it is drawn."""

    lines: Sequence[Ask | bytes]
    cuts: Sequence[int]
    stdin_delays: Sequence[float]
    stdout_delays: Sequence[float]
    remote_delays: Sequence[float]
    is_deaf: bool
    chunk_bytes: int
    jobs: int
    window: int
    is_ordered: bool
    timeout_seconds: float | None
    closes_after: int | None
    direct_ways: Sequence[str] | None


def widened(
    sort: st.SearchStrategy[Ask] | st.SearchStrategy[bytes],
) -> st.SearchStrategy[Ask | bytes]:
    return st.one_of(sort)


def lines_of(asks: st.SearchStrategy[Ask]) -> st.SearchStrategy[list[Ask | bytes]]:
    """Lines of all sorts; one_of would take each sort once, and requests too seldom."""
    sorts: list[st.SearchStrategy[Ask] | st.SearchStrategy[bytes]] = [
        *[asks] * 6,
        *[CANCELS] * 2,
        SILENT,
        st.one_of(st.sampled_from(UNREADABLE), RUBBISH),
    ]
    line = st.sampled_from(sorts).flatmap(widened)
    return st.integers(0, 30).flatmap(
        lambda most: st.lists(line, min_size=min(most, 12), max_size=max(most, 1))
    )


PLAYS: Final = st.builds(
    Play,
    lines=lines_of(ASKS),
    cuts=st.lists(st.integers(1, 200), min_size=1, max_size=8),
    stdin_delays=DELAYS,
    stdout_delays=DELAYS,
    remote_delays=DELAYS,
    is_deaf=st.booleans(),
    chunk_bytes=st.sampled_from([100_000, 64 * 1024, 10**7]),
    jobs=st.one_of(st.integers(1, 3), st.integers(1, 64)),
    window=st.one_of(st.integers(1, 3), st.integers(1, 50), st.just(50)),
    is_ordered=st.booleans(),
    timeout_seconds=st.sampled_from([None] * 8 + [1, 2, 61]),
    closes_after=st.sampled_from([None] * 12 + [1, 3, 10]),
    direct_ways=st.none() | st.lists(WAYS, min_size=1, max_size=5),
)


# --- how it is played -------------------------------------------------------------------------


class SlowReader:
    """stdin, cut and delayed as drawn."""

    def __init__(self, data: bytes, play: Play) -> None:
        self._rest = data
        self._cuts: Iterator[int] = cycle(play.cuts)
        self._delays: Iterator[float] = cycle(play.stdin_delays)

    async def read(self) -> bytes:
        await trio.sleep(next(self._delays))
        size = next(self._cuts)
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


class SlowWriter(MemoryWriter):
    """stdout, read as slowly as drawn, and closed after some writes."""

    def __init__(self, play: Play) -> None:
        super().__init__()
        self._delays: Iterator[float] = cycle(play.stdout_delays)
        self._left = play.closes_after
        self.before_write: Callable[[], None] = lambda: None

    async def write(self, buffers: Sequence[Chunk]) -> None:
        await trio.sleep(next(self._delays))
        self.before_write()
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                self.closed.set()
        await super().write(buffers)


@dataclass
class Played:
    """What a run left behind."""

    world: World
    stdin: bytes
    status: int | None = None
    frames: list[Frame] = field(default_factory=list)
    is_cut: bool = False


def play_out(play: Play) -> Played:
    """Plays a run to its end; fails where it hangs, or holds too much."""
    kind = World if play.direct_ways is None else DirectWorld
    world = kind(play.remote_delays, is_deaf=play.is_deaf, chunk_bytes=play.chunk_bytes)
    if isinstance(world, DirectWorld):
        world.ways = play.direct_ways or world.ways
    lines = [world.line(each) if isinstance(each, Ask) else each for each in play.lines]
    played = Played(world, b"\n".join(lines))
    chosen = Settings(
        software="test",
        jobs=play.jobs,
        window=play.window,
        is_ordered=play.is_ordered,
        timeout_seconds=play.timeout_seconds,
        # The clock jumps while a thread works, as if nothing were going on.
        hash_thread_bytes=sys.maxsize,
    )
    trio.run(_play, play, played, chosen, clock=trio.testing.MockClock(autojump_threshold=0))
    return played


async def _play(play: Play, played: Played, chosen: Settings) -> None:
    writer = SlowWriter(play)
    worker = Worker(played.world, LOCATOR, writer, chosen)
    outlet = worker._outlet
    # What waits to be written: small objects up to their bound and one more a job, a piece of each
    # large one, and the terminal frames of what was stopped all at once.
    bound = MAX_PENDING_BYTES + 2 * play.jobs * MAX_FRAME_BYTES + 4_096 * (len(play.lines) + 100)

    def check_bound() -> None:
        put = sum(map(len, outlet._fast))
        assert put + sum(len(each) for buffers, _ in outlet._slow for each in buffers) <= bound

    writer.before_write = check_bound
    with trio.fail_after(FOREVER_SECONDS):
        try:
            await worker.run(SlowReader(played.stdin, play))
        except* BrokenPipeError:
            assert writer.closed.is_set()
            played.status = STDOUT_CLOSED_STATUS
        else:
            played.status = worker.exit_status
    played.frames = writer.frames()
    played.is_cut = writer.closed.is_set() or chosen.timeout_seconds is not None
    assert played.world.running == 0
    assert played.world.peak <= play.jobs
    if not played.is_cut:
        _check_nothing_left(worker)


def _check_nothing_left(worker: Worker) -> None:
    window = worker._window
    assert not worker._answerer.direct._flights
    assert not window.open_jobs()
    assert not window._alike._alone
    assert not window._alike._several
    assert not window._joinable
    assert not window._turns
    assert not window._left
    assert len(window.flights) == window._large_running == window._roots == 0
    assert worker._outlet._pending_bytes == 0


# --- what must be true ------------------------------------------------------------------------


@dataclass
class Told:
    """All that came for one id."""

    begin: Begin | None = None
    content: bytearray = field(default_factory=bytearray)
    end: End | Error | None = None

    @property
    def parent(self) -> int | None:
        if self.begin is not None:
            return self.begin.parent
        assert isinstance(self.end, Error)
        parent = self.end.detail.get("parent")
        assert parent is None or isinstance(parent, int)
        return parent

    @property
    def code(self) -> str:
        return self.end.code if isinstance(self.end, Error) else ""

    @property
    def object(self) -> str:
        if self.begin is not None:
            return self.begin.object
        assert isinstance(self.end, Error)
        return str(self.end.detail["object"])


def told_by(frames: list[Frame]) -> dict[int, Told]:
    """What came for each id, its frames in their order."""
    told: dict[int, Told] = {}
    terminals(frames)
    for frame in frames:
        if not isinstance(frame, Begin | Data | End | Error):
            continue
        one = told.setdefault(frame.id, Told())
        assert one.end is None
        match frame:
            case Begin():
                assert one.begin is None
                one.begin = frame
                if frame.parent is not None:
                    assert isinstance(told[frame.parent].end, End), (
                        "a child before its parent's end"
                    )
            case Data():
                assert one.begin is not None
                assert 0 < len(frame.content) <= MAX_DATA_BYTES
                assert frame.offset == len(one.content)
                one.content += frame.content
            case End():
                assert one.begin is not None
                assert frame.size == len(one.content)
                one.end = frame
            case Error():
                assert frame.detail["bytes_sent"] == len(one.content)
                one.end = frame
    return told


def root_of(told: dict[int, Told], number: int) -> int:
    while number < 0:
        parent = told[number].parent
        assert parent is not None
        number = parent
    return number


def stopped_by(play: Play) -> set[int]:
    """The ids that some good ``!cancel`` names."""
    named = set()
    for number, line in enumerate(play.lines, start=1):
        if isinstance(line, bytes) and line.startswith(b"!cancel "):
            target = int(line.split()[1])
            if target < number and target != 0:
                named.add(target)
    return named


def lineage(told: dict[int, Told], number: int) -> Iterator[int]:
    yield number
    while number < 0:
        parent = told[number].parent
        assert parent is not None
        number = parent
        yield number


def allowed_codes(play: Play, told: dict[int, Told], number: int, ask: Ask, code: str) -> set[str]:
    allowed = {code}
    if any(each in stopped_by(play) for each in lineage(told, number)):
        allowed.add("cancelled")
    if ask.hint("deadline") or play.timeout_seconds is not None:
        allowed.add("timeout")
    if code == "unavailable" and ask.hint("range"):
        allowed.add("")
    return allowed


def check_content(world: World, ask: Ask, number: int, one: Told) -> None:
    """An id that succeeded has the content that is owed, and says of it what was proved."""
    assert one.begin is not None
    assert isinstance(one.end, End)
    digest = one.begin.descriptor.digest
    is_passed = number < 0 and ask.hint("children") == "blobs"
    is_manifest = one.begin.descriptor.media_type in MANIFEST_TYPES
    if ask.hint("content") or (is_passed and is_manifest):
        assert one.end.digest is None
        assert not one.content
        return
    part = ask.hint("range") if number > 0 else ""
    assert one.content == world.content(digest, part)
    assert one.end.digest == (None if part else digest)
    assert part or digest_of(one.content) == digest


def check_tree(world: World, ask: Ask, told: dict[int, Told], root: int) -> None:
    """Below a root is what its content names, each once, and each announced."""
    below = {number: one for number, one in told.items() if number < 0}
    below = {number: one for number, one in below.items() if root_of(told, number) == root}
    counted = Counter(one.parent for one in below.values())
    for number in (root, *below):
        end = told[number].end
        assert counted[number] == (end.children if isinstance(end, End) else 0)
    digests = [one.object for one in below.values()]
    assert len(set(digests)) == len(digests)
    begin = told[root].begin
    owed: set[str] = set()
    if begin is not None and ask.hint("children"):
        owed |= world.tree(begin.descriptor.digest, ask.hint("children"))
    assert set(digests) <= owed
    if all(isinstance(told[number].end, End) for number in (root, *below)):
        assert set(digests) == owed


def check_order(told: dict[int, Told], frames: list[Frame]) -> None:
    """With --ordered: one id after the other, roots ascending, and each with its tree."""
    spoken = ids(frames)
    order = list(dict.fromkeys(spoken))
    changes = [
        after for before, after in zip([0, *spoken], spoken, strict=False) if before != after
    ]
    assert changes == order
    roots = [root_of(told, number) for number in order]
    assert roots == sorted(roots)


def check(play: Play, played: Played) -> None:
    """All invariants of a run."""
    frames, world = played.frames, played.world
    if not frames:
        assert played.is_cut
        return
    assert isinstance(frames[0], Hello)
    if played.is_cut:
        open_ids = set(ids(frames)) - set(terminals(frames))
        frames = [frame for frame in frames if getattr(frame, "id", 0) not in open_ids]
    told = told_by(frames)
    owed = owed_by(play, played.stdin)
    positive = {number for number in told if number > 0}
    assert positive <= set(owed)
    if not played.is_cut:
        assert positive == set(owed)
        assert sorted(set(told) - positive) == list(range(-len(set(told) - positive), 0))
        check_bye(played.status, frames, told)
    for number in told:
        if played.is_cut and not is_rooted(told, number):
            continue
        ask = owed[root_of(told, number)]
        check_one(play, world, told, number, ask)
        if number > 0 and ask is not None and not played.is_cut:
            check_tree(world, ask, told, number)
    if play.is_ordered and not played.is_cut:
        check_order(told, frames)


def is_rooted(told: dict[int, Told], number: int) -> bool:
    """Whether all of an id's lineage is there, which a stream that was cut may lack."""
    while number < 0:
        if number not in told:
            return False
        parent = told[number].parent
        assert parent is not None
        number = parent
    return number in told


def check_one(
    play: Play, world: World, told: dict[int, Told], number: int, ask: Ask | None
) -> None:
    one = told[number]
    if ask is None:
        assert one.code in {"invalid-request", "not-found", "timeout", "cancelled"}
        return
    if number > 0:
        code = world.code(ask)
    else:
        digest = parse_digest(one.object)
        is_passed = ask.hint("children") == "blobs" and world.types[digest] in MANIFEST_TYPES
        is_wanted = not ask.hint("content") and not is_passed
        code = world.content_code(digest, is_wanted=is_wanted)
    assert one.code in allowed_codes(play, told, number, ask, code)
    if not one.code:
        check_content(world, ask, number, one)


def owed_by(play: Play, stdin: bytes) -> dict[int, Ask | None]:
    """The ids that must be answered; None where it is no request of the world's."""
    owed: dict[int, Ask | None] = {}
    for number in asked_by(stdin):
        line = play.lines[number - 1]
        if isinstance(line, Ask):
            owed[number] = line
        elif not is_good_cancel(line, number):
            owed[number] = None
    return owed


def is_good_cancel(line: bytes, number: int) -> bool:
    words = line.split()
    if len(words) != 2 or words[0] != b"!cancel":
        return False
    return int(words[1]) != 0 and int(words[1]) < number


def check_bye(status: int | None, frames: list[Frame], told: dict[int, Told]) -> None:
    failed = sum(bool(one.code) for one in told.values())
    size = sum(len(one.content) for one in told.values())
    assert frames[-1] == Bye(len(told), len(told) - failed, failed, size, {"retries": 0})
    assert status in ({0} if not failed else {1, 3})


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """Some million failures are drawn; nobody wants their log."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@given(play=PLAYS)
def test_every_run_keeps_the_invariants(play: Play) -> None:
    check(play, play_out(play))


# --- what all of it holds ----------------------------------------------------------------------

# Objects that differ, so that none shares a fetch or its bytes with another: 20 to 40 MiB in all.
SIZES: Final = (100_000, MAX_DATA_BYTES, MAX_DATA_BYTES + 70_000)
MANY: Final = [
    bytes([number]) * SIZES[number % len(SIZES)] if number % 4 else bytes([number]) * MAX_DATA_BYTES
    for number in range(60)
]


class DroppingWriter(MemoryWriter):
    """stdout of a parent that reads as slowly as drawn, keeps nothing, and may never read."""

    def __init__(self, delays: Sequence[float], *, reads: bool) -> None:
        super().__init__()
        self._delays: Iterator[float] = cycle(delays)
        if not reads:
            self.flow = trio.Event()

    async def write(self, buffers: Sequence[Chunk]) -> None:
        await trio.sleep(next(self._delays))
        await super().write(buffers)
        self.written.clear()


@contextmanager
def suppress_broken_pipe() -> Iterator[None]:
    try:
        yield
    except* BrokenPipeError:
        pass


async def _run_unread(world: World, stdin: bytes, writer: DroppingWriter, chosen: Settings) -> None:
    worker = Worker(world, LOCATOR, writer, chosen)
    reader = MemoryReader()
    reader.feed(stdin)
    reader.feed_eof()
    with trio.fail_after(FOREVER_SECONDS):
        async with trio.open_nursery() as nursery:

            async def give_up() -> None:
                await trio.sleep(FOREVER_SECONDS / 10)
                writer.closed.set()
                writer.flow.set()

            nursery.start_soon(give_up)
            with suppress_broken_pipe():
                await worker.run(reader)
            nursery.cancel_scope.cancel()


@settings(max_examples=max(10, settings().max_examples // 10))
@given(
    delays=DELAYS,
    remote_delays=DELAYS,
    jobs=st.integers(1, 4),
    is_ordered=st.booleans(),
    reads=st.booleans(),
)
def test_the_memory_of_a_run_is_bounded_also_where_nobody_reads(
    delays: list[float], remote_delays: list[float], jobs: int, *, is_ordered: bool, reads: bool
) -> None:
    """All that Python allocates counts, not what the worker counts itself.

    What waits is ``MAX_PENDING_BYTES`` and one frame more; each job holds one object whole, beside
    the chunks and the frame that are made of it.
    """
    world = World(remote_delays)
    stdin = b"\n".join(world.add(content).encode() for content in MANY)
    chosen = Settings(
        software="test", jobs=jobs, is_ordered=is_ordered, hash_thread_bytes=sys.maxsize
    )
    writer = DroppingWriter(delays, reads=reads)
    gc.collect()
    tracemalloc.start()
    try:
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(_run_unread, world, stdin, writer, chosen, clock=clock)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= MAX_PENDING_BYTES + 3 * (jobs + 1) * MAX_FRAME_BYTES


# --- the same, in a real process ----------------------------------------------------------------

MULTI_FETCH: Final = str(Path(sys.executable).with_name("multi-fetch"))
# A registry gives tags to manifests alone, and those that are no JSON are its own fault.
REAL_ASKS: Final = ASKS.filter(lambda ask: ask.name not in {"down", "odd"}).map(
    lambda ask: ask if ask.name in MANIFEST_NAMES else replace(ask, is_by_digest=True)
)


def layout_of(world: World, folder: Path) -> Layout:
    """The world's content, as it should be."""
    builder = LayoutBuilder(folder)
    for name, content in world.objects.items():
        media_type = world.types[digest_of(content)]
        if media_type in MANIFEST_TYPES:
            descriptor = builder.add_manifest(content, media_type)
            if name in NAMES:
                builder.tag(name, descriptor)
        else:
            builder.add_blob(content)
    return builder.finish()


def run_process(flags: Sequence[str], stdin: bytes, cuts: Sequence[int]) -> tuple[int, list[Frame]]:
    """All frames of a process whose stdin and stdout are cut as drawn."""
    sizes, decoder, frames = cycle(cuts), FrameDecoder(), []
    with subprocess.Popen(
        [MULTI_FETCH, "--log-format=json", *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        writer = threading.Thread(target=write_cut, args=(process.stdin, stdin, cuts))
        writer.start()
        while data := process.stdout.read(1_000 * next(sizes)):
            decoder.feed(data)
            while (frame := decoder.next_frame()) is not NEED_DATA:
                assert frame is not END_OF_STREAM
                frames.append(frame)
        writer.join()
        decoder.feed_eof()
        assert decoder.next_frame() is END_OF_STREAM
        return process.wait(), frames


def write_cut(pipe: IO[bytes], data: bytes, cuts: Sequence[int]) -> None:
    sizes = cycle(cuts)
    with pipe:
        while data:
            size = next(sizes)
            pipe.write(data[:size])
            data = data[size:]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, str]]:
    """A world without lies, and where it is served."""
    world = World()
    world.lies.clear()
    world.broken.clear()
    with loopback(layout_of(world, tmp_path_factory.mktemp("world"))) as registry:
        yield world, f"{registry.address}/demo/app"


@settings(max_examples=max(6, settings().max_examples // 25))
@given(
    lines=lines_of(REAL_ASKS),
    cuts=st.lists(st.integers(1, 200), min_size=1),
    is_ordered=st.booleans(),
)
def test_a_process_keeps_them_too(
    served: tuple[World, str], lines: list[Ask | bytes], cuts: list[int], *, is_ordered: bool
) -> None:
    world, remote = served
    stdin = b"\n".join(world.line(each) if isinstance(each, Ask) else each for each in lines)
    flags = [*(["--ordered"] if is_ordered else []), "--jobs=4", "--window=9", remote]
    status, frames = run_process(flags, stdin, cuts)
    play = Play(lines, cuts, [0], [0], [0], False, 1, 4, 9, is_ordered, None, None, None)
    check(play, Played(world, stdin, status, frames))
