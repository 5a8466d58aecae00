"""Where a request may end up: anywhere, or out on the public internet alone.

A name says nothing of the address behind it: ``internal.example`` may stand for 10.0.0.1, and may
do so only from the second look-up on (DNS rebinding). So what others than the user name, redirects,
token services and foreign URLs, is judged once more by the address that was connected to, before a
byte is sent there. A registry that is itself reached at such an address may name others there: so
it is in a company whose names have other addresses within than without. Otherwise the user may
allow a host by its name; that alone, and nobody whom it names.

Where a proxy looks names up, there is no address to be judged.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from multi_fetch.advice import TELL_OPERATOR
from multi_fetch.errors import RegistryError
from multi_fetch.registry.errcode import printable
from multi_fetch.registry.hosts import is_inside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multi_fetch.registry.answer import Asked
    from multi_fetch.registry.hosts import PrivateHost
    from multi_fetch.registry.url import Origin


class Place(Enum):
    """Where a connection may lead.

    Attributes:
        ANYWHERE: and what answers from inside may name others there.
        ALLOWED: the same, but what answers may not.
        OUTSIDE: not into a private network.
    """

    ANYWHERE = "anywhere"
    ALLOWED = "allowed"
    OUTSIDE = "outside"


def place_of(origin: Origin, allowed: Sequence[PrivateHost], *, may_be_inside: bool) -> Place:
    """Where a request to an origin may lead that others have named.

    Args:
        origin: of the URL.
        allowed: by the user, to be inside.
        may_be_inside: whether whoever has named it may name what is inside.
    """
    if may_be_inside:
        return Place.ANYWHERE
    return Place.ALLOWED if any(each.is_at(origin) for each in allowed) else Place.OUTSIDE


def refuse_inside(address: str, asked: Asked) -> None:
    """Judges the address of a connection that may lead outside alone.

    Raises:
        RegistryError: it is a loopback, private or link-local one.
    """
    if is_inside(address):
        raise refused_inside(
            f"{asked}: the name stands for {printable(address, 60)}, in a private network, where"
            " the registry is not: nothing is sent there",
            asked.url.origin,
        )


def refused_inside(words: str, origin: Origin, *, status: int | None = None) -> RegistryError:
    """The error of an origin that is inside and should not be; it is returned."""
    advice = f"if it is meant to be there, add --allow-private {origin.authority}"
    error = RegistryError(f"{words}; {advice}{OR_TELL}", status=status)
    error.advice = f"{advice}{OR_TELL}"
    return error


OR_TELL = TELL_OPERATOR.replace("; ", ", or ")
