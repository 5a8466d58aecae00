"""The contract of a remote with a direct lane: small objects, many at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from multi_fetch.oci.digest import Digest


class Sent(Protocol):
    """An object that was asked for over a direct lane.

    Attributes:
        content: all of it, unverified, where it came as it should.
        media_type: what it is, where it came.
    """

    content: bytes | None
    media_type: str


class Asker(Protocol):
    """Asks for objects as things are; see ``DirectLane.asker``."""

    def ask(self, digest: Digest, media_types: Sequence[str], size: int | None) -> Sent | None:
        """Asks for an object without a wait; None where that is not possible."""


class DirectLane(Protocol):
    """A way past ``Remote.open`` for small objects: many at a time, and one wait for all of them.

    What does not come in the plainest way there is, is left to ``open``, which goes on from there.
    """

    def asker(self) -> Asker | None:
        """Who asks as things are now, and is of no use after the next checkpoint.

        None where nothing can be asked for without a wait.
        """

    async def wait(self) -> Sequence[Sent]:
        """Waits until objects have come, or are not to be had this way: those have no content.

        Each is then ``taken`` or ``left``, before the next wait.
        """

    def take(self, sent: Sent) -> None:
        """Says that the content was used."""

    def leave(self, sent: Sent) -> None:
        """Leaves an object to ``open``, which finds its answer begun."""

    def drop(self, sent: Sent) -> None:
        """Gives an object up, which nobody waits for any more."""


@runtime_checkable
class Direct(Protocol):
    """What a Remote may be besides: one with a direct lane."""

    def direct_lane(self) -> AbstractContextManager[DirectLane | None]:
        """A lane for one task that waits; None where there is none on this system."""
