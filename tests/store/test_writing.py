"""The thread that writes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import trio

from multi_fetch.oci.digest import digest_of
from multi_fetch.store.folder import StoreFolder
from multi_fetch.store.ingest import Ingest, claim
from multi_fetch.store.writing import WriteThread

if TYPE_CHECKING:
    from pathlib import Path

    from multi_fetch.oci.digest import Chunk

PIECES = [bytes([number]) * 1000 for number in range(50)]
DIGEST = digest_of(b"".join(PIECES))


@pytest.fixture
def ingest(tmp_path: Path) -> Ingest:
    folder = StoreFolder(str(tmp_path))
    folder.prepare()
    claimed = claim(folder, DIGEST, is_patient=True)
    assert isinstance(claimed, Ingest)
    return claimed


def rests(tmp_path: Path) -> list[bytes]:
    return [path.read_bytes() for path in (tmp_path / "ingest").iterdir()]


async def test_chunks_are_written_in_their_order_from_memory_that_is_used_again(
    ingest: Ingest,
) -> None:
    memory = bytearray(1000)
    with WriteThread() as writes:
        for piece in PIECES:
            memory[:] = piece
            await writes.begin(ingest, memoryview(memory)).wait()
        assert ingest.commit().read_bytes() == b"".join(PIECES)


async def test_who_leaves_while_a_chunk_is_written_leaves_it_out(
    ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory may be another's before the system has taken it."""
    gate, reached, write = threading.Event(), threading.Event(), ingest.write

    def slow(chunk: Chunk) -> None:
        reached.set()
        gate.wait(10)
        write(chunk)

    memory = bytearray(b"right")
    with WriteThread() as writes:
        await writes.begin(ingest, b"before ").wait()
        monkeypatch.setattr(ingest, "write", slow)
        writing = writes.begin(ingest, memory)
        assert await trio.to_thread.run_sync(reached.wait, 10)
        with trio.move_on_after(0) as scope:
            await writing.wait()
        assert scope.cancelled_caught
        writes.end(ingest, is_wrong=False)
        memory[:] = b"wrong"
        gate.set()
    assert rests(tmp_path) == [b"before "]


@pytest.mark.parametrize("is_wrong", [False, True])
async def test_an_end_keeps_what_is_right_and_removes_what_is_wrong(
    ingest: Ingest, tmp_path: Path, is_wrong: bool
) -> None:
    with WriteThread() as writes:
        await writes.begin(ingest, b"content").wait()
        writes.end(ingest, is_wrong=is_wrong)
    assert rests(tmp_path) == ([] if is_wrong else [b"content"])


async def test_the_thread_begins_with_the_first_chunk(ingest: Ingest) -> None:
    assert threads() == 0
    with WriteThread() as writes:
        assert threads() == 0
        await writes.begin(ingest, b"x").wait()
        assert threads() == 1
    ingest.discard()
    assert threads() == 0


def threads() -> int:
    """By their name: trio's own idle ones end at any time."""
    return [thread.name for thread in threading.enumerate()].count("store")
