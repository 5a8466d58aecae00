from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from multi_fetch.client.launch import Flags, StderrTail, end_error, plan_launch
from multi_fetch.errors import (
    CutStreamError,
    MalformedFrameError,
    UnknownVersionError,
    WorkerDiedError,
)
from multi_fetch.limits import STDERR_LINE_CHARACTERS, STDERR_LINES
from multi_fetch.protocol.frames import Error


def test_the_default_worker_is_this_pythons_own() -> None:
    launch = plan_launch("r.example/app", {})
    assert launch.argv == [sys.executable, "-m", "multi_fetch", "--", "r.example/app"]
    assert launch.env is None


def test_options_become_flags_and_none_leaves_one_out() -> None:
    launch = plan_launch(
        "app",
        {
            "command": ["worker"],
            "jobs": 3,
            "window": None,
            "ordered": True,
            "timeout": 0.00001,
            "stall_timeout": 5,
            "log_level": "debug",
        },
    )
    flags = ["--jobs", "3", "--ordered", "--timeout", "0.000010s"]
    flags += ["--stall-timeout", "5.000000s", "--log-level", "debug"]
    assert launch.argv == ["worker", *flags, "--", "app"]


def test_a_flag_that_is_false_is_left_out_and_a_duration_may_be_text() -> None:
    launch = plan_launch("app", {"command": ["w"], "ordered": False, "timeout": "1m30s"})
    assert launch.argv == ["w", "--timeout", "1m30s", "--", "app"]


def test_what_may_be_given_several_times_is_one_or_many() -> None:
    for given in ("a.example", ["a.example"], ("a.example", "b.example:9000")):
        launch = plan_launch("app", {"command": ["w"], "allow_private": given})
        hosts = [given] if isinstance(given, str) else given
        flags = [word for host in hosts for word in ("--allow-private", host)]
        assert launch.argv == ["w", *flags, "--", "app"]


def test_every_flag_is_one_of_the_workers() -> None:
    command = [sys.executable, "-m", "multi_fetch", "--help-all"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in Flags.__annotations__:
        assert f"--{name.replace('_', '-')} " in told, name


def test_an_unknown_option_never_gets_into_the_command_line() -> None:
    options: Any = {"password": "secret"}
    with pytest.raises(TypeError, match="'password' is no option") as caught:
        plan_launch("app", options)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_the_last_lines_of_stderr_are_kept_however_they_are_cut(step: int) -> None:
    text = "".join(f"line {number}\n" for number in range(100)).encode() + b"no end"
    tail = StderrTail()
    for start in range(0, len(text), step):
        tail.feed(text[start : start + step])
    assert tail.lines() == (*(f"line {n}" for n in range(101 - STDERR_LINES, 100)), "no end")


def test_a_line_without_end_is_kept_within_a_bound_and_made_harmless() -> None:
    tail = StderrTail()
    for _ in range(1000):
        tail.feed(b"\x1b[2J\xff" * 1000)
    (line,) = tail.lines()
    assert len(line) == STDERR_LINE_CHARACTERS
    assert line.isprintable()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exit status 0"),
        (2, "exit status 2"),
        (-9, "SIGKILL"),
        (-250, "signal 250"),
        (None, "not seen"),
    ],
)
def test_a_dead_worker_is_told_of_by_how_it_ended(status: int | None, words: str) -> None:
    tail = StderrTail()
    tail.feed(b"its last words\n")
    error = end_error(CutStreamError("cut"), status, None, tail)
    assert isinstance(error, WorkerDiedError)
    assert words in error.message
    assert "its last words" in error.message
    assert (error.exit_status, error.stderr_lines) == (status, ("its last words",))


def test_what_the_worker_said_of_itself_is_told_too() -> None:
    told = Error(0, "internal", "a fault", retryable=False, detail={})
    assert "internal: a fault" in end_error(None, 1, told, StderrTail()).message


def test_a_worker_that_breaks_the_protocol_is_told_of_by_that() -> None:
    cause = MalformedFrameError("no frame")
    error = end_error(cause, -15, None, StderrTail())
    assert isinstance(error, WorkerDiedError)
    assert "broke the protocol: no frame" in error.message
    assert (error.exit_status, error.__cause__) == (None, cause)


def test_another_version_is_an_error_of_its_own() -> None:
    error = end_error(UnknownVersionError(7, known=1), -15, None, StderrTail())
    assert isinstance(error, UnknownVersionError)
    assert error.version == 7


def test_an_idle_timeout_is_above_0_and_no_flag_of_the_workers() -> None:
    launch = plan_launch("app", {"command": ["w"], "idle_timeout": 90})
    assert launch.idle_seconds == 90
    assert launch.argv == ["w", "--", "app"]
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match=f"idle_timeout .*: {wrong}"):
            plan_launch("app", {"idle_timeout": wrong})
