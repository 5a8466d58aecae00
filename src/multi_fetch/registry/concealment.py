"""What was sent as a secret, and is not to be repeated: some servers echo a request. Pure.

A proxy's page that shows the headers it got, or a token service that quotes a form, would bring a
login into logs and frames.
"""

from __future__ import annotations

import base64
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote, unquote, unquote_plus

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CONCEALED: Final = "***"

# Headers that say nothing of who asks, and fields of a token service's form.
PLAIN_HEADERS: Final = frozenset(
    {"accept", "accept-encoding", "content-type", "range", "user-agent"}
)
SECRET_FIELDS: Final = frozenset({"password", "refresh_token"})

# Of a URL's query: what registries and token services are asked for, and as which type S3 and Azure
# are to send it. The rest was named by others, and may be a signature; a time or a digest is none.
PLAIN_FIELDS: Final = frozenset(
    {"artifacttype", "last", "n", "ns", "response-content-type", "rsct", "scope", "service"}
)
# S3 has 3 of them in a URL, CloudFront 3. Who sends many makes each look at a text slower.
MAX_SIGNED: Final = 16
NO_SIGNATURE = re.compile(r"[0-9TZ:.+-]+|sha(?:256|512):[0-9a-f]+", re.ASCII)

# Secrets of others in a server's words, as it may ask somebody itself: a URL's user and query, and
# a token in JSON, or in JSON within JSON.
USER = re.compile(r"""(//|\\/\\/)[^/\s"'<>@\\]+@""")
QUERY = re.compile(r"""\?[^\s"'<>]+""")
FIELD = re.compile(
    r"""(\\?"\w*(?:token|password|secret)\\?"\s*:\s*\\?")(?:[^"\\]|\\[^"])+""",
    re.ASCII | re.IGNORECASE,
)

# A place: proxies are told so of whom they stand for, or who they are to say they are, and lead
# there. RFC 1123, section 2.1, in lower case; a token has capitals, or no top level that is a word.
# A password may look so too: only a header whose name ends as these do is about a place.
PLACE = re.compile(r"(https?://)?([a-z0-9-]{1,63}\.)+[a-z]{2,63}(:[0-9]{1,5})?/?", re.ASCII)
NAMES_OF_PLACES = re.compile(
    r"(?:^|-)(?:backend|domain|for|from|host|mirror|of|origin|proxy|referr?er|registry|remote|server"
    r"|site|target|upstream|ur[il]|via)$",
    re.IGNORECASE,
)

# A shorter one may be a word that stands in a path or a media type for its own sake; tokens are
# longer. To take "manifest" out of headers would break them, and tell that it is the password.
LONG_SECRET_CHARACTERS: Final = 20

# What a server has written otherwise, as HTML, in a URL or behind a backslash, is known by its
# letters and digits; fewer of them may be a word.
BARE_SECRET_CHARACTERS: Final = 8
NOT_BARE = re.compile(r"[^A-Za-z0-9]+")
# A server that cuts short what it repeats leaves the beginning; so does the limit of what is read.
BEGINNING_CHARACTERS: Final = 12

# A page within a page, or a URL within a URL, is written otherwise twice.
MAX_READINGS: Final = 3
BY_NUMBER = re.compile(r"\\u([0-9A-Fa-f]{4})|\\x([0-9A-Fa-f]{2})")

# A user with a password is no word, in base64 or without; nor is a password or a token of more than
# letters, or more than digits.
LONG_LOGIN_CHARACTERS: Final = 8


class Discreet:
    """What shows nothing of what it holds in its repr, or only what it says itself.

    rich does not ask for that: it is told of all fields by msgspec, for its tracebacks too.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"

    def __rich_repr__(self) -> Any:  # after None rich takes the repr
        return None


def secrets_of(headers: Mapping[str, str], form: str, query: str = "") -> list[str]:
    """The secrets in a request, in every form that they are sent in; the longest first.

    Args:
        headers: that were sent.
        form: the same.
        query: of the URL, where what is in it is not to be told either.
    """
    found: set[str] = set()
    for name, value in headers.items():
        if _is_confidential(name, value):
            scheme, _, rest = value.partition(" ")
            found |= {value, rest or value}
            found.add((rest or value).rstrip("="))  # not everybody repeats base64's padding
            if scheme.lower() == "basic":
                found.update(_parts_of_basic(rest))
    found |= {value for name, value in parse_qsl(form) if name in SECRET_FIELDS}
    for field in form.split("&"):  # as it is encoded
        name, _, value = field.partition("=")
        if name in SECRET_FIELDS:
            found.add(value)
    for value in _signed_in(query):
        found |= {value, unquote(value), unquote_plus(value)}
    found |= {written for secret in found for written in _as_written(secret)}
    return sorted(found - {""}, key=len, reverse=True)


def long_secrets_of(headers: Mapping[str, str]) -> list[str]:
    """Those of the headers that stand nowhere by chance; the longest first."""
    found: list[str] = []
    for name, value in headers.items():
        if _is_confidential(name, value):
            scheme, _, rest = value.partition(" ")
            secret, least = (rest or value).rstrip("="), LONG_SECRET_CHARACTERS
            if scheme.lower() == "basic":
                login = secret
                pair, secret = _parts_of_basic(rest)
                found += [each for each in (login, pair) if len(each) >= LONG_LOGIN_CHARACTERS]
            is_word = secret.isalpha() or secret.isdecimal()
            if scheme.lower() in {"basic", "bearer"} and not is_word:
                least = LONG_LOGIN_CHARACTERS
            if len(secret) >= least:
                found.append(secret)
    return sorted(found, key=len, reverse=True) if len(found) > 1 else found


def _is_confidential(name: str, value: str) -> bool:
    if _is_plain(name):
        return False
    return not _says_place(name) or PLACE.fullmatch(value) is None


@lru_cache(maxsize=64)
def _says_place(name: str) -> bool:
    return NAMES_OF_PLACES.search(name) is not None


@lru_cache(maxsize=64)  # they are few, and looked at with each request
def _is_plain(name: str) -> bool:
    return name.lower() in PLAIN_HEADERS


def conceal(text: str, secrets: Iterable[str]) -> str:
    """The text without them."""
    for secret in secrets:
        text = text.replace(secret, CONCEALED)
    return text


def telling(text: str, secrets: Iterable[str]) -> str:
    """What may be told of a text: nothing where a secret is left in it, written in another way."""
    secrets = list(secrets)
    told = conceal(text, secrets)
    # One that ends in another has that as its secret: the rest is a scheme, or a user's name.
    begin = [each for each in secrets if not any(each[1:].endswith(other) for other in secrets)]
    read = told
    for _ in range(MAX_READINGS):
        read, before = _read(read), read
        if any(secret in read for secret in secrets) or _has_beginning(read, begin):
            return CONCEALED
        if read == before:
            break
    return _without_others(told)


def _signed_in(query: str) -> list[str]:
    """The values in a query that may be signatures, as they are encoded; the longest."""
    values: list[str] = []
    for field in query.split("&"):
        name, _, value = field.partition("=")
        read = unquote(value)
        is_long = len(read) >= LONG_SECRET_CHARACTERS and NO_SIGNATURE.fullmatch(read) is None
        if is_long and name.lower() not in PLAIN_FIELDS:
            values.append(value)
    return sorted(values, key=len, reverse=True)[:MAX_SIGNED]


def _without_others(text: str) -> str:
    """A server's words without secrets that nobody here has sent, as far as their form shows it."""
    text = QUERY.sub("?...", USER.sub(r"\1", text))
    return FIELD.sub(rf"\1{CONCEALED}", text)


def _has_beginning(text: str, secrets: Iterable[str]) -> bool:
    """Whether one of them, or its beginning, is in a text by its letters and digits alone."""
    bare = NOT_BARE.sub("", text)
    beginnings = (NOT_BARE.sub("", secret)[:BEGINNING_CHARACTERS] for secret in secrets)
    return any(len(each) >= BARE_SECRET_CHARACTERS and each in bare for each in beginnings)


def _read(text: str) -> str:
    """A text as its reader understands it, be it HTML, a URL or some language's literal."""
    if "&" in text:
        from html import unescape

        text = unescape(text)
    text = BY_NUMBER.sub(lambda match: chr(int(match[1] or match[2], 16)), text)
    return unquote(text) if "%" in text else text


def _as_written(secret: str) -> tuple[str, ...]:
    """A secret as it stands in a URL, and in JSON, whose slashes some escape."""
    in_json = msgspec.json.encode(secret).decode()[1:-1]
    return quote(secret, safe=""), in_json, in_json.replace("/", "\\/")


def _parts_of_basic(encoded: str) -> tuple[str, str]:
    """User and password, and the password alone; empty where it is no base64."""
    try:
        pair = base64.b64decode(encoded).decode("utf-8", "replace")
    except ValueError:
        return "", ""
    return pair, pair.partition(":")[2]
