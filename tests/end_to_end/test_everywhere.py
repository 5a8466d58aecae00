"""A list of references, over several registries and a layout, in one run of the real command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest

from multi_fetch.testing.faults import Fault, answer_status, require_basic
from tests.end_to_end.conftest import LARGE, MULTI_FETCH, SMALL, Sample
from tests.loopback import loopback
from tests.parent import asked_by, read_stream

if TYPE_CHECKING:
    from pathlib import Path


def run(
    lines: str, *flags: str, environment: dict[str, str] | None = None
) -> tuple[int, list[dict[str, Any]], str]:
    """Status, frames and stderr."""
    done = subprocess.run(
        [MULTI_FETCH, "--format", "jsonl", "--retries", "0", *flags, "-"],
        input=lines.encode(),
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    frames = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, frames, done.stderr.decode()


def codes(frames: list[dict[str, Any]]) -> dict[int, str]:
    return {
        frame["id"]: frame.get("code", "") for frame in frames if frame["frame"] in {"end", "error"}
    }


def test_a_list_over_registries_and_a_layout(sample: Sample) -> None:
    folder = sample.layout.folder
    with loopback(sample.layout) as one, loopback(sample.layout) as two:
        lines = (
            f"{one.address}/a/b:latest children:all\n{one.address}/a/c@{sample.small}\n"
            f"{two.address}/d:nope\n{two.address}/d:latest\noci:{folder}@{sample.large}\nredis\n"
            f"!tags {two.address}/d\n!tags oci:{folder}\n"
        ).encode()
        done = subprocess.run(
            [MULTI_FETCH, "-"], input=lines, capture_output=True, timeout=60, check=False
        )
    assert done.returncode == 1
    session = read_stream(done.stdout, asked=asked_by(lines, "-"))
    answers = session.answers
    assert {id_: each.code for id_, each in answers.items() if each.code} == {
        3: "not-found",
        6: "invalid-request",
    }
    assert bytes(answers[1].content) == sample.latest
    assert bytes(answers[2].content) == SMALL
    assert bytes(answers[5].content) == LARGE
    assert bytes(answers[7].content) == bytes(answers[8].content) == b"index\nlatest\n"
    # repositories of one registry share its connections
    assert one.connections <= 16


def test_one_registry_that_is_down_does_not_make_the_run_useless(sample: Sample) -> None:
    with (
        loopback(sample.layout) as good,
        loopback(sample.layout, Fault(answer_status(503))) as bad,
    ):
        status, frames, _ = run(f"{bad.address}/a:latest\n{good.address}/a:latest content:none\n")
        assert (status, codes(frames)) == (1, {1: "unavailable", 2: ""})
        status, frames, _ = run(f"{bad.address}/a:latest\n127.0.0.1:1/b:latest\n")
        assert status == 3


def test_each_registry_gets_its_own_credentials_and_no_other(
    sample: Sample, tmp_path: Path
) -> None:
    with (
        loopback(sample.layout, Fault(require_basic("u", "one"))) as one,
        loopback(sample.layout, Fault(require_basic("u", "two"))) as two,
    ):
        auths = {
            one.address: {"username": "u", "password": "one"},
            two.address: {"username": "u", "password": "two"},
        }
        (tmp_path / "auth.json").write_text(json.dumps({"auths": auths}))
        lines = f"{one.address}/a:latest\n{two.address}/a:latest\n{two.address}/b:latest\n"
        status, _, _ = run(lines, "--authfile", str(tmp_path / "auth.json"))
        assert status == 0
        del auths[two.address]
        (tmp_path / "auth.json").write_text(json.dumps({"auths": auths}))
        status, frames, _ = run(lines, "--authfile", str(tmp_path / "auth.json"))
        assert codes(frames) == {1: "", 2: "unauthorized", 3: "unauthorized"}


def test_a_secret_for_one_registry_is_not_offered_to_all(sample: Sample) -> None:
    with loopback(sample.layout) as one:
        secret = {"MULTI_FETCH_USERNAME": "u", "MULTI_FETCH_PASSWORD": "hidden"}
        status, frames, words = run(f"{one.address}/a:latest\n", environment=secret)
        assert (status, frames) == (2, [])
        assert "--authfile" in words
        assert "hidden" not in words
        status, frames, words = run("", "--cert-file", "x.pem")
        assert (status, frames) == (2, [])
        assert "hosts.toml" in words
        assert not one.requests


def test_a_registrys_hosts_file_is_read_when_it_is_first_named(
    sample: Sample, tmp_path: Path
) -> None:
    good, bad = tmp_path / "up.example", tmp_path / "bad.example"
    good.mkdir()
    bad.mkdir()
    with loopback(sample.layout) as mirror:
        (good / "hosts.toml").write_text(f'[host."http://{mirror.address}"]\n')
        (bad / "hosts.toml").write_text("[host")
        lines = "up.example/a:latest content:none\nbad.example/a:latest\n"
        status, frames, _ = run(lines, "--hosts-dir", str(tmp_path))
        assert (status, codes(frames)) == (1, {1: "", 2: "invalid-request"})
        assert mirror.requests[0].query == "ns=up.example"


@pytest.mark.parametrize("kind", ["file", "fifo", "descriptor"])
def test_lines_come_from_a_file_in_stdins_place(sample: Sample, tmp_path: Path, kind: str) -> None:
    lines = f"latest\n\n{sample.small}\n!tags".encode()
    path = tmp_path / "lines"
    read_end, write_end = os.pipe()
    if kind == "fifo":
        os.mkfifo(path)
        threading.Thread(target=path.write_bytes, args=(lines,)).start()
    else:
        path.write_bytes(lines)
    os.write(write_end, lines)
    os.close(write_end)
    name = f"/dev/fd/{read_end}" if kind == "descriptor" else str(path)
    done = subprocess.run(
        [MULTI_FETCH, "--from-file", name, f"oci:{sample.layout.folder}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        pass_fds=(read_end,),
        timeout=60,
        check=True,
    )
    os.close(read_end)
    session = read_stream(done.stdout, asked=asked_by(lines))
    assert bytes(session.answers[3].content) == SMALL
    assert bytes(session.answers[4].content) == b"index\nlatest\n"


@pytest.mark.parametrize(
    ("name", "words"), [("nope", "No such file"), (".", "Is a directory"), ("", "No such file")]
)
def test_a_file_that_cannot_be_read_is_wrong_usage(tmp_path: Path, name: str, words: str) -> None:
    done = subprocess.run(
        [MULTI_FETCH, "--from-file", name, "oci:x"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert words in done.stderr.decode()


def test_settings_that_hang_do_not_hold_up_the_end(tmp_path: Path) -> None:
    """A hosts.toml that is a FIFO without a writer stands for a folder on a dead server."""
    folder = tmp_path / "registry.example"
    folder.mkdir()
    os.mkfifo(folder / "hosts.toml")
    worker = subprocess.Popen(
        [MULTI_FETCH, "--hosts-dir", str(tmp_path), "--format", "jsonl", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    with worker, worker.stdin, worker.stdout:
        assert b"hello" in worker.stdout.readline()
        worker.stdin.write(b"registry.example/a:b\n!nonsense\n")
        worker.stdin.flush()
        assert b"invalid-request" in worker.stdout.readline()  # so the first is under way
        worker.send_signal(signal.SIGTERM)
        assert b"cancelled" in worker.stdout.readline()
        assert worker.wait(20) == 128 + signal.SIGTERM


DEAD_NAMES: Final = """
import socket
import sys
import threading

from multi_fetch.cli.multi_fetch import main

look_up, all_of_them = socket.getaddrinfo, threading.Barrier(60, timeout=30)


def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
    if "dead" in str(host) and not flags & socket.AI_NUMERICHOST:
        all_of_them.wait()  # or an exception that ends the worker
        raise socket.gaierror(socket.EAI_AGAIN, "the servers of this name are dead")
    return look_up(host, port, family, type, proto, flags)


socket.getaddrinfo = getaddrinfo
sys.exit(main(sys.argv[1:]))
"""


def test_no_name_waits_for_the_look_ups_of_others() -> None:
    lines = [f"dead{number}.example/a:latest" for number in range(60)]
    flags = ["--jobs", "64", "--retries", "0", "--format", "jsonl", "--log-level", "error"]
    done = subprocess.run(
        [sys.executable, "-c", DEAD_NAMES, *flags, "-"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    frames = [json.loads(line) for line in done.stdout.splitlines()]
    assert [frame["frame"] for frame in frames] == ["hello", *["error"] * 60, "bye"], done.stderr
    assert all("are dead" in frame["message"] for frame in frames[1:-1])
