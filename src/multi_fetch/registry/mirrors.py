"""A repository with several hosts as one remote: mirrors in their order, the registry itself last.

What a mirror gives is judged here while nothing of it has been passed on: an object that is held
as a whole is verified, and if it is wrong, or the mirror is in trouble, the next host is asked. Of
a large object a part may be on its way already: where its host breaks down the next one goes on
from that byte; if the whole turns out to be wrong, the request fails, and the mirror is not asked
for that digest again. The last host's error is the request's, as it is the one who knows.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec.structs import replace

from multi_fetch.errors import (
    DigestMismatchError,
    MultiFetchError,
    SizeMismatchError,
    UnsupportedError,
)
from multi_fetch.limits import MAX_DATA_BYTES, MAX_MANIFEST_BYTES
from multi_fetch.oci.manifest import is_manifest
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.request import ByteRange
from multi_fetch.registry.resolver import OneChunk
from multi_fetch.registry.source import Failures
from multi_fetch.remotes import Opened, Report, Resolved, Warmable
from multi_fetch.verify import Verifier, hold

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.oci.digest import Chunk
    from multi_fetch.registry.source import Source

T = TypeVar("T")


class _Ask(msgspec.Struct, frozen=True):
    """The arguments of ``Remote.open``."""

    ref: Reference
    media_types: tuple[str, ...] = ()
    size: int | None = None
    byte_range: ByteRange | None = None


class MirroredRemote:
    """One repository; see ``remotes.Remote``.

    Args:
        sources: its hosts, in the order in which they are asked.
        locator: the repository, as references write it.
    """

    def __init__(self, sources: Sequence[Source], locator: str) -> None:
        self._sources = tuple(sources)
        self._locator = locator

    async def resolve(
        self, ref: Reference, *, media_types: Sequence[str] = (), size: int | None = None
    ) -> Resolved:
        """Finds out what the reference stands for; see ``remotes.Resolver``.

        Raises:
            UnsupportedError: no host may say.
            MultiFetchError: the last host's.
        """
        able = [source for source in self._sources if source.may_resolve(ref)]
        failures = Failures()
        for source in self._ready(able, ref, "resolve tags"):
            try:
                found = await source.remote.resolve(ref, media_types=media_types, size=size)
            except MultiFetchError as error:
                failures.add(source, error, ref.digest, is_last=source is able[-1])
            else:
                failures.are_certain()
                source.works()
                return Resolved(found.name, found.descriptor, self)
        raise AssertionError("the last host answers or raises")

    @asynccontextmanager
    async def open(
        self,
        ref: Reference,
        *,
        media_types: Sequence[str] = (),
        size: int | None = None,
        byte_range: ByteRange | None = None,
    ) -> AsyncIterator[Opened]:
        """Resolves and fetches at once; see ``remotes.Remote``.

        Who finds content to be wrong does so within the context, so that its host is remembered.

        Raises:
            UnsupportedError: no host may be asked.
            MultiFetchError: the last host's, on entering or while iterating.
        """
        ask = _Ask(ref, tuple(media_types), size, byte_range)
        if not any(source.may_open(ref) for source in self._sources) and not ref.digest:
            resolved = await self.resolve(ref, media_types=media_types, size=size)
            ask = _by_digest(self._locator, resolved.descriptor, byte_range)
        async with AsyncExitStack() as stack:
            opened, givers = await self._open(stack, ask)
            try:
                yield replace(opened, name=str(ref))
            except (DigestMismatchError, SizeMismatchError) as error:
                if _is_of(error, opened.descriptor, byte_range):
                    for source in givers:
                        source.distrust(opened.descriptor.digest)
                        if size is None or isinstance(error, DigestMismatchError):
                            source.note(error, opened.descriptor.digest)
                    error.has_alternative = self._has_alternative(ref, givers[-1])
                    if error.has_alternative:
                        givers[-1].log(error)
                raise
            else:
                givers[-1].works()

    @asynccontextmanager
    async def fetch(
        self, descriptor: Descriptor, *, offset: int = 0
    ) -> AsyncIterator[AsyncIterator[Chunk]]:
        """The content's raw bytes from ``offset`` on, unverified; see ``remotes.Fetcher``.

        Raises:
            MultiFetchError: as for ``open``.
        """
        if offset and descriptor.size is not None and descriptor.size <= offset:
            yield OneChunk(b"")
            return
        ask = _by_digest(self._locator, descriptor, ByteRange(offset) if offset else None)
        async with self.open(
            ask.ref, media_types=ask.media_types, size=ask.size, byte_range=ask.byte_range
        ) as opened:
            yield opened.chunks

    def tags(self, ref: Reference) -> AsyncGenerator[Sequence[str], None]:
        """Lists the tags; see ``remotes.Listing``.

        Raises:
            UnsupportedError: no host may say.
            MultiFetchError: the last host's; of one that has begun, its own.
        """
        return self._list(ref, lambda source, **_: source.remote.tags(ref))

    def referrers(
        self, ref: Reference, artifact_type: str = ""
    ) -> AsyncGenerator[Sequence[Descriptor], None]:
        """Lists what refers to a digest; see ``remotes.Listing``.

        A mirror that knows nothing of referrers does not say that there are none.

        Raises:
            MultiFetchError: as for ``tags``.
        """

        def pages(source: Source, *, is_last: bool) -> AsyncGenerator[Sequence[Descriptor], None]:
            remote = source.remote
            ask = remote.referrers if is_last else remote.known_referrers
            return ask(ref, artifact_type)

        return self._list(ref, pages)

    async def warm_up(self) -> None:
        """Has the host ready that is asked first; see ``remotes.Warmable``."""
        first = self._sources[0].remote
        if isinstance(first, Warmable):
            await first.warm_up()

    def report(self) -> Report:
        """What there is to say so far; the limits are those of the last host that has any."""
        reports = [source.remote.report() for source in self._sources]
        told = [each.ratelimit for each in reports if each.ratelimit]
        return Report(sum(each.retries for each in reports), told[-1] if told else {})

    async def _list(
        self, ref: Reference, pages_of: Callable[..., AsyncGenerator[Sequence[T], None]]
    ) -> AsyncGenerator[Sequence[T], None]:
        """The pages of the first host that gives one."""
        able = [source for source in self._sources if source.host.may_resolve]
        for source in self._ready(able, ref, "list what there is"):
            is_last = source is able[-1]
            async with aclosing(pages_of(source, is_last=is_last)) as pages:
                try:
                    first = await anext(pages, None)
                except MultiFetchError as error:
                    Failures().add(source, error, ref.digest, is_last=is_last)
                    continue
                source.works()
                if first is not None:
                    yield first
                    async for page in pages:
                        yield page
                return
        raise AssertionError("the last host answers or raises")

    async def _open(self, stack: AsyncExitStack, ask: _Ask) -> tuple[Opened, list[Source]]:
        """Opens at the first host that has the object, and who gives its content."""
        able = [source for source in self._sources if source.may_open(ask.ref)]
        failures = Failures()
        for source in self._ready(able, ask.ref, "be asked for content"):
            digest = ask.ref.digest
            try:
                async with AsyncExitStack() as attempt:
                    opened = await attempt.enter_async_context(_opening(source, ask))
                    digest = opened.descriptor.digest
                    givers = [source]
                    if source is not able[-1]:
                        others = able[able.index(source) + 1 :]
                        chunks = self._onward(opened, await _hold(opened, ask), ask, givers, others)
                        await attempt.enter_async_context(aclosing(chunks))
                        opened = replace(opened, chunks=chunks)
                    stack.push_async_exit(attempt.pop_all())
            except MultiFetchError as error:
                failures.add(source, error, digest, is_last=source is able[-1])
            else:
                failures.are_certain()
                source.answers()
                return opened, givers
        raise AssertionError("the last host answers or raises")

    async def _onward(
        self,
        opened: Opened,
        held: tuple[bytes, bool],
        ask: _Ask,
        givers: list[Source],
        others: list[Source],
    ) -> AsyncGenerator[Chunk, None]:
        """Content from one host, and from the next where that one breaks down."""
        content, is_whole = held
        reached = (ask.byte_range.first if ask.byte_range else 0) + len(content)
        if content or is_whole:
            yield content
        if is_whole:
            return
        ref = _by_digest(self._locator, opened.descriptor, None).ref
        further = self._ready(others, ref, "be asked for content")
        source, begun = None, reached
        while True:
            try:
                async with self._rest(opened, ask, source, reached) as chunks:
                    async for chunk in chunks:
                        reached += len(chunk)
                        yield chunk
            except MultiFetchError as error:
                if _is_all(opened.descriptor, ask.byte_range, reached):
                    return
                if source is others[-1]:
                    raise
                if source is None or reached > begun:
                    givers[-1].breaks_down(error)
                else:
                    source.note(error, ref.digest)
                givers[-1].log(error)
                error.__traceback__ = None  # its frames know it, and the connection
                source, begun = next(further), reached
                givers.append(source)
            else:
                return

    @asynccontextmanager
    async def _rest(
        self, opened: Opened, ask: _Ask, source: Source | None, reached: int
    ) -> AsyncIterator[AsyncIterator[Chunk]]:
        """What is still to come from where it was opened, or from another host."""
        if source is None:
            yield opened.chunks
            return
        last = ask.byte_range.last if ask.byte_range else None
        rest = _by_digest(self._locator, opened.descriptor, ByteRange(reached, last))
        async with _opening(source, rest) as further:
            yield further.chunks

    def _ready(self, able: list[Source], ref: Reference, verb: str) -> Iterator[Source]:
        """Those to ask now, of those who may be asked; the last is always one of them."""
        if not able:
            raise UnsupportedError(
                f"{str(ref)[:300]}: no host of it may {verb}: see capabilities in its hosts.toml"
            )
        for source in able:
            if source is able[-1] or source.is_ready(ref.digest):
                yield source

    def _has_alternative(self, ref: Reference, source: Source) -> bool:
        """Whether another host is asked next time; for a tag none is, as digests are distrusted."""
        may_pull = [each for each in self._sources if each.host.may_pull]
        return bool(ref.digest) and source.is_lasting and source is not may_pull[-1]


def _opening(source: Source, ask: _Ask) -> AbstractAsyncContextManager[Opened]:
    return source.remote.open(
        ask.ref, media_types=ask.media_types, size=ask.size, byte_range=ask.byte_range
    )


async def _hold(opened: Opened, ask: _Ask) -> tuple[bytes, bool]:
    """Takes what fits one data frame, or is a manifest, and verifies it if that is all.

    Raises:
        DigestMismatchError, SizeMismatchError: it is wrong.
        MultiFetchError: as for the content.
    """
    descriptor = opened.descriptor
    limit = MAX_MANIFEST_BYTES if is_manifest(descriptor.media_type) else MAX_DATA_BYTES
    if ask.byte_range is not None or (descriptor.size or 0) > limit:
        return b"", False
    return await hold(opened.chunks, Verifier(descriptor.digest, descriptor.size), limit)


def _by_digest(locator: str, descriptor: Descriptor, byte_range: ByteRange | None) -> _Ask:
    ref = Reference(locator, f"@{descriptor.digest}")
    return _Ask(ref, (descriptor.media_type,), descriptor.size, byte_range)


def _is_all(descriptor: Descriptor, byte_range: ByteRange | None, reached: int) -> bool:
    """Whether nothing is left to ask for."""
    is_at_end = descriptor.size is not None and reached >= descriptor.size
    last = None if byte_range is None else byte_range.last
    return is_at_end or (last is not None and reached > last)


def _is_of(
    error: DigestMismatchError | SizeMismatchError,
    descriptor: Descriptor,
    byte_range: ByteRange | None,
) -> bool:
    """Whether content was judged, and not what it is pinned to."""
    if isinstance(error, DigestMismatchError):
        return error.want == descriptor.digest
    return byte_range is None
