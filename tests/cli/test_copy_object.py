"""One object copied to a writer, and what is told of it meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from multi_fetch.cli.copy_object import Copy
from multi_fetch.cli.output import open_output
from multi_fetch.errors import DigestMismatchError
from multi_fetch.limits import MAX_DATA_BYTES
from multi_fetch.oci.reference import parse_remote
from multi_fetch.protocol.request import parse_request
from multi_fetch.remotes import open_remote
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.worker.progress import Look, Running
from tests.worker.harness import LOCATOR
from tests.worker.test_filing import KeepingRemote, TwoHosts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.oci.digest import Chunk

LARGE = bytes(range(256)) * (MAX_DATA_BYTES // 128)


class Watched:
    """A writer that keeps what it is given, and looks at the copy before it does."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.looks: list[Look] = []
        self.copy: Copy | None = None

    async def write(self, buffers: Sequence[Chunk]) -> None:
        assert self.copy is not None
        self.looks.append(self.copy.look())
        self.content += b"".join(buffers)

    async def wait_closed(self) -> None:
        raise AssertionError("nobody asks")


async def copied(folder: Path, words: Sequence[str]) -> tuple[Watched, Copy]:
    writer = Watched()
    ref = parse_remote(f"oci:{folder}")
    copy = writer.copy = Copy(parse_request(words[0], words[1:]), ref.locator, writer)
    async with open_remote(ref) as remote:
        await copy.run(remote)
    return writer, copy


@pytest.fixture
def builder(tmp_path: Path) -> LayoutBuilder:
    return LayoutBuilder(tmp_path)


@pytest.fixture
def large(builder: LayoutBuilder) -> Descriptor:
    return builder.add_blob(LARGE)


async def test_a_large_copy_tells_how_far_it_has_come(
    builder: LayoutBuilder, large: Descriptor
) -> None:
    writer, copy = await copied(builder.finish().folder, [large.digest])
    assert writer.content == LARGE
    first, *_, last = writer.looks
    size = len(LARGE)
    assert first.running == (Running(1, large.digest, size, 0),)
    assert first.remaining_bytes == size
    assert 0 < last.bytes < size
    assert (last.succeeded, last.is_input_over) == (0, True)
    over = copy.look()
    assert (over.succeeded, over.failed, over.bytes, over.running) == (1, 0, size, ())


async def test_of_a_range_only_its_bytes_are_expected(
    builder: LayoutBuilder, large: Descriptor
) -> None:
    writer, copy = await copied(builder.finish().folder, [large.digest, "range:10-19"])
    assert writer.content == LARGE[10:20]
    assert [look.remaining_bytes for look in writer.looks] == [10]
    assert copy.look().remaining_bytes == 0


async def test_a_copy_that_fails_is_counted_as_failed(
    builder: LayoutBuilder, large: Descriptor
) -> None:
    folder = builder.finish().folder
    path = folder / "blobs" / "sha256" / large.digest.encoded
    path.write_bytes(LARGE[:-1] + b"?")
    writer = Watched()
    copy = writer.copy = Copy(parse_request(large.digest, []), f"oci:{folder}", writer)
    async with open_remote(parse_remote(f"oci:{folder}")) as remote:
        with pytest.raises(DigestMismatchError):
            await copy.run(remote)
    assert (copy.look().succeeded, copy.look().failed) == (0, 1)


@pytest.mark.parametrize("lie", [LARGE[:-1] + b"?", LARGE[:-1], b"?"])
async def test_into_a_file_wrong_bytes_are_anothers_to_mend(tmp_path: Path, lie: bytes) -> None:
    remote, path = TwoHosts(tmp_path), tmp_path / "file"
    digest = remote.add(LARGE)
    remote.lies[digest] = lie
    async with open_output(str(path)) as writer:
        copy = Copy(parse_request(str(digest), []), LOCATOR, writer)
        await copy.run(remote)
    assert path.read_bytes() == LARGE
    assert copy.look().bytes == len(LARGE)
    assert len(remote.opened) == 2


async def test_what_somebody_reads_already_is_not_mended(tmp_path: Path) -> None:
    remote, writer = TwoHosts(tmp_path), Watched()
    digest = remote.add(LARGE)
    remote.lies[digest] = LARGE[:-1] + b"?"
    copy = writer.copy = Copy(parse_request(str(digest), []), LOCATOR, writer)
    with pytest.raises(DigestMismatchError):
        await copy.run(remote)
    assert len(remote.opened) == 1


async def test_into_a_file_what_nobody_has_right_leaves_none(tmp_path: Path) -> None:
    remote, path = KeepingRemote(tmp_path), tmp_path / "file"
    digest = remote.add(LARGE)
    remote.lies[digest] = LARGE[:-1] + b"?"
    with pytest.raises(DigestMismatchError):
        async with open_output(str(path)) as writer:
            await Copy(parse_request(str(digest), []), LOCATOR, writer).run(remote)
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240 - a look at a local folder
