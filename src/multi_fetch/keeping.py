"""The contract of a remote that keeps what was verified: see also ``remotes.Opened.keep``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.oci.digest import Digest
    from multi_fetch.oci.reference import Reference


@runtime_checkable
class Keeping(Protocol):
    """What a Remote may be besides: one that keeps content, also such as did not come from it."""

    async def keep(self, digest: Digest, content: bytes) -> Path | None:
        """Keeps content that has this digest, as the caller has verified.

        Returns:
            The file that has it, or None where it could not be kept.

        Raises:
            UnavailableError: it could not be kept, and must be.
        """

    def index_memory(self) -> int:
        """What it keeps of its index, in bytes: so much less is kept of what is found."""


@runtime_checkable
class Gathering(Keeping, Protocol):
    """One that also has an index of its own, which says what it has."""

    async def enter(self, roots: Sequence[tuple[Reference, Descriptor]]) -> None:
        """Enters objects in the index, by the tags that they were asked for, or without one.

        Args:
            roots: what was asked for, and what it turned out to be; all that is to be found there
                is kept by now.

        Raises:
            MultiFetchError: they could not be entered; some of them may be.
        """
