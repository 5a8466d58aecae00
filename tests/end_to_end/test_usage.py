"""What is said about a wrong command line, and what a right one may ask for."""

from __future__ import annotations

import os
import subprocess

import pytest

from multi_fetch import __version__
from tests.end_to_end.conftest import FETCH_OBJECT, MULTI_FETCH

COMMANDS = pytest.mark.parametrize("command", [MULTI_FETCH, FETCH_OBJECT])


def said(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "required: remote"),
        (["--jobs", "0", "a/b"], "'0' is not a number from 1 to 256"),
        (["--jobs", "257", "a/b"], "from 1 to 256"),
        (["--window", "-1", "a/b"], "--window"),
        (["--window", "many", "a/b"], "'many'"),
        (["--timeout", "5", "a/b"], "'5' is not a duration"),
        (["--timeout", "-5s", "a/b"], "--timeout"),
        (["--log-level", "loud", "a/b"], "'loud'"),
        (["--log-format", "xml", "a/b"], "'xml'"),
        (["--job", "4", "a/b"], "--job"),
        (["a/b", "c"], "unrecognized arguments: c; what is asked for is a line of stdin: echo"),
        (["a/b", "--xyz"], "unrecognized arguments: --xyz (multi-fetch --help"),
        (["a/b", "--orderd"], "did you mean --ordered?"),
        (["--prog", "never", "a/b"], "did you mean --progress?"),
        (["localhost:5000"], "localhost:5000 is a registry: name a repository in it, as in"),
        (["registry.test:443"], "registry.test:443 is a registry"),
        (["./a/layout"], "a layout in a folder is oci:./a/layout"),
        (["/a/layout"], "a layout in a folder is oci:/a/layout"),
        ([""], "remote"),
        (["https://user:open-sesame@host/a"], "remote"),
        (["//user:open-sesame@host/a"], "remote"),
        (["localhost:5000/UPPER"], "UPPER"),
    ],
)
def test_wrong_usage_of_the_worker_is_told_and_writes_nothing(words: list[str], part: str) -> None:
    done = said(MULTI_FETCH, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert "open-sesame" not in done.stderr


@pytest.mark.parametrize(
    ("ref", "line"),
    [
        ("localhost:5000/a:v1", "'v1'"),
        ("redis:latest", "'latest'"),
        (f"redis@sha256:{'0' * 64}", f"'sha256:{'0' * 64}'"),
        (f"redis:v1@sha256:{'0' * 64}", f"'v1@sha256:{'0' * 64}'"),
    ],
)
def test_a_remote_with_an_object_is_told_what_to_write_instead(ref: str, line: str) -> None:
    done = said(MULTI_FETCH, ref)
    assert (done.returncode, done.stdout) == (2, "")
    locator = "docker.io/library/redis" if ref.startswith("redis") else "localhost:5000/a"
    assert f"'multi-fetch {locator}'" in done.stderr
    assert f"{line} as a line of stdin" in done.stderr


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "required: remote"),
        (["redis"], "docker.io/library/redis names no object: write"),
        (["redis:latest", "v2"], "leave out 'v2'"),
        (["redis", "not/an/object"], "not/an/object"),
        (["redis", "latest", "size:many"], "many"),
        (["redis", "latest", "no-hint"], "no-hint"),
        (["--timeout", "soon", "redis:latest"], "'soon' is not a duration"),
    ],
)
def test_wrong_usage_of_fetch_object_is_told_and_writes_nothing(
    words: list[str], part: str
) -> None:
    done = said(FETCH_OBJECT, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert part in done.stderr
    assert "Traceback" not in done.stderr


@COMMANDS
def test_a_timeout_variable_that_cannot_be_read_is_a_usage_error(command: str) -> None:
    done = said(command, "localhost:1/a:b", CONTAINERD_FETCH_TIMEOUT="soon")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'soon' is not a duration" in done.stderr


@COMMANDS
def test_all_help_names_the_flags_the_environment_and_the_exit_statuses(command: str) -> None:
    done = said(command, "--help-all")
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("--timeout", "CONTAINERD_FETCH_TIMEOUT", "MULTI_FETCH_PASSWORD", "exit status"):
        assert part in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@COMMANDS
def test_version_is_told(command: str) -> None:
    done = said(command, "--version")
    assert (done.returncode, done.stdout) == (0, f"multi-fetch {__version__}\n")
