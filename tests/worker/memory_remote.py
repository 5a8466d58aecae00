"""A remote whose objects are in memory: the contract of multi_fetch.remotes, really implemented.

It can wait at chosen points, so that tests decide what happens in which order.
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from multi_fetch.errors import InvalidRequestError, NotFoundError
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import Chunk, Digest, digest_of
from multi_fetch.oci.media_types import OCTET_STREAM
from multi_fetch.remotes import Opened, Report, Resolved

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from multi_fetch.oci.reference import Reference
    from multi_fetch.protocol.request import ByteRange


class MemoryRemote:
    """Objects by tag and digest.

    Attributes:
        chunk_bytes: how content is cut.
        gates: by object; its content is held back until the event is set.
        failures: by object; raised when it is opened.
        pages: of the listings "tags" and "referrers"; an exception breaks one off.
        lies: by digest; the bytes that are sent in place of the object's.
        is_size_known: whether descriptors tell the size.
        retries: what the report says.
        opened: the objects that were opened, in order.
        resolved: the objects whose descriptor alone was asked for.
        running: how many are open now; ``peak`` is the most that were.
    """

    def __init__(self, chunk_bytes: int = 64 * 1024) -> None:
        self.chunk_bytes = chunk_bytes
        self.objects: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.gates: dict[str, trio.Event] = {}
        self.failures: dict[str, Exception] = {}
        self.lies: dict[str, bytes] = {}
        self.pages: dict[str, Sequence[Sequence[Any] | Exception]] = {}
        self.is_size_known = True
        self.opened: list[str] = []
        self.resolved: list[str] = []
        self.retries = 0
        self.running = 0
        self.peak = 0

    def add(self, content: bytes, *tags: str, media_type: str = "") -> Digest:
        digest = digest_of(content)
        self.types[digest] = media_type
        for name in (digest, *tags):
            self.objects[name] = content
        return digest

    async def resolve(
        self, ref: Reference, *, media_types: Sequence[str] = (), size: int | None = None
    ) -> Resolved:
        self.resolved.append(ref.object)
        content = self._find(ref)
        await trio.lowlevel.checkpoint()
        return Resolved(str(ref), self._descriptor(content, media_types, len(content)), self)

    @asynccontextmanager
    async def open(
        self,
        ref: Reference,
        *,
        media_types: Sequence[str] = (),
        size: int | None = None,
        byte_range: ByteRange | None = None,
    ) -> AsyncIterator[Opened]:
        self.opened.append(ref.object)
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            content = self._find(ref)
            await trio.lowlevel.checkpoint()
            if byte_range is not None and byte_range.first >= len(content):
                raise InvalidRequestError(f"the range begins beyond the end of {ref}")
            known = len(content) if self.is_size_known else size
            descriptor = self._descriptor(content, media_types, known)
            body = self._chunks(_name(ref), descriptor.digest, byte_range)
            async with aclosing(body) as chunks:
                yield Opened(str(ref), descriptor, chunks)
        finally:
            self.running -= 1

    @asynccontextmanager
    async def fetch(
        self, descriptor: Descriptor, *, offset: int = 0
    ) -> AsyncIterator[AsyncIterator[Chunk]]:
        assert not offset
        async with aclosing(self._chunks(descriptor.digest, descriptor.digest)) as chunks:
            yield chunks

    async def tags(self, ref: Reference) -> AsyncGenerator[Sequence[str], None]:
        async for page in self._pages("tags"):
            yield page

    async def referrers(
        self, ref: Reference, artifact_type: str = ""
    ) -> AsyncGenerator[Sequence[Descriptor], None]:
        async for page in self._pages("referrers"):
            yield [each for each in page if artifact_type in {"", each.artifact_type}]

    async def _pages(self, name: str) -> AsyncGenerator[Sequence[Any], None]:
        self.opened.append(name)
        await trio.lowlevel.checkpoint()
        for page in self.pages.get(name, ()):
            if name in self.gates:
                await self.gates[name].wait()
            if isinstance(page, Exception):
                raise page
            yield page

    def report(self) -> Report:
        return Report(retries=self.retries)

    def _find(self, ref: Reference) -> bytes:
        name = _name(ref)
        if name in self.failures:
            raise self.failures[name]
        if name not in self.objects:
            raise NotFoundError(f"{ref} is not there", status=404)
        return self.objects[name]

    def _descriptor(
        self, content: bytes, media_types: Sequence[str], size: int | None
    ) -> Descriptor:
        media_type = self.types.get(digest_of(content)) or [*media_types, OCTET_STREAM][0]
        return Descriptor(media_type=media_type, digest=digest_of(content), size=size)

    async def _chunks(
        self, name: str, digest: Digest, byte_range: ByteRange | None = None
    ) -> AsyncGenerator[Chunk, None]:
        content = self.lies.get(digest, self.objects[digest])
        if byte_range is not None:
            last = len(content) if byte_range.last is None else byte_range.last
            content = content[byte_range.first : last + 1]
        for start in range(0, len(content), self.chunk_bytes):
            await trio.lowlevel.checkpoint()
            if name in self.gates:
                await self.gates[name].wait()
            yield content[start : start + self.chunk_bytes]


def _name(ref: Reference) -> str:
    return ref.digest or ref.tag
