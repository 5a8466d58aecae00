"""How much content one object may have: the user's ceiling, and the one for what nobody announced.

A size that was told ends by itself: content that goes beyond it is wrong. Content whose size nobody
told, neither the user nor a descriptor nor the remote, ends only where its sender ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.errors import MaxSizeError
from multi_fetch.limits import MAX_UNTOLD_BYTES

if TYPE_CHECKING:
    from multi_fetch.protocol.request import ByteRange


class Ceiling(msgspec.Struct, frozen=True):
    """The most content that one answer may have, in bytes; None for any.

    Attributes:
        told: where the size is known before any content comes.
        untold: where it is not.
    """

    told: int | None = None
    untold: int | None = MAX_UNTOLD_BYTES

    def check(self, size: int | None, byte_range: ByteRange | None = None) -> None:
        """Refuses what is known to have too much content, before any of it is asked for.

        Args:
            size: of the whole object; None where nobody has told it.
            byte_range: what is wanted of it, which then is what counts.

        Raises:
            MaxSizeError: it has too much.
        """
        if size is None:
            # A server without ranges sends all that stands before one, too.
            before = 0 if byte_range is None else byte_range.first
            if self.untold is not None and before > self.untold:
                raise MaxSizeError(limit=self.untold)
            return
        wanted = size if byte_range is None else byte_range.most_bytes(size)
        if self.told is not None and wanted is not None and wanted > self.told:
            raise MaxSizeError(limit=self.told, size=wanted)

    def most(self, size: int | None) -> int | None:
        """How much of an object may come where its size does not end it; or None."""
        return self.untold if size is None else None


DEFAULT_CEILING: Final = Ceiling()
NO_CEILING: Final = Ceiling(untold=None)
