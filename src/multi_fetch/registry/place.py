"""Where a request may end up: anywhere, or out on the public internet alone.

A name says nothing of the address behind it: ``internal.example`` may stand for 10.0.0.1, and may
do so only from the second look-up on (DNS rebinding). So what others than the user name, redirects,
token services and foreign URLs, is judged once more by the address that was connected to, before a
byte is sent there. A registry that is itself reached at such an address may name others there: so
it is in a company whose names have other addresses within than without.

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
    from multi_fetch.registry.answer import Asked


class Place(Enum):
    """Where a connection may lead."""

    ANYWHERE = "anywhere"
    OUTSIDE = "outside"


def refuse_inside(address: str, asked: Asked) -> None:
    """Judges the address of a connection that may lead outside alone.

    Raises:
        RegistryError: it is a loopback, private or link-local one.
    """
    if is_inside(address):
        raise RegistryError(
            f"{asked}: the name stands for {printable(address, 60)}, in a private network, where"
            f" the registry is not: nothing is sent there{TELL_OPERATOR}"
        )
