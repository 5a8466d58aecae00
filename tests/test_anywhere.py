"""All repositories as one remote: each is asked for its own, and no other."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from multi_fetch.anywhere import open_anywhere
from multi_fetch.errors import InvalidReferenceError, NotFoundError, UnsupportedError
from multi_fetch.limits import MAX_IDLE_REPOSITORIES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.frames import Begin, End, Error, Hello
from multi_fetch.protocol.request import ByteRange
from multi_fetch.remotes import Foreign
from multi_fetch.worker.serve import Settings, serve
from tests.worker.harness import MemoryReader, MemoryWriter, content, terminals
from tests.worker.images import add_image
from tests.worker.memory_remote import MemoryRemote
from tests.worker.test_foreign import ForeignMemory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from multi_fetch.protocol.frames import Frame
    from multi_fetch.remotes import Remote


class Town:
    """Repositories in memory.

    Attributes:
        repositories: by locator; another one cannot be opened.
        opened: locators, as often as they were opened.
        open: how many are open now.
    """

    def __init__(self, *names: str) -> None:
        self.repositories = {name: MemoryRemote() for name in names}
        self.opened: list[str] = []
        self.open = 0

    @asynccontextmanager
    async def open_one(self, ref: Reference) -> AsyncIterator[Remote]:
        assert not ref.object
        self.opened.append(ref.locator)
        if ref.locator not in self.repositories:
            raise InvalidReferenceError(f"no {ref}")
        self.open += 1
        try:
            yield self.repositories[ref.locator]
        finally:
            self.open -= 1

    def anywhere(self, *, foreign_urls: bool = False) -> AbstractAsyncContextManager[Remote]:
        return open_anywhere(self.open_one, foreign_urls=foreign_urls)


A, B = "a.test/a", "b.test/b/c"


@pytest.fixture
def town() -> Town:
    town = Town(A, B)
    for name, repository in town.repositories.items():
        repository.add(f"content of {name}".encode(), "v1")
    return town


async def answers(town: Town, lines: str, *, is_ordered: bool = False) -> tuple[int, list[Frame]]:
    settings = Settings(software="test", is_ordered=is_ordered)
    reader, writer = MemoryReader(), MemoryWriter()
    reader.feed(lines.encode())
    reader.feed_eof()
    async with town.anywhere() as remote:
        status = await serve(remote, "-", reader, writer, settings)
    return status, writer.frames()


async def test_each_line_is_answered_from_the_repository_that_it_names(town: Town) -> None:
    lines = f"{A}:v1\n{B}:v1 content:none\n{A}:nope\n{B}@{digest_of(b'x')}\n"
    status, frames = await answers(town, lines)
    assert isinstance(frames[0], Hello)
    assert frames[0].remote == "-"
    begins = {frame.id: frame for frame in frames if isinstance(frame, Begin)}
    assert {id_: begin.name for id_, begin in begins.items()} == {1: f"{A}:v1", 2: f"{B}:v1"}
    assert begins[1].object == f"{A}:v1"
    assert content(frames, 1) == b"content of a.test/a"
    failures = [each for each in terminals(frames).values() if isinstance(each, Error)]
    assert [each.code for each in failures] == ["not-found"] * 2
    assert status == 1
    assert sorted(town.opened) == [A, B]
    assert not town.open


async def test_a_bad_reference_fails_its_line_alone(town: Town) -> None:
    status, frames = await answers(town, f"latest\n{A}\nnowhere.test/x:v1\n!tags {A}:v1\n{A}:v1\n")
    codes = {id_: getattr(each, "code", "") for id_, each in terminals(frames).items()}
    assert codes == {**dict.fromkeys((1, 2, 3, 4), "invalid-request"), 5: ""}
    assert status == 1


async def test_the_same_object_of_two_repositories_is_fetched_from_both(town: Town) -> None:
    digest = digest_of(b"the same")
    for each in town.repositories.values():
        each.add(b"the same")
    lines = f"{A}@{digest}\n{B}@{digest}\n{A}@{digest}\n!tags {A}\n!tags {B}\n"
    town.repositories[A].pages["tags"] = [["a"]]
    town.repositories[B].pages["tags"] = [["b"]]
    _, frames = await answers(town, lines)
    assert content(frames, 4) + content(frames, 5) == b"a\nb\n"
    for remote in town.repositories.values():
        assert sorted(remote.opened) == [f"@{digest}", "tags"]


@pytest.mark.parametrize("is_ordered", [False, True])
async def test_a_tree_stays_in_its_repository(town: Town, is_ordered: bool) -> None:
    for remote in town.repositories.values():
        add_image(remote, "image", b"layer", tag="image")
    lines = f"{A}:image children:all\n{B}:image children:all content:none\n"
    _, frames = await answers(town, lines, is_ordered=is_ordered)
    begins = {frame.id: frame for frame in frames if isinstance(frame, Begin)}
    assert len(begins) == 6
    for begin in begins.values():
        root = begin
        while root.parent is not None:
            root = begins[root.parent]
        assert begin.name.startswith((A, B)[root.id - 1])
    assert all(isinstance(each, End) for each in terminals(frames).values())


async def test_repositories_are_kept_for_a_while_and_counted_for_ever(town: Town) -> None:
    names = [f"h.test/{number}" for number in range(MAX_IDLE_REPOSITORIES + 10)]
    town = Town(*names)
    for name in names:
        town.repositories[name].add(b"x", "v1")
        town.repositories[name].retries = 1
    async with town.anywhere() as remote:
        for name in names:
            async with remote.open(Reference(name, "v1")) as opened:
                assert opened.name == f"{name}:v1"
        assert town.open == MAX_IDLE_REPOSITORIES
        assert remote.report().retries == len(names)
    assert not town.open


async def test_what_is_resolved_is_fetched_also_after_its_repository_was_closed(
    town: Town,
) -> None:
    async with town.anywhere() as remote:
        found = await remote.resolve(Reference(B, "v1"))
        assert found.descriptor.digest == digest_of(b"content of b.test/b/c")
        async with found.fetcher.fetch(found.descriptor, offset=11) as chunks:
            assert b"".join([bytes(each) async for each in chunks]) == b"b.test/b/c"
        async with found.fetcher.fetch(found.descriptor) as chunks:
            assert len(b"".join([bytes(each) async for each in chunks])) == 21
        part = remote.open(Reference(B, "v1"), byte_range=ByteRange(0, 6))
        async with part as opened:
            assert b"".join([bytes(each) async for each in opened.chunks]) == b"content"
        with pytest.raises(NotFoundError):
            await remote.resolve(Reference(B, "nope"))


async def test_listings_are_the_repositorys_own(town: Town) -> None:
    sbom = Descriptor(media_type="m/t", digest=digest_of(b"sbom"), size=4)
    town.repositories[A].pages = {"tags": [["x"], ["y"]], "referrers": [[sbom]]}
    async with town.anywhere() as remote:
        assert [page async for page in remote.tags(Reference(A))] == [["x"], ["y"]]
        assert [page async for page in remote.tags(Reference(B))] == []
        about = Reference(A, f"@{digest_of(b'')}")
        assert [page async for page in remote.referrers(about)] == [[sbom]]
        assert [page async for page in remote.referrers(about, "a/sig")] == [[]]


async def test_foreign_urls_are_asked_where_they_are_allowed(town: Town) -> None:
    town.repositories[A] = ForeignMemory({"https://there.test/x": b"there"})
    ref, urls = Reference(A, f"@{digest_of(b'there')}"), ["https://there.test/x"]
    async with town.anywhere() as remote:
        assert not isinstance(remote, Foreign)
    async with town.anywhere(foreign_urls=True) as remote:
        assert isinstance(remote, Foreign)
        async with remote.open_foreign(ref, urls, media_types=["m/t"]) as opened:
            assert b"".join([bytes(each) async for each in opened.chunks]) == b"there"
        with pytest.raises(UnsupportedError):
            async with remote.open_foreign(Reference(B, ref.object), urls):
                pass
