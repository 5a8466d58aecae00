"""Roots in, lines out: entered together, and each line behind its entry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import trio
import trio.testing

from multi_fetch.errors import UnavailableError
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import Digest, digest_of
from multi_fetch.oci.media_types import OCI_MANIFEST
from multi_fetch.oci.reference import Reference
from multi_fetch.worker.entries import Entries
from multi_fetch.worker.lines import Line, Root
from multi_fetch.worker.outlet import Outlet
from tests.worker.harness import MemoryWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest


class Index:
    """A remote's index."""

    def __init__(self) -> None:
        self.flow = trio.Event()
        self.failure: UnavailableError | None = None
        self.batches: list[list[str]] = []
        self.news = trio.Event()

    async def keep(self, digest: Digest, content: bytes) -> Path | None:
        raise NotImplementedError

    def index_memory(self) -> int:
        return 0

    async def enter(self, roots: Sequence[tuple[Reference, Descriptor]]) -> None:
        self.batches.append([ref.tag for ref, _ in roots])
        self.news.set()
        await self.flow.wait()
        if self.failure is not None:
            raise self.failure


def root(number: int) -> Root:
    found = Descriptor(media_type=OCI_MANIFEST, digest=digest_of(b"abc"), size=3)
    ref = Reference("a.example/a", f"v{number}")
    line = Line(id=number, object=ref.object)
    return Root(ref=ref, descriptor=found, line=line, is_kept=True)


async def test_all_that_waits_is_entered_together_and_its_lines_come_after_that() -> None:
    index, writer = Index(), MemoryWriter()
    outlet = Outlet(writer, is_ordered=False)
    entries = Entries(index, outlet)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outlet.run)
        nursery.start_soon(entries.run)
        entries.put(root(1))
        await index.news.wait()
        entries.put(root(2))
        entries.put(root(3))
        await trio.testing.wait_all_tasks_blocked()
        assert not writer.written
        index.flow.set()
        await entries.finish()
        outlet.close()
    assert index.batches == [["v1"], ["v2", "v3"]]
    lines = [json.loads(line) for line in writer.written.splitlines()]
    assert [line["id"] for line in lines] == [1, 2, 3]
    assert entries.failures == 0


async def test_what_cannot_be_entered_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    index, writer = Index(), MemoryWriter()
    index.failure = UnavailableError("index.json: No space left on device")
    index.flow.set()
    outlet = Outlet(writer, is_ordered=False)
    entries = Entries(index, outlet)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outlet.run)
        nursery.start_soon(entries.run)
        entries.put(root(1))
        await entries.finish()
        outlet.close()
    line = json.loads(writer.written)
    assert (line["id"], line["object"]) == (1, "v1")
    assert line["error"]["code"] == "unavailable"
    assert line["error"]["retryable"]
    assert "not entered in the index: index.json: No space" in line["error"]["message"]
    assert entries.failures == 1
    assert [record.message for record in caplog.records] == ["request failed"]
