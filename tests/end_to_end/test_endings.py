"""How the worker ends: by signals, with its parent, in time; never with a traceback."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from multi_fetch.testing.faults import Fault, require_basic, stall_after
from tests.end_to_end.conftest import AT_ONCE_SECONDS, FETCH_OBJECT, MULTI_FETCH, Sample
from tests.loopback import loopback
from tests.parent import Data, Parent, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A parent that starts a worker like any other and then does nothing; it prints one line when the
# worker has said hello.
IDLE_PARENT = """\
import os, subprocess, sys
worker = subprocess.Popen(
    sys.argv[3:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[int(sys.argv[1])]
)
os.close(int(sys.argv[1]))
worker.stdin.write(sys.argv[2].encode())
worker.stdin.flush()
worker.stdout.read(10)
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def stalled(sample: Sample) -> Iterator[str]:
    """A remote whose manifests never answer, and whose large blob stops on its way."""
    faults = (
        Fault(stall_after(), path="*/manifests/latest"),
        Fault(stall_after(2_000_000), path=f"*/blobs/{sample.large}"),
    )
    with loopback(sample.layout, *faults) as registry:
        yield f"{registry.address}/demo/app"


def lines(sample: Sample) -> bytes:
    """40 requests of which some are done, some stream, some wait for the network or in a queue."""
    cycle = [sample.small, sample.large, "latest", "not:a-digest hint", "# nothing"]
    return "".join(f"{line}\n" for line in cycle * 10).encode()


def in_mid_run(parent: Parent, sample: Sample) -> None:
    """Writes these lines, and reads until large content has begun to come."""
    parent.write(lines(sample))
    while not isinstance(frame := parent.next_frame(), Data) or frame.offset == 0:
        assert frame is not None, parent.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("flags", [[], ["--ordered"], ["--jobs", "2"], ["--window", "3"]])
def test_a_signal_in_mid_run_answers_each_open_id_and_says_bye(
    sample: Sample, flags: list[str], number: signal.Signals
) -> None:
    with (
        stalled(sample) as remote,
        Parent([MULTI_FETCH, *flags, remote], ordered="--ordered" in flags) as parent,
    ):
        in_mid_run(parent, sample)
        parent.process.send_signal(number)
        assert parent.finish(reads_all=False) == 128 + number
        codes = {answer.code for answer in parent.session.answers.values()}
        assert "cancelled" in codes
        assert codes <= {"", "cancelled", "invalid-request"}
        assert parent.session.worker_errors == []
        assert "Traceback" not in parent.stderr
        if "--window" not in flags:
            assert parent.session.answers.keys() == parent.asked.keys()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_idle_ends_at_once(remote: str, number: signal.Signals) -> None:
    with Parent([MULTI_FETCH, remote], timeout_seconds=AT_ONCE_SECONDS) as parent:
        parent.next_frame()
        parent.process.send_signal(number)
        assert parent.finish() == 128 + number
        assert parent.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_worker_whose_parent_does_not_read(
    sample: Sample, remote: str, number: signal.Signals
) -> None:
    with Parent([MULTI_FETCH, remote], timeout_seconds=AT_ONCE_SECONDS) as parent:
        parent.write(f"{sample.large}\n".encode() * 100)
        parent.next_frame()
        parent.process.send_signal(number)
        # Two signals that wait are one; so they are sent until one of them is the second.
        while parent.process.poll() is None:
            parent.process.send_signal(number)
            select.select([], [], [], 0.01)
        assert parent.wait() in {128 + number, -number}
        assert "Traceback" not in parent.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("command", [[MULTI_FETCH], [MULTI_FETCH, "doctor"], [FETCH_OBJECT]])
def test_a_signal_leaves_no_credential_helper_and_no_child_of_it(
    sample: Sample, tmp_path: Path, command: list[str], number: signal.Signals
) -> None:
    """A helper waits for a person, or a cloud; who ends the command does not wait with it."""
    (tmp_path / "config.json").write_text('{"credsStore": "test"}')
    program, log = tmp_path / "docker-credential-test", tmp_path / "log"
    program.write_text(f"#!/bin/sh\nexec 3> {log}\necho ready >&3\n(sleep 1000; true)\ntrue\n")
    program.chmod(0o755)
    os.mkfifo(log)
    environment = {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with loopback(sample.layout, Fault(require_basic("a", "b"), path="/v2/*")) as registry:
        asked = ["latest"] if command == [FETCH_OBJECT] else []
        with subprocess.Popen(
            [*command, f"{registry.address}/demo/app", *asked],
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            with log.open() as held:  # which its child holds too
                assert held.readline() == "ready\n"
                process.send_signal(number)
                assert process.wait(AT_ONCE_SECONDS) == 128 + number
                assert held.read() == ""
            assert process.stderr is not None
            assert b"Traceback" not in process.stderr.read()


def test_nohup_is_heeded(remote: str) -> None:
    """Whoever has SIGHUP ignored wants the run to go on when the terminal goes."""
    with Parent(["nohup", MULTI_FETCH, remote], timeout_seconds=AT_ONCE_SECONDS) as parent:
        parent.next_frame()
        parent.process.send_signal(signal.SIGHUP)
        parent.write(b"latest\n")
        assert parent.finish() == 0


def test_sigint_before_the_worker_listens_leaves_no_traceback(remote: str) -> None:
    """Whenever it comes, from the first import on."""
    code = (
        "import os, signal, sys\n"
        "from multi_fetch.cli import start\n"
        "class Find:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'trio': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Find())\n"
        "start.multi_fetch()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, remote], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


# --- a stdout that nobody reads any more ----------------------------------------------------


def test_a_parent_that_closes_stdout_ends_an_idle_worker_at_once(remote: str) -> None:
    with Parent([MULTI_FETCH, remote], timeout_seconds=AT_ONCE_SECONDS) as parent:
        parent.next_frame()
        parent.close_stdout()
        assert parent.wait() == 128 + signal.SIGPIPE
        assert parent.stderr == ""


def test_a_parent_that_closes_stdout_ends_a_worker_that_waits_for_the_network(
    sample: Sample,
) -> None:
    with (
        stalled(sample) as remote,
        Parent([MULTI_FETCH, remote], timeout_seconds=AT_ONCE_SECONDS) as parent,
    ):
        parent.write(b"latest\n" * 20)
        parent.next_frame()
        parent.close_stdout()
        assert parent.wait() == 128 + signal.SIGPIPE
        assert parent.stderr == ""


@pytest.mark.parametrize("flags", [[], ["--ordered"]])
def test_a_parent_that_closes_stdout_ends_a_worker_that_writes(
    sample: Sample, remote: str, flags: list[str]
) -> None:
    with Parent([MULTI_FETCH, *flags, remote], timeout_seconds=AT_ONCE_SECONDS) as parent:
        parent.write(f"{sample.large}\n".encode() * 50)
        for _ in range(5):
            parent.next_frame()
        parent.close_stdout()
        assert parent.wait() == 128 + signal.SIGPIPE
        assert parent.stderr == ""


@pytest.mark.parametrize("line", ["", "latest\n", "{large}\n" * 30])
def test_a_parent_that_dies_leaves_no_worker_behind(sample: Sample, line: str) -> None:
    """The worker holds the end of a pipe: once it is gone, the pipe ends."""
    ours, theirs = os.pipe()
    with stalled(sample) as remote, os.fdopen(ours, "rb", buffering=0) as alive:
        words = [str(theirs), line.format(large=sample.large), MULTI_FETCH, remote]
        with subprocess.Popen(
            [sys.executable, "-c", IDLE_PARENT, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[theirs],
        ) as middle:
            os.close(theirs)
            assert middle.stdout is not None
            assert middle.stderr is not None
            assert middle.stdout.readline() == b"ready\n"
            middle.kill()
            assert select.select([alive], [], [], AT_ONCE_SECONDS)[0], "the worker lives on"
            assert alive.read() == b""
            assert middle.stderr.read() == b""


# --- time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["flag", "variable", "both"])
def test_the_timeout_answers_what_is_left(sample: Sample, form: str) -> None:
    flags = [] if form == "variable" else ["--timeout", "3s"]
    variable = {"flag": "", "variable": "3000ms", "both": "1h"}[form]
    with stalled(sample) as remote:
        done = run(
            [MULTI_FETCH, *flags, remote],
            lines(sample),
            env={**os.environ, "CONTAINERD_FETCH_TIMEOUT": variable},
        )
    assert done.status == 1
    assert set(done.codes.values()) == {"timeout", "invalid-request"}
    assert done.answers[1].is_verified
    assert "Traceback" not in done.stderr


def test_the_timeout_ends_a_worker_that_waits_for_lines(remote: str) -> None:
    with Parent([MULTI_FETCH, "--timeout", "200ms", remote]) as parent:
        parent.read_to_end()
        assert parent.wait() == 1
        assert parent.session.bye is not None
        assert parent.stderr == ""
