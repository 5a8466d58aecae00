"""Small objects over a remote's direct lane: the same frames, whichever way each goes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from msgspec.structs import replace
from trio.testing import wait_all_tasks_blocked

from multi_fetch.ceiling import Ceiling
from multi_fetch.limits import MAX_DIRECT_BYTES
from multi_fetch.oci.digest import Digest, digest_of
from multi_fetch.protocol.frames import Begin, Data, End, Error, Frame
from multi_fetch.worker.serve import Settings
from tests.worker.harness import LOCATOR, answers, content, ids, running, terminals
from tests.worker.images import add_image
from tests.worker.memory_direct import MemoryDirectLane
from tests.worker.memory_remote import MemoryRemote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SMALL = b"a small object"
SETTINGS = Settings(software="test", jobs=4)


class Remote(MemoryRemote):
    """With a direct lane that the test holds."""

    def __init__(self, *ways: str) -> None:
        super().__init__()
        self.lane = MemoryDirectLane(self, ways or ("taken",))
        self.digests = [self.add(b"%s %d" % (SMALL, number)) for number in range(10)]

    @contextmanager
    def direct_lane(self) -> Iterator[MemoryDirectLane]:
        yield self.lane


def lines(digests: Sequence[Digest], *hints: str) -> bytes:
    return "".join(" ".join([digest, *hints]) + "\n" for digest in digests).encode()


def by_id(frames: list[Frame]) -> list[Begin | Data | End | Error]:
    """Frames of requests, those of each id together."""
    ours: list[Begin | Data | End | Error] = [
        frame for frame in frames if isinstance(frame, Begin | Data | End | Error)
    ]
    return sorted(ours, key=lambda frame: frame.id)


@pytest.mark.parametrize("ways", [("taken",), ("left",), ("refused",), ("taken", "left")])
async def test_each_way_gives_the_same_frames(ways: tuple[str, ...]) -> None:
    remote = Remote(*ways)
    asked = lines([*remote.digests, remote.add(b"")], "mediatype:a/b")
    status, frames = await answers(remote, asked, SETTINGS)
    _, expected = await answers(without_lane(remote), asked, SETTINGS)
    assert status == 0
    assert by_id(frames) == by_id(expected)
    assert frames[-1] == expected[-1]


def without_lane(remote: Remote) -> MemoryRemote:
    bare = MemoryRemote()
    for digest, stored in remote.objects.items():
        bare.add(stored, media_type=remote.types[digest])
    return bare


async def test_what_is_plain_opens_nothing() -> None:
    remote = Remote()
    await answers(remote, lines(remote.digests), SETTINGS)
    assert sorted(remote.lane.asked) == sorted(remote.digests)
    assert not remote.opened


async def test_a_tag_beside_the_digest_is_in_the_name() -> None:
    remote = Remote()
    _, frames = await answers(remote, f"v1@{remote.digests[0]}\n".encode(), SETTINGS)
    begin = next(frame for frame in frames if isinstance(frame, Begin))
    assert begin.name == f"{LOCATOR}:v1@{remote.digests[0]}"


@pytest.mark.parametrize(
    "hint",
    ["content:none", "range:1-3", "platform:linux/amd64", "children:all", f"size:{600 * 1024}"],
)
async def test_what_is_not_plain_is_not_asked_for(hint: str) -> None:
    remote = Remote()
    await answers(remote, lines(remote.digests[:1], hint), SETTINGS)
    assert not remote.lane.asked


async def test_a_pin_on_the_same_digest_is_plain_and_other_algorithms_are_not() -> None:
    remote = Remote()
    digest = remote.digests[0]
    other = digest_of(SMALL, "sha512")
    await answers(remote, f"{digest} digest:{digest}\n{other}\nlatest\n".encode(), SETTINGS)
    assert remote.lane.asked == [digest]


async def test_what_takes_turns_is_not_asked_for() -> None:
    remote = Remote()
    _, frames = await answers(remote, lines(remote.digests), replace(SETTINGS, is_ordered=True))
    assert not remote.lane.asked
    assert ids(frames) == sorted(ids(frames))


async def test_no_more_are_under_way_than_there_are_jobs() -> None:
    remote = Remote("taken", "refused", "left")
    await answers(remote, lines(remote.digests), SETTINGS)
    assert remote.peak == SETTINGS.jobs
    assert remote.running == 0


@pytest.mark.parametrize("size", [None, len(SMALL) + 2])
async def test_what_is_beyond_the_ceiling_is_left_and_told_by_the_general_way(
    size: int | None,
) -> None:
    """One whose size is told is not asked for at all."""
    hints = [] if size is None else [f"size:{size}"]
    for most, is_refused in ((len(SMALL) + 2, False), (len(SMALL) + 1, True)):
        remote = Remote()
        settings = replace(SETTINGS, ceiling=Ceiling(most, most))
        _, frames = await answers(remote, lines(remote.digests, *hints), settings)
        codes = [each.code for each in terminals(frames).values() if isinstance(each, Error)]
        assert codes == ["too-large"] * 10 * is_refused
        assert len(remote.lane.asked) == (0 if is_refused and size else 10)
        assert bool(remote.opened) == (is_refused and not size)
        assert any(isinstance(frame, Data) for frame in frames) != is_refused


async def test_content_that_is_wrong_is_asked_for_again_and_told_by_the_general_way() -> None:
    remote = Remote()
    digest = remote.digests[0]
    remote.lies[digest] = SMALL + b" x"
    _, frames = await answers(remote, lines([digest]), SETTINGS)
    (end,) = terminals(frames).values()
    assert isinstance(end, Error)
    assert end.code == "digest-mismatch"
    assert content(frames, 1) == b""
    assert len(remote.opened) == 1


async def test_who_joins_meanwhile_is_answered_too() -> None:
    remote = Remote()
    remote.lane.gate = trio.Event()
    async with running(remote, SETTINGS) as run:
        run.reader.feed(lines(remote.digests[:1]))
        await wait_all_tasks_blocked()
        run.reader.feed(lines(remote.digests[:1], "children:all"))
        await wait_all_tasks_blocked()
        remote.lane.gate.set()
        run.reader.feed_eof()
    frames = run.writer.frames()
    assert [type(end) for end in terminals(frames).values()] == [End, End]
    assert content(frames, 1) == content(frames, 2) == SMALL + b" 0"


async def test_a_cancel_drops_what_is_under_way_and_its_place_is_taken() -> None:
    remote = Remote()
    remote.lane.gate = trio.Event()
    settings = replace(SETTINGS, jobs=1)
    async with running(remote, settings) as run:
        run.reader.feed(lines(remote.digests[:2]))
        await wait_all_tasks_blocked()
        run.reader.feed(b"!cancel 1\n")
        await wait_all_tasks_blocked()
        assert [sent.digest for sent in remote.lane.sent] == remote.digests[1:2]
        remote.lane.gate.set()
        run.reader.feed_eof()
    ends = terminals(run.writer.frames())
    assert isinstance(ends[1], Error)
    assert ends[1].code == "cancelled"
    assert isinstance(ends[2], End)


async def test_a_cancel_is_heard_while_content_waits_for_room() -> None:
    remote = Remote()
    size = MAX_DIRECT_BYTES
    digests = [remote.add(bytes([number]) * size) for number in range(40)]
    async with running(remote, SETTINGS) as run:
        run.writer.flow = trio.Event()
        run.reader.feed(lines(digests))
        await wait_all_tasks_blocked()
        stopped = [digests.index(sent.digest) + 1 for sent in remote.lane.sent]
        assert stopped
        for number in stopped:
            run.reader.feed(b"!cancel %d\n" % number)
        await wait_all_tasks_blocked()
        run.writer.flow.set()
        run.reader.feed_eof()
    ends = terminals(run.writer.frames())
    cancelled = [number for number, end in ends.items() if isinstance(end, Error)]
    assert sorted(cancelled) == sorted(stopped)
    assert len(ends) == len(digests)


async def test_a_deadline_is_kept() -> None:
    remote = Remote()
    remote.lane.gate = trio.Event()
    async with running(remote, SETTINGS) as run:
        run.reader.feed(lines(remote.digests[:1], "deadline:10ms"))
        await run.writer.wait_frames(2)
        remote.lane.gate.set()
        run.reader.feed_eof()
    (end,) = terminals(run.writer.frames()).values()
    assert isinstance(end, Error)
    assert end.code == "timeout"
    assert not remote.lane.sent


async def test_blobs_of_a_tree_go_this_way_with_their_parents() -> None:
    remote = Remote()
    add_image(remote, "one", b"a layer", tag="one")
    _, frames = await answers(remote, b"one children:all\n", SETTINGS)
    begins = {frame.id: frame for frame in frames if isinstance(frame, Begin)}
    layer = next(each for each in begins.values() if each.object == digest_of(b"a layer"))
    assert layer.parent is not None
    assert layer.descriptor.size == len(b"a layer")
    assert digest_of(b"a layer") in remote.lane.asked


async def test_a_listing_is_not_asked_for() -> None:
    remote = Remote()
    await answers(remote, f"!referrers {remote.digests[0]}\n".encode(), SETTINGS)
    assert not remote.lane.asked
