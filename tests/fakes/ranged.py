"""A registry with one blob that knows ranges, or what else a test lets it do with them.

A twist is what becomes of one request with a Range: it gets what would be answered, and says what
is, byte for byte, and whether that is all that ever comes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import trio

from multi_fetch.limits import RECEIVE_BYTES
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCTET_STREAM
from multi_fetch.oci.reference import Reference
from multi_fetch.registry.exchanges import open_exchange
from multi_fetch.registry.hosts import default_host
from multi_fetch.registry.ranges import Ranges
from multi_fetch.registry.resolver import RegistryRemote
from multi_fetch.registry.session import Session
from tests.fakes.consumer import QUICK, Ask
from tests.registry.conftest import raw_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from multi_fetch.remotes import Patience
    from tests.registry.conftest import RawServer

RANGE: Final = re.compile(r"range: bytes=([0-9]+)-([0-9]*)", re.IGNORECASE)

# What blobs are cut into here. One that fits a connection's buffer is taken as a whole.
PIECE_BYTES: Final = 25_000
LEAST_BYTES: Final = RECEIVE_BYTES + 1

# How slow the whole blob is.
STREAM_BYTES: Final = 2_000
STREAM_SECONDS: Final = 0.0005


class Part(NamedTuple):
    """An answer to a range, before it is sent.

    Attributes:
        status: the status line's end.
        headers: with underscores for hyphens.
        body: its bytes.
        stop: None to keep the connection, "close" to close it, "silence" to send nothing more.
        sent: of the body's bytes; None for all.
    """

    status: str
    headers: Mapping[str, str]
    body: bytes
    stop: str | None = None
    sent: int | None = None


Twist: TypeAlias = Callable[[Part], Part]


class Ranged:
    """Serves one blob.

    Attributes:
        content: of it.
        twists: by the number of the request with a Range, from 1; 0 for all that have none.
        headers: of every good answer.
        may_stream: set by the first answer to a range; until then the whole blob gets no further
            than half a piece, and then it is slow.
        stream_bytes: how much of it comes at a time then.
        asked: the ranges, first and last, in the order in which they came.
    """

    def __init__(self, content: bytes, twists: Mapping[int, Twist] | None = None) -> None:
        self.content = content
        self.twists = dict(twists or {})
        self.headers: dict[str, str] = {}
        self.may_stream = trio.Event()
        self.stream_bytes = STREAM_BYTES
        self.asked: list[tuple[int, int]] = []

    @property
    def ask(self) -> Ask:
        """The request for it."""
        return Ask(digest_of(self.content), self.content, (OCTET_STREAM,))

    async def reply(self, stream: trio.SocketStream, head: str) -> bool:
        found = RANGE.search(head)
        if found is None:
            await self._stream(stream)
            return True
        size = len(self.content)
        first_byte, last = int(found[1]), int(found[2] or size - 1)
        self.asked.append((first_byte, last))
        body = self.content[first_byte : last + 1]
        told = {"Content_Range": f"bytes {first_byte}-{first_byte + len(body) - 1}/{size}"}
        part = Part("206 Partial Content", {**self.headers, **told}, body)
        twist = self.twists.get(len(self.asked)) or self.twists.get(0)
        return await self._send(stream, twist(part) if twist else part)

    async def _stream(self, stream: trio.SocketStream) -> None:
        whole = raw_answer("200 OK", self.content, **self.headers)
        sent = len(whole) - len(self.content) + PIECE_BYTES // 2
        await stream.send_all(whole[:sent])
        await self.may_stream.wait()
        for start in range(sent, len(whole), self.stream_bytes):
            await trio.sleep(STREAM_SECONDS)
            await stream.send_all(whole[start : start + self.stream_bytes])

    async def _send(self, stream: trio.SocketStream, part: Part) -> bool:
        answer = raw_answer(part.status, part.body, **part.headers)
        if part.sent is not None:
            answer = answer[: len(answer) - len(part.body) + part.sent]
        self.may_stream.set()
        await stream.send_all(answer)
        if part.stop == "silence":
            await stream.receive_some()  # until the client hangs up
        return part.stop is None


@asynccontextmanager
async def several(
    server: RawServer, ranges: Ranges | None = None, patience: Patience = QUICK
) -> AsyncIterator[RegistryRemote]:
    """The repository ``a`` at a server, whose blobs come over several connections."""
    ranges = ranges or Ranges(4, piece_bytes=PIECE_BYTES, least_bytes=LEAST_BYTES)
    address = f"127.0.0.1:{server.port}"
    host = default_host(address)
    async with open_exchange(host, jobs=16, patience=patience) as exchange:
        session = Session(exchange, host, None, "a")
        yield RegistryRemote(session, Reference(f"{address}/a"), ranges)
