"""The contract of a remote that keeps what was verified: see also ``remotes.Opened.keep``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    from multi_fetch.oci.digest import Digest


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
