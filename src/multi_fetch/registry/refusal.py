"""Why nobody is let in: which login was refused, and by whom; or where none was found. Pure.

A login is told by where it was found, never by what is in it; a user name may be a secret too.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.registry.errcode import without_advice
from multi_fetch.registry.hosts import name_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from multi_fetch.errors import MultiFetchError
    from multi_fetch.registry.credentials import Held
    from multi_fetch.registry.hosts import Host

LOG_IN: Final = "log in with 'docker login {name}' or 'podman login {name}'"
LOG_IN_ANEW: Final = "log in anew, with 'docker login {name}' or 'podman login {name}'"
CHECK_WHAT_WAS_GIVEN: Final = "check MULTI_FETCH_USERNAME and MULTI_FETCH_PASSWORD, or unset them"
ASK_FOR_ACCESS: Final = "ask for access, or log in as somebody who has it"

# What became of going on without a login.
ANONYMOUS_REFUSED: Final = "the registry refused an anonymous token"

PROGRAM: Final = "docker-credential-"


class Reason(msgspec.Struct, frozen=True):
    """Why, and what to do about it."""

    words: str
    advice: str


def explained(error: MultiFetchError, reason: Reason | None) -> MultiFetchError:
    """An answer's error, which ends with the reason in place of an advice for all cases."""
    if reason is None:
        return error
    told = copy.copy(error)
    told.message = f"{without_advice(error.message)}; {reason.words}; {reason.advice}"
    told.args, told.advice = (told.message,), reason.advice
    return told


def none_found(host: Host, places: Sequence[Path], more: str = "") -> Reason:
    """There is no login.

    Args:
        host: that asks for one.
        places: where it was looked for.
        more: what became of going on without.
    """
    name = name_of(host)
    words = f"no login for {name} was given"
    if places:
        *first, last = map(str, places)
        listed = f"{', '.join(first)} and {last}" if first else last
        words = f"{words}, and none was found in {listed}"
    return Reason(f"{words}{more}", LOG_IN.format(name=name))


def login_refused(host: Host, held: Held, by: str) -> Reason:
    """A login was sent; ``by`` says who refused it."""
    advice = LOG_IN_ANEW if held.path else CHECK_WHAT_WAS_GIVEN
    return Reason(
        f"{_told(host, held)} was sent, and {by} refused it", advice.format(name=name_of(host))
    )


def login_unfit(host: Host, held: Held) -> Reason:
    """A login is of another kind than the registry asks for."""
    return Reason(
        f"{_told(host, held)} has no user name and password, which the registry asks for",
        LOG_IN_ANEW.format(name=name_of(host)),
    )


def token_refused(host: Host, held: Held) -> Reason:
    """A login was accepted, and what it got does not suffice."""
    return Reason(
        f"{_told(host, held)} was sent, and the token that it got was refused", ASK_FOR_ACCESS
    )


def _told(host: Host, held: Held) -> str:
    name = name_of(host)
    if not held.path:
        return f"the login that was given for {name}"
    if held.entry.startswith(PROGRAM):
        return f"the login for {name} (of {held.entry}, which {held.path} names)"
    return f"the login for {name} ({held.entry} in {held.path})"
