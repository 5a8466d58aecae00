"""Challenges: what a 401 answer's WWW-Authenticate header asks for.

RFC 9110, section 11.6.1. One header can hold several challenges, and a comma separates both these
and the parameters of one; what follows a comma is a parameter if an equals sign comes next.
Several header lines are one, joined by commas (section 5.3).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.advice import TELL_OPERATOR
from multi_fetch.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# RFC 9110, sections 5.6.2, 5.6.4 and 11.2:
#   token         ::= 1*tchar
#   quoted-string ::= DQUOTE *( qdtext / quoted-pair ) DQUOTE
#   token68       ::= 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="
#   auth-param    ::= token BWS "=" BWS ( token / quoted-string )
#   challenge     ::= auth-scheme [ 1*SP ( token68 / #auth-param ) ]
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - a grammar's token, no password
QUOTED = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[^\x00-\x08\x0a-\x1f\x7f])*"'
SCHEME = re.compile(TOKEN)
PARAM = re.compile(rf"(?P<name>{TOKEN})[ \t]*=[ \t]*(?P<value>{TOKEN}|{QUOTED})")
TOKEN68 = re.compile(r"[ \t]+(?P<token68>[A-Za-z0-9._~+/-]+=*)[ \t]*(?=,|\Z)")
QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
BLANKS = re.compile(r"[ \t]*")
COMMAS = re.compile(r"[ \t]*(?:,[ \t]*)*")

MAX_SHOWN_CHARACTERS: Final = 200


class Challenge(msgspec.Struct, frozen=True):
    """One way to authenticate.

    Attributes:
        scheme: in lower case: ``bearer``.
        params: by their names in lower case; values without quotes and escapes.
        token68: what stands in place of parameters, or an empty text.
    """

    scheme: str
    params: dict[str, str] = {}
    token68: str = ""


class _UnreadableError(Exception):
    """The header breaks the grammar, or names a parameter twice; the position says where."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


def parse_challenges(header: str, conceal: Callable[[str], str] = str) -> list[Challenge]:
    """Reads a WWW-Authenticate header.

    Args:
        header: as it was sent.
        conceal: takes out of it what must not be repeated, where an error shows it.

    Raises:
        RegistryError: the header breaks the grammar, or names a parameter twice.
    """
    try:
        return list(_challenges(header))
    except _UnreadableError as error:
        raise RegistryError(
            "the registry's WWW-Authenticate header cannot be read at character"
            f" {error.position + 1}: {conceal(header)[:MAX_SHOWN_CHARACTERS]!r}{TELL_OPERATOR}",
            status=401,
        ) from None


def _challenges(header: str) -> Iterator[Challenge]:
    position = _skip(COMMAS, header, 0)
    while position < len(header):
        scheme = SCHEME.match(header, position)
        if scheme is None:
            raise _UnreadableError(position)
        position = scheme.end()
        if match := TOKEN68.match(header, position):
            position = match.end()
            yield Challenge(scheme[0].lower(), {}, match["token68"])
        else:
            params, position = _params(header, position)
            yield Challenge(scheme[0].lower(), params)
        if position < len(header) and header[position] != ",":
            raise _UnreadableError(position)
        position = _skip(COMMAS, header, position)


def _params(header: str, end: int) -> tuple[dict[str, str], int]:
    """The parameters from ``end`` on, and where the last of them ends."""
    params: dict[str, str] = {}
    start = _skip(COMMAS, header, end)
    while start > end and (match := PARAM.match(header, start)):
        name, value = match["name"].lower(), match["value"]
        if name in params:
            raise _UnreadableError(start)
        params[name] = QUOTED_PAIR.sub(r"\1", value[1:-1]) if value[0] == '"' else value
        end = _skip(BLANKS, header, match.end())
        start = _skip(COMMAS, header, end) if header[end : end + 1] == "," else end
    return params, _skip(BLANKS, header, end)


def _skip(pattern: re.Pattern[str], header: str, position: int) -> int:
    match = pattern.match(header, position)
    return position if match is None else match.end()
