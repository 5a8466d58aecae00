"""A session without a worker: frames are put in by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multi_fetch.client.parking import Content, Parking
from multi_fetch.client.session import Session
from multi_fetch.errors import WorkerDiedError
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import digest_of
from multi_fetch.protocol.frames import Begin, Data, End, Error, Hello
from multi_fetch.protocol.framing import frame

if TYPE_CHECKING:
    from multi_fetch.client.exchange import Exchange
    from multi_fetch.protocol.frames import Frame

DIGEST = digest_of(b"")
HELLO = Hello(1, "r.example/app", 2, 589_824, ("cancel",), "test")


class Talk:
    """A session, and what a shell around it would do."""

    def __init__(self, *, hello: Hello | None = HELLO, memory_bytes: int = 1000) -> None:
        self.parking = Parking(memory_bytes=memory_bytes)
        self.session = Session(lambda: Content(self.parking))
        if hello is not None:
            self.say(hello)

    def say(self, *frames: Frame) -> None:
        self.feed(b"".join(frame(each) for each in frames))

    def feed(self, data: bytes) -> None:
        for exchange, chunk in self.session.receive(data):
            self.parking.keep(exchange.content, chunk)

    def ask(self, *objects: str) -> list[Exchange]:
        return [self.session.submit(each) for each in objects]

    def ask_trees(self, *objects: str) -> list[Exchange]:
        return [self.session.submit(each, ["children:all"]) for each in objects]

    def written(self) -> list[str]:
        return self.session.take_lines().decode().splitlines()

    def die(self) -> None:
        self.session.finish(lambda: WorkerDiedError("died", exit_status=-9))


def begin(request_id: int, *, parent: int | None = None, name: str = "latest") -> Begin:
    described = Descriptor(media_type="text/plain", digest=DIGEST, size=None)
    return Begin(request_id, name, described, "r.example/app:latest", parent)


def data(request_id: int, offset: int, content: bytes) -> Data:
    return Data(request_id, offset, content)


def end(request_id: int, size: int = 0, *, children: int = 0) -> End:
    return End(request_id, size, DIGEST, children)


def error(request_id: int, code: str = "not-found", **detail: int | str) -> Error:
    return Error(request_id, code, "made up", retryable=False, detail={**detail})


def content_of(exchange: Exchange) -> bytes:
    """All that is there and not taken yet."""
    whole = b""
    while exchange.content and (piece := exchange.take()) is not None:
        whole += piece if isinstance(piece, bytes) else piece.read()
    return whole
