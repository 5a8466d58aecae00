"""Answers byte for byte, for what no well-behaved server would send.

A script is played to one request: its bytes go out as they are, then the connection is kept,
closed, left silent, or fed without end.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

import trio

from tests.fakes.consumer import HASTY, QUICK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multi_fetch.remotes import Patience
    from tests.registry.conftest import RawServer, Reply, StartServer


class Then(Enum):
    """What follows a script's bytes."""

    KEEP = "keep"
    CLOSE = "close"
    SILENCE = "silence"
    REPEAT = "repeat"  # its tail again and again, with short pauses
    FLOOD = "flood"  # the same without pauses


class Script(NamedTuple):
    """One answer.

    Attributes:
        data: sent at once.
        then: what follows.
        tail: what is repeated.
    """

    data: bytes
    then: Then = Then.KEEP
    tail: bytes = b""


def plays(scripts: Sequence[Script]) -> Reply:
    """Plays one script to each request, in order, and the last one to all that follow."""
    left = list(scripts)

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        script = left.pop(0) if len(left) > 1 else left[0]
        await stream.send_all(script.data)
        while script.then in {Then.REPEAT, Then.FLOOD}:
            await stream.send_all(script.tail)
            await trio.sleep(0.01 if script.then is Then.REPEAT else 0)
        if script.then is Then.SILENCE:
            await trio.sleep_forever()
        if script.then is Then.CLOSE:
            await stream.send_eof()
        return script.then is Then.KEEP

    return reply


def patience_of(scripts: Sequence[Script]) -> Patience:
    """Little only where a script needs it: a busy machine is no server that is silent."""
    return QUICK if all(each.then in {Then.KEEP, Then.CLOSE} for each in scripts) else HASTY


async def start(start_server: StartServer, scripts: Sequence[Script]) -> RawServer:
    """A server that plays scripts."""
    return await start_server(plays(scripts))


def asked(server: RawServer) -> list[str]:
    """The requests that came: ``GET blobs``, with the bytes of their Range behind."""
    return [_written(head) for head in server.heads]


def _written(head: str) -> str:
    first, *lines = head.split("\r\n")
    method, path, _ = first.split(" ")
    parts = path.split("/")
    place = parts[-2] if path.startswith("/v2/a/") else path
    fields = dict(line.lower().split(": ", 1) for line in lines)
    return f"{method} {place} {fields.get('range', '').removeprefix('bytes=')}".rstrip()
