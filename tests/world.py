"""A small registry's whole content, and what a worker owes for each request about it.

The model is written from protocol.md and knows nothing of the engine: it says which code, which
content and which tree a request leads to, where no cancel and no deadline comes between.
"""

from __future__ import annotations

import json
import random
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Final

import trio

from multi_fetch.errors import UnavailableError
from multi_fetch.limits import MAX_DATA_BYTES
from multi_fetch.oci.digest import Digest, digest_of
from multi_fetch.oci.media_types import INDEX_TYPES, MANIFEST_TYPES, OCI_INDEX, OCI_MANIFEST
from tests.worker.images import add_image, add_index, described
from tests.worker.memory_remote import MemoryRemote

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence

    from multi_fetch.oci.digest import Chunk
    from multi_fetch.oci.reference import Reference
    from multi_fetch.protocol.request import ByteRange
    from multi_fetch.remotes import Opened, Resolved

_random = random.Random("world")
SHARED: Final = b"a layer of several images"
LARGE: Final = _random.randbytes(MAX_DATA_BYTES + 70_000)
FORGED: Final = b"forged, and found out"
FORGED_LARGE: Final = _random.randbytes(MAX_DATA_BYTES + 1)
BROKEN: Final = _random.randbytes(MAX_DATA_BYTES + 2)


@dataclass(frozen=True)
class Ask:
    """A request line, in parts; it names an object of the world, or one that is not there."""

    name: str
    is_by_digest: bool = False
    hints: tuple[str, ...] = ()

    def hint(self, kind: str) -> str:
        """The content of the last hint of a type; empty where there is none."""
        found = [hint for hint in self.hints if hint.startswith(f"{kind}:")]
        return found[-1].partition(":")[2] if found else ""


class World(MemoryRemote):
    """The remote of the model.

    Args:
        delays: how long each of its answers and chunks waits, over and over.
        is_deaf: whether it hears of a cancellation only after such a wait, as if what it waits for
            always came in the same moment.
        chunk_bytes: how content is cut.
    """

    def __init__(
        self,
        delays: Sequence[float] = (0,),
        *,
        is_deaf: bool = False,
        chunk_bytes: int = 64 * 1024,
    ) -> None:
        super().__init__(chunk_bytes)
        self._is_deaf = is_deaf
        self._delays: Iterator[float] = cycle(delays)
        self.broken = {self.add(BROKEN, "broken")}
        self._fill()

    def _fill(self) -> None:
        for tag, content in (("empty", b""), ("small", b"small"), ("large", LARGE)):
            self.add(content, tag)
        self.add(LARGE[:MAX_DATA_BYTES], "edge")
        self.lies[self.add(FORGED, "forged")] = FORGED[::-1]
        self.lies[self.add(FORGED_LARGE, "forged-large")] = FORGED_LARGE[::-1]
        self.add(b"{ this is no manifest", "odd", media_type=OCI_MANIFEST)
        missing = self.add(b"a layer that is lost")
        one = add_image(self, "one", SHARED, b"one's own", LARGE, tag="one")
        two = add_image(self, "two", SHARED, b"two's own", tag="two")
        bad = add_image(self, "bad", FORGED, BROKEN, b"a layer that is lost", SHARED, tag="bad")
        multi = add_index(self, "multi", {"linux/amd64": one, "linux/arm64/v8": two})
        add_index(self, "nested", {"linux/amd64": multi, "linux/arm64": two, "linux/386": bad})
        self._add_weird()
        many = {f"linux/m{each}": self._tiny(each) for each in range(20)}
        add_index(self, "wide", many)
        self.failures["down"] = UnavailableError("the registry is down", status=503)
        del self.objects[missing]

    def _add_weird(self) -> None:
        """A manifest as it should not be, and is understood all the same."""
        layers = [
            {"mediaType": "téxt/plain; é\r\n", "digest": self.add(b"weird"), "size": 5},
            {
                **described(self, self.add(b"told at length"), "a/b"),
                "annotations": {"why": "x" * 70_000},
                "artifactType": "x" * 70_000,
            },
            {"mediaType": "", "digest": self.add(b""), "size": 0, "urls": ["ftp://é"]},
        ]
        document = {"layers": layers, "subject": None, "annotations": None}
        self.add(json.dumps(document).encode(), "weird", media_type=OCI_MANIFEST)

    def _tiny(self, number: int) -> Digest:
        return add_image(self, f"tiny {number}", SHARED, b"tiny %d" % (number % 3))

    # --- the remote, with delays ------------------------------------------------------------

    async def pause(self) -> None:
        """The next of the delays."""
        with trio.CancelScope(shield=self._is_deaf):
            await trio.sleep(next(self._delays))

    async def resolve(
        self, ref: Reference, *, media_types: Sequence[str] = (), size: int | None = None
    ) -> Resolved:
        await self.pause()
        return await super().resolve(ref, media_types=media_types, size=size)

    @asynccontextmanager
    async def open(
        self,
        ref: Reference,
        *,
        media_types: Sequence[str] = (),
        size: int | None = None,
        byte_range: ByteRange | None = None,
    ) -> AsyncIterator[Opened]:
        await self.pause()
        async with super().open(
            ref, media_types=media_types, size=size, byte_range=byte_range
        ) as opened:
            yield opened

    async def _chunks(
        self, name: str, digest: Digest, byte_range: ByteRange | None = None
    ) -> AsyncGenerator[Chunk, None]:
        async with aclosing(super()._chunks(name, digest, byte_range)) as chunks:
            async for chunk in chunks:
                await self.pause()
                yield chunk
                if digest in self.broken:
                    raise UnavailableError("the connection broke")

    # --- the model --------------------------------------------------------------------------

    def line(self, ask: Ask) -> bytes:
        """The request as it is written."""
        named = self.digest(ask.name) if ask.is_by_digest else None
        return " ".join([named or ask.name, *ask.hints]).encode()

    def digest(self, name: str) -> Digest | None:
        """What a tag stands for, or None."""
        return digest_of(self.objects[name]) if name in self.objects else None

    def target(self, ask: Ask) -> Digest | None:
        """The object that a good request leads to: below an index, that of its platform."""
        found = self.digest(ask.name)
        while found is not None and ask.hint("platform") and self.types[found] in INDEX_TYPES:
            wanted = ask.hint("platform").split("/")[:2]
            named = json.loads(self.objects[found])["manifests"]
            serving = (
                each["digest"]
                for each in named
                if [each["platform"]["os"], each["platform"]["architecture"]] == wanted
            )
            found = next(serving, None)
        return found

    def code(self, ask: Ask) -> str:
        """How a request ends, if nothing comes between: an error's code, or empty."""
        if self._is_refused(ask):
            return "invalid-request"
        if ask.name == "down":
            return "unavailable"
        named, pin = self.digest(ask.name), ask.hint("digest")
        if named is not None and pin and pin != named:
            return "digest-mismatch"
        target = self.target(ask)
        if target is None:
            return "not-found"
        if ask.hint("children") and self.objects[target].startswith(b"{ "):
            return "registry-error"
        return self.content_code(target, is_wanted=not ask.hint("content"), part=ask.hint("range"))

    def _is_refused(self, ask: Ask) -> bool:
        part, named, pin = ask.hint("range"), self.digest(ask.name), ask.hint("digest")
        if part and (ask.hint("children") or ask.hint("platform")):
            return True
        if ask.is_by_digest and pin and named is not None and pin != named:
            return True
        if not part or named is None or ask.hint("content"):
            return False
        return len(self.objects[named]) <= int(part.partition("-")[0])

    def content_code(self, digest: Digest, *, is_wanted: bool, part: str = "") -> str:
        """How the fetch of an object ends."""
        if digest not in self.objects:
            return "not-found"
        if not is_wanted:
            return ""
        if digest in self.broken:
            return "unavailable"
        return "digest-mismatch" if digest in self.lies and not part else ""

    def content(self, digest: Digest, part: str) -> bytes:
        """What is sent of an object, or of a range of it."""
        content = self.lies.get(digest, self.objects[digest])
        if not part:
            return content
        first, _, last = part.partition("-")
        return content[int(first) : int(last) + 1 if last else None]

    def children(self, digest: Digest, wanted: str) -> list[Digest]:
        """What an object's content names, of the sort that is wanted."""
        if self.types.get(digest) not in MANIFEST_TYPES or digest not in self.objects:
            return []
        document = json.loads(self.objects[digest])
        config = [document["config"]] if "config" in document else []
        named = [*document.get("manifests", ()), *config, *document.get("layers", ())]
        is_all = wanted != "manifests"
        return [
            each["digest"]
            for each in named
            if is_all or each["mediaType"] in {OCI_INDEX, OCI_MANIFEST}
        ]

    def tree(self, digest: Digest, wanted: str) -> set[Digest]:
        """All that is below an object."""
        found: set[Digest] = set()
        rest = self.children(digest, wanted)
        while rest:
            each = rest.pop()
            if each not in found:
                found.add(each)
                rest += self.children(each, wanted)
        return found - {digest}
