"""One large blob over several connections: in order, within a bound of memory.

The answer that has begun is the stream: it is read from the blob's first byte on. Meanwhile the
pieces behind it are asked for by Range, each over a connection of its own, into a buffer. Where
the stream reaches a piece whose range has been answered, it is left, and the pieces are given out
in their order; each buffer that is read then takes the next piece. So a reader that is slow holds
no more than its buffers, and never waits for those of another blob.

A piece goes on by the rules of any body where it breaks (resume.py). A range that is answered by
anything but exactly that part of the same object has no piece: the blob goes on as one stream, and
its host is not asked for several at once again.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from multi_fetch.advice import TELL_OPERATOR
from multi_fetch.errors import InvalidRequestError, MultiFetchError, RegistryError
from multi_fetch.limits import RECEIVE_BYTES
from multi_fetch.protocol.request import ByteRange
from multi_fetch.registry.extent import range_header
from multi_fetch.registry.piece import Piece
from multi_fetch.registry.place import Place
from multi_fetch.registry.resume import Download
from multi_fetch.registry.retry import is_passing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from multi_fetch.oci.digest import Chunk
    from multi_fetch.registry.answer import Answer
    from multi_fetch.registry.api import Candidate
    from multi_fetch.registry.ranges import Ranges
    from multi_fetch.registry.session import Session

logger = logging.getLogger(__name__)

# What servers answer to more connections, or requests, than they bear from one client.
TOO_MANY: Final = frozenset({429, 503})


@asynccontextmanager
async def open_split(
    ranges: Ranges, session: Session, candidate: Candidate, answer: Answer, download: Download
) -> AsyncIterator[AsyncIterator[Chunk]]:
    """The chunks of a blob that ``ranges`` may split; what fetches them ends with the block.

    Args:
        ranges: how many, and what is known of hosts.
        session: asks for pieces.
        candidate: where.
        answer: 200, with the blob from its beginning.
        download: of that answer.

    Raises:
        MultiFetchError: as for ``Download.chunks``, while iterating.
    """
    split = Split(ranges, session, candidate, answer, download.size or 0)
    try:
        async with _beside() as nursery, aclosing(split.chunks(download, nursery)) as chunks:
            yield chunks
    finally:
        split.close()


@asynccontextmanager
async def _beside() -> AsyncIterator[trio.Nursery]:
    """Tasks that end with the block; what is raised in it leaves it as it is, in no group."""
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        failure = group.exceptions[0]
    if failure is not None:  # raised here, so that its context stays its own
        raise failure


class Split:
    """A blob on its way over several connections; see ``open_split``."""

    def __init__(
        self, ranges: Ranges, session: Session, candidate: Candidate, answer: Answer, size: int
    ) -> None:
        self._ranges = ranges
        self._session = session
        self._candidate = candidate
        self._size = size
        self._origin = answer.url.origin
        self._note_store(answer)
        self._etag = answer.headers.get("etag", "")
        self._reached = 0
        # Those that were not given out yet, without a gap; behind them no piece is planned.
        self._pieces: deque[Piece] = deque()
        self._next = 0
        self._piece_bytes = 0
        self._fetching = 0
        # As many as the host bears.
        self._most = ranges.count
        self._idle = trio.lowlevel.ParkingLot()
        self._has_stream = True
        self._has_place = False
        # Why there are no more pieces, once there are none.
        self._given_up: MultiFetchError | None = None

    @property
    def _is_alone(self) -> bool:
        return self._given_up is not None

    def _note_store(self, answer: Answer) -> None:
        """Where the registry has led."""
        self._store = answer.url
        self._store_place = answer.place
        if answer.place is Place.ANYWHERE and not answer.is_from_inside:
            self._store_place = Place.OUTSIDE

    def close(self) -> None:
        """Gives back what was taken."""
        if self._has_place:
            self._has_place = False
            self._ranges.give_place_back()

    async def chunks(self, stream: Download, nursery: trio.Nursery) -> AsyncGenerator[Chunk, None]:
        """All bytes in their order; to be closed by who iterates.

        Args:
            stream: what is read first.
            nursery: for those who fetch pieces.
        """
        while True:
            async with aclosing(self._from_stream(stream, nursery)) as chunks:
                async for chunk in chunks:
                    yield chunk
            if not self._is_met():
                return  # the stream has ended by itself
            self._has_stream = False
            self._staff(nursery)
            async with aclosing(self._from_pieces()) as chunks:
                async for chunk in chunks:
                    yield chunk
            if self._reached == self._size:
                return
            stream = await self._go_on_alone()

    async def _from_stream(
        self, stream: Download, nursery: trio.Nursery
    ) -> AsyncGenerator[Chunk, None]:
        """Until the stream ends, or meets a piece that is on its way."""
        self._begin(nursery)
        async with aclosing(stream.chunks()) as chunks:
            async for chunk in chunks:
                rest = memoryview(chunk)
                while rest:
                    self._drop_what_is_late()
                    if self._is_met():
                        return
                    until = self._pieces[0].first if self._pieces else self._reached + len(rest)
                    part = rest[: until - self._reached]
                    rest = rest[len(part) :]
                    self._reached += len(part)
                    yield part
                if self._is_met():
                    return
                self._begin(nursery)

    async def _from_pieces(self) -> AsyncGenerator[Chunk, None]:
        """Until the end, or a piece whose range was not answered as it should be."""
        while self._pieces:
            piece, given = self._pieces[0], 0
            while given < len(piece.view):
                if given < piece.filled:
                    part = piece.view[given : min(piece.filled, given + RECEIVE_BYTES)]
                    given += len(part)
                    self._reached += len(part)
                    yield part
                    await trio.lowlevel.checkpoint()
                elif piece.failure is None:
                    await piece.wait()
                elif piece.is_answered:
                    raise piece.failure
                else:
                    return
            self._pieces.popleft()
            self._plan(piece.buffer)

    def _is_met(self) -> bool:
        """Whether the next byte is a piece's, which is on its way."""
        if not self._pieces:
            return False
        piece = self._pieces[0]
        return piece.first == self._reached and piece.is_answered and piece.failure is None

    def _drop_what_is_late(self) -> None:
        """The stream reads what begins here: it was here before the piece's answer."""
        while self._pieces and self._pieces[0].first == self._reached and not self._is_met():
            piece = self._pieces.popleft()
            piece.scope.cancel()
            self._plan(bytearray(self._piece_bytes))  # the other may still be written to

    def _begin(self, nursery: trio.Nursery) -> None:
        """Plans pieces, if there is room for their buffers and the host is not held back."""
        rest = self._size - self._reached
        if self._has_place or self._is_alone or self._session.is_held_back(self._origin):
            return
        self._has_place = self._ranges.take_place(self._origin, rest)
        if not self._has_place:
            return
        count = self._ranges.count
        rounds = -(-rest // (count * self._ranges.piece_bytes))
        self._piece_bytes = -(-rest // (count * rounds))  # so that the last round is a full one too
        self._next = self._reached + self._piece_bytes
        for _ in range(count):
            self._plan(bytearray(self._piece_bytes))
        self._staff(nursery)

    def _plan(self, buffer: bytearray) -> None:
        """The next piece, for this buffer; none where all is planned."""
        count = min(self._piece_bytes, self._size - self._next)
        if count > 0 and not self._is_alone:
            self._pieces.append(Piece(self._next, count, buffer))
            self._next += count
            self._idle.unpark()

    def _staff(self, nursery: trio.Nursery) -> None:
        """One more task for each connection that there may be, and a single one for a stranger."""
        wanted = 1
        if self._ranges.is_known(self._origin):
            wanted = self._most - self._has_stream
        while self._has_place and self._fetching < wanted:
            self._fetching += 1
            nursery.start_soon(self._fetch, nursery)

    async def _fetch(self, nursery: trio.Nursery) -> None:
        """Fetches one piece after the other."""
        while not self._is_alone:
            piece = next((piece for piece in self._pieces if not piece.is_begun), None)
            if piece is None:
                await self._idle.park()
                continue
            piece.is_begun = True
            with piece.scope:
                try:
                    await self._fill(piece, nursery)
                except MultiFetchError as error:
                    if self._leaves_to_others(piece, error):
                        return
                    piece.failure = error
                    if not piece.is_answered:
                        self._give_up(error)
                    piece.tell()

    def _leaves_to_others(self, piece: Piece, error: MultiFetchError) -> bool:
        """Whether the others can have the piece, where the host bears no more connections."""
        if piece.is_answered or self._fetching == 1 or self._is_alone or not is_passing(error):
            return False
        self._fetching -= 1
        self._most = self._fetching + self._has_stream
        piece.leave()
        self._idle.unpark()
        return True

    async def _fill(self, piece: Piece, nursery: trio.Nursery) -> None:
        answer = await self._ask(piece.asked)
        try:
            if answer.status == 200:  # RFC 9110, section 14.2: as a server may
                raise RegistryError(
                    f"{answer.what}: everything came, and not a part{TELL_OPERATOR}", status=200
                )
            if answer.status != 206:
                raise await answer.error()
            etag = answer.headers.get("etag", "")
            if answer.encoding or (etag and self._etag and etag != self._etag):
                raise RegistryError(
                    f"{answer.what}: the part is of another object: ask for it anew", status=206
                )
            download = Download(self._session, self._candidate, answer, piece.asked, self._size)
            piece.is_answered = True
            piece.tell()
            self._ranges.remember(self._origin, knows_ranges=True)
            self._staff(nursery)
            async with aclosing(download.chunks()) as chunks:
                async for chunk in chunks:
                    piece.take(chunk)
        finally:
            await answer.aclose()

    async def _ask(self, asked: ByteRange) -> Answer:
        headers = {"Accept": self._candidate.accept, "Range": range_header(asked)}
        answer = await self._session.ask_store(self._store, headers, self._store_place)
        if answer is None:
            answer = await self._session.send("GET", self._candidate.path, headers, final=TOO_MANY)
            self._note_store(answer)
        return answer

    def _give_up(self, error: MultiFetchError) -> None:
        """No more pieces: the reader goes on alone where it meets one that nobody fetches."""
        self._given_up = error
        for piece in self._pieces:
            if not piece.is_begun:  # also one that was left, for a connection that there was then
                piece.failure = error
                piece.tell()
        if is_passing(error):
            return
        self._ranges.remember(self._origin, knows_ranges=False)
        facts = {"url": str(self._origin), "error": error.message}
        logger.info("one connection a blob from now on: no ranges here", extra=facts)

    async def _go_on_alone(self) -> Download:
        """The rest as one stream: nobody fetches anything else of this blob."""
        failure = self._pieces[0].failure if self._pieces else self._given_up
        assert failure is not None, "so what is next is not given out"
        for piece in self._pieces:
            piece.scope.cancel()
        self._pieces.clear()
        asked = ByteRange(self._reached)
        headers = {"Accept": self._candidate.accept, "Range": range_header(asked)}
        # What several connections met may not meet one; but patience is not borne twice.
        attempt = (failure.attempts or 0) + 1 if is_passing(failure) else 1
        answer = await self._session.send("GET", self._candidate.path, headers, attempt=attempt)
        try:
            if answer.status not in {200, 206}:
                raise await answer.error()
            return Download(self._session, self._candidate, answer, asked, self._size)
        except MultiFetchError as error:
            await answer.aclose()
            if isinstance(error, InvalidRequestError):
                raise RegistryError(
                    f"{answer.what}: the object has become shorter: ask for it anew"
                ) from error
            raise
