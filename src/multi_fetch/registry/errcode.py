"""A registry's refusal, turned into the right error of the tree.

distribution-spec, "Error Codes": ``{"errors": [{"code": ..., "message": ..., "detail": ...}]}``.
A body may be anything else, too: a proxy's HTML, a token service's own JSON, nothing.
"""

from __future__ import annotations

import re
from datetime import UTC
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.advice import NEEDS_TLS, TELL_OPERATOR, TRY_LATER
from multi_fetch.errors import (
    DeniedError,
    MultiFetchError,
    NotFoundError,
    RateLimitedError,
    RegistryError,
    UnauthorizedError,
    UnavailableError,
)
from multi_fetch.registry.retry import is_passing_status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# RFC 9110, section 10.2.3: Retry-After = HTTP-date / delay-seconds
DELAY_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)

# C0, DEL and C1, ends of lines, and what turns the direction of writing: they would reach a
# terminal by way of a log.
CONTROL_CHARACTERS = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]+"
)
TAGS = re.compile(r"<[^<>]{0,1000}>")

# A message of the registry's own; ours stands around it.
MAX_TEXT_CHARACTERS: Final = 500
MAX_CODE_CHARACTERS: Final = 64

_LEAVES: Final[Mapping[int, type[MultiFetchError]]] = {
    401: UnauthorizedError,
    403: DeniedError,
    404: NotFoundError,
    429: RateLimitedError,
}

# What helps, by status, where the host that was asked has answered: it knows logins.
OF_THE_HOST: Final[Mapping[int, str]] = {
    401: "; give a user name and a password that the registry accepts, as by 'docker login'",
    403: "; the credentials, or the lack of them, do not allow this: ask for access, or log in",
    404: "; check the name, and log in if it is a private one",
    429: "; wait, ask for less at a time, or log in for a higher limit",
}

_TELL_WHO_SENT_US: Final = (
    "; the registry had sent us there, and no login goes along: tell its operator, or ask from a"
    " network that is let in"
)

# The same where it had sent us on, to a store say.
OF_A_REDIRECT: Final[Mapping[int, str]] = {
    401: _TELL_WHO_SENT_US,
    403: _TELL_WHO_SENT_US,
    404: "; the registry had sent us there: tell its operator",
    429: "; wait, or ask for less at a time",
}

_TELL_WHO_NAMED_IT: Final = "; the image names this URL, and no login goes there: ask who made it"

# The same for what a manifest names (foreign.py).
OF_A_FOREIGN_URL: Final[Mapping[int, str]] = {
    401: _TELL_WHO_NAMED_IT,
    403: _TELL_WHO_NAMED_IT,
    404: "; the image names this URL: ask who made it",
    429: "; wait, or ask for less at a time",
}

# No registry answers so: RFC 9110, section 15.5.8.
_CHECK_PROXY: Final = (
    "; check the user name and password in HTTP_PROXY and ALL_PROXY, or of the proxy in a"
    " hosts.toml"
)

_ALL_ADVICE: Final = (
    _CHECK_PROXY,
    *OF_THE_HOST.values(),
    *OF_A_REDIRECT.values(),
    *OF_A_FOREIGN_URL.values(),
    TRY_LATER,
    TELL_OPERATOR,
)

# What S3, and who speaks as it does (GCS, Azure, MinIO), says of an error. The rest may repeat
# what was signed, and with what. It is compiled where it is needed, which is in few runs.
_STORE_ERROR: Final = (
    r"<Error[^<>]{0,200}>\s*<Code>(?P<code>[^<>]*)</Code>"
    r"(?:\s*<Message>(?P<message>[^<>]*)</Message>)?"
)

# What Go's servers and nginx say, with a 400, of a request without TLS on a port that has it.
_NEEDS_TLS = re.compile(r"HTTPS (server|port)", re.ASCII)


class _Entry(msgspec.Struct):
    code: str | None = None
    message: str | None = None


class _Body(msgspec.Struct):
    errors: list[_Entry] | None = None


def error_of(  # noqa: PLR0913 - an answer's parts
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    what: str,
    now: float,
    conceal: Callable[[str], str] = str,
    advice: Mapping[int, str] = OF_THE_HOST,
) -> MultiFetchError:
    """The error that an answer stands for; it is returned, not raised.

    Args:
        status: other than what was hoped for.
        headers: of the answer; names in lower case, or a mapping that does not mind.
        body: as much of it as was read.
        what: was asked: ``GET https://...``.
        now: seconds since the epoch, to read a date in Retry-After without a Date beside it.
        conceal: takes out of the server's words what must not be repeated.
        advice: what helps, by status.
    """
    leaf = _LEAVES.get(status, UnavailableError if is_passing_status(status) else RegistryError)
    code, text = _read(body, conceal)
    said = ": ".join(part for part in (code, text) if part)
    return leaf(
        f"{what}: {_reason(status)}{': ' if said else ''}{said}{_advice(status, text, advice)}",
        status=status,
        registry_code=code or None,
        retry_after=retry_after_of(headers, now=now),
    )


def retry_after_of(headers: Mapping[str, str], *, now: float) -> float | None:
    """The seconds that an answer asks to wait; None if it says nothing.

    A date is read by the clock of who wrote it, in Date (RFC 9110, section 6.6.1): ours may be
    wrong by hours.

    Args:
        headers: of the answer; names in lower case, or a mapping that does not mind.
        now: seconds since the epoch, for an answer without a Date.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    sent_at = None if DELAY_SECONDS.fullmatch(text) else _timestamp(headers.get("date", ""))
    return parse_retry_after(text, now=now if sent_at is None else sent_at)


def parse_retry_after(text: str, *, now: float) -> float | None:
    """Retry-After in seconds from ``now`` (seconds since the epoch); None if it says nothing."""
    text = text.strip()
    if DELAY_SECONDS.fullmatch(text):
        return float(text)
    until = _timestamp(text)
    return None if until is None else max(0.0, until - now)


def _timestamp(text: str) -> float | None:
    """An HTTP-date in seconds since the epoch; None if it is none."""
    try:
        from email.utils import parsedate_to_datetime  # 2 ms, and few answers have such a date

        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError, OSError):  # the last: no descriptor is left to import it
        return None
    if date.tzinfo is None:  # "-0000" reads as no zone; HTTP's dates are all in UTC
        date = date.replace(tzinfo=UTC)
    return date.timestamp()


def printable(text: str, limit: int = MAX_TEXT_CHARACTERS) -> str:
    """A foreign text for messages: on one line, without control characters, cut to ``limit``."""
    text = CONTROL_CHARACTERS.sub(" ", text).strip()
    return text if len(text) <= limit else f"{text[:limit]}..."


def _reason(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status}"


def _advice(status: int, text: str, advice: Mapping[int, str]) -> str:
    if status == 407:
        return _CHECK_PROXY
    if status == 400 and _NEEDS_TLS.search(text):
        return NEEDS_TLS
    return advice.get(status, TRY_LATER if is_passing_status(status) else TELL_OPERATOR)


def without_advice(message: str) -> str:
    """An answer's message, for who knows better what to do about it."""
    found = next((each for each in _ALL_ADVICE if message.endswith(each)), "")
    return message.removesuffix(found)


def _read(body: bytes, conceal: Callable[[str], str]) -> tuple[str, str]:
    """The registry's code and message, as far as there are any."""
    try:
        errors = msgspec.json.decode(body, type=_Body).errors or []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        errors = []
    if errors:
        code = printable(conceal(errors[0].code or ""), MAX_CODE_CHARACTERS)
        return code, printable(conceal(errors[0].message or ""))
    text = body.decode("utf-8", "replace")
    if (told := re.search(_STORE_ERROR, text)) is not None:  # of a store, and so not the registry's
        text = ": ".join(part for part in told.groups() if part)
    # What looks like a tag may be a part of a password, and a tag may stand within one.
    text = conceal(TAGS.sub(" ", conceal(text)))
    return "", printable(" ".join(text.split()))
