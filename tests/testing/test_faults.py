import gzip

import httpx
import pytest
import trio

from multi_fetch.testing.faults import (
    Effect,
    Fault,
    FaultChain,
    Respond,
    answer_error,
    answer_status,
    change_body,
    close_after,
    close_when_idle,
    delay,
    drip,
    drop_header,
    flip_byte,
    gzip_encode,
    ignore_range,
    lengthen,
    redirect_to,
    require_basic,
    require_bearer,
    reset_after,
    set_header,
    shorten,
    stall_after,
)
from multi_fetch.testing.messages import Answer, Request
from multi_fetch.testing.registry import LoopbackRegistry, serve_layout
from tests.testing.conftest import BLOB, Sample

# --- which requests meet a fault ------------------------------------------------------------


def statuses(faults: list[Fault], *requests: Request) -> list[int]:
    chain = FaultChain(faults, lambda _: Answer(200))
    return [chain.answer(request).status for request in requests]


BLOB_REQUEST = Request("GET", "/v2/a/b/blobs/sha256:00")
MANIFEST_REQUEST = Request("GET", "/v2/a/b/manifests/latest")


def test_without_a_match_given_every_request_meets_the_fault() -> None:
    fault = Fault(answer_status(503))
    assert statuses([fault], BLOB_REQUEST, Request("HEAD", "/v2/")) == [503, 503]


def test_path_and_method_choose_the_requests() -> None:
    by_path = Fault(answer_status(503), path="*/blobs/*")
    assert statuses([by_path], BLOB_REQUEST, MANIFEST_REQUEST) == [503, 200]
    by_method = Fault(answer_status(503), method="HEAD")
    assert statuses([by_method], BLOB_REQUEST, Request("HEAD", "/v2/")) == [200, 503]


@pytest.mark.parametrize(
    ("skip", "times", "want"),
    [
        (0, 2, [503, 503, 200, 200]),
        (1, 2, [200, 503, 503, 200]),
        (3, None, [200, 200, 200, 503]),
        (0, 0, [200, 200, 200, 200]),
    ],
)
def test_a_fault_can_start_late_and_end(skip: int, times: int | None, want: list[int]) -> None:
    fault = Fault(answer_status(503), skip=skip, times=times)
    assert statuses([fault], *[BLOB_REQUEST] * 4) == want


def test_only_requests_that_match_are_counted() -> None:
    fault = Fault(answer_status(503), path="*/blobs/*", times=1)
    got = statuses([fault], MANIFEST_REQUEST, BLOB_REQUEST, BLOB_REQUEST)
    assert got == [200, 503, 200]


def test_a_fault_behind_one_that_answers_does_not_count_that_request() -> None:
    faults = [Fault(answer_status(503), times=2), Fault(answer_status(429), times=1)]
    assert statuses(faults, *[BLOB_REQUEST] * 4) == [503, 503, 429, 200]


def test_a_fault_can_be_used_again_by_another_registry() -> None:
    fault = Fault(answer_status(503), times=1)
    assert statuses([fault], BLOB_REQUEST) == statuses([fault], BLOB_REQUEST) == [503]


def test_an_effect_may_be_written_by_the_test_itself() -> None:
    def teapot(request: Request, respond: Respond) -> Answer:
        return Answer(418, respond(request).headers)

    assert statuses([Fault(teapot)], BLOB_REQUEST) == [418]


# --- what they do, on the socket ------------------------------------------------------------


async def get_blob(
    sample: Sample, *effects: Effect, headers: dict[str, str] | None = None
) -> httpx.Response:
    faults = [Fault(effect) for effect in effects]
    async with (
        serve_layout(sample.layout, faults=faults) as registry,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        return await client.get(f"http://{registry.address}{sample.blob_path}", headers=headers)


async def get_raw(sample: Sample, *effects: Effect) -> tuple[bytes, bytes]:
    """Head and body as they come, up to the end of the connection."""
    faults = [Fault(effect) for effect in effects]
    async with (
        serve_layout(sample.layout, faults=faults) as registry,
        await connect(registry) as stream,
    ):
        await stream.send_all(request_bytes(sample))
        answer = await read_to_end(stream)
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


async def read_to_end(stream: trio.SocketStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def connect(registry: LoopbackRegistry) -> trio.SocketStream:
    host, port = registry.address.split(":")
    return await trio.open_tcp_stream(host, int(port))


def request_bytes(sample: Sample) -> bytes:
    return f"GET {sample.blob_path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def test_a_status_comes_with_headers_and_body(sample: Sample) -> None:
    effect = answer_status(429, headers={"Retry-After": "7"}, body=b"slow down")
    answer = await get_blob(sample, effect)
    assert (answer.status_code, answer.content) == (429, b"slow down")
    assert answer.headers["Retry-After"] == "7"


async def test_an_error_has_the_registrys_code(sample: Sample) -> None:
    answer = await get_blob(sample, answer_error(429, "TOOMANYREQUESTS", "later"))
    assert answer.status_code == 429
    assert answer.json() == {"errors": [{"code": "TOOMANYREQUESTS", "message": "later"}]}


async def test_a_redirect_leads_to_the_same_path_elsewhere(sample: Sample) -> None:
    async with serve_layout(sample.layout) as target:
        effect = redirect_to(f"http://{target.address}{{path}}")
        faults = [Fault(effect, path="*/blobs/*")]
        async with (
            serve_layout(sample.layout, faults=faults) as registry,
            httpx.AsyncClient(trust_env=False, follow_redirects=True) as client,
        ):
            answer = await client.get(f"http://{registry.address}{sample.blob_path}")
        assert answer.content == BLOB
        assert [each.status for each in registry.requests] == [307]
        assert [each.status for each in target.requests] == [200]


@pytest.mark.parametrize(("auth", "want"), [(("u", "p"), 200), (("u", "x"), 401), (None, 401)])
async def test_basic_lets_in_the_user_alone(
    sample: Sample, auth: tuple[str, str] | None, want: int
) -> None:
    faults = [Fault(require_basic("u", "p"))]
    async with (
        serve_layout(sample.layout, faults=faults) as registry,
        httpx.AsyncClient(trust_env=False, auth=auth) as client,
    ):
        answer = await client.get(f"http://{registry.address}{sample.blob_path}")
    assert answer.status_code == want
    assert answer.headers.get("WWW-Authenticate", "Basic").startswith("Basic")


async def test_bearer_names_its_realm_which_hands_out_the_token(sample: Sample) -> None:
    faults = [Fault(require_bearer("secret", username="u", password="p"))]
    async with (
        serve_layout(sample.layout, faults=faults) as registry,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        url = f"http://{registry.address}{sample.blob_path}"
        realm = f"http://{registry.address}/token"
        refused = await client.get(url)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == (
            f'Bearer realm="{realm}",service="loopback",scope="repository:demo/app:pull"'
        )
        assert (await client.get(realm)).status_code == 401
        granted = (await client.get(realm, auth=("u", "p"))).json()
        assert granted == {"token": "secret", "expires_in": 300}
        wrong = await client.get(url, headers={"Authorization": "Bearer other"})
        right = await client.get(url, headers={"Authorization": "Bearer secret"})
    assert (wrong.status_code, right.status_code) == (401, 200)


async def test_bearer_without_a_user_is_for_everybody(sample: Sample) -> None:
    async with (
        serve_layout(sample.layout, faults=[Fault(require_bearer("t"))]) as registry,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        granted = await client.get(f"http://{registry.address}/token?scope=x")
        base = await client.get(f"http://{registry.address}/v2/")
    assert granted.json()["token"] == "t"
    assert "scope" not in base.headers["WWW-Authenticate"]


async def test_a_header_can_be_missing(sample: Sample) -> None:
    answer = await get_blob(sample, drop_header("docker-content-digest"))
    assert "Docker-Content-Digest" not in answer.headers
    assert answer.content == BLOB


async def test_without_content_length_the_body_is_chunked(sample: Sample) -> None:
    answer = await get_blob(sample, drop_header("Content-Length"))
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in answer.headers
    assert answer.content == BLOB


async def test_a_range_can_be_ignored(sample: Sample) -> None:
    for asked in ("bytes=1000-", "bytes=9999-"):
        answer = await get_blob(sample, ignore_range(), headers={"Range": asked})
        assert (answer.status_code, answer.content) == (200, BLOB)


@pytest.mark.parametrize("offset", [0, 500, 1023])
async def test_one_byte_is_altered_and_nothing_else(sample: Sample, offset: int) -> None:
    content = (await get_blob(sample, flip_byte(offset))).content
    assert [at for at, byte in enumerate(content) if byte != BLOB[at]] == [offset]
    assert len(content) == len(BLOB)


async def test_a_byte_behind_the_end_is_not_altered(sample: Sample) -> None:
    assert (await get_blob(sample, flip_byte(5000))).content == BLOB


@pytest.mark.parametrize(
    ("effect", "want"),
    [
        (shorten(1), BLOB[:-1]),
        (shorten(5000), b""),
        (lengthen(b"more"), BLOB + b"more"),
        (change_body(lambda body: body[::-1]), BLOB[::-1]),
    ],
)
async def test_another_body_has_a_content_length_that_fits(
    sample: Sample, effect: Effect, want: bytes
) -> None:
    answer = await get_blob(sample, effect)
    assert answer.content == want
    assert answer.headers["Content-Length"] == str(len(want))


async def test_a_body_can_be_compressed_on_the_way(sample: Sample) -> None:
    head, body = await get_raw(sample, set_header("Connection", "close"), gzip_encode())
    assert b"Content-Encoding: gzip" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert gzip.decompress(body) == BLOB


@pytest.mark.parametrize("claimed", ["1000", "1025", "9999", "0"])
async def test_a_content_length_can_lie_and_ends_the_connection(
    sample: Sample, claimed: str
) -> None:
    head, body = await get_raw(sample, set_header("Content-Length", claimed))
    assert f"Content-Length: {claimed}\r\n".encode() in head + b"\r\n"
    assert body == BLOB


@pytest.mark.parametrize("count", [0, 1, 1000, 1024])
async def test_a_body_can_be_cut_at_any_byte(sample: Sample, count: int) -> None:
    head, body = await get_raw(sample, close_after(count))
    assert b"Content-Length: 1024" in head
    assert body == BLOB[:count]


async def test_a_chunked_body_can_be_cut_before_its_last_chunk(sample: Sample) -> None:
    _, body = await get_raw(sample, close_after(1024), drop_header("Content-Length"))
    assert BLOB in body
    assert not body.endswith(b"0\r\n\r\n")


async def test_a_connection_can_end_before_the_answer(sample: Sample) -> None:
    assert await get_raw(sample, close_after()) == (b"", b"")


@pytest.mark.parametrize("effect", [reset_after(), reset_after(0), reset_after(1000)])
async def test_a_connection_can_be_reset(sample: Sample, effect: Effect) -> None:
    async with (
        serve_layout(sample.layout, faults=[Fault(effect)]) as registry,
        await connect(registry) as stream,
    ):
        await stream.send_all(request_bytes(sample))
        with pytest.raises(trio.BrokenResourceError) as caught:
            await read_to_end(stream)
    assert isinstance(caught.value.__cause__, ConnectionResetError)


@pytest.mark.parametrize("count", [-1, 0, 10])
async def test_a_stalled_body_comes_so_far_and_the_connection_stays_open(
    sample: Sample, count: int
) -> None:
    """What was promised arrives, then nothing, until the client closes."""
    faults = [Fault(stall_after(count))]
    async with (
        serve_layout(sample.layout, faults=faults) as registry,
        await connect(registry) as stream,
    ):
        await stream.send_all(request_bytes(sample))
        received = b""
        with trio.move_on_after(0.2) as waited:
            while chunk := await stream.receive_some():
                received += chunk
    assert waited.cancelled_caught
    assert received.partition(b"\r\n\r\n")[2] == BLOB[: max(count, 0)]
    assert bool(received) is (count >= 0)


async def test_a_delay_comes_before_the_first_byte(sample: Sample) -> None:
    async with (
        serve_layout(sample.layout, faults=[Fault(delay(3600))]) as registry,
        await connect(registry) as stream,
    ):
        await stream.send_all(request_bytes(sample))
        with trio.move_on_after(0.1) as waited:
            await stream.receive_some()
    assert waited.cancelled_caught
    assert len(registry.requests) == 1


async def test_a_short_delay_passes(sample: Sample) -> None:
    started = trio.current_time()
    assert (await get_blob(sample, delay(0.05))).content == BLOB
    assert trio.current_time() - started >= 0.05


async def test_a_body_can_come_in_drips(sample: Sample) -> None:
    started = trio.current_time()
    answer = await get_blob(sample, drip(256, every_seconds=0.02))
    assert answer.content == BLOB
    assert trio.current_time() - started >= 4 * 0.02


async def test_an_idle_connection_can_be_closed_without_a_word(sample: Sample) -> None:
    head, body = await get_raw(sample, close_when_idle())
    assert body == BLOB
    assert b"connection: close" not in head.lower()


async def test_effects_compose(sample: Sample) -> None:
    """A byte is altered, the body is chunked, dripped and cut, all at once."""
    effects = [
        close_after(600),
        drip(512, every_seconds=0.001),
        drop_header("Content-Length"),
        drop_header("Docker-Content-Digest"),
        flip_byte(0),
    ]
    head, body = await get_raw(sample, *effects)
    assert b"Docker-Content-Digest" not in head
    altered = bytes([BLOB[0] ^ 0xFF]) + BLOB[1:512]
    assert body == b"200\r\n" + altered + b"\r\n58\r\n" + BLOB[512:600] + b"\r\n"


async def test_after_its_times_a_fault_is_over_on_the_socket_too(sample: Sample) -> None:
    faults = [Fault(answer_status(503), times=2), Fault(close_after(10), times=1)]
    got: list[str] = []
    async with (
        serve_layout(sample.layout, faults=faults) as registry,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        for _ in range(4):
            try:
                answer = await client.get(f"http://{registry.address}{sample.blob_path}")
                got.append(f"{answer.status_code} {len(answer.content)}")
            except httpx.RemoteProtocolError:
                got.append("cut")
    assert got == ["503 0", "503 0", "cut", "200 1024"]
