"""Blobs over several connections: in order and whole, whatever becomes of a part of them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import pytest
import trio
from msgspec.structs import replace
from trio.testing import wait_all_tasks_blocked

from multi_fetch.errors import (
    DigestMismatchError,
    RegistryError,
    UnavailableError,
)
from multi_fetch.limits import RECEIVE_BYTES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCTET_STREAM
from multi_fetch.oci.reference import Reference
from multi_fetch.registry import open_registry
from multi_fetch.registry.ranges import Ranges
from tests.fakes.consumer import HASTY, QUICK, consume_from
from tests.fakes.ranged import LEAST_BYTES, PIECE_BYTES, Part, Ranged, Twist, several
from tests.registry.conftest import raw_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from multi_fetch.remotes import Opened, Remote
    from tests.fakes.consumer import Verdict
    from tests.registry.conftest import RawServer, StartServer

CONTENT: Final = random.Random("split").randbytes(400_000)

pytestmark = pytest.mark.usefixtures("lane")


async def fetched(server: RawServer, blob: Ranged, remote: Remote) -> Verdict:
    return await consume_from(remote, blob.ask, f"127.0.0.1:{server.port}")


def ref_of(server: RawServer, blob: Ranged) -> Reference:
    return Reference(f"127.0.0.1:{server.port}/a", f"@{blob.ask.text}")


async def rest_of(opened: Opened) -> bytes:
    return b"".join([bytes(chunk) async for chunk in opened.chunks])


@pytest.mark.parametrize("seed", range(16))
async def test_a_blob_comes_whole_and_in_order_however_it_is_cut(
    start_server: StartServer, seed: int
) -> None:
    chance = random.Random(seed)
    blob = Ranged(chance.randbytes(chance.randrange(LEAST_BYTES, 600_000)))
    server = await start_server(blob.reply)
    ranges = Ranges(
        chance.randrange(2, 9),
        piece_bytes=chance.randrange(5_000, 60_000),
        least_bytes=LEAST_BYTES,
    )
    async with several(server, ranges) as remote:
        verdict = await fetched(server, blob, remote)
    assert verdict.error is None
    assert verdict.content == blob.content
    assert verdict.retries == 0
    assert all(last - first < ranges.piece_bytes for first, last in blob.asked)


async def test_every_connection_gets_as_many_pieces_as_the_others(
    start_server: StartServer,
) -> None:
    """The stream gets the first piece, so that all are done at the same time."""
    blob = Ranged(CONTENT[:390_001])
    server = await start_server(blob.reply)
    async with (
        several(server) as remote,
        remote.open(ref_of(server, blob), media_types=[OCTET_STREAM]) as opened,
    ):
        received = bytes(await anext(opened.chunks))
        await wait_all_tasks_blocked(0.05)
        assert received + await rest_of(opened) == blob.content
    lengths = [last - first + 1 for first, last in sorted(blob.asked)]
    assert len(lengths) == 15
    assert max(lengths) - min(lengths) < 16


async def test_a_fetch_from_the_beginning_is_split_too(start_server: StartServer) -> None:
    blob = Ranged(CONTENT)
    server = await start_server(blob.reply)
    descriptor = Descriptor(media_type=OCTET_STREAM, digest=digest_of(CONTENT), size=len(CONTENT))
    async with several(server) as remote, remote._fetcher.fetch(descriptor) as chunks:
        assert b"".join([bytes(chunk) async for chunk in chunks]) == CONTENT
    assert blob.asked


# --- pieces that break, and go on ---------------------------------------------------------------


def cut(part: Part) -> Part:
    return part._replace(stop="close", sent=1_000)


def stalled(part: Part) -> Part:
    return part._replace(stop="silence", sent=1_000)


@pytest.mark.parametrize("twist", [cut, stalled])
@pytest.mark.parametrize("number", [1, 2, 5])
async def test_a_piece_that_breaks_goes_on_from_the_byte_that_was_reached(
    start_server: StartServer, twist: Twist, number: int, jumping_clock: MockClock
) -> None:
    blob = Ranged(CONTENT, {number: twist})
    server = await start_server(blob.reply)
    async with several(server, patience=HASTY if twist is stalled else QUICK) as remote:
        verdict = await fetched(server, blob, remote)
    assert verdict.error is None
    first, last = blob.asked[number - 1]
    assert (first + 1_000, last) in blob.asked
    assert verdict.retries == 1


async def test_pieces_that_break_again_and_again_use_up_patience(
    start_server: StartServer,
) -> None:
    def breaks(part: Part) -> Part:
        return part._replace(stop="close", sent=0)

    blob = Ranged(CONTENT, dict.fromkeys(range(3, 99), breaks))
    server = await start_server(blob.reply)
    async with several(server) as remote:
        verdict = await fetched(server, blob, remote)
    assert isinstance(verdict.error, UnavailableError)
    assert CONTENT.startswith(verdict.content)


async def test_without_retries_the_first_break_is_the_consumers(
    start_server: StartServer,
) -> None:
    blob = Ranged(CONTENT, {3: cut})
    server = await start_server(blob.reply)
    async with several(server, patience=replace(QUICK, retries=0)) as remote:
        verdict = await fetched(server, blob, remote)
    assert isinstance(verdict.error, UnavailableError)
    assert verdict.error.attempts == 1
    first, _ = blob.asked[2]
    assert verdict.content == CONTENT[: first + 1_000]


# --- answers that are no piece ------------------------------------------------------------------


def with_range(text: str) -> Twist:
    return lambda part: part._replace(headers={**part.headers, "Content_Range": text})


def status(line: str) -> Twist:
    return lambda _: Part(line, {}, b"no")


def everything(part: Part) -> Part:
    return Part("200 OK", {}, CONTENT)


def shorter(part: Part) -> Part:
    return part._replace(body=part.body[:-1])


def of_another_object(part: Part) -> Part:
    return part._replace(headers={**part.headers, "ETag": '"other"'})


def encoded(part: Part) -> Part:
    return part._replace(headers={**part.headers, "Content_Encoding": "gzip"})


NO_PIECES: Final[dict[str, Twist]] = {
    "everything": everything,
    "another part": with_range(f"bytes 0-24999/{len(CONTENT)}"),
    "a larger object": lambda part: with_range(
        part.headers["Content_Range"].replace(f"/{len(CONTENT)}", "/999999999")
    )(part),
    "no Content-Range": with_range("nonsense"),
    "a shorter body": shorter,
    "416": status("416 Range Not Satisfiable"),
    "404": status("404 Not Found"),
    "403": status("403 Forbidden"),
    "another ETag": of_another_object,
    "encoded": encoded,
}


@pytest.mark.parametrize("twist", NO_PIECES.values(), ids=NO_PIECES)
async def test_a_host_without_ranges_is_asked_once_and_the_blob_is_one_stream(
    start_server: StartServer, twist: Twist
) -> None:
    blob = Ranged(CONTENT, {0: twist})
    blob.headers = {"ETag": '"one"'}
    server = await start_server(blob.reply)
    async with several(server) as remote:
        for _ in range(2):
            async with remote.open(ref_of(server, blob), media_types=[OCTET_STREAM]) as opened:
                received = bytes(await anext(opened.chunks))
                await wait_all_tasks_blocked(0.05)
                assert received + await rest_of(opened) == CONTENT
    assert len(blob.asked) == 1
    assert remote.report().retries == 0


@pytest.mark.parametrize("twist", NO_PIECES.values(), ids=NO_PIECES)
async def test_an_answer_in_the_middle_that_is_no_piece_ends_the_splitting_and_not_the_blob(
    start_server: StartServer, twist: Twist
) -> None:
    blob = Ranged(CONTENT, {6: twist})
    blob.headers = {"ETag": '"one"'}
    server = await start_server(blob.reply)
    async with several(server) as remote:
        verdict = await fetched(server, blob, remote)
        assert verdict.error is None
        count = len(blob.asked)
        assert (await fetched(server, blob, remote)).error is None
    assert len(blob.asked) == count
    first, _ = blob.asked[5]
    assert (first, len(CONTENT) - 1) in blob.asked


async def test_a_range_that_nobody_answers_holds_nothing_up(start_server: StartServer) -> None:
    async def reply(stream: trio.SocketStream, head: str) -> bool:
        if "range: " in head.lower():
            blob.may_stream.set()
            await trio.sleep_forever()
        return await blob.reply(stream, head)

    blob = Ranged(CONTENT)
    server = await start_server(reply)
    begun = trio.current_time()
    async with several(server, patience=replace(QUICK, stall_seconds=60.0)) as remote:
        verdict = await fetched(server, blob, remote)
    assert verdict.error is None
    assert trio.current_time() - begun < 30


async def test_what_several_connections_meet_one_may_not(start_server: StartServer) -> None:
    """A server that takes so many connections of one client and no more."""
    blob = Ranged(CONTENT, {4: status("503 Service Unavailable")})
    server = await start_server(blob.reply)
    async with several(server, patience=replace(QUICK, retries=0)) as remote:
        verdict = await fetched(server, blob, remote)
    assert verdict.error is None
    assert verdict.content == CONTENT


async def test_a_piece_that_was_left_waits_for_nobody_once_none_are_fetched_any_more(
    start_server: StartServer,
) -> None:
    """All connections are refused, one after the other, while the reader waits for the first."""
    blob = Ranged(CONTENT)
    waiting, turn, all_wait = 0, trio.Lock(), trio.Event()

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        nonlocal waiting
        is_first_or_last = len(blob.asked) == 0 or all_wait.is_set()
        if "range: " not in head.lower() or is_first_or_last:
            return await blob.reply(stream, head)
        waiting += 1
        if waiting == 4:
            all_wait.set()
        await all_wait.wait()
        async with turn:
            await stream.send_all(raw_answer("429 Too Many Requests"))
            await wait_all_tasks_blocked()
        return True

    server = await start_server(reply)
    async with several(server) as remote:
        with trio.fail_after(30):
            verdict = await fetched(server, blob, remote)
    assert all_wait.is_set()
    assert verdict.error is None
    assert verdict.content == CONTENT


async def test_a_blob_whose_last_piece_follows_refused_ones_goes_on_as_one_stream(
    start_server: StartServer,
) -> None:
    """The stream has read what was refused; behind the piece that it then meets there is none."""
    known, blob = Ranged(CONTENT), Ranged(CONTENT[::-1])
    last_answered = trio.Event()

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        if known.ask.text in head:
            return await known.reply(stream, head)
        if f"range: bytes={PIECE_BYTES}-" in head.lower():
            await trio.sleep_forever()
        if f"range: bytes={2 * PIECE_BYTES}-" in head.lower():
            await last_answered.wait()
            await stream.send_all(raw_answer("416 Range Not Satisfiable"))
            return True
        is_kept = await blob.reply(stream, head)
        if f"range: bytes={4 * PIECE_BYTES}-" in head.lower():
            last_answered.set()
        return is_kept

    server = await start_server(reply)
    async with several(server) as remote:
        assert (await fetched(server, known, remote)).error is None
        verdict = await fetched(server, blob, remote)
    assert last_answered.is_set()
    assert verdict.error is None
    assert verdict.content == blob.content


@pytest.mark.parametrize("line", ["503 Service Unavailable", "429 Too Many Requests"])
async def test_a_host_that_bears_fewer_connections_gets_fewer(
    start_server: StartServer, line: str
) -> None:
    """Whoever is refused leaves its piece to the others, and is not in their way again."""
    blob = Ranged(CONTENT, dict.fromkeys((3, 5), status(line)))
    server = await start_server(blob.reply)
    async with several(server) as remote:
        verdict = await fetched(server, blob, remote)
    assert verdict.error is None
    assert verdict.content == CONTENT
    assert verdict.retries == 0
    assert max(last - first for first, last in blob.asked) < PIECE_BYTES
    assert blob.asked[2] in blob.asked[3:]


async def test_an_object_that_is_gone_in_the_middle_is_an_error_with_what_came(
    start_server: StartServer,
) -> None:
    gone = status("404 Not Found")
    blob = Ranged(CONTENT, dict.fromkeys(range(6, 99), gone))
    server = await start_server(blob.reply)
    async with several(server) as remote:
        verdict = await fetched(server, blob, remote)
    assert verdict.error is not None
    assert verdict.error.code == "not-found"
    assert CONTENT.startswith(verdict.content)
    assert len(verdict.content) >= PIECE_BYTES


async def test_an_object_that_has_become_shorter_is_the_registrys_error(
    start_server: StartServer,
) -> None:
    beyond = status("416 Range Not Satisfiable")
    blob = Ranged(CONTENT, dict.fromkeys(range(6, 99), beyond))
    server = await start_server(blob.reply)
    async with several(server) as remote:
        verdict = await fetched(server, blob, remote)
    assert isinstance(verdict.error, RegistryError)


async def test_a_416_in_the_middle_of_a_piece_that_calls_it_the_end_is_an_error(
    start_server: StartServer,
) -> None:
    def ended(part: Part) -> Part:
        first, _ = blob.asked[-1]
        return Part("416 Range Not Satisfiable", {"Content_Range": f"bytes */{first}"}, b"")

    blob = Ranged(CONTENT, {2: cut, **dict.fromkeys(range(3, 99), ended)})
    server = await start_server(blob.reply)
    async with several(server) as remote:
        with trio.fail_after(20):
            verdict = await fetched(server, blob, remote)
    assert isinstance(verdict.error, RegistryError)
    assert CONTENT.startswith(verdict.content)


@pytest.mark.parametrize("number", [1, 4, 9])
async def test_wrong_bytes_in_any_piece_are_found_by_the_digest(
    start_server: StartServer, number: int
) -> None:
    def wrong(part: Part) -> Part:
        return part._replace(body=bytes(len(part.body)))

    blob = Ranged(CONTENT, {number: wrong})
    server = await start_server(blob.reply)
    async with several(server) as remote:
        verdict = await fetched(server, blob, remote)
    assert isinstance(verdict.error, DigestMismatchError)


# --- who does not read --------------------------------------------------------------------------


async def test_a_reader_that_waits_holds_no_more_than_a_buffer_for_each_connection(
    start_server: StartServer,
) -> None:
    blob = Ranged(CONTENT)
    server = await start_server(blob.reply)
    async with (
        several(server) as remote,
        remote.open(ref_of(server, blob), media_types=[OCTET_STREAM]) as opened,
    ):
        received = bytes(await anext(opened.chunks))
        await wait_all_tasks_blocked(0.05)
        assert len(blob.asked) <= 4
        while len(received) < 5 * PIECE_BYTES:
            received += bytes(await anext(opened.chunks))
        await wait_all_tasks_blocked(0.05)
        assert len(blob.asked) <= 4 + 5
        assert max(last for _, last in blob.asked) < len(received) + RECEIVE_BYTES
        assert received + await rest_of(opened) == CONTENT


@pytest.mark.parametrize("taken", [0, 1, 4])
async def test_who_stops_early_leaves_no_connection_and_no_place_taken(
    start_server: StartServer, taken: int
) -> None:
    blob = Ranged(CONTENT, dict.fromkeys(range(1, 999), stalled))
    blob.may_stream.set()
    server = await start_server(blob.reply)
    ranges = Ranges(4, piece_bytes=PIECE_BYTES, least_bytes=LEAST_BYTES)
    patience = replace(QUICK, stall_seconds=60.0)
    async with several(server, ranges, patience) as remote:
        for _ in range(3):
            async with remote.open(ref_of(server, blob), media_types=[OCTET_STREAM]) as opened:
                for _ in range(taken):
                    assert await anext(opened.chunks)
                await wait_all_tasks_blocked(0.05)
            await until(lambda: server.open_connections == 0)
        places = 0
        while ranges.take_place(server.origin, len(CONTENT)):
            places += 1
        assert places == 2


async def test_a_cancellation_in_the_middle_leaves_no_connection(
    start_server: StartServer,
) -> None:
    blob = Ranged(CONTENT, dict.fromkeys(range(1, 999), stalled))
    server = await start_server(blob.reply)
    async with several(server, patience=replace(QUICK, stall_seconds=60.0)) as remote:
        with trio.move_on_after(0.2) as scope:
            await fetched(server, blob, remote)
        assert scope.cancelled_caught
        await until(lambda: server.open_connections == 0)


async def until(is_so: Callable[[], bool]) -> None:
    with trio.fail_after(5):
        while not is_so():
            await wait_all_tasks_blocked(0.005)


async def test_what_is_raised_in_the_block_leaves_it_as_it_is(start_server: StartServer) -> None:
    blob = Ranged(CONTENT)
    server = await start_server(blob.reply)
    own = UnavailableError("the consumer's own")
    own.__cause__ = OSError("for a reason")
    async with several(server) as remote:
        with pytest.raises(UnavailableError) as caught:
            async with remote.open(ref_of(server, blob), media_types=[OCTET_STREAM]):
                raise own
    assert caught.value is own
    assert isinstance(own.__cause__, OSError)


# --- who else wants something -------------------------------------------------------------------


async def test_a_blob_for_which_no_place_is_left_comes_over_one_connection(
    start_server: StartServer,
) -> None:
    blob = Ranged(CONTENT)
    server = await start_server(blob.reply)
    ranges = Ranges(4, piece_bytes=PIECE_BYTES, least_bytes=LEAST_BYTES)
    while ranges.take_place(server.origin, len(CONTENT)):
        pass
    blob.may_stream.set()
    async with several(server, ranges) as remote:
        assert (await fetched(server, blob, remote)).error is None
        assert not blob.asked
        ranges.give_place_back()
        assert (await fetched(server, blob, remote)).error is None
        assert blob.asked


async def test_a_place_that_becomes_free_is_taken_in_the_middle_of_a_blob(
    start_server: StartServer,
) -> None:
    blob = Ranged(CONTENT)
    server = await start_server(blob.reply)
    ranges = Ranges(4, piece_bytes=PIECE_BYTES, least_bytes=LEAST_BYTES)
    while ranges.take_place(server.origin, len(CONTENT)):
        pass
    async with (
        several(server, ranges) as remote,
        remote.open(ref_of(server, blob), media_types=[OCTET_STREAM]) as opened,
    ):
        received = bytes(await anext(opened.chunks))
        ranges.give_place_back()
        blob.may_stream.set()
        assert received + await rest_of(opened) == CONTENT
    assert all(first > PIECE_BYTES // 2 for first, _ in blob.asked)


async def test_two_readers_in_turn_do_not_wait_for_each_other(start_server: StartServer) -> None:
    """As with --ordered: the second is read when the first is done, and has its buffers full."""
    blob = Ranged(CONTENT)
    server = await start_server(blob.reply)
    ref = ref_of(server, blob)
    async with (
        several(server) as remote,
        remote.open(ref, media_types=[OCTET_STREAM]) as second,
        remote.open(ref, media_types=[OCTET_STREAM]) as third,
        remote.open(ref, media_types=[OCTET_STREAM]) as first,
    ):
        begun = [bytes(await anext(each.chunks)) for each in (second, third)]
        await wait_all_tasks_blocked(0.05)
        with trio.fail_after(30):
            assert await rest_of(first) == CONTENT
            assert begun[0] + await rest_of(second) == CONTENT
            assert begun[1] + await rest_of(third) == CONTENT


# --- redirects ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lives", [1, 2, 999])
async def test_pieces_are_asked_of_the_store_until_its_url_has_expired(
    start_server: StartServer, lives: int
) -> None:
    """Each signed URL serves so many requests; another is had by way of the registry."""
    blob = Ranged(CONTENT)
    uses: dict[str, int] = {}

    async def store(stream: trio.SocketStream, head: str) -> bool:
        signature = head.split(" ")[1]
        uses[signature] = uses.get(signature, 0) + 1
        if uses[signature] > lives:
            await stream.send_all(raw_answer("403 Forbidden", b"expired"))
            return True
        return await blob.reply(stream, head)

    stored = await start_server(store)

    async def reply(stream: trio.SocketStream, head: str) -> bool:
        location = f"http://127.0.0.1:{stored.port}/blob?sig={len(server.heads)}"
        await stream.send_all(raw_answer("307 Temporary Redirect", Location=location))
        return True

    server = await start_server(reply)
    async with several(server) as remote:
        verdict = await fetched(server, blob, remote)
    assert verdict.error is None
    if lives == 999:
        assert len(server.heads) == 1
        assert len(blob.asked) > 4
    else:
        assert len(server.heads) > 1


async def test_open_registry_takes_the_number_and_a_small_blob_is_no_matter(
    start_server: StartServer,
) -> None:
    blob = Ranged(CONTENT)
    blob.may_stream.set()
    server = await start_server(blob.reply)
    async with open_registry(server.repository, ranges=4, patience=QUICK) as remote:
        assert (await fetched(server, blob, remote)).error is None
    assert not blob.asked
