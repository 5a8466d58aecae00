"""Chunks that are hashed in a thread: in order, counted at once, and no thread left behind."""

from __future__ import annotations

import hashlib
import random
import threading
import tracemalloc
from contextlib import ExitStack

import pytest
import trio

from multi_fetch.errors import SizeMismatchError
from multi_fetch.limits import MAX_DATA_BYTES
from multi_fetch.oci.digest import digest_of
from multi_fetch.verify import Counter, Verifier
from multi_fetch.worker.hashing import LEAST_BYTES, HashThread

SIZES = [LEAST_BYTES, 1, LEAST_BYTES - 1, 10 * LEAST_BYTES, 3]


async def test_chunks_of_any_size_are_hashed_in_order() -> None:
    content = random.Random(1).randbytes(sum(SIZES))
    verifier = Verifier(digest_of(content), len(content))
    buffer = bytearray(max(SIZES))
    start = 0
    with HashThread() as hashes:
        for size in SIZES:
            # The memory is used again as soon as it may be.
            buffer[:size] = content[start : start + size]
            await hashes.begin(verifier, memoryview(buffer)[:size]).wait()
            start += size
    assert verifier.finish() == f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.mark.parametrize("others", [0, 1])
async def test_what_streams_alone_is_hashed_while_its_memory_changes_already(others: int) -> None:
    """And what does not only once that may change; either way the digest is right."""
    content = random.Random(2).randbytes(sum(SIZES))
    verifier = Verifier(digest_of(content), len(content))
    buffer, start = bytearray(max(SIZES)), 0
    with HashThread() as hashes, ExitStack() as stack:
        for _ in range(others):
            stack.enter_context(hashes.follow(Counter(None)))
        with hashes.follow(verifier) as hashing:
            for size in SIZES:
                buffer[:size] = content[start : start + size]
                await hashing.begin(memoryview(buffer)[:size])
                await hashing.settle()
                buffer[:] = bytes(len(buffer))
                start += size
            await hashing.finish()
    assert verifier.finish() == digest_of(content)


async def test_no_chunk_is_copied_that_is_small_or_huge_or_cannot_change() -> None:
    with HashThread() as hashes, hashes.follow(Counter(None)) as hashing:
        assert hashes.is_worth_a_copy(bytes(LEAST_BYTES))
        assert not hashes.is_worth_a_copy(bytes(LEAST_BYTES - 1))
        assert not hashes.is_worth_a_copy(bytes(MAX_DATA_BYTES + 1))
        tracemalloc.start()
        for chunk in (bytes(LEAST_BYTES), memoryview(bytes(MAX_DATA_BYTES + 1))):
            before = tracemalloc.get_traced_memory()[0]
            await hashing.begin(chunk)
            await hashing.settle()
            assert tracemalloc.get_traced_memory()[0] - before < LEAST_BYTES
        tracemalloc.stop()


async def test_several_objects_are_hashed_at_the_same_time() -> None:
    contents = [random.Random(seed).randbytes(20 * LEAST_BYTES) for seed in range(8)]

    async def hash_one(content: bytes) -> None:
        verifier = Verifier(digest_of(content), len(content))
        for start in range(0, len(content), LEAST_BYTES):
            hashing = hashes.begin(verifier, content[start : start + LEAST_BYTES])
            await trio.lowlevel.checkpoint()
            await hashing.wait()
        verifier.finish()

    with HashThread() as hashes:
        async with trio.open_nursery() as nursery:
            for content in contents:
                nursery.start_soon(hash_one, content)


async def test_a_byte_too_many_is_refused_before_it_is_passed_on() -> None:
    with HashThread() as hashes, pytest.raises(SizeMismatchError):
        hashes.begin(Verifier(digest_of(b""), 10), bytes(LEAST_BYTES))


async def test_a_range_is_counted_and_not_hashed() -> None:
    counter = Counter(LEAST_BYTES)
    with HashThread() as hashes:
        await hashes.begin(counter, bytes(LEAST_BYTES)).wait()
    assert counter.received == LEAST_BYTES


async def test_the_thread_starts_when_it_is_needed_and_ends_with_its_block() -> None:
    with HashThread() as hashes:
        verifier = Verifier(digest_of(b""), None)
        await hashes.begin(verifier, b"small").wait()
        assert not threads()
        # It is not waited for, as when a request is cancelled.
        hashes.begin(verifier, bytes(100 * LEAST_BYTES))
        assert threads()
    assert not threads()


async def test_how_large_a_chunk_for_the_thread_is_may_be_chosen() -> None:
    with HashThread(LEAST_BYTES + 1) as hashes:
        verifier = Verifier(digest_of(b""), None)
        await hashes.begin(verifier, bytes(LEAST_BYTES)).wait()
        assert not threads()
        await hashes.begin(verifier, bytes(LEAST_BYTES + 1)).wait()
        assert threads()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hash"]
