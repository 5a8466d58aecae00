"""Bodies that survive the connection they began on.

A body that is cut, reset, or silent for too long goes on from the byte that was reached: the
registry, never the place that it redirected to, is asked for the rest by Range. A 206 must be
exactly that rest, and of an object of the same size; a 200 is read again and skipped up to there.
Each new byte renews the patience, unless too few come for the time. Nothing here judges the
content: the consumer does, by its digest, so a registry that goes on with wrong bytes ends in a
digest-mismatch.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import trio

from multi_fetch.advice import TELL_OPERATOR, TRY_LATER
from multi_fetch.errors import (
    DigestMismatchError,
    InvalidRequestError,
    MultiFetchError,
    RegistryError,
    UnavailableError,
)
from multi_fetch.protocol.request import ByteRange
from multi_fetch.registry.extent import (
    Extent,
    beyond,
    extent_of,
    range_header,
    size_of_refused,
)
from multi_fetch.registry.progress import Progress
from multi_fetch.registry.retry import is_passing
from multi_fetch.verify import Verifier

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from multi_fetch.oci.digest import Chunk, Digest
    from multi_fetch.registry.answer import Answer
    from multi_fetch.registry.api import Candidate
    from multi_fetch.registry.session import Session

# What a body may give without a pause. Some 0.1 ms of hashing; 0.5 s where chunks have one byte.
GIVE_WAY_BYTES: Final = 256 * 1024


async def read_whole(
    session: Session, candidate: Candidate, answer: Answer, limit: int
) -> tuple[Answer, bytes]:
    """A small body, which is simply asked for again where it breaks.

    Args:
        session: asks again.
        candidate: where.
        answer: whose body is read first; it is the caller's to close.
        limit: bytes, at most.

    Returns:
        The answer whose body was whole, and the body.

    Raises:
        TooLargeError: the body is longer than ``limit``.
        MultiFetchError: as for ``Answer.read`` and ``Session.send``.
    """
    try:
        return answer, await answer.read(limit)
    except MultiFetchError as error:
        await answer.aclose()
        broken, attempts = error, answer.attempts
    while True:
        await session.bear(broken, attempts)
        headers = {"Accept": candidate.accept}
        again = await session.send("GET", candidate.path, headers, attempt=attempts + 1)
        try:
            if again.status != 200:
                raise await again.error()
            return again, await again.read(limit)
        except MultiFetchError as error:
            broken, attempts = error, again.attempts
        finally:
            await again.aclose()


class Download:
    """What is wanted of an object, over as many connections as it takes.

    Args:
        session: asks for the rest.
        candidate: where.
        answer: 200 or 206; the first to be read. Its owner closes it too, which does no harm.
        asked: the range that it answers, or None for everything.
        size: of the whole object, as far as it is known beforehand.

    Attributes:
        size: of the whole object, or None where nobody has told it.

    Raises:
        MultiFetchError: as for ``extent_of``.
    """

    def __init__(
        self,
        session: Session,
        candidate: Candidate,
        answer: Answer,
        asked: ByteRange | None,
        size: int | None,
    ) -> None:
        self._session = session
        self._candidate = candidate
        self._answer = answer
        self._asked = asked
        self._extent = extent_of(answer.status, answer.headers, asked, size)
        self._reached = self._extent.first
        self._is_resumed = False
        self._since_others_ran = 0
        self._progress: Progress | None = None
        self._renewed_at = 0.0
        self.size = self._extent.size

    @property
    def is_whole(self) -> bool:
        """Whether all of the object is wanted."""
        return self._asked is None

    def stored(self, digest: Digest) -> AsyncGenerator[Chunk, None]:
        """The wanted bytes as they are stored; to be closed by who iterates.

        Some stores label what they keep, a layer that is a gzip file, as encoded. So a body with
        Content-Encoding is given as it comes, and fails at its end if its digest shows that it was
        really encoded on the way. In a part of a body nobody can see that.

        Raises:
            RegistryError: it is encoded though that was not asked for.
            MultiFetchError: as for ``chunks``, while iterating.
        """
        if not self._answer.encoding:
            return self.chunks()
        encoded = self._answer.encoded()
        if self._asked is not None:
            raise encoded
        return _if_stored_so(self.chunks(), digest, encoded)

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """The wanted bytes, however they are labelled; to be closed by who iterates.

        Raises:
            RegistryError: the registry went on with another object or part.
            MultiFetchError: as for ``cut`` and ``Session.send``.
        """
        try:
            while True:
                before = self._reached
                try:
                    async with aclosing(_wanted(self._answer, self._extent)) as chunks:
                        async for chunk in chunks:
                            self._reached += len(chunk)
                            yield chunk
                            await self._give_way(len(chunk))
                    if not self._seems_cut():
                        return
                    broken: MultiFetchError = too_early(self._answer)
                except MultiFetchError as error:
                    broken = error
                if self._reached == self._extent.end and is_passing(broken):
                    return
                if not await self._ask_for_rest(broken, before):
                    return
        finally:
            await self._answer.aclose()

    async def aclose(self) -> None:
        """Closes the answer that is read."""
        await self._answer.aclose()

    async def _give_way(self, count: int) -> None:
        """Lets others run, and a cancellation through: what has been received is not waited for."""
        self._since_others_ran += count
        if self._since_others_ran >= GIVE_WAY_BYTES:
            self._since_others_ran = 0
            await trio.lowlevel.checkpoint()

    def _seems_cut(self) -> bool:
        """Whether a body ended too early, though nothing broke.

        One that lasts until the connection closes (RFC 9112, section 6.3) ends like one that is
        cut; only a size that is known from elsewhere tells them apart.
        """
        headers, end = self._answer.headers, self._extent.end
        is_framed = "content-length" in headers or "transfer-encoding" in headers
        return not is_framed and end is not None and self._reached < end

    async def _ask_for_rest(self, broken: MultiFetchError, before: int) -> bool:
        """Sees to it that the next answer is read; False where there is nothing left to read.

        Args:
            broken: why the last answer was left; raised where there is no more patience with it.
            before: the offset at which that answer began.
        """
        if isinstance(broken, InvalidRequestError) and self._is_resumed:
            raise self._changed() from broken
        attempts = 1 if self._has_moved(self._reached - before) else self._answer.attempts
        await self._answer.aclose()
        await self._session.bear(broken, attempts)
        headers, asked = {"Accept": self._candidate.accept}, self._rest()
        if asked is not None:
            headers["Range"] = range_header(asked)
        self._answer = answer = await self._session.send(
            "GET", self._candidate.path, headers, attempt=attempts + 1
        )
        self._is_resumed = True
        if answer.status == 416 and self._is_all(size_of_refused(answer.headers)):
            return False  # all had come, but for the mark of its end
        if answer.status not in ({200} if asked is None else {200, 206}):
            raise await answer.error()
        try:
            self._extent = extent_of(answer.status, answer.headers, asked, self.size)
        except InvalidRequestError as error:
            raise self._changed() from error
        self.size = self._extent.size
        return True

    def _has_moved(self, count: int) -> bool:
        """Whether an answer with so many new bytes renews the patience.

        One byte does, but not where such bytes are all that comes in the time of a stall, over
        however many connections: then the object would be waited for without end.
        """
        now = trio.current_time()
        if self._progress is None:
            self._progress, self._renewed_at = Progress(self._session.stall_seconds), now
        self._progress.add(waited=now - self._renewed_at, received=count)
        self._renewed_at = now
        return count > 0 and self._progress.left_seconds > 0

    def _is_all(self, size: int | None) -> bool:
        """Whether an object of the size that a 416 tells has come to its end."""
        return size == self._reached and self.size in {None, size}

    def _rest(self) -> ByteRange | None:
        if self._asked is None:
            return ByteRange(self._reached) if self._reached else None
        return ByteRange(self._reached, self._asked.last)

    def _changed(self) -> RegistryError:
        return RegistryError(
            f"{self._answer.what}: the object has become shorter than the {self._reached} bytes"
            " that had come before the connection broke: ask for it anew"
        )


async def _if_stored_so(
    chunks: AsyncGenerator[Chunk, None], digest: Digest, encoded: RegistryError
) -> AsyncGenerator[Chunk, None]:
    verifier = Verifier(digest, None)
    async with aclosing(chunks):
        async for chunk in chunks:
            verifier.update(chunk)
            yield chunk
    try:
        verifier.finish()
    except DigestMismatchError as mismatch:
        raise encoded from mismatch


def _wanted(answer: Answer, extent: Extent) -> AsyncGenerator[Chunk, None]:
    is_all = not extent.skip and extent.count is None
    return answer.chunks() if is_all else cut(answer, extent)


async def cut(answer: Answer, extent: Extent) -> AsyncGenerator[Chunk, None]:
    """The wanted bytes of one body; what comes behind is not read, and costs the connection.

    Raises:
        UnavailableError: the body ends before the last of them.
        RegistryError: it does not end with the last of them, as it should.
        InvalidRequestError: it ends before the first of them.
    """
    skip, left = extent.skip, extent.count
    async with aclosing(answer.chunks()) as chunks:
        async for chunk in chunks:
            if skip and skip >= len(chunk):
                skip -= len(chunk)
                continue
            piece: Chunk = memoryview(chunk)[skip:] if skip else chunk
            skip = 0
            if left is not None:
                if len(piece) > left:
                    if extent.is_exact:
                        raise RegistryError(
                            f"{answer.what}: more came than was announced{TELL_OPERATOR}"
                        )
                    piece = memoryview(piece)[:left]
                left -= len(piece)
            if piece:
                yield piece
            if left == 0 and not extent.is_exact:
                return
    if skip:
        raise beyond(ByteRange(extent.first), extent.first - skip)
    if left and extent.size is not None:
        raise too_early(answer)


def too_early(answer: Answer) -> UnavailableError:
    """The error of a body that is shorter than it should be; it is returned."""
    return UnavailableError(f"{answer.what}: the content ends too early{TRY_LATER}")
