"""The judge of content: counts and hashes what flows past, and does no I/O.

Size comes first (image-spec, descriptor.md: check it before the digest), and a byte too many is
refused when it comes, so that an endless body costs nothing. Where nobody has told the size, a
ceiling ends it (``multi_fetch.ceiling``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from multi_fetch.errors import DigestMismatchError, MaxSizeError, SizeMismatchError
from multi_fetch.oci.digest import new_hasher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import NoReturn

    from multi_fetch.oci.digest import Chunk, Digest


async def hold(chunks: AsyncIterator[Chunk], judge: Judge, limit: int) -> tuple[bytes, bool]:
    """Takes content until it ends or exceeds ``limit`` bytes: a small object is held as a whole.

    Returns:
        What came, and whether that is all, in which case it was verified.

    Raises:
        SizeMismatchError, DigestMismatchError: as the judge does.
    """
    held = bytearray()  # not a list: chunks may be of two bytes, and each an object of forty
    async for chunk in chunks:
        judge.update(chunk)
        held += chunk
        if judge.received > limit:
            return bytes(held), False
    judge.finish()
    return bytes(held), True


class Judge(Protocol):
    """What content flows past."""

    received: int

    def update(self, chunk: Chunk) -> None:
        """Takes the next bytes: counts and hashes them."""

    def count(self, chunk: Chunk) -> None:
        """Counts the next bytes; ``hash`` has to follow, and may do so in another thread."""

    def hash(self, chunk: Chunk) -> None:
        """Hashes bytes that were counted."""

    def finish(self) -> Digest | None:
        """What was proved of all that came."""


class Counter:
    """Takes a part of an object, of which nothing can be proved but that it is not too long.

    Args:
        most: the bytes that were asked for, or None where that is not known.
        before: the bytes that the object has before it.
        limit: where the object ends at the latest, or None.
    """

    def __init__(self, most: int | None, before: int = 0, limit: int | None = None) -> None:
        self.most = most
        self.received = 0
        self._before = before
        self._limit = limit

    def update(self, chunk: Chunk) -> None:
        """Takes the next bytes.

        Raises:
            SizeMismatchError: there are more than were asked for.
            MaxSizeError: they are beyond the limit.
        """
        self.count(chunk)

    def count(self, chunk: Chunk) -> None:
        """The same: there is nothing to hash."""
        self.received += len(chunk)
        if self.most is not None and self.received > self.most:
            raise SizeMismatchError(want=self.most, got=self.received)
        if self._limit is not None and self._before + self.received > self._limit:
            raise MaxSizeError(limit=self._limit)

    def hash(self, chunk: Chunk) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing is proved."""


class Verifier:
    """Takes content in order; ``finish`` returns its digest only if size and digest match.

    Args:
        want: the digest that the content must have.
        size: the bytes that it must have, or None where that is not known.
        limit: the bytes that it may have then, or None for any number.

    Raises:
        UnsupportedError: the digest's algorithm cannot be computed here.
    """

    def __init__(self, want: Digest, size: int | None, limit: int | None = None) -> None:
        self.want = want
        self.size = size
        self.received = 0
        self._limit = limit
        most = limit if size is None else size
        self._most = math.inf if most is None else most
        self._hasher = new_hasher(want.algorithm)

    def update(self, chunk: Chunk) -> None:
        """Takes the next bytes.

        Raises:
            SizeMismatchError, MaxSizeError: as for ``count``.
        """
        self.count(chunk)
        self._hasher.update(chunk)

    def count(self, chunk: Chunk) -> None:
        """Counts the next bytes; ``hash`` has to follow, and may do so in another thread.

        Raises:
            SizeMismatchError: there are more bytes than ``size``.
            MaxSizeError: nobody has told the size, and there are more than ``limit``.
        """
        self.received += len(chunk)
        if self.received > self._most:
            self._refuse()

    def hash(self, chunk: Chunk) -> None:
        """Hashes bytes that were counted; in their order, one call at a time."""
        self._hasher.update(chunk)

    def finish(self) -> Digest:
        """The digest of all that came, which is the one that was wanted.

        Raises:
            SizeMismatchError: fewer bytes came than ``size``.
            DigestMismatchError: the content is not what was asked for.
        """
        if self.size is not None and self.received != self.size:
            raise SizeMismatchError(want=self.size, got=self.received)
        got = f"{self.want.algorithm}:{self._hasher.hexdigest()}"
        if got != self.want:
            raise DigestMismatchError(want=self.want, got=got)
        return self.want

    def _refuse(self) -> NoReturn:
        if self.size is not None:
            raise SizeMismatchError(want=self.size, got=self.received)
        assert self._limit is not None, "nothing else ends it"
        raise MaxSizeError(limit=self._limit)
