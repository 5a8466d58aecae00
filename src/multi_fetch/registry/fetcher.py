"""Descriptor to raw bytes, from any offset on; and the search among the places they may be."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

from multi_fetch.errors import MultiFetchError, NotFoundError
from multi_fetch.protocol.request import ByteRange
from multi_fetch.registry.api import (
    Candidate,
    Endpoint,
    candidates_for_digest,
    likely_endpoint,
)
from multi_fetch.registry.extent import range_header, refused_range
from multi_fetch.registry.resume import Download

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.oci.digest import Chunk, Digest
    from multi_fetch.registry.answer import Answer
    from multi_fetch.registry.ranges import Ranges
    from multi_fetch.registry.session import Session

# distribution 2.8 answers this to a GET or HEAD of a manifest by a blob's digest.
UNKNOWN_ERROR: Final = frozenset({500})

WHOLE: Final = frozenset({200})
WHOLE_OR_PART: Final = frozenset({200, 206})


class RegistryFetcher:
    """Fetches the objects of one repository.

    Args:
        session: sends the requests.
        repository: distribution-spec's ``<name>``.
        ranges: for large blobs; None for one connection each.
    """

    def __init__(self, session: Session, repository: str, ranges: Ranges | None = None) -> None:
        self._ranges = ranges
        self._session = session
        self._repository = repository

    @asynccontextmanager
    async def fetch(
        self, descriptor: Descriptor, *, offset: int = 0
    ) -> AsyncIterator[AsyncIterator[Chunk]]:
        """The content's raw bytes from ``offset`` on, unverified; see ``remotes.Fetcher``.

        Raises:
            SizeMismatchError: the registry's content has another size.
            InvalidRequestError: the registry's content ends before the offset.
            MultiFetchError: on entering or while iterating.
        """
        if offset and descriptor.size is not None and descriptor.size <= offset:
            async with aclosing(_nothing()) as chunks:
                yield chunks
            return
        media_types = (descriptor.media_type,)
        first = likely_endpoint(media_types) or Endpoint.BLOBS
        candidates = candidates_for_digest(self._repository, descriptor.digest, first, media_types)
        wanted = ByteRange(offset) if offset else None
        async with first_answer(self._session, "GET", candidates, wanted) as (candidate, answer):
            download = Download(self._session, candidate, answer, wanted, descriptor.size)
            async with self.content(candidate, answer, download, descriptor.digest) as chunks:
                yield chunks

    def content(
        self, candidate: Candidate, answer: Answer, download: Download, digest: Digest
    ) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        """What is wanted of an object as it is stored, over one connection or several.

        Args:
            candidate: where it is.
            answer: the first.
            download: of that answer.
            digest: as for ``Download.stored``.

        Raises:
            MultiFetchError: as for ``Download.stored``.
        """
        ranges = self._ranges if download.is_whole else None
        if ranges is None or not ranges.may_split(answer, download.size):
            return aclosing(download.stored(digest))
        from multi_fetch.registry.split import open_split

        return open_split(ranges, self._session, candidate, answer, download)


@asynccontextmanager
async def first_answer(
    session: Session,
    method: str,
    candidates: Sequence[Candidate],
    byte_range: ByteRange | None = None,
) -> AsyncIterator[tuple[Candidate, Answer]]:
    """The answer of the first candidate that has the object.

    A range is asked of blobs alone: of manifests, which are small, registries give all or nothing.

    Raises:
        NotFoundError: none has it.
        InvalidRequestError: the range begins at the blob's end or beyond.
        MultiFetchError: what went wrong at the furthest stage.
    """
    candidate, answer = await find(session, method, candidates, byte_range)
    try:
        yield candidate, answer
    finally:
        await answer.aclose()


async def find(
    session: Session, method: str, candidates: Sequence[Candidate], byte_range: ByteRange | None
) -> tuple[Candidate, Answer]:
    """As ``first_answer``; whoever calls it closes the answer."""
    puzzled: Candidate | None = None
    failures: list[MultiFetchError] = []
    for candidate in candidates:
        is_last = candidate is candidates[-1]
        may_be_puzzled = candidate.endpoint is Endpoint.MANIFESTS and not is_last
        final = UNKNOWN_ERROR if may_be_puzzled else frozenset[int]()
        answer = await _ask(session, method, candidate, byte_range, final=final)
        if answer.status in _good(candidate, byte_range):
            return candidate, answer
        failures.append(await _failure(session, answer))
        if answer.status in final:
            puzzled = candidate
        elif answer.status != 404:
            break
    else:
        if puzzled is not None:  # it was no puzzle, then, but trouble, which may pass
            await session.bear(failures[0], 1)
            answer = await _ask(session, method, puzzled, byte_range, attempt=2)
            if answer.status in _good(puzzled, byte_range):
                return puzzled, answer
            failures[0] = await _failure(session, answer)
    beyond = [failure for failure in failures if not isinstance(failure, NotFoundError)]
    failure = (beyond or failures)[0]
    try:
        raise failure
    finally:
        # The error has this frame, and the answers with it: they would wait for the collector.
        del failure, beyond, failures


async def _ask(  # noqa: PLR0913 - a request's parts
    session: Session,
    method: str,
    candidate: Candidate,
    byte_range: ByteRange | None,
    *,
    final: frozenset[int] = frozenset(),
    attempt: int = 1,
) -> Answer:
    headers = {"Accept": candidate.accept}
    asked = _asked(candidate, byte_range)
    if asked is not None:
        headers["Range"] = range_header(asked)
    answer = await session.send(method, candidate.path, headers, final=final, attempt=attempt)
    if answer.status == 416 and asked is not None:
        # not read: distribution promises the whole blob in Content-Length, then sends 33 bytes
        await answer.aclose()
        raise refused_range(answer.headers, asked)
    return answer


def _asked(candidate: Candidate, byte_range: ByteRange | None) -> ByteRange | None:
    return byte_range if candidate.endpoint is Endpoint.BLOBS else None


def _good(candidate: Candidate, byte_range: ByteRange | None) -> frozenset[int]:
    return WHOLE if _asked(candidate, byte_range) is None else WHOLE_OR_PART


async def _failure(session: Session, answer: Answer) -> MultiFetchError:
    session.note_place(answer)
    try:
        return await answer.error()
    finally:
        await answer.aclose()


async def _nothing() -> AsyncGenerator[Chunk, None]:
    nothing: tuple[Chunk, ...] = ()
    for chunk in nothing:
        yield chunk
