"""Hosts of one repository on real sockets, each with its log: what they hold, and how they fail."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.reference import Reference
from multi_fetch.registry import open_registry
from multi_fetch.registry.hosts import Host
from multi_fetch.verify import Verifier
from tests.fakes.consumer import QUICK
from tests.registry.conftest import raw_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import trio

    from multi_fetch.remotes import Patience, Remote
    from tests.registry.conftest import RawServer, StartServer

LOCATOR: Final = "upstream.example/a"
RANGE: Final = re.compile(r"^range: bytes=([0-9]+)-([0-9]*)", re.IGNORECASE | re.MULTILINE)


class Shelf:
    """A host of the repository ``a``.

    Attributes:
        objects: by the last part of the path: a tag or a digest.
        lies: by digest; what is sent in the object's place.
        status: that every request is answered with; 200 for what is due.
        cuts: bytes after which the next bodies break off, one after the other.
        is_silent: whether nothing is answered.
        is_chunked: whether whole objects come without their length.
        headers: of every answer.
        asked: what was asked: ``GET sha256:...``, with the range.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.lies: dict[str, bytes] = {}
        self.status = 200
        self.cuts: list[int] = []
        self.is_silent = False
        self.is_chunked = False
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []
        self.server: RawServer | None = None

    def add(self, content: bytes, *tags: str) -> str:
        digest = digest_of(content)
        for name in (digest, *tags):
            self.objects[name] = content
        return digest

    @property
    def heads(self) -> list[str]:
        assert self.server is not None
        return self.server.heads

    def host(self, **changes: object) -> Host:
        assert self.server is not None
        made = {"namespace": "upstream.example", **changes}
        return Host("http", f"127.0.0.1:{self.server.port}", **made)  # type: ignore[arg-type]

    async def reply(self, stream: trio.SocketStream, head: str) -> bool:
        method, target, _ = head.split("\r\n", maxsplit=1)[0].split(" ")
        name = target.partition("?")[0].rpartition("/")[2]
        asked = RANGE.search(head)
        self.asked.append(f"{method} {name}" + (f" {asked[1]}-{asked[2]}" if asked else ""))
        if self.is_silent:
            await stream.receive_some()
            return False
        if self.status != 200:
            await stream.send_all(raw_answer(f"{self.status} No", b"", **self.headers))
            return True
        is_there = name in self.objects and ("/manifests/" in target) == _is_manifest(
            self.objects[name]
        )
        if not is_there:
            await stream.send_all(raw_answer("404 Not Found", b"", **self.headers))
            return True
        return await self._give(stream, method, name, asked)

    async def _give(
        self, stream: trio.SocketStream, method: str, name: str, asked: re.Match[str] | None
    ) -> bool:
        content = self.objects[name]
        sent, told = self.lies.get(digest_of(content), content), dict(self.headers)
        told["Docker_Content_Digest"] = digest_of(content)
        status = "200 OK"
        if asked is not None:
            first, last = int(asked[1]), int(asked[2] or len(sent) - 1)
            told["Content_Range"] = f"bytes {first}-{last}/{len(sent)}"
            status, sent = "206 Partial Content", sent[first : last + 1]
        if _is_manifest(content):
            told["Content_Type"] = "application/vnd.oci.image.manifest.v1+json"
        answer = raw_answer(status, sent, **told)
        head_bytes = len(answer) - len(sent)
        if method == "HEAD":
            await stream.send_all(answer[:head_bytes])
            return True
        if self.cuts:
            await stream.send_all(answer[: head_bytes + self.cuts.pop(0)])
            return False
        if self.is_chunked and asked is None:
            length = f"Content-Length: {len(sent)}".encode()
            head = answer[:head_bytes].replace(length, b"Transfer-Encoding: chunked")
            answer = head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(sent), sent)
        await stream.send_all(answer)
        return True


def _is_manifest(content: bytes) -> bool:
    return content.startswith(b"{")


async def shelves(start_server: StartServer, number: int) -> list[Shelf]:
    """Hosts that have nothing yet."""
    made = [Shelf() for _ in range(number)]
    for shelf in made:
        shelf.server = await start_server(shelf.reply)
    return made


@asynccontextmanager
async def opened(*hosts: Host, patience: Patience = QUICK) -> AsyncIterator[Remote]:
    async with open_registry(Reference(LOCATOR), patience=patience, hosts=hosts) as remote:
        yield remote


async def content_of(remote: Remote, name: str, **hints: object) -> bytes:
    """An object's verified content."""
    ref = Reference(LOCATOR, f"@{name}" if ":" in name else name)
    async with remote.open(ref, **hints) as found:  # type: ignore[arg-type]
        verifier = Verifier(found.descriptor.digest, found.descriptor.size)
        content = bytearray()
        async for chunk in found.chunks:
            verifier.update(chunk)
            content += chunk
        verifier.finish()
    return bytes(content)
