"""Descriptor to raw bytes, from any offset on; and the search among the places they may be."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

from multi_fetch.errors import MultiFetchError, NotFoundError, RegistryError, SizeMismatchError
from multi_fetch.registry.api import (
    Candidate,
    Endpoint,
    candidates_for_digest,
    check_content_range,
    content_length,
    likely_endpoint,
)

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
            MultiFetchError: on entering or while iterating.
        """
        if offset and descriptor.size is not None and descriptor.size <= offset:
            async with aclosing(_nothing()) as chunks:
                yield chunks
            return
        media_types = (descriptor.media_type,)
        first = likely_endpoint(media_types) or Endpoint.BLOBS
        candidates = candidates_for_digest(self._repository, descriptor.digest, first, media_types)
        async with first_answer(self._session, "GET", candidates, offset=offset) as (_, answer):
            skipped = 0 if answer.status == 206 else offset
            _check_extent(answer, descriptor.size, offset)
            async with aclosing(_skip(answer, skipped)) as chunks:
                yield chunks


@asynccontextmanager
async def first_answer(
    session: Session, method: str, candidates: Sequence[Candidate], *, offset: int = 0
) -> AsyncIterator[tuple[Candidate, Answer]]:
    """The answer of the first candidate that has the object.

    Raises:
        NotFoundError: none has it.
        MultiFetchError: what went wrong at the furthest stage.
    """
    good = {200, 206} if offset else {200}
    failures: list[MultiFetchError] = []
    for candidate in candidates:
        headers = {"Accept": candidate.accept}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        async with session.request(method, candidate.path, headers) as answer:
            if answer.status in good:
                yield candidate, answer
                return
            failures.append(await answer.error())
        if not _may_be_elsewhere(candidate, answer.status):
            break
    beyond = [failure for failure in failures if not isinstance(failure, NotFoundError)]
    raise (beyond or failures)[0]


def _may_be_elsewhere(candidate: Candidate, status: int) -> bool:
    is_puzzled = status == UNKNOWN_ERROR and candidate.endpoint is Endpoint.MANIFESTS
    return status == 404 or is_puzzled


def _check_extent(answer: Answer, size: int | None, offset: int) -> None:
    if answer.status == 206:
        check_content_range(answer.headers, offset=offset, size=size)
        return
    length = content_length(answer.headers)
    if size is not None and length is not None and length != size:
        raise SizeMismatchError(want=size, got=length)


async def _skip(answer: Answer, count: int) -> AsyncGenerator[Chunk, None]:
    """The body without its first bytes, for a server that does not know Range."""
    async with aclosing(answer.chunks()) as chunks:
        async for chunk in chunks:
            if count < len(chunk):
                yield memoryview(chunk)[count:] if count else chunk
            count = max(0, count - len(chunk))
    if count:
        raise RegistryError(f"{answer.what}: the content ends {count} bytes before the offset")


async def _nothing() -> AsyncGenerator[Chunk, None]:
    nothing: tuple[Chunk, ...] = ()
    for chunk in nothing:
        yield chunk
