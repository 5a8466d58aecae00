"""Listings are answered like objects: same frames, same order, same ways to end."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import trio
import trio.testing

from multi_fetch.errors import NotFoundError, UnavailableError
from multi_fetch.limits import MAX_DATA_BYTES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import NO_DIGEST, digest_of
from multi_fetch.oci.media_types import OCI_MANIFEST
from multi_fetch.protocol.frames import Begin, Bye, Data, End, Error
from multi_fetch.worker.serve import Settings
from tests.worker.harness import LOCATOR, answers, content, ids, running, terminals
from tests.worker.memory_remote import MemoryRemote

if TYPE_CHECKING:
    import pytest

SUBJECT = digest_of(b"subject")
LISTED = [
    Descriptor(media_type=OCI_MANIFEST, digest=digest_of(b"sbom"), size=4, artifact_type="a/sbom"),
    Descriptor(
        media_type=OCI_MANIFEST,
        digest=digest_of(b"sig"),
        size=3,
        artifact_type="a/sig",
        annotations={"lines": "a\nb\u2028"},
    ),
]


async def test_tags_come_a_line_each_with_nothing_proved() -> None:
    remote = MemoryRemote()
    remote.pages["tags"] = [["1", "2"], [], ["latest"]]
    status, (_, *frames) = await answers(remote, b"# first\n!tags\n")
    assert frames == [
        Begin(
            2,
            "!tags",
            Descriptor(media_type="text/plain", digest=NO_DIGEST, size=None),
            LOCATOR,
            None,
        ),
        Data(2, 0, b"1\n2\nlatest\n"),
        End(2, 11, None, 0),
        Bye(1, 1, 0, 11, {"retries": 0}),
    ]
    assert status == 0


async def test_an_empty_repository_has_no_lines() -> None:
    _, frames = await answers(MemoryRemote(), b"!tags\n!referrers " + SUBJECT.encode())
    assert content(frames, 1) == content(frames, 2) == b""
    assert {type(each) for each in terminals(frames).values()} == {End}


async def test_each_referrer_is_one_line_of_json() -> None:
    remote = MemoryRemote()
    remote.pages["referrers"] = [LISTED[:1], LISTED[1:]]
    line = f"!referrers {SUBJECT}"
    _, frames = await answers(remote, f"{line}\n{line} artifacttype:a/sig\n".encode())
    begins = [frame for frame in frames if isinstance(frame, Begin)]
    assert {begin.name for begin in begins} == {f"{LOCATOR}@{SUBJECT}"}
    assert {begin.object for begin in begins} == {line}
    assert {begin.descriptor.media_type for begin in begins} == {"application/x-ndjson"}
    found = [json.loads(each) for each in content(frames, 1).splitlines()]
    assert [each["digest"] for each in found] == [each.digest for each in LISTED]
    assert found[1]["annotations"] == {"lines": "a\nb\u2028"}
    assert content(frames, 1).count(b"\n") == 2
    assert [json.loads(each)["artifactType"] for each in content(frames, 2).splitlines()] == [
        "a/sig"
    ]


async def test_a_digest_that_nobody_can_compute_can_be_referred_to() -> None:
    _, frames = await answers(MemoryRemote(), b"!referrers odd:algorithm\n")
    assert terminals(frames)[1] == End(1, 0, None, 0)


async def test_names_that_are_no_tags_break_no_line(caplog: pytest.LogCaptureFixture) -> None:
    remote = MemoryRemote()
    remote.pages["tags"] = [["a", "b\nc", "", "-x", "é", "t" * 129], ["d"]]
    with caplog.at_level(logging.WARNING):
        _, frames = await answers(remote, b"!tags\n")
    assert content(frames, 1) == b"a\nd\n"
    (record,) = caplog.records
    assert record.count == 5  # type: ignore[attr-defined]  # one of the record's extras


async def test_a_long_listing_streams_and_is_worth_nothing_where_it_breaks_off() -> None:
    page = ["t" * 127] * 5_000
    remote = MemoryRemote()
    remote.pages["tags"] = [page, UnavailableError("gone", status=503)]
    _, frames = await answers(remote, b"!tags\n")
    assert len(content(frames, 1)) == 128 * 5_000 > MAX_DATA_BYTES
    assert isinstance(terminals(frames)[1], Error)
    remote.pages["tags"] = [["a"], NotFoundError("no such repository", status=404)]
    _, frames = await answers(remote, b"!tags\n")
    assert [type(frame) for frame in frames[1:-1]] == [Error]
    assert frames[1].code == "not-found"  # type: ignore[union-attr]  # see above


async def test_listings_at_the_same_time_share_one_fetch() -> None:
    remote = MemoryRemote()
    remote.pages["tags"] = [["a"]]
    remote.gates["tags"] = trio.Event()
    async with running(remote) as run:
        run.reader.feed(b"!tags\n!tags\n!referrers " + SUBJECT.encode() + b"\n")
        await trio.testing.wait_all_tasks_blocked()
        remote.gates["tags"].set()
        run.reader.feed_eof()
    frames = run.writer.frames()
    assert remote.opened.count("tags") == 1
    assert content(frames, 1) == content(frames, 2) == b"a\n"


async def test_a_listing_is_cancelled_and_timed_out_like_an_object(
    autojump_clock: trio.testing.MockClock,
) -> None:
    remote = MemoryRemote()
    remote.pages["tags"] = [["a"]]
    remote.gates["tags"] = trio.Event()
    lines = f"!tags\n!cancel 1\n!tags deadline:5s\n!referrers {SUBJECT} size:3\n".encode()
    _, frames = await answers(remote, lines)
    codes = {id_: each.code for id_, each in terminals(frames).items() if isinstance(each, Error)}
    assert codes == {1: "cancelled", 3: "timeout", 4: "invalid-request"}


async def test_in_order_a_listing_waits_for_its_turn() -> None:
    remote = MemoryRemote()
    remote.add(b"content", "latest")
    remote.pages["tags"] = [["latest"]]
    remote.gates["latest"] = trio.Event()
    settings = Settings(software="test", is_ordered=True)
    async with running(remote, settings) as run:
        run.reader.feed(b"latest\n!tags\nlatest\n")
        await trio.testing.wait_all_tasks_blocked()
        remote.gates["latest"].set()
        run.reader.feed_eof()
    assert ids(run.writer.frames()) == [1, 1, 1, 2, 2, 2, 3, 3, 3]
