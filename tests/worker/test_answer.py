"""What each hint brings, against a remote in memory."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

import pytest
import trio

from multi_fetch import budget
from multi_fetch.limits import MAX_DATA_BYTES, MAX_INDEX_DEPTH, MAX_MANIFEST_BYTES
from multi_fetch.oci.digest import digest_of, parse_digest
from multi_fetch.oci.media_types import DOCKER_SCHEMA1_SIGNED, OCI_INDEX, OCI_MANIFEST
from multi_fetch.protocol.frames import Begin, Bye, Data, End, Error, Frame
from multi_fetch.worker.serve import Settings
from tests.worker.harness import answers, content, ids, running, terminals
from tests.worker.images import add_image, add_index
from tests.worker.memory_remote import MemoryRemote
from tests.world import SHARED as SHARED_LAYER
from tests.world import World

if TYPE_CHECKING:
    from trio.testing import MockClock

    from multi_fetch.oci.reference import Reference

SHARED = b"a layer that both have"
LARGE = random.Random(2).randbytes(MAX_DATA_BYTES + 100_000)
ORDERED = Settings(software="test", is_ordered=True)


@pytest.fixture
def remote() -> MemoryRemote:
    """``multi``: an index of two images, which share a layer; ``large``: a blob."""
    remote = MemoryRemote()
    remote.add(LARGE, "large")
    amd64 = add_image(remote, "amd64", SHARED, b"amd64's own", tag="amd64")
    arm64 = add_image(remote, "arm64", SHARED, LARGE, tag="arm64")
    add_index(remote, "multi", {"linux/amd64": amd64, "linux/arm64/v8": arm64})
    return remote


def begins(frames: list[Frame]) -> dict[int, Begin]:
    return {frame.id: frame for frame in frames if isinstance(frame, Begin)}


def failure(frames: list[Frame], request_id: int = 1) -> Error:
    error = terminals(frames)[request_id]
    assert isinstance(error, Error)
    return error


async def test_platform_follows_an_index_to_its_manifest(remote: MemoryRemote) -> None:
    _, frames = await answers(remote, b"multi platform:linux/aarch64\n")
    begin = begins(frames)[1]
    assert begin.descriptor.digest == digest_of(remote.objects["arm64"])
    assert begin.descriptor.media_type == OCI_MANIFEST
    assert begin.object == "multi"
    assert begin.parent is None
    assert content(frames, 1) == remote.objects["arm64"]


class HoldingNothing(MemoryRemote):
    """Sees to it that whoever asks for something holds nothing: it might have to wait."""

    def _find(self, ref: Reference) -> bytes:
        share = budget._SHARE.get()
        assert share is not None
        assert share.held == 0
        return super()._find(ref)


@pytest.mark.parametrize("hints", [b"", b" content:none", b" content:none children:all"])
async def test_who_is_led_on_holds_nothing_of_what_led_there(hints: bytes) -> None:
    remote = HoldingNothing()
    image = add_image(remote, "image", b"a layer")
    add_index(remote, "multi", {"linux/amd64": image})
    _, frames = await answers(remote, b"multi platform:linux/amd64" + hints)
    assert all(isinstance(last, End) for last in terminals(frames).values())
    assert len(remote.opened + remote.resolved) > 1


async def test_platform_is_ignored_on_a_single_manifest_which_is_asked_for_once(
    remote: MemoryRemote,
) -> None:
    _, frames = await answers(remote, b"amd64 platform:windows/arm64\n")
    assert content(frames, 1) == remote.objects["amd64"]
    assert remote.opened == ["amd64"]


@pytest.mark.parametrize("hints", [b"", b" content:none", b" children:all"])
async def test_a_platform_that_is_not_there_is_not_found_and_lists_what_there_is(
    remote: MemoryRemote, hints: bytes
) -> None:
    _, frames = await answers(remote, b"multi platform:linux/s390x" + hints)
    error = failure(frames)
    assert error.code == "not-found"
    assert "linux/amd64, linux/arm64/v8" in error.message


async def test_an_index_that_leads_to_ever_more_indexes_is_refused(remote: MemoryRemote) -> None:
    below = digest_of(remote.objects["multi"])
    for depth in range(MAX_INDEX_DEPTH + 1):
        below = add_index(remote, f"nested{depth}", {"linux/amd64": below})
    _, frames = await answers(remote, b"nested0 platform:linux/amd64\nnested4 platform:linux/amd64")
    assert content(frames, 1) == remote.objects["amd64"]
    assert failure(frames, 2).code == "unsupported"


@pytest.mark.parametrize(
    ("hint", "wanted"),
    [
        (b"range:0-9", LARGE[:10]),
        (b"range:5-", LARGE[5:]),
        (b"range:600000-600000", LARGE[600_000:600_001]),
        (b"range:600000-9999999", LARGE[600_000:]),
    ],
)
async def test_a_range_comes_unverified_and_counted_from_its_own_first_byte(
    remote: MemoryRemote, hint: bytes, wanted: bytes
) -> None:
    _, frames = await answers(remote, b"large " + hint)
    assert content(frames, 1) == wanted
    assert terminals(frames)[1] == End(1, len(wanted), None, 0)
    assert begins(frames)[1].descriptor.digest == digest_of(LARGE)


async def test_a_pin_that_fits_changes_nothing(remote: MemoryRemote) -> None:
    line = f"amd64 digest:{digest_of(remote.objects['amd64'])}"
    _, frames = await answers(remote, line.encode())
    assert content(frames, 1) == remote.objects["amd64"]


@pytest.mark.parametrize("hints", [b"", b" content:none", b" platform:linux/amd64"])
async def test_a_tag_that_has_moved_from_its_pin_is_a_mismatch(
    remote: MemoryRemote, hints: bytes
) -> None:
    _, frames = await answers(remote, f"multi digest:{digest_of(b'')}".encode() + hints)
    error = failure(frames)
    assert (error.code, error.detail["bytes_sent"]) == ("digest-mismatch", 0)
    assert error.detail["got"] == digest_of(remote.objects["multi"])


async def test_a_pin_of_another_algorithm_is_unsupported(remote: MemoryRemote) -> None:
    _, frames = await answers(remote, f"multi digest:{digest_of(b'', 'sha512')}".encode())
    assert failure(frames).code == "unsupported"


@pytest.mark.parametrize("settings", [None, ORDERED])
async def test_children_bring_the_whole_tree_each_node_once(
    remote: MemoryRemote, settings: Settings | None
) -> None:
    status, frames = await answers(remote, b"multi children:all\n", settings)
    assert status == 0
    tree = begins(frames)
    ends = terminals(frames)
    assert {begin.descriptor.digest for begin in tree.values()} == {
        digest_of(each) for name, each in remote.objects.items() if name != "large"
    }
    assert len(tree) == 1 + 2 + 2 + 3
    assert sorted(tree)[:-1] == list(range(-7, 0))
    for request_id, begin in tree.items():
        end = ends[request_id]
        assert isinstance(end, End)
        assert content(frames, request_id) == remote.objects[begin.descriptor.digest]
        assert end.children == sum(each.parent == request_id for each in tree.values())
    assert sum(name == digest_of(SHARED) for name in map(_bare, remote.opened)) == 1


def _bare(name: str) -> str:
    return name.partition("@")[2]


async def test_ordered_children_follow_their_parent_before_the_next_request(
    remote: MemoryRemote,
) -> None:
    _, frames = await answers(remote, b"multi children:all\nlarge\namd64 children:all\n", ORDERED)
    order = list(dict.fromkeys(ids(frames)))
    assert order[0] == 1
    assert order[1:8] == [-1, *order[2:8]]
    assert order[8:10] == [2, 3]
    parents = [begin.parent for begin in begins(frames).values()]
    assert parents == [None, 1, -1, -1, -1, 1, -2, -2, None, None, 3, 3, 3]


async def test_children_of_a_platform_are_of_that_branch_alone(remote: MemoryRemote) -> None:
    _, frames = await answers(remote, b"multi platform:linux/amd64 children:all\n")
    digests = {begin.descriptor.digest for begin in begins(frames).values()}
    assert digest_of(b"amd64's own") in digests
    assert digest_of(LARGE) not in digests
    assert len(digests) == 4


async def test_children_manifests_leaves_the_blobs_out(remote: MemoryRemote) -> None:
    _, frames = await answers(remote, b"multi children:manifests\n")
    assert [end.children for end in terminals(frames).values() if isinstance(end, End)] == [2, 0, 0]


async def test_children_blobs_names_the_manifests_between_without_their_content(
    remote: MemoryRemote,
) -> None:
    _, frames = await answers(remote, b"multi children:blobs\n")
    for request_id, begin in begins(frames).items():
        is_between = begin.descriptor.media_type == OCI_MANIFEST
        assert bool(content(frames, request_id)) != is_between
    assert content(frames, 1) == remote.objects["multi"]
    assert len(begins(frames)) == 8


async def test_children_without_content_are_a_listing_of_the_tree(remote: MemoryRemote) -> None:
    _, frames = await answers(remote, b"multi children:all content:none\n")
    assert not [frame for frame in frames if isinstance(frame, Data)]
    assert len(begins(frames)) == 8
    assert all(frame.descriptor.size is not None for frame in begins(frames).values())


async def test_children_of_a_blob_are_none(remote: MemoryRemote) -> None:
    _, frames = await answers(remote, b"large children:all\n")
    assert terminals(frames)[1] == End(1, len(LARGE), digest_of(LARGE), 0)


async def test_a_child_that_fails_tells_what_and_whose_it_is(remote: MemoryRemote) -> None:
    missing = digest_of(SHARED)
    del remote.objects[missing]
    status, frames = await answers(remote, b"amd64 children:all\n")
    errors = [frame for frame in frames if isinstance(frame, Error)]
    assert [(error.code, error.detail["object"], error.detail["parent"]) for error in errors] == [
        ("not-found", missing, 1)
    ]
    assert status == 1


@pytest.mark.parametrize(
    ("document", "media_type", "code"),
    [
        (b"{not json", OCI_MANIFEST, "registry-error"),
        (
            b'{"layers":[{"mediaType":"a/b","digest":"nonsense","size":1}]}',
            OCI_MANIFEST,
            "registry-error",
        ),
        (b"{}", DOCKER_SCHEMA1_SIGNED, "unsupported"),
    ],
)
async def test_a_manifest_that_cannot_be_read_has_no_children(
    remote: MemoryRemote, document: bytes, media_type: str, code: str
) -> None:
    remote.add(document, "odd", media_type=media_type)
    _, frames = await answers(remote, b"odd children:all\nodd\n")
    assert failure(frames).code == code
    assert content(frames, 2) == document


async def test_a_manifest_beyond_a_data_frame_comes_verified_in_several(
    remote: MemoryRemote,
) -> None:
    manifest = b'{"schemaVersion":2,"layers":[]' + b" " * MAX_DATA_BYTES + b"}"
    digest = remote.add(manifest, "wide", media_type=OCI_MANIFEST)
    remote.add(manifest[:-2] + b" }", "other", media_type=OCI_MANIFEST)
    _, frames = await answers(remote, b"wide\n")
    assert content(frames, 1) == manifest
    remote.lies[digest] = manifest[:-1] + b"]"
    _, frames = await answers(remote, b"wide\n")
    assert failure(frames).detail["bytes_sent"] == 0


async def test_a_deadline_ends_one_request_and_no_other(
    remote: MemoryRemote, autojump_clock: MockClock
) -> None:
    remote.gates["large"] = trio.Event()
    async with running(remote) as run:
        run.reader.feed(b"large deadline:90s\nlarge\nlarge range:0- deadline:1m\namd64\n")
        await run.writer.wait_frames(1 + 3 + 2)
        assert trio.current_time() == pytest.approx(90)
        run.reader.feed_eof()
        remote.gates["large"].set()
    frames = run.writer.frames()
    assert failure(frames, 1).code == failure(frames, 3).code == "timeout"
    assert content(frames, 2) == LARGE


async def test_time_in_the_queue_is_not_counted(
    remote: MemoryRemote, autojump_clock: MockClock
) -> None:
    remote.gates["large"] = trio.Event()
    async with running(remote, Settings(software="test", jobs=1)) as run:
        run.reader.feed(b"large\namd64 deadline:1s\n")
        run.reader.feed_eof()
        await trio.sleep(100)
        remote.gates["large"].set()
    assert run.status == 0


async def test_waiting_for_a_turn_is_not_counted(
    remote: MemoryRemote, autojump_clock: MockClock
) -> None:
    remote.gates["large"] = trio.Event()
    async with running(remote, ORDERED) as run:
        run.reader.feed(b"large\namd64 deadline:1s\n")
        run.reader.feed_eof()
        await trio.sleep(100)
        remote.gates["large"].set()
    assert run.status == 0


@pytest.mark.parametrize("settings", [None, ORDERED])
async def test_cancel_ends_what_runs_and_what_waits(
    remote: MemoryRemote, settings: Settings | None, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no failure to whom it is no news: nothing of it is logged as an error."""
    remote.gates["large"] = trio.Event()
    async with running(remote, settings) as run:
        run.reader.feed(b"large\n" * 20)
        await trio.testing.wait_all_tasks_blocked()
        run.reader.feed(b"!cancel 1\n!cancel 20\n!cancel 20\namd64\n")
        await trio.testing.wait_all_tasks_blocked()
        remote.gates["large"].set()
        run.reader.feed_eof()
    frames = run.writer.frames()
    ends = terminals(frames)
    assert sorted(ends) == [*range(1, 21), 24]
    assert failure(frames, 1).code == failure(frames, 20).code == "cancelled"
    assert content(frames, 2) == LARGE
    assert isinstance(ends[24], End)
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_cancel_of_what_has_ended_has_no_answer(remote: MemoryRemote) -> None:
    async with running(remote) as run:
        run.reader.feed(b"amd64\n")
        await run.writer.wait_frames(4)
        run.reader.feed(b"# comment\n!cancel 1\n!cancel 2\n!cancel -1\n")
        run.reader.feed_eof()
    frames = run.writer.frames()
    assert list(terminals(frames)) == [1]
    assert frames[-1] == Bye(1, 1, 0, len(remote.objects["amd64"]), {"retries": 0})


async def test_cancel_of_a_request_takes_along_what_is_below_it(remote: MemoryRemote) -> None:
    for digest in (digest_of(LARGE), digest_of(SHARED)):
        remote.gates[digest] = trio.Event()
    async with running(remote) as run:
        run.reader.feed(b"arm64 children:all\n")
        await trio.testing.wait_all_tasks_blocked()
        run.reader.feed(b"!cancel 1\n")
        run.reader.feed_eof()
    ends = terminals(run.writer.frames())
    assert {request_id: getattr(end, "code", "") for request_id, end in ends.items()} == {
        1: "",
        -1: "",
        -2: "cancelled",
        -3: "cancelled",
    }
    assert remote.running == 0


@pytest.mark.parametrize("line", ["!cancel", "!cancel x", "!cancel 1 2", "!cancel 0", "!cancel 9"])
async def test_a_cancel_that_cannot_be_read_is_an_error_of_its_own_id(
    remote: MemoryRemote, line: str
) -> None:
    _, frames = await answers(remote, f"amd64\n{line}\n".encode())
    assert failure(frames, 2).code == "invalid-request"
    assert isinstance(terminals(frames)[1], End)


async def test_the_same_object_asked_for_at_the_same_time_is_fetched_once(
    remote: MemoryRemote,
) -> None:
    remote.gates["large"] = trio.Event()
    async with running(remote, Settings(software="test", jobs=2)) as run:
        run.reader.feed(b"large\n" * 500)
        await trio.testing.wait_all_tasks_blocked()
        run.reader.feed(b"large\nlarge size:%d\n" % len(LARGE))
        await trio.testing.wait_all_tasks_blocked()
        remote.gates["large"].set()
        run.reader.feed_eof()
    assert remote.opened == ["large", "large"]
    frames = run.writer.frames()
    received = dict.fromkeys(range(1, 503), 0)
    for frame in frames:
        if isinstance(frame, Data):
            assert frame.content == LARGE[frame.offset : frame.offset + len(frame.content)]
            received[frame.id] += len(frame.content)
    assert set(received.values()) == {len(LARGE)}
    assert all(isinstance(end, End) for end in terminals(frames).values())


async def test_who_leaves_a_shared_fetch_stops_nobody_else(remote: MemoryRemote) -> None:
    async with running(remote) as run:
        await run.writer.wait_frames(1)
        run.writer.flow = trio.Event()
        run.reader.feed(b"large\nlarge\nlarge\n")
        await trio.testing.wait_all_tasks_blocked()
        run.reader.feed(b"!cancel 1\n!cancel 3\n")
        await trio.testing.wait_all_tasks_blocked()
        run.writer.flow.set()
        run.reader.feed_eof()
    frames = run.writer.frames()
    assert failure(frames, 1).code == failure(frames, 3).code == "cancelled"
    assert content(frames, 2) == LARGE
    assert failure(frames, 1).detail["bytes_sent"] == len(content(frames, 1))
    assert len(remote.opened) == 1


async def test_a_fetch_that_all_have_left_is_ended(remote: MemoryRemote) -> None:
    remote.gates["large"] = trio.Event()
    async with running(remote) as run:
        run.reader.feed(b"large\nlarge\n")
        await trio.testing.wait_all_tasks_blocked()
        run.reader.feed(b"!cancel 1\n!cancel 2\n")
        await trio.testing.wait_all_tasks_blocked()
        assert remote.running == 0
        run.reader.feed_eof()


async def test_small_objects_run_while_large_ones_fill_what_they_may(remote: MemoryRemote) -> None:
    contents = [LARGE + bytes([number]) for number in range(20)]
    lines = ""
    for each in contents:
        digest = remote.add(each)
        remote.gates[digest] = trio.Event()
        lines += f"{digest} size:{len(each)}\n"
    async with running(remote, Settings(software="test", jobs=8)) as run:
        run.reader.feed(lines.encode())
        await trio.testing.wait_all_tasks_blocked()
        assert remote.running == 6
        run.reader.feed(b"amd64\n")
        await run.writer.wait_frames(4)
        for gate in remote.gates.values():
            gate.set()
        run.reader.feed_eof()
    assert next(iter(terminals(run.writer.frames()))) == 21
    assert run.status == 0


async def test_what_the_remote_reports_is_in_bye(remote: MemoryRemote) -> None:
    remote.retries = 3
    _, frames = await answers(remote, b"")
    assert frames[-1] == Bye(0, 0, 0, 0, {"retries": 3})


async def test_what_is_found_below_joins_a_fetch_of_the_same_that_runs_already() -> None:
    remote = World()
    remote.gates[digest_of(SHARED_LAYER)] = trio.Event()
    async with running(remote) as run:
        for line in (b"two children:all\n", b"one children:all\n", b"two children:all\n"):
            run.reader.feed(line)
            await trio.testing.wait_all_tasks_blocked()
        for gate in remote.gates.values():
            gate.set()
        run.reader.feed_eof()
    assert run.status == 0
    assert [_bare(name) for name in remote.opened].count(digest_of(SHARED_LAYER)) == 1


@pytest.mark.parametrize("settings", [None, ORDERED])
async def test_a_cancel_in_the_moment_in_which_content_comes_is_heard(
    settings: Settings | None, autojump_clock: MockClock
) -> None:
    async with running(World([1], is_deaf=True), settings) as run:
        run.reader.feed(b"large\nmulti children:all\n")
        await trio.sleep(1.5)
        run.reader.feed(b"!cancel 1\n!cancel 2\n")
        run.reader.feed_eof()
    ends = terminals(run.writer.frames())
    assert {number: getattr(end, "code", "") for number, end in ends.items()} == {
        1: "cancelled",
        2: "cancelled",
    }


async def test_a_listing_looks_into_the_manifest_that_it_has_found(remote: MemoryRemote) -> None:
    """Though the tag may move before that."""
    _, frames = await answers(remote, b"amd64 children:all content:none\n")
    assert remote.opened == [f"@{digest_of(remote.objects['amd64'])}"]
    assert len(begins(frames)) == 4


async def test_a_small_range_of_a_large_object_is_a_small_object(remote: MemoryRemote) -> None:
    _, frames = await answers(remote, b"large range:7-9\n", Settings(software="test", jobs=1))
    assert [type(frame) for frame in frames[1:-1]] == [Begin, Data, End]
    lines = [f"{remote.add(LARGE + bytes([each]))} size:{len(LARGE) + 1}" for each in range(3)]
    for line in lines:
        remote.gates[parse_digest(line.partition(" ")[0])] = trio.Event()
    async with running(remote, Settings(software="test", jobs=2)) as run:
        run.reader.feed("\n".join([*lines, f"large size:{len(LARGE)} range:7-9\n"]).encode())
        assert isinstance((await run.writer.wait_frames(4))[3], End)
        for gate in remote.gates.values():
            gate.set()
        run.reader.feed_eof()


@pytest.mark.parametrize(
    "hint",
    [
        "",
        " content:none platform:linux/amd64",
        " children:all",
        " content:none children:all",
        " platform:linux/amd64",
    ],
)
async def test_a_manifest_beyond_the_limit_is_too_large_whatever_is_wanted_of_it(
    remote: MemoryRemote, hint: str
) -> None:
    """A registry may have it among its blobs; then it is not refused before it comes."""
    remote.add(b"{}" + b" " * MAX_MANIFEST_BYTES, "wide", media_type=OCI_INDEX)
    _, frames = await answers(remote, f"wide{hint}\namd64\n".encode())
    assert failure(frames).code == "too-large"
    assert content(frames, 2) == remote.objects["amd64"]
