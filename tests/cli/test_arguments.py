"""What both command lines read alike, and complain of alike."""

from __future__ import annotations

import argparse
import os
import sys

import pytest

from multi_fetch.cli.arguments import (
    TIMEOUT_VARIABLE,
    add_common_flags,
    closed_stream,
    complain,
    duration,
    reference,
    stream_failure,
)


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_common_flags(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1m30s", 90.0), ("250ms", 0.25), ("0", None), ("0s", None)]
)
def test_a_duration_is_seconds_and_zero_is_no_limit(text: str, seconds: float | None) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "-1s", "soon", "1s ", "1S"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="as in 30s"):
        duration(text)


def test_the_timeout_is_the_flags_then_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TIMEOUT_VARIABLE, raising=False)
    assert parsed().timeout is None
    monkeypatch.setenv(TIMEOUT_VARIABLE, "2m")
    assert parsed().timeout == 120
    assert parsed("--timeout", "1s").timeout == 1
    monkeypatch.setenv(TIMEOUT_VARIABLE, "")
    assert parsed().timeout is None


def test_a_reference_is_read_as_docker_writes_it() -> None:
    assert str(reference("redis:7")) == "docker.io/library/redis:7"
    with pytest.raises(argparse.ArgumentTypeError, match="UPPER"):
        reference("host/UPPER")


def test_a_complaint_goes_to_stderr_if_there_is_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    complain("multi-fetch", "why")
    assert capsys.readouterr() == ("", "multi-fetch: why\n")
    monkeypatch.setattr(sys, "stderr", None)
    complain("multi-fetch", "why")


def test_the_first_closed_stream_is_named() -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)
    assert closed_stream((read_end, "stdin")) == ""
    assert closed_stream((read_end, "stdin"), (write_end, "stdout")).startswith("stdout is closed")
    os.close(read_end)
    assert closed_stream((read_end, "stdin"), (write_end, "stdout")).startswith("stdin is closed")


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        ("stdin", "cannot read stdin: Is a directory; check where it leads"),
        ("stdout", "cannot write to stdout: Is a directory; check where it leads"),
    ],
)
def test_a_stream_that_failed_is_told_however_deep_the_error_lies(stream: str, words: str) -> None:
    error = OSError(21, "Is a directory", stream)
    group: ExceptionGroup[OSError] = ExceptionGroup(
        "",
        [ExceptionGroup("", [error])],  # type: ignore[list-item] # typeshed has no nested groups
    )
    assert stream_failure(group) == words


def test_another_failure_of_the_system_is_not_taken_for_a_streams() -> None:
    group = ExceptionGroup("", [OSError(24, "Too many open files")])
    with pytest.raises(ExceptionGroup) as caught:
        stream_failure(group)
    assert caught.value is group
