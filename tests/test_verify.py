from __future__ import annotations

import hashlib
import tracemalloc
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.errors import (
    DigestMismatchError,
    MaxSizeError,
    SizeMismatchError,
    UnsupportedError,
)
from multi_fetch.oci.digest import digest_of, parse_digest
from multi_fetch.verify import Counter, Verifier, hold

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable

CONTENT = bytes(range(256)) * 3
SIZE = len(CONTENT)
DIGEST = digest_of(CONTENT)


def verified(content: bytes, *, size: int | None, step: int = SIZE) -> str:
    verifier = Verifier(DIGEST, size)
    for start in range(0, len(content), step):
        verifier.update(memoryview(content)[start : start + step])
    assert verifier.received == len(content)
    return verifier.finish()


@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize("step", [1, 7, 256, SIZE])
def test_the_right_content_passes_however_it_is_cut(size: int | None, step: int) -> None:
    assert verified(CONTENT, size=size, step=step) == DIGEST


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_the_digests_algorithm_is_used(algorithm: str) -> None:
    want = parse_digest(f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest()}")
    verifier = Verifier(want, SIZE)
    verifier.update(CONTENT)
    assert verifier.finish() == want


def test_no_content_is_content() -> None:
    want = digest_of(b"")
    assert Verifier(want, 0).finish() == want
    assert Verifier(want, None).finish() == want


@pytest.mark.parametrize("size", [SIZE, None])
def test_one_changed_bit_is_a_digest_mismatch_that_says_both(size: int | None) -> None:
    altered = bytearray(CONTENT)
    altered[100] ^= 1
    with pytest.raises(DigestMismatchError) as caught:
        verified(bytes(altered), size=size)
    assert (caught.value.want, caught.value.got) == (DIGEST, digest_of(altered))


def test_a_byte_too_many_is_refused_when_it_comes() -> None:
    verifier = Verifier(DIGEST, SIZE)
    verifier.update(CONTENT)
    with pytest.raises(SizeMismatchError) as caught:
        verifier.update(b"x")
    assert (caught.value.want, caught.value.got) == (SIZE, SIZE + 1)


def test_content_of_unknown_size_ends_at_the_limit_and_of_a_known_one_at_that() -> None:
    verifier = Verifier(DIGEST, None, limit=SIZE)
    verifier.update(CONTENT)
    assert verifier.finish() == DIGEST
    for count in (verifier.update, verifier.count):
        with pytest.raises(MaxSizeError) as caught:
            count(b"x")
        assert (caught.value.limit, caught.value.size) == (SIZE, None)
    verifier = Verifier(DIGEST, SIZE, limit=1)
    verifier.update(CONTENT)
    with pytest.raises(SizeMismatchError):
        verifier.update(b"x")


def test_a_part_ends_at_the_limit_of_its_object() -> None:
    counter = Counter(None, before=90, limit=100)
    counter.update(b"x" * 10)
    with pytest.raises(MaxSizeError, match="more than 100 bytes"):
        counter.update(b"x")


def test_a_byte_too_few_is_a_size_mismatch_before_the_digest_is_looked_at() -> None:
    with pytest.raises(SizeMismatchError) as caught:
        verified(CONTENT[:-1], size=SIZE)
    assert (caught.value.want, caught.value.got) == (SIZE, SIZE - 1)


def test_cut_content_of_unknown_size_is_a_digest_mismatch() -> None:
    with pytest.raises(DigestMismatchError):
        verified(CONTENT[:-1], size=None)


def test_an_algorithm_that_cannot_be_computed_is_refused_before_content_flows() -> None:
    with pytest.raises(UnsupportedError):
        Verifier(parse_digest("md5:abc"), None)


@given(st.binary(max_size=64), st.binary(max_size=64), st.none() | st.integers(0, 64))
def test_content_passes_if_and_only_if_it_is_the_wanted(
    want: bytes, came: bytes, size: int | None
) -> None:
    verifier = Verifier(digest_of(want), size)
    try:
        verifier.update(came)
        verifier.finish()
    except SizeMismatchError:
        assert len(came) != size
    except DigestMismatchError:
        assert came != want
    else:
        assert came == want
        assert size in {None, len(came)}


# --- hold -----------------------------------------------------------------------------------


async def chunks_of(pieces: Iterable[bytes]) -> AsyncGenerator[bytes, None]:
    for piece in pieces:
        yield piece


async def test_content_up_to_the_limit_is_held_and_verified() -> None:
    for limit in (SIZE, SIZE + 1):
        verifier = Verifier(DIGEST, SIZE)
        held = await hold(chunks_of([CONTENT[:100], b"", CONTENT[100:]]), verifier, limit)
        assert held == (CONTENT, True)


async def test_content_beyond_the_limit_is_given_back_as_soon_as_that_is_known() -> None:
    chunks = chunks_of([CONTENT[:100], CONTENT[100:200], CONTENT[200:]])
    verifier = Verifier(DIGEST, SIZE)
    assert await hold(chunks, verifier, 150) == (CONTENT[:200], False)
    assert [chunk async for chunk in chunks] == [CONTENT[200:]]
    verifier.update(CONTENT[200:])
    assert verifier.finish() == DIGEST


async def test_a_chunk_that_is_reused_by_its_source_is_kept_all_the_same() -> None:
    buffer = bytearray(3)

    async def reusing() -> AsyncIterator[bytearray]:
        for piece in (b"abc", b"def"):
            buffer[:] = piece
            yield buffer

    held, _ = await hold(reusing(), Verifier(digest_of(b"abcdef"), None), 10)
    assert held == b"abcdef"


async def test_content_in_tiny_chunks_takes_no_more_memory_than_its_size() -> None:
    tracemalloc.start()
    try:
        content, _ = await hold(chunks_of(b"ab" for _ in range(50_000)), Counter(None), 1 << 20)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(content) == 100_000
    assert peak_bytes < 4 * len(content)


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([CONTENT, b"x"], SizeMismatchError),
        ([CONTENT[:-1]], SizeMismatchError),
        ([], SizeMismatchError),
        ([CONTENT[:-1], b"x"], DigestMismatchError),
    ],
)
async def test_held_content_that_is_wrong_is_never_given_back(
    pieces: list[bytes], error: type[Exception]
) -> None:
    async with aclosing(chunks_of(pieces)) as chunks:
        with pytest.raises(error):
            await hold(chunks, Verifier(DIGEST, SIZE), SIZE * 2)
