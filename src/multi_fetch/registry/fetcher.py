"""Descriptor to raw bytes, from any offset on; and the search among the places they may be."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

from multi_fetch.errors import MultiFetchError, NotFoundError, RegistryError, UnavailableError
from multi_fetch.protocol.request import ByteRange
from multi_fetch.registry.api import (
    Candidate,
    Endpoint,
    candidates_for_digest,
    likely_endpoint,
)
from multi_fetch.registry.extent import Extent, beyond, extent_of, range_header, refused_range

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.oci.digest import Chunk
    from multi_fetch.registry.answer import Answer
    from multi_fetch.registry.session import Session

# distribution 2.8 answers this to a GET or HEAD of a manifest by a blob's digest.
UNKNOWN_ERROR: Final = 500


class RegistryFetcher:
    """Fetches the objects of one repository.

    Args:
        session: sends the requests.
        repository: distribution-spec's ``<name>``.
    """

    def __init__(self, session: Session, repository: str) -> None:
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
        async with first_answer(self._session, "GET", candidates, wanted) as (_, answer):
            extent = extent_of(answer.status, answer.headers, wanted, descriptor.size)
            async with aclosing(cut(answer, extent)) as chunks:
                yield chunks


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
    failures: list[MultiFetchError] = []
    for candidate in candidates:
        headers, good = {"Accept": candidate.accept}, {200}
        asked = byte_range if candidate.endpoint is Endpoint.BLOBS else None
        if asked is not None:
            headers["Range"] = range_header(asked)
            good = {200, 206}
        async with session.request(method, candidate.path, headers) as answer:
            if answer.status in good:
                yield candidate, answer
                return
            if answer.status == 416 and asked is not None:
                # distribution promises the whole blob in Content-Length, then sends 33 bytes
                raise refused_range(answer.headers, asked)
            failures.append(await answer.error())
        if not _may_be_elsewhere(candidate, answer.status):
            break
    beyond = [failure for failure in failures if not isinstance(failure, NotFoundError)]
    raise (beyond or failures)[0]


def _may_be_elsewhere(candidate: Candidate, status: int) -> bool:
    is_puzzled = status == UNKNOWN_ERROR and candidate.endpoint is Endpoint.MANIFESTS
    return status == 404 or is_puzzled


async def cut(answer: Answer, extent: Extent) -> AsyncGenerator[Chunk, None]:
    """The wanted bytes of a body; what comes behind them is not read, and costs the connection.

    Raises:
        UnavailableError: the body ends before the last of them.
        RegistryError: it does not end with the last of them, as it should.
        InvalidRequestError: it ends before the first of them.
        MultiFetchError: as for ``Answer.chunks``.
    """
    skip, left = extent.skip, extent.count
    async with aclosing(answer.chunks()) as chunks:
        async for chunk in chunks:
            if skip >= len(chunk):
                skip -= len(chunk)
                continue
            piece: Chunk = memoryview(chunk)[skip:] if skip else chunk
            skip = 0
            if left is not None:
                if len(piece) > left:
                    if extent.is_exact:
                        raise RegistryError(f"{answer.what}: more came than was announced")
                    piece = memoryview(piece)[:left]
                left -= len(piece)
            if piece:
                yield piece
            if left == 0 and not extent.is_exact:
                return
    if skip:
        raise beyond(ByteRange(extent.first), extent.first - skip)
    if left and extent.size is not None:
        raise UnavailableError(f"{answer.what}: the content ends {left} bytes too early")


async def _nothing() -> AsyncGenerator[Chunk, None]:
    nothing: tuple[Chunk, ...] = ()
    for chunk in nothing:
        yield chunk
