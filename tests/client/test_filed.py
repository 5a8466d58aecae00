"""Content in a file of the store, as a client reads it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from multi_fetch.client import AsyncWorker, Worker
from multi_fetch.client.filed import FiledContent, FilePart
from multi_fetch.errors import MalformedFrameError, NotFoundError
from multi_fetch.limits import MAX_DATA_BYTES
from multi_fetch.protocol.frames import File
from tests.client.conftest import LARGE, SMALL
from tests.client.sans_io import Talk, begin, data, end

if TYPE_CHECKING:
    from tests.client.conftest import Repository, RunAsync

CONTENT = bytes(range(256)) * 5_000


def test_a_file_is_given_in_pieces_each_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    filed = FiledContent(str(path), len(CONTENT))
    pieces = []
    while filed.has_more:
        pieces.append(filed.take().read())
    assert b"".join(pieces) == CONTENT
    assert max(map(len, pieces)) <= MAX_DATA_BYTES
    assert not FiledContent(str(path), 0).has_more


def test_nobody_waits_for_a_fifo_that_a_worker_names(tmp_path: Path) -> None:
    path = tmp_path / "file"
    os.mkfifo(path)
    with pytest.raises(OSError, match="no regular file"):
        FilePart(path, 0, 6).read()


def test_a_file_that_was_cut_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"short")
    with pytest.raises(OSError, match="shorter"):
        FilePart(path, 0, 6).read()


def test_a_request_has_a_file_in_place_of_data(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"xyz")
    talk = Talk()
    a, b = talk.ask("a", "b")
    talk.written()
    talk.say(begin(1), File(1, str(path), 3), end(1, 3), begin(2), data(2, 0, b"x"), end(2, 1))
    assert (a.path(), b.path()) == (path, None)
    piece = a.take()
    assert isinstance(piece, FilePart)
    assert (piece.read(), a.take()) == (b"xyz", None)


@pytest.mark.parametrize("size", [2, 4])
def test_an_end_has_the_size_of_the_file(size: int) -> None:
    talk = Talk()
    talk.ask("a")
    talk.written()
    with pytest.raises(MalformedFrameError, match="3 had come"):
        talk.say(begin(1), File(1, "/store/xyz", 3), end(1, size))


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
