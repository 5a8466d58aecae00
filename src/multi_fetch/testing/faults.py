"""What may go wrong between a registry and its client, declared for the requests that it meets.

An effect is a function from a request, and from whoever would answer it, to an answer; so effects
nest, and a test may write its own. A Fault says which requests meet an effect, and how often::

    faults = [
        Fault(answer_status(503, headers={"Retry-After": "1"}), path="*/manifests/*", times=2),
        Fault(close_after(1000), method="GET", path="*/blobs/*", times=1),
    ]

The first fault of a list is the outermost. One that answers by itself hides those behind it, and
these then do not count that request: here a manifest fails twice, then arrives.

Effects that change a body hold all of it in memory; those that change only how it is sent do not.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeAlias

import msgspec
from msgspec.structs import replace

from multi_fetch.testing.messages import (
    BEFORE_HEAD,
    Answer,
    Delivery,
    Request,
    Stop,
    body_bytes,
)
from multi_fetch.testing.pull_api import error_answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Respond: TypeAlias = Callable[[Request], Answer]
Effect: TypeAlias = Callable[[Request, Respond], Answer]


class Fault(msgspec.Struct, frozen=True):
    """An effect, and the requests that meet it.

    Attributes:
        effect: what happens.
        method: only requests with this method; empty for any.
        path: only requests with a path like this: a glob, whose ``*`` matches slashes too.
        skip: so many requests that match are spared first.
        times: so many requests then meet the effect; None for all.
    """

    effect: Effect
    method: str = ""
    path: str = "*"
    skip: int = 0
    times: int | None = None

    def matches(self, request: Request) -> bool:
        """Whether method and path are those of the fault."""
        return self.method in {"", request.method} and fnmatchcase(request.path, self.path)


class FaultChain:
    """Faults in front of an answer, and how often each was matched so far."""

    def __init__(self, faults: Sequence[Fault], respond: Respond) -> None:
        self._respond = respond
        for fault in reversed(faults):
            self._respond = _wrap(fault, self._respond)

    def answer(self, request: Request) -> Answer:
        """The answer, with all that goes wrong with it."""
        return self._respond(request)


def _wrap(fault: Fault, respond: Respond) -> Respond:
    matched = 0

    def answer(request: Request) -> Answer:
        nonlocal matched
        if not fault.matches(request):
            return respond(request)
        matched += 1
        turn = matched - fault.skip
        if turn < 1 or (fault.times is not None and turn > fault.times):
            return respond(request)
        return fault.effect(request, respond)

    return answer


# --- other answers --------------------------------------------------------------------------


def answer_status(
    status: int, *, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Effect:
    """Answers this, in place of what was asked for."""
    fixed = (("Content-Length", str(len(body))),)

    def effect(request: Request, respond: Respond) -> Answer:
        answer = Answer(status, fixed, body)
        for name, value in (headers or {}).items():
            answer = answer.with_header(name, value)
        return answer

    return effect


def answer_error(status: int, code: str, message: str = "on purpose") -> Effect:
    """Answers an error with a registry's error code, such as ``TOOMANYREQUESTS``."""

    def effect(request: Request, respond: Respond) -> Answer:
        return error_answer(status, code, message)

    return effect


def redirect_to(url: str, *, status: int = 307) -> Effect:
    """Sends the client elsewhere; a ``{path}`` in the URL stands for the request's own path."""

    def effect(request: Request, respond: Respond) -> Answer:
        location = url.replace("{path}", request.path)
        return Answer(status, (("Location", location), ("Content-Length", "0")))

    return effect


# --- authentication -------------------------------------------------------------------------


def require_basic(username: str, password: str) -> Effect:
    """Answers 401 with a Basic challenge, unless this user asks."""
    credentials = _basic(username, password)

    def effect(request: Request, respond: Respond) -> Answer:
        if request.header("Authorization") == credentials:
            return respond(request)
        return _unauthorized('Basic realm="loopback"')

    return effect


def require_bearer(
    token: str,
    *,
    username: str = "",
    password: str = "",
    service: str = "loopback",
    expires_in_seconds: int = 300,
) -> Effect:
    """Answers 401 with a Bearer challenge, unless the token comes along; hands it out at /token.

    Source: distribution's spec/auth/token.md. With a user name, only that user gets the token.
    """
    grant = msgspec.json.encode({"token": token, "expires_in": expires_in_seconds})
    wanted = _basic(username, password) if username else ""

    def effect(request: Request, respond: Respond) -> Answer:
        if request.path == "/token":
            if wanted and request.header("Authorization") != wanted:
                return _unauthorized('Basic realm="loopback"')
            sizes = {"Content-Type": "application/json"}
            return answer_status(200, headers=sizes, body=grant)(request, respond)
        if request.header("Authorization") == f"Bearer {token}":
            return respond(request)
        challenge = f'Bearer realm="http://{request.header("Host")}/token",service="{service}"'
        name = _repository(request.path)
        scope = f',scope="repository:{name}:pull"' if name else ""
        return _unauthorized(challenge + scope)

    return effect


def _unauthorized(challenge: str) -> Answer:
    refused = error_answer(401, "UNAUTHORIZED", "authentication required")
    return refused.with_header("WWW-Authenticate", challenge)


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii")


def _repository(path: str) -> str:
    parts = path.removeprefix("/v2/").split("/")
    return "/".join(parts[:-2])


# --- wrong headers and bodies ---------------------------------------------------------------


def drop_header(name: str) -> Effect:
    """Leaves out a header: Docker-Content-Digest, say; without Content-Length it goes chunked."""
    return lambda request, respond: respond(request).without_header(name)


def set_header(name: str, value: str) -> Effect:
    """Adds or replaces a header.

    A Content-Length that is not the body's size is sent as it is: the connection then breaks off
    after the body, or has bytes behind it. ``Connection: close`` ends the connection in order.
    """
    return lambda request, respond: respond(request).with_header(name, value)


def ignore_range() -> Effect:
    """Answers 200 and everything to a request with a Range, as a server may."""
    return lambda request, respond: respond(request.without_header("Range"))


def change_body(change: Callable[[bytes], bytes]) -> Effect:
    """Sends another body; Content-Length tells its new size."""

    def effect(request: Request, respond: Respond) -> Answer:
        answer = respond(request)
        return answer.with_body(change(body_bytes(answer.body)))

    return effect


def flip_byte(offset: int) -> Effect:
    """Alters the byte at an offset of the body; a shorter body stays as it is."""

    def change(body: bytes) -> bytes:
        altered = bytes(byte ^ 0xFF for byte in body[offset : offset + 1])
        return body[:offset] + altered + body[offset + 1 :]

    return change_body(change)


def shorten(count: int) -> Effect:
    """Leaves out the last ``count`` bytes, and says so in Content-Length."""
    return change_body(lambda body: body[: max(len(body) - count, 0)])


def lengthen(extra: bytes) -> Effect:
    """Appends bytes, and says so in Content-Length."""
    return change_body(lambda body: body + extra)


def gzip_encode() -> Effect:
    """Compresses the body for the way, whether the client asked for it or not."""

    def effect(request: Request, respond: Respond) -> Answer:
        answer = respond(request)
        packed = answer.with_body(gzip.compress(body_bytes(answer.body), mtime=0))
        return packed.with_header("Content-Encoding", "gzip")

    return effect


# --- trouble on the connection --------------------------------------------------------------


def close_after(body_bytes_sent: int = BEFORE_HEAD) -> Effect:
    """Closes the connection (FIN) after so many bytes of the body, by default before the head."""
    return _deliver(lambda way: replace(way, stop_at=body_bytes_sent, stop=Stop.CLOSE))


def reset_after(body_bytes_sent: int = BEFORE_HEAD) -> Effect:
    """Resets the connection (RST) after so many bytes of the body, by default before the head."""
    return _deliver(lambda way: replace(way, stop_at=body_bytes_sent, stop=Stop.RESET))


def stall_after(body_bytes_sent: int = BEFORE_HEAD) -> Effect:
    """Sends nothing more after so many bytes of the body, by default nothing at all."""
    return _deliver(lambda way: replace(way, stop_at=body_bytes_sent, stop=Stop.STALL))


def delay(seconds: float) -> Effect:
    """Waits before the first byte of the answer."""
    return _deliver(lambda way: replace(way, delay_seconds=seconds))


def drip(count: int, *, every_seconds: float) -> Effect:
    """Sends the body ``count`` bytes at a time, with a pause before each."""
    return _deliver(lambda way: replace(way, drip_bytes=count, drip_seconds=every_seconds))


def close_when_idle() -> Effect:
    """Closes the connection after the answer, which promised to keep it."""
    return _deliver(lambda way: replace(way, is_closed_after=True))


def _deliver(change: Callable[[Delivery], Delivery]) -> Effect:
    def effect(request: Request, respond: Respond) -> Answer:
        answer = respond(request)
        return replace(answer, delivery=change(answer.delivery))

    return effect
