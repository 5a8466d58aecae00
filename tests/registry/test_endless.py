"""Content that has no end, or more of it than is wanted: each way it may come, and its verdict.

The worker asks over a real socket. A server tells sizes as it likes, and sends as much as it likes;
what counts is how much of it goes out, what is asked for, and what stays in a store.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from msgspec.structs import replace

from multi_fetch.ceiling import Ceiling
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCI_INDEX, OCI_MANIFEST, OCTET_STREAM
from multi_fetch.oci.reference import parse_remote
from multi_fetch.protocol.frames import Begin, End, Error
from multi_fetch.registry.hosts import Host
from multi_fetch.remotes import open_remote
from multi_fetch.store import StoreSettings, open_store
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.worker.serve import Settings, serve
from tests.registry.conftest import QUICK, raw_answer
from tests.worker.harness import MemoryReader, MemoryWriter, content, terminals

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import trio

    from multi_fetch.protocol.frames import Frame
    from tests.registry.conftest import RawServer, StartServer

# More than one data frame: what is beyond flows before it is known as a whole.
MOST: Final = 700_000
PIECE: Final = bytes(50_000)
ENDLESS: Final = 1 << 40
FITTING: Final = bytes(MOST)
SMALL: Final = b"small"
RANGE: Final = re.compile(r"^range: bytes=([0-9]+)-([0-9]*)", re.IGNORECASE | re.MULTILINE)
OK: Final = ""


class Body(NamedTuple):
    """How a blob is sent.

    Attributes:
        size: bytes of zeros that there are.
        framing: ``length``, ``chunked`` or ``close``: what tells where it ends.
        breaks_at: bytes after which the first connection breaks; None for never.
        has_ranges: whether a Range is answered with that part.
    """

    size: int
    framing: str = "length"
    breaks_at: int | None = None
    has_ranges: bool = False


class Endless:
    """A registry that has one blob under every digest, and manifests by tag or digest."""

    def __init__(self, body: Body, manifests: dict[str, bytes] | None = None) -> None:
        self.body = body
        self.manifests = manifests or {}
        self.asked: list[str] = []
        self.sent = 0

    async def reply(self, stream: trio.SocketStream, head: str) -> bool:
        method, target, _ = head.split("\r\n", maxsplit=1)[0].split(" ")
        name = target.rpartition("/")[2]
        found = RANGE.search(head)
        part = "" if found is None else f" {found[1]}-{found[2]}"
        self.asked.append(f"{method}{part}")
        if "/manifests/" in target:
            content = self.manifests.get(name)
            status = "404 Not Found" if content is None else "200 OK"
            media_type = OCI_INDEX if b"manifests" in (content or b"") else OCI_MANIFEST
            await stream.send_all(raw_answer(status, content or b"", Content_Type=media_type))
            return True
        return await self._send(stream, method, found)

    async def _send(
        self, stream: trio.SocketStream, method: str, part: re.Match[str] | None
    ) -> bool:
        body, first, last = self.body, 0, self.body.size - 1
        status, headers = "200 OK", ""
        if part is not None and body.has_ranges:
            first, last = int(part[1]), int(part[2] or last)
            size = body.size if body.framing == "length" else "*"
            status, headers = (
                "206 Partial Content",
                f"Content-Range: bytes {first}-{last}/{size}\r\n",
            )
        if body.framing == "chunked":
            headers += "Transfer-Encoding: chunked\r\n"
        elif body.framing == "length":
            headers += f"Content-Length: {last - first + 1}\r\n"
        await stream.send_all(f"HTTP/1.1 {status}\r\n{headers}\r\n".encode())
        if method == "HEAD":
            return body.framing != "close"
        end = last + 1
        if body.breaks_at is not None and len(self.asked) == 1:
            end = body.breaks_at
        for at in range(first, end, len(PIECE)):
            piece = PIECE[: end - at]
            is_chunked = body.framing == "chunked"
            await stream.send_all(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
            self.sent += len(piece)
        if end <= last or body.framing == "close":
            return False
        if body.framing == "chunked":
            await stream.send_all(b"0\r\n\r\n")
        return True


class Case(NamedTuple):
    """What is sent, which hints there are, the verdict, and the requests."""

    name: str
    body: Body
    hints: str
    code: str
    requests: Sequence[str]
    ceiling: Ceiling = Ceiling(MOST, MOST)


ONLY_UNTOLD: Final = Ceiling(untold=MOST)
AS_BLOB: Final = f"mediatype:{OCTET_STREAM}"

CASES: Final = [
    *(
        case
        for framing in ("chunked", "close")
        for case in (
            Case(f"{framing}, endless", Body(ENDLESS, framing), AS_BLOB, "too-large", ["GET"]),
            Case(f"{framing}, and fits", Body(MOST, framing), AS_BLOB, OK, ["GET"]),
            Case(f"{framing}, a byte more", Body(MOST + 1, framing), AS_BLOB, "too-large", ["GET"]),
            Case(
                f"{framing}, by the default",
                Body(MOST + 1, framing),
                AS_BLOB,
                "too-large",
                ["GET"],
                ONLY_UNTOLD,
            ),
            Case(
                f"{framing}, and its size is a hint",
                Body(MOST + 1, framing),
                f"{AS_BLOB} size:{MOST + 1}",
                OK,
                ["GET"],
                ONLY_UNTOLD,
            ),
            Case(
                f"{framing}, the rest of what is endless",
                Body(ENDLESS, framing),
                f"{AS_BLOB} range:600000-",
                "too-large",
                ["GET 600000-"],
            ),
            Case(
                f"{framing}, a part beyond the ceiling",
                Body(ENDLESS, framing),
                f"{AS_BLOB} range:{MOST + 1}-{MOST + 9}",
                "too-large",
                [f"GET {MOST + 1}-{MOST + 9}"],
            ),
            Case(
                f"{framing}, a part of what is endless",
                Body(ENDLESS, framing),
                f"{AS_BLOB} range:5-699999",
                OK,
                ["GET 5-699999"],
            ),
            Case(
                f"{framing}, endless, and only described",
                Body(ENDLESS, framing),
                f"{AS_BLOB} content:none",
                "too-large",
                ["HEAD", "GET"],
            ),
        )
    ),
    Case(
        "chunked, endless, and breaks",
        Body(ENDLESS, "chunked", breaks_at=300_000, has_ranges=True),
        AS_BLOB,
        "too-large",
        ["GET", "GET 300000-"],
    ),
    Case(
        "chunked, endless, breaks, and begins anew",
        Body(ENDLESS, "chunked", breaks_at=300_000),
        AS_BLOB,
        "too-large",
        ["GET", "GET 300000-"],
    ),
    Case("a length that fits", Body(MOST), AS_BLOB, OK, ["GET"]),
    Case("a length beyond", Body(MOST + 1), AS_BLOB, "too-large", ["GET"]),
    Case("a length beyond the default", Body(MOST + 1), AS_BLOB, OK, ["GET"], ONLY_UNTOLD),
    Case("a hint beyond", Body(MOST + 1), f"{AS_BLOB} size:{MOST + 1}", "too-large", []),
    Case("a small hint beyond", Body(9), f"{AS_BLOB} size:9", "too-large", [], Ceiling(8, 8)),
    Case("small, and beyond", Body(9), AS_BLOB, "too-large", ["GET"], Ceiling(8, 8)),
    Case(
        "small, chunked, and beyond",
        Body(9, "chunked"),
        AS_BLOB,
        "too-large",
        ["GET"],
        Ceiling(8, 8),
    ),
    Case("a length beyond, described", Body(MOST + 1), f"{AS_BLOB} content:none", OK, ["HEAD"]),
    Case(
        "a hint beyond, described",
        Body(MOST + 1),
        f"{AS_BLOB} size:{MOST + 1} content:none",
        OK,
        ["HEAD"],
    ),
    Case(
        "a part of what is larger",
        Body(ENDLESS, has_ranges=True),
        f"{AS_BLOB} size:{ENDLESS} range:900000-900099",
        OK,
        ["GET 900000-900099"],
    ),
    Case(
        "too large a part",
        Body(ENDLESS, has_ranges=True),
        f"{AS_BLOB} range:100-{MOST + 100}",
        "too-large",
        [f"GET 100-{MOST + 100}"],
    ),
    Case(
        "too large a rest, by the hint",
        Body(ENDLESS, has_ranges=True),
        f"{AS_BLOB} size:{ENDLESS} range:100-",
        "too-large",
        [],
    ),
]


async def ask(
    server: RawServer,
    lines: str,
    ceiling: Ceiling,
    *,
    store: StoreSettings | None = None,
    is_in_files: bool = False,
    hosts: Sequence[Host] = (),
    ranges: int = 1,
    foreign_urls: bool = False,
    remote: str = "",
) -> list[Frame]:
    """All frames for these lines, of a repository at the server, or of another remote."""
    reader, writer = MemoryReader(), MemoryWriter()
    reader.feed(lines.encode())
    reader.feed_eof()
    ref = parse_remote(remote) if remote else server.repository
    settings = Settings(software="test", ceiling=ceiling, is_content_in_files=is_in_files, jobs=4)
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(
            open_remote(
                ref,
                patience=replace(QUICK, ceiling=ceiling),
                hosts=hosts,
                ranges=ranges,
                foreign_urls=foreign_urls,
            )
        )
        if store is not None:
            opened = await stack.enter_async_context(open_store(opened, store))
        await serve(opened, ref.locator, reader, writer, settings)
    return writer.frames()


def check(frames: list[Frame], code: str, *, limit: int) -> None:
    """Holds the one answer to its verdict; what is too large says so, and is not retryable."""
    (terminal,) = terminals(frames).values()
    if code == OK:
        assert isinstance(terminal, End), terminal
        return
    assert isinstance(terminal, Error)
    assert (terminal.code, terminal.retryable) == (code, False)
    assert terminal.detail["limit"] == limit
    assert "attempts" not in terminal.detail
    assert "--max-size" in terminal.message
    assert len(content(frames, terminal.id)) <= limit


@pytest.mark.usefixtures("lane")
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
async def test_each_way_has_its_verdict_and_no_request_too_many(
    start_server: StartServer, case: Case
) -> None:
    registry = Endless(case.body)
    server = await start_server(registry.reply)
    digest = digest_of(bytes(min(case.body.size, MOST + 1)))
    frames = await ask(server, f"{digest} {case.hints}\n", case.ceiling)
    assert registry.asked == list(case.requests)
    limit = case.ceiling.untold
    assert limit is not None
    check(frames, case.code, limit=limit)
    is_told = case.body.framing == "length" or "size:" in case.hints
    if case.code and is_told:
        assert not any(isinstance(frame, Begin) for frame in frames)
    assert registry.sent < 64 * MOST  # what was under way when the connection was closed


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [MOST, MOST + 1])
@pytest.mark.parametrize("is_in_files", [False, True])
async def test_a_store_keeps_what_fits_and_nothing_of_what_does_not(
    start_server: StartServer, tmp_path: Path, framing: str, size: int, is_in_files: bool
) -> None:
    registry = Endless(Body(size, framing))
    server = await start_server(registry.reply)
    settings = StoreSettings(path=str(tmp_path), is_required=is_in_files)
    line = f"{digest_of(bytes(size))} {AS_BLOB}\n"
    frames = await ask(server, line, Ceiling(MOST, MOST), store=settings, is_in_files=is_in_files)
    check(frames, OK if size == MOST else "too-large", limit=MOST)
    kept = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert [path.stat().st_size for path in kept] == [MOST] * (size == MOST)
    assert [path.name for path in (tmp_path / "ingest").glob("sha*")] == []


@pytest.mark.parametrize("is_in_files", [False, True])
async def test_what_a_store_has_and_is_too_large_stays_there_and_is_not_answered(
    start_server: StartServer, tmp_path: Path, is_in_files: bool
) -> None:
    registry = Endless(Body(MOST))
    server = await start_server(registry.reply)
    settings = StoreSettings(path=str(tmp_path))
    line = f"{digest_of(FITTING)} {AS_BLOB}\n"
    for most, code in ((MOST, OK), (MOST - 1, "too-large")):
        frames = await ask(
            server, line, Ceiling(most, most), store=settings, is_in_files=is_in_files
        )
        check(frames, code, limit=most)
    assert registry.asked == ["GET"]
    assert len(list((tmp_path / "blobs" / "sha256").iterdir())) == 1


async def test_a_rest_that_may_not_become_whole_is_thrown_away(
    start_server: StartServer, tmp_path: Path
) -> None:
    """It was begun with a higher ceiling, or none."""
    registry = Endless(Body(ENDLESS, "chunked"))
    server = await start_server(registry.reply)
    digest = digest_of(FITTING)
    for most in (4 * MOST, 2 * MOST):
        settings = StoreSettings(path=str(tmp_path))
        frames = await ask(server, f"{digest} {AS_BLOB}\n", Ceiling(most, most), store=settings)
        check(frames, "too-large", limit=most)
        assert [path.name for path in (tmp_path / "ingest").glob("sha*")] == []


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("hints", [AS_BLOB, f"{AS_BLOB} content:none"])
async def test_no_other_host_is_asked_for_what_a_mirror_has_too_much_of(
    start_server: StartServer, framing: str, hints: str
) -> None:
    mirror, upstream = (Endless(Body(MOST + 1, framing)) for _ in range(2))
    servers = [await start_server(each.reply) for each in (mirror, upstream)]
    there = [Host("http", f"127.0.0.1:{server.port}") for server in servers]
    hosts = [replace(there[0], namespace="upstream.example"), there[1]]
    frames = await ask(servers[1], f"{digest_of(b'')} {hints}\n", Ceiling(MOST, MOST), hosts=hosts)
    is_described = "none" in hints and framing == "length"
    check(frames, OK if is_described else "too-large", limit=MOST)
    assert mirror.asked
    assert not upstream.asked


async def test_what_is_too_large_is_asked_for_over_one_connection_alone(
    start_server: StartServer,
) -> None:
    registry = Endless(Body(64 * 1024**2, has_ranges=True))
    server = await start_server(registry.reply)
    frames = await ask(server, f"{digest_of(b'')} {AS_BLOB}\n", Ceiling(MOST, MOST), ranges=4)
    check(frames, "too-large", limit=MOST)
    assert registry.asked == ["GET"]


def layer(content_bytes: bytes, **more: object) -> dict[str, object]:
    """As a manifest describes it."""
    digest = digest_of(content_bytes)
    return {"mediaType": OCTET_STREAM, "digest": digest, "size": len(content_bytes), **more}


def document(**fields: object) -> bytes:
    return json.dumps({"schemaVersion": 2, **fields}).encode()


def failed(frames: list[Frame]) -> list[str]:
    """The objects that were too large, in their order."""
    errors = [each for each in terminals(frames).values() if isinstance(each, Error)]
    assert {each.code for each in errors} <= {"too-large"}
    return [str(each.detail.get("object", each.id)) for each in errors]


async def test_each_object_of_a_tree_is_judged_by_itself(start_server: StartServer) -> None:
    """What is embedded too. An index that only leads on is no answer."""
    large = layer(bytes(MOST + 1))
    layers = [layer(FITTING), large, layer(SMALL, data="c21hbGw=")]
    manifest = document(mediaType=OCI_MANIFEST, layers=layers)
    platform = {"os": "linux", "architecture": "arm64"}
    named = {**layer(manifest), "mediaType": OCI_MANIFEST, "platform": platform}
    others = [{**named, "platform": {**platform, "os": f"os{number}"}} for number in range(9)]
    index = document(mediaType=OCI_INDEX, manifests=[named, *others])
    registry = Endless(Body(MOST), {"v1": index, digest_of(manifest): manifest})
    server = await start_server(registry.reply)
    line = f"v1 size:{len(index)} platform:linux/arm64 children:all\n"
    assert len(manifest) < len(index)
    for most, refused in (
        (MOST, [large["digest"]]),
        (len(manifest), [digest_of(FITTING), large["digest"]]),
        (4, ["1"]),
    ):
        frames = await ask(server, line, Ceiling(most, most))
        assert sorted(failed(frames)) == sorted(map(str, refused))


@pytest.mark.parametrize("spare", [0, -1])
async def test_what_an_index_embeds_for_a_platform_is_held_to_it(
    start_server: StartServer, spare: int
) -> None:
    manifest = document(mediaType=OCI_MANIFEST, layers=[])
    named = {
        **layer(manifest, data=b64encode(manifest).decode()),
        "mediaType": OCI_MANIFEST,
        "platform": {"os": "linux", "architecture": "arm64"},
    }
    registry = Endless(Body(0), {"v1": document(mediaType=OCI_INDEX, manifests=[named])})
    server = await start_server(registry.reply)
    most = len(manifest) + spare
    frames = await ask(server, "v1 platform:linux/arm64\n", Ceiling(most, most))
    check(frames, OK if not spare else "too-large", limit=most)
    assert registry.asked == ["GET"]


async def test_no_foreign_url_is_asked_for_what_its_descriptor_says_is_too_large(
    start_server: StartServer,
) -> None:
    registry, elsewhere = Endless(Body(0)), Endless(Body(MOST))
    place = await start_server(elsewhere.reply)
    described = layer(FITTING, urls=[f"http://127.0.0.1:{place.port}/blob"])
    registry.manifests = {"v1": document(mediaType=OCI_MANIFEST, layers=[described])}

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        if "/blobs/" in head:
            await stream.send_all(raw_answer("404 Not Found"))
            return True
        return await registry.reply(stream, head)

    server = await start_server(reply)
    for most, asked, refused in ((MOST - 1, [], [digest_of(FITTING)]), (MOST, ["GET"], [])):
        ceiling = Ceiling(most, most)
        frames = await ask(server, "v1 children:all\n", ceiling, foreign_urls=True)
        assert failed(frames) == refused
        assert elsewhere.asked == asked


@pytest.mark.parametrize("most", [MOST, MOST - 1])
async def test_a_layout_is_held_to_it(start_server: StartServer, tmp_path: Path, most: int) -> None:
    builder = LayoutBuilder(tmp_path)
    blob = builder.add_blob(FITTING)
    builder.finish()
    server = await start_server(Endless(Body(0)).reply)
    frames = await ask(server, f"{blob.digest}\n", Ceiling(most, most), remote=f"oci:{tmp_path}")
    check(frames, OK if most == MOST else "too-large", limit=most)
