"""The worker as a process: what it answers, and what it never answers."""

from __future__ import annotations

import base64
import json
import os
import time
from typing import TYPE_CHECKING

import pytest

from multi_fetch.testing.faults import (
    Effect,
    Fault,
    answer_error,
    change_body,
    close_after,
    close_when_idle,
    drop_header,
    flip_byte,
    gzip_encode,
    lengthen,
    require_basic,
    require_bearer,
    reset_after,
    set_header,
    shorten,
)
from tests.end_to_end.conftest import AT_ONCE_SECONDS, LARGE, MULTI_FETCH, SMALL, Sample
from tests.loopback import loopback
from tests.parent import Parent, Run, run

if TYPE_CHECKING:
    from multi_fetch.testing.registry import LoopbackRegistry

USERNAME = "reader"
PASSWORD = "open sesame: 42"
TOKEN = "a-token-that-nobody-may-see"


def answer(sample: Sample, line: str, *effects: Effect, path: str = "*/blobs/*") -> Run:
    """What comes for one line from a registry where all answers at the path are like this."""
    with loopback(sample.layout, *(Fault(effect, path=path) for effect in effects)) as registry:
        command = [MULTI_FETCH, "--retries", "0", f"{registry.address}/demo/app"]
        return run(command, f"{line}\n".encode())


@pytest.mark.parametrize("flags", [[], ["--ordered"], ["--jobs", "1"], ["--window", "1"]])
def test_each_object_arrives_byte_for_byte(sample: Sample, remote: str, flags: list[str]) -> None:
    lines = "\n".join(sample.contents).encode()
    done = run([MULTI_FETCH, *flags, remote], lines, ordered="--ordered" in flags)
    assert (done.status, done.stderr) == (0, "")
    for number, content in enumerate(sample.contents.values(), start=1):
        assert done.answers[number].content == content
        assert done.answers[number].is_verified


@pytest.mark.parametrize("flags", [[], ["--ordered"], ["--jobs", "1"]])
def test_trees_ranges_and_cancels_keep_the_protocols_rules(
    sample: Sample, remote: str, flags: list[str]
) -> None:
    """They are held to them by a parent that does not know how the worker does it."""
    lines = (
        "index children:all",
        "index children:manifests",
        "index children:blobs",
        "index children:all content:none",
        f"{sample.large} range:0-0",
        f"{sample.large} range:5-",
        f"{sample.large} range:7-9 content:none",
        "!cancel 5",
        "!cancel 99",
        "!cancel -1",
        "nope children:all",
    )
    stdin = "\n".join(lines).encode()
    done = run([MULTI_FETCH, *flags, remote], stdin, ordered="--ordered" in flags)
    assert done.codes.keys() - {5} == {9, 11}
    assert done.answers[6].content == LARGE[5:]
    below = [each.root for each in done.answers.values() if each.parent is not None]
    assert [below.count(root) for root in (1, 2, 3, 4)] == [4, 1, 4, 4]


@pytest.mark.parametrize("told", ["1", "100000"])
def test_a_size_that_a_head_tells_wrongly_is_not_held_against_what_is_looked_into(
    sample: Sample, told: str
) -> None:
    fault = Fault(set_header("content-length", told), method="HEAD", path="*/manifests/index")
    with loopback(sample.layout, fault) as registry:
        command = [MULTI_FETCH, "--retries", "0", f"{registry.address}/demo/app"]
        done = run(command, b"index content:none children:all\n")
    assert (done.status, done.stderr) == (0, "")
    begin = done.answers[1].begin
    assert begin is not None
    assert begin.descriptor["size"] == len(sample.contents["index"])


def test_a_familiar_remote_has_its_full_name_in_hello(remote: str) -> None:
    for given, full in (("redis", "docker.io/library/redis"), (remote, remote)):
        done = run([MULTI_FETCH, given], b"")
        assert done.session.hello is not None
        assert done.session.hello.remote == full
        assert (done.status, done.stderr) == (0, "")


def test_hello_comes_before_the_registry_is_asked() -> None:
    with Parent([MULTI_FETCH, "127.0.0.1:1/nobody/listens"]) as parent:
        parent.next_frame()
        assert parent.session.hello is not None
        assert parent.finish() == 0


def test_a_line_is_answered_before_the_next_is_written_many_times(
    sample: Sample, remote: str
) -> None:
    with Parent([MULTI_FETCH, remote], timeout_seconds=AT_ONCE_SECONDS) as parent:
        parent.next_frame()
        began = time.monotonic()
        for number in range(1, 101):
            parent.write(f"{sample.small}\n".encode())
            assert parent.next_closed().id == number
        assert time.monotonic() - began < 2 * AT_ONCE_SECONDS
        assert parent.finish() == 0


def test_a_line_that_is_cut_anywhere_is_one_line(remote: str) -> None:
    with Parent([MULTI_FETCH, remote], timeout_seconds=AT_ONCE_SECONDS) as parent:
        for piece in (b"la", b"tes", b"t cont", b"ent:none\r", b"\nlatest"):
            parent.write(piece)
        assert parent.finish() == 0
        assert parent.session.answers[1].content == b""
        assert parent.session.answers[2].is_verified


@pytest.mark.parametrize(
    ("hint", "effects", "code"),
    [
        ("", [flip_byte(999)], "digest-mismatch"),
        ("", [shorten(1)], "digest-mismatch"),
        ("", [lengthen(b"x")], "digest-mismatch"),
        ("", [shorten(1000)], "digest-mismatch"),
        ("size:1000", [shorten(1)], "size-mismatch"),
        ("size:1000", [lengthen(b"x")], "size-mismatch"),
        ("size:1000", [drop_header("Content-Length"), shorten(1)], "size-mismatch"),
        ("size:1000", [drop_header("Content-Length"), lengthen(b"x")], "size-mismatch"),
        ("size:999", [], "size-mismatch"),
        ("", [set_header("Content-Length", "2000")], "unavailable"),
        ("", [close_after(500)], "unavailable"),
        ("", [reset_after(500)], "unavailable"),
        ("", [gzip_encode()], "registry-error"),
    ],
)
def test_small_content_that_is_not_what_was_asked_for_is_never_sent(
    sample: Sample, hint: str, effects: list[Effect], code: str
) -> None:
    done = answer(sample, f"{sample.small} {hint}", *effects)
    assert done.codes == {1: code}
    assert done.answers[1].begin is None
    assert done.status == (3 if code == "unavailable" else 1)


@pytest.mark.parametrize(
    ("hint", "effects", "code"),
    [
        ("", [flip_byte(len(LARGE) - 1)], "digest-mismatch"),
        ("", [shorten(1)], "digest-mismatch"),
        ("", [lengthen(b"x")], "digest-mismatch"),
        (f"size:{len(LARGE)}", [drop_header("Content-Length"), shorten(1)], "size-mismatch"),
        (f"size:{len(LARGE)}", [drop_header("Content-Length"), lengthen(b"x")], "size-mismatch"),
        ("", [close_after(2_000_000)], "unavailable"),
        ("", [reset_after(2_000_000)], "unavailable"),
    ],
)
def test_large_content_that_is_not_what_was_asked_for_has_no_end(
    sample: Sample, hint: str, effects: list[Effect], code: str
) -> None:
    done = answer(sample, f"{sample.large} {hint}", *effects)
    assert done.codes == {1: code}
    assert done.answers[1].end is None
    assert done.answers[1].begin is not None


@pytest.mark.parametrize("line", ["latest", "@{digest}"])
def test_a_manifest_that_was_altered_is_never_sent(sample: Sample, line: str) -> None:
    digest = next(name for name in sample.contents if name.startswith("latest@"))
    done = answer(
        sample,
        line.format(digest=digest.removeprefix("latest@")),
        change_body(lambda body: body.replace(b'"config"', b'"confid"')),
        path="*/manifests/*",
    )
    assert done.codes == {1: "digest-mismatch"}
    assert done.answers[1].begin is None


def test_a_failure_says_what_the_registry_said(remote: str) -> None:
    done = run([MULTI_FETCH, remote], b"nowhere\n")
    error = done.answers[1].error
    assert error is not None
    assert (error.code, error.retryable) == ("not-found", False)
    assert error.detail["status"] == 404
    assert error.detail["registry_code"] == "MANIFEST_UNKNOWN"
    assert done.status == 1
    assert "code=not-found" in done.stderr


@pytest.mark.parametrize(
    ("status", "registry_code", "code", "retryable"),
    [
        (400, "MANIFEST_INVALID", "registry-error", False),
        (401, "UNAUTHORIZED", "unauthorized", False),
        (403, "DENIED", "denied", False),
        (404, "MANIFEST_UNKNOWN", "not-found", False),
        (404, "NAME_UNKNOWN", "not-found", False),
        (429, "TOOMANYREQUESTS", "rate-limited", True),
        (503, "UNAVAILABLE", "unavailable", True),
    ],
)
def test_what_may_pass_is_retryable_and_asked_again_and_all_else_is_asked_once(
    sample: Sample, status: int, registry_code: str, code: str, *, retryable: bool
) -> None:
    refusal = Fault(answer_error(status, registry_code, "for a reason"), path="*/manifests/*")
    with loopback(sample.layout, refusal) as registry:
        command = [MULTI_FETCH, "--no-warm", "--retries", "1", f"{registry.address}/demo/app"]
        done = run(command, b"latest\n")
        asked = len(registry.requests)
    error = done.answers[1].error
    assert error is not None
    assert (error.code, error.retryable) == (code, retryable)
    assert "for a reason" in error.message
    assert (error.detail["status"], error.detail["registry_code"]) == (status, registry_code)
    assert asked == error.detail["attempts"] == (2 if retryable else 1)


def test_a_connection_that_was_closed_while_idle_is_tried_again_on_a_new_one(
    sample: Sample,
) -> None:
    with loopback(sample.layout, Fault(close_when_idle())) as registry:
        with Parent([MULTI_FETCH, f"{registry.address}/demo/app"]) as parent:
            for _ in range(20):
                parent.write(f"{sample.small} mediatype:application/octet-stream\n".encode())
                assert parent.next_closed().content == SMALL
            assert parent.finish() == 0
            assert parent.session.bye is not None
            assert parent.session.bye.detail["retries"] == 0
        assert registry.connections >= 20


def test_connections_are_used_again(sample: Sample) -> None:
    with loopback(sample.layout) as registry:
        lines = f"{sample.small}\n".encode() * 200
        assert run([MULTI_FETCH, "--jobs", "4", f"{registry.address}/demo/app"], lines).status == 0
        assert registry.connections <= 4


# --- credentials ----------------------------------------------------------------------------


def fetched(registry: LoopbackRegistry, sample: Sample, **credentials: str) -> Run:
    """All objects, with everything logged."""
    command = [MULTI_FETCH, "--log-level", "debug", "--log-format", "json"]
    variables = {f"MULTI_FETCH_{name.upper()}": value for name, value in credentials.items()}
    return run(
        [*command, f"{registry.address}/demo/app"],
        "\n".join(sample.contents).encode(),
        env={**os.environ, **variables},
    )


def assert_no_secret(done: Run) -> None:
    basic = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
    errors = [str(each.error) for each in done.answers.values()]
    for secret in (PASSWORD, PASSWORD.replace(" ", "%20"), basic, TOKEN):
        assert secret not in done.stderr
        assert secret not in str(errors)
    for line in done.stderr.splitlines():
        assert {"time", "level", "logger", "message"} <= json.loads(line).keys()


@pytest.mark.parametrize(
    "lock",
    [
        require_basic(USERNAME, PASSWORD),
        require_bearer(TOKEN, username=USERNAME, password=PASSWORD),
    ],
    ids=["basic", "bearer"],
)
def test_credentials_open_a_locked_registry_and_are_not_logged(
    sample: Sample, lock: Effect
) -> None:
    with loopback(sample.layout, Fault(lock)) as registry:
        done = fetched(registry, sample, username=USERNAME, password=PASSWORD)
        assert done.status == 0
        assert {len(each.content) for each in done.answers.values()} >= {0, len(LARGE), len(SMALL)}
        assert '"status":401' in done.stderr, "nothing was logged that could hold a secret"
        assert_no_secret(done)


@pytest.mark.parametrize(
    "lock",
    [
        require_basic(USERNAME, "another"),
        require_bearer(TOKEN, username=USERNAME, password="another"),
    ],
    ids=["basic", "bearer"],
)
def test_credentials_that_are_not_accepted_are_not_told(sample: Sample, lock: Effect) -> None:
    with loopback(sample.layout, Fault(lock)) as registry:
        done = fetched(registry, sample, username=USERNAME, password=PASSWORD)
    assert set(done.codes.values()) == {"unauthorized"}
    assert done.status == 3
    assert_no_secret(done)


def test_a_token_is_fetched_once_for_all_and_without_credentials_if_there_are_none(
    sample: Sample,
) -> None:
    with loopback(sample.layout, Fault(require_bearer(TOKEN))) as registry:
        done = fetched(registry, sample)
        assert done.status == 0
        assert sum(each.path == "/token" for each in registry.requests) == 1
        assert_no_secret(done)
