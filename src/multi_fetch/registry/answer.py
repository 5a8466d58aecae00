"""An answer whose body is still to come, whichever lane it came over."""

from __future__ import annotations

import time
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from multi_fetch.advice import TELL_OPERATOR
from multi_fetch.budget import hold, let_go
from multi_fetch.durations import ERROR_BODY_SECONDS
from multi_fetch.errors import MultiFetchError, RegistryError, TooLargeError
from multi_fetch.limits import MAX_ERROR_BODY_BYTES
from multi_fetch.registry.api import content_length, redacted
from multi_fetch.registry.challenge import Challenge, parse_challenges
from multi_fetch.registry.concealment import (
    LONG_SECRET_CHARACTERS,
    conceal,
    long_secrets_of,
    secrets_of,
    telling,
)
from multi_fetch.registry.errcode import OF_THE_HOST, error_of, printable, retry_after_of
from multi_fetch.registry.head import MAX_RATELIMIT_HEADERS
from multi_fetch.registry.hosts import is_inside
from multi_fetch.registry.place import Place
from multi_fetch.registry.url import Url

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from multi_fetch.oci.digest import Chunk

_MAX_RATELIMIT_CHARACTERS: Final = 200

IDENTITY: Final = frozenset({"", "identity"})


class Answer:
    """A response to a GET, HEAD or POST; whoever holds it closes it.

    A lane gives an Answer of its own, with ``peer``, ``chunks`` and ``aclose``.

    Attributes:
        method: of the request.
        url: where it came from in the end.
        status: the HTTP status.
        headers: names in any case, or in lower case.
        attempts: how often it was asked for in a row.
        sent: the headers of the request.
        form: its body, or an empty text.
        place: where the request was allowed to lead.
        advice: what helps if it is an error, by status.
    """

    def __init__(self, method: str, url: Url, status: int, headers: Mapping[str, str]) -> None:
        self.method = method
        self.url = url
        self.status = status
        self.attempts = 1
        self.headers = headers
        self.sent: Mapping[str, str] = {}
        self.form = ""
        self.place = Place.ANYWHERE
        self.advice: Mapping[int, str] = OF_THE_HOST

    def was_led(self, place: Place, advice: Mapping[int, str]) -> None:
        """Takes note of where the request was allowed to lead, and what helps if it is refused."""
        self.place, self.advice = place, advice

    def was_asked(self, sent: Mapping[str, str], form: str) -> None:
        """Takes note of the request, and takes out of the headers what they repeat of its secrets.

        They get into messages in many places. Only Location is left, which is judged by it.

        Args:
            sent: the headers of the request.
            form: its body.
        """
        self.sent, self.form = sent, form
        secrets = self._long_secrets()
        if secrets and any(secret in text for secret in secrets for text in self.headers.values()):
            self.headers = {
                name.lower(): text if name.lower() == "location" else conceal(text, secrets)
                for name, text in self.headers.items()
            }

    @property
    def what(self) -> str:
        """What was asked: ``GET https://...``, fit for logs and errors."""
        return str(Asked(self.method, self.url))

    @property
    def peer(self) -> str:
        """The address that it came from, or an empty text where that is not known."""
        raise NotImplementedError

    @property
    def is_from_inside(self) -> bool:
        """Whether it came from a loopback, private or link-local address."""
        return is_inside(self.url.origin.host) or is_inside(self.peer)

    @property
    def may_name_inside(self) -> bool:
        """Whether what it names may be inside: not where the user has allowed it alone."""
        return self.is_from_inside and self.place is not Place.ALLOWED

    @property
    def encoding(self) -> str:
        """How the body says to be encoded; empty if not at all."""
        encoding = self.headers.get("content-encoding", "").strip().lower()
        return "" if encoding in IDENTITY else encoding

    def challenges(self) -> list[Challenge]:
        """What it asks for, of who may ask.

        Raises:
            RegistryError: that cannot be read.
        """
        return parse_challenges(self.headers.get("www-authenticate", ""), self.concealed)

    def encoded(self) -> RegistryError:
        """The error of a body that is encoded; it is returned."""
        encoding = printable(self.concealed(self.headers["content-encoding"]), 40)
        return RegistryError(
            f"{self.what}: the content is encoded ({encoding}) though that was not asked for, and"
            " its digest is over the bytes as stored: go around the proxy or cache that does it",
            status=self.status,
        )

    def concealed(self, text: str) -> str:
        """What the server has written, without the secrets that it was sent."""
        return telling(text, secrets_of(self.sent, self.form, self.url.query))

    def repeats_a_secret(self, text: str) -> bool:
        """Whether there is a secret in it, of those that are too long to be there by chance."""
        found = secrets_of(self.sent, self.form)
        long = [secret for secret in found if len(secret) >= LONG_SECRET_CHARACTERS]
        return any(secret in text for secret in (*long, *self._long_secrets()))

    def _long_secrets(self) -> list[str]:
        """Those without what stands in the URL too: a repository may be called as a password is."""
        found = long_secrets_of(self.sent)
        return [secret for secret in found if secret not in str(self.url)] if found else found

    def retry_after(self) -> float | None:
        """The seconds that it asks to wait, or None."""
        return retry_after_of(self.headers, now=time.time())

    def ratelimit(self) -> dict[str, str]:
        """What it tells of limits: headers of any registry that has "ratelimit" in their names."""
        told: dict[str, str] = {}
        for name in self.headers:
            if "ratelimit" in name.lower() and len(told) < MAX_RATELIMIT_HEADERS:
                shown = conceal(name.lower(), map(str.lower, self._long_secrets()))
                told[printable(shown, _MAX_RATELIMIT_CHARACTERS)] = printable(
                    self.concealed(self.headers[name]), _MAX_RATELIMIT_CHARACTERS
                )
        return told

    def chunks(self) -> AsyncGenerator[Chunk, None]:
        """The body as it was sent, in chunks of any size; to be closed by who iterates.

        A chunk is the consumer's until it asks for the next.

        Raises:
            RegistryError: it breaks HTTP.
            UnavailableError: the connection broke.
            DeadlineExceededError: nothing came for too long.
        """
        raise NotImplementedError

    async def take_small(self) -> bytes | None:
        """The whole body, if it is small and simple enough to be had at once; else it is left."""
        return None

    async def read(self, limit: int) -> bytes:
        """The whole body, which counts as held by this task (``budget``).

        Raises:
            TooLargeError: it is longer than ``limit`` bytes.
            RegistryError: it is encoded.
            MultiFetchError: as for ``chunks``.
        """
        if self.encoding:
            raise self.encoded()
        length = content_length(self.headers)
        body = bytearray()
        if length is None or length <= limit:
            if (whole := await self.take_small()) is not None:
                return whole
            try:
                async with aclosing(self.chunks()) as chunks:
                    async for chunk in chunks:
                        body += chunk
                        await hold(len(chunk))
                        if len(body) > limit:
                            break
                    else:
                        return bytes(body)
            except MultiFetchError:
                let_go(len(body))
                raise
            let_go(len(body))
        raise TooLargeError(
            f"{self.what}: the answer is larger than {limit} bytes{TELL_OPERATOR}",
            status=self.status,
        )

    async def first_bytes(self) -> bytes:
        """The body up to an error's limit; less where it breaks off. A short one is read whole."""
        body = bytearray()
        # the status says what matters; these are only its words
        with trio.move_on_after(ERROR_BODY_SECONDS), suppress(MultiFetchError):
            async with aclosing(self.chunks()) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) >= MAX_ERROR_BODY_BYTES:
                        break
        return bytes(body[:MAX_ERROR_BODY_BYTES])

    async def drain(self) -> None:
        """Reads what there is, up to an error's limit, so that the connection is used again."""
        try:
            await self.first_bytes()
        finally:
            await self.aclose()

    async def error(self) -> MultiFetchError:
        """The error that this answer stands for, with what its body says; it is returned."""
        body = await self.first_bytes()
        error = error_of(
            self.status,
            self.headers,
            body,
            what=self.what,
            now=time.time(),
            conceal=self.concealed,
            advice=self.advice,
        )
        error.attempts = self.attempts
        if self.advice is not OF_THE_HOST:  # then it would help to log in, if nothing else is known
            error.advice = self.advice.get(self.status, "").removeprefix("; ")
        return error

    async def aclose(self) -> None:
        """Gives the connection back, or closes it if the body was not read to its end."""
        raise NotImplementedError


class Asked(msgspec.Struct, frozen=True):
    """A request for logs and errors: its text is made only where it is shown."""

    method: str
    url: Url

    def __str__(self) -> str:
        return f"{self.method} {redacted(str(self.url))}"
