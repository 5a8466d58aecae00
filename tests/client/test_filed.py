"""Content in a file of the store, as a client reads it: verified once more."""

from __future__ import annotations

import os
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from multi_fetch.client import AsyncWorker, Worker
from multi_fetch.client.filed import FiledContent
from multi_fetch.errors import (
    DigestMismatchError,
    MalformedFrameError,
    NotFoundError,
    SizeMismatchError,
    UnsupportedError,
)
from multi_fetch.limits import MAX_DATA_BYTES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import Digest, digest_of
from multi_fetch.protocol.frames import Begin, End, File
from multi_fetch.testing.builder import LayoutBuilder
from tests.client.conftest import LARGE, SMALL
from tests.client.sans_io import Talk, begin, data, end

if TYPE_CHECKING:
    from tests.client.conftest import Repository, RunAsync

CONTENT = bytes(range(256)) * 5_000


def described(content: bytes) -> Descriptor:
    return Descriptor(media_type="text/plain", digest=digest_of(content), size=len(content))


def filed_at(path: Path, content: bytes, want: bytes = CONTENT) -> FiledContent:
    path.write_bytes(content)
    return FiledContent(str(path), len(want), described(want))


def rest_of(filed: FiledContent) -> list[bytes]:
    pieces = []
    while not filed.is_over:
        pieces.append(filed.read())
    return pieces


@pytest.mark.parametrize("content", [CONTENT, CONTENT[:MAX_DATA_BYTES], b"x", b""])
def test_a_file_is_given_in_pieces_each_once(tmp_path: Path, content: bytes) -> None:
    filed = filed_at(tmp_path / "file", content, content)
    pieces = rest_of(filed)
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= MAX_DATA_BYTES
    assert filed.read() == b""


def test_several_threads_read_each_piece_once(tmp_path: Path) -> None:
    filed = filed_at(tmp_path / "file", CONTENT)
    with ThreadPoolExecutor(4) as pool:
        pieces = list(pool.map(lambda _: filed.read(), range(20)))
    assert sorted(b"".join(pieces)) == sorted(CONTENT)
    assert filed.is_over


def test_nobody_waits_for_a_fifo_that_a_worker_names(tmp_path: Path) -> None:
    path = tmp_path / "file"
    os.mkfifo(path)
    with pytest.raises(OSError, match="no regular file"):
        FiledContent(str(path), 6, described(b"abcdef")).read()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (CONTENT[:-1] + b"x", DigestMismatchError),
        (b"x" + CONTENT[1:], DigestMismatchError),
        (CONTENT[:-1], SizeMismatchError),
        (CONTENT + b"x", SizeMismatchError),
        (b"", SizeMismatchError),
    ],
)
def test_a_file_that_was_altered_ends_like_content_that_was(
    tmp_path: Path, content: bytes, kind: type[Exception]
) -> None:
    """And goes on doing so: it never looks as if there were no more."""
    filed = filed_at(tmp_path / "file", content)
    with pytest.raises(kind):
        rest_of(filed)
    with pytest.raises(kind):
        filed.read()
    assert not filed.is_over


def test_a_file_that_is_altered_between_two_pieces_is_found_out(tmp_path: Path) -> None:
    path = tmp_path / "file"
    filed = filed_at(path, CONTENT)
    assert filed.read() == CONTENT[:MAX_DATA_BYTES]
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(DigestMismatchError):
        rest_of(filed)


def test_a_failure_keeps_nothing_of_the_content(tmp_path: Path) -> None:
    """It is kept with its answer, and a piece has 512 KiB."""
    filed = filed_at(tmp_path / "file", bytes(MAX_DATA_BYTES), CONTENT[:MAX_DATA_BYTES])
    with pytest.raises(DigestMismatchError) as caught:
        filed.read()
    frames = [frame for frame, _ in traceback.walk_tb(caught.tb)]
    assert not [frame for frame in frames if "content" in frame.f_locals]


def test_an_empty_file_is_held_against_its_digest_too(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    lie = Descriptor(media_type="text/plain", digest=digest_of(b"x"), size=None)
    with pytest.raises(DigestMismatchError):
        FiledContent(str(path), 0, lie).read()


def test_the_size_is_that_of_the_begin(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with pytest.raises(SizeMismatchError):
        FiledContent(str(path), len(CONTENT), described(CONTENT[:5])).read()


def test_what_cannot_be_verified_here_is_not_given(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    unknown = Descriptor(media_type="text/plain", digest=Digest("none:unverified"), size=1)
    with pytest.raises(UnsupportedError):
        FiledContent(str(path), 1, unknown).read()


def named(path: Path, content: bytes) -> tuple[Begin, File, End]:
    """What a worker says of a file that shall have this content."""
    found = described(content)
    return (
        Begin(1, "a", found, "r.example/app:a", None),
        File(1, str(path), len(content)),
        End(1, len(content), found.digest, 0),
    )


def test_a_request_has_a_file_in_place_of_data(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"xyz")
    talk = Talk()
    a, b = talk.ask("a", "b")
    talk.written()
    talk.say(*named(path, b"xyz"))
    talk.say(begin(2), data(2, 0, b"x"), end(2, 1))
    assert (a.path(), b.path()) == (path, None)
    piece = a.take()
    assert isinstance(piece, FiledContent)
    assert (piece.read(), a.take()) == (b"xyz", None)


def test_a_request_whose_file_was_altered_fails_for_whoever_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"xyz")
    talk = Talk()
    (a,) = talk.ask("a")
    talk.written()
    talk.say(*named(path, b"abc"))
    piece = a.take()
    assert isinstance(piece, FiledContent)
    for read in (piece.read, a.take, a.require_whole):
        with pytest.raises(DigestMismatchError):
            read()
    assert a.path() == path


@pytest.mark.parametrize("size", [2, 4])
def test_an_end_has_the_size_of_the_file(size: int) -> None:
    talk = Talk()
    talk.ask("a")
    talk.written()
    with pytest.raises(MalformedFrameError, match="3 had come"):
        talk.say(begin(1), File(1, "/store/xyz", 3), end(1, size))


def test_a_file_of_which_nothing_is_proved_is_no_content() -> None:
    talk = Talk()
    talk.ask("a")
    talk.written()
    with pytest.raises(MalformedFrameError, match="without a digest"):
        talk.say(begin(1), File(1, "/etc/passwd", 3), End(1, 3, None, 0))


def test_a_worker_names_the_files_and_they_can_be_read(
    repository: Repository, tmp_path: Path
) -> None:
    with Worker(repository.remote, store=str(tmp_path / "store"), answers="paths") as worker:
        small = worker.submit(repository.small.digest)
        large = worker.submit(repository.large.digest)
        part = worker.submit(repository.large.digest, "range:0-9")
        missing = worker.submit("nope")
        assert small.path is not None
        assert small.path.read_bytes() == SMALL == small.read()
        assert large.path is not None
        assert large.path.is_relative_to(tmp_path / "store" / "blobs")
        assert b"".join(large) == LARGE
        assert part.path is None
        assert b"".join(part) == LARGE[:10]
        with pytest.raises(NotFoundError):
            _ = missing.path


def alter(path: Path | None) -> None:
    assert path is not None
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_what_is_altered_behind_the_worker_is_not_given_as_its_content(
    repository: Repository, tmp_path: Path
) -> None:
    with Worker(repository.remote, store=str(tmp_path / "store"), answers="paths") as worker:
        for blob in (repository.small, repository.large):
            whole, pieces = (worker.submit(blob.digest) for _ in range(2))
            assert whole.path == pieces.path
            alter(whole.path)
            with pytest.raises(DigestMismatchError):
                whole.read()
            for _ in range(2):
                with pytest.raises(DigestMismatchError):
                    list(pieces)


def test_an_async_worker_does_not_give_it_either(
    repository: Repository, tmp_path: Path, run_async: RunAsync
) -> None:
    async def main() -> None:
        store = str(tmp_path / "store")
        async with AsyncWorker(repository.remote, store=store, answers="paths") as worker:
            whole, pieces = (worker.submit(repository.large.digest) for _ in range(2))
            assert await pieces.path() is not None
            alter(await whole.path())
            with pytest.raises(DigestMismatchError):
                await whole.read()
            with pytest.raises(DigestMismatchError):
                _ = [piece async for piece in pieces]
            with pytest.raises(DigestMismatchError):
                await anext(pieces)

    run_async(main)


def test_an_empty_object_has_no_pieces(tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path / "layout")
    empty = builder.add_blob(b"")
    remote, store = f"oci:{builder.finish().folder}", str(tmp_path / "store")
    with Worker(remote, store=store, answers="paths") as worker:
        assert list(worker.submit(empty.digest)) == []
        assert worker.submit(empty.digest).read() == b""


def test_an_async_worker_does_too(
    repository: Repository, tmp_path: Path, run_async: RunAsync
) -> None:
    async def main() -> None:
        store = str(tmp_path / "store")
        async with AsyncWorker(repository.remote, store=store, answers="paths") as worker:
            large = worker.submit(repository.large.digest)
            path = await large.path()
            assert path is not None
            assert path.parent.parent == Path(store) / "blobs"
            assert await large.read() == LARGE

    run_async(main)
