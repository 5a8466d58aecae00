"""What the command lines make of the environment and --authfile, before any file is read."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from multi_fetch.cli.credentials import add_authfile_flag, auth_file, credentials
from multi_fetch.errors import CredentialsError

if TYPE_CHECKING:
    from collections.abc import Mapping

MULTI_FETCH: Final = str(Path(sys.executable).with_name("multi-fetch"))
FETCH_OBJECT: Final = str(Path(sys.executable).with_name("fetch-object"))


def parsed(*words: str) -> str | None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_authfile_flag(parser)
    given: str | None = parser.parse_args(words).authfile
    return given


def run(command: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment: Mapping[str, str] = {**os.environ, **variables}
    return subprocess.run(
        [command, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def test_user_name_and_password_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTI_FETCH_USERNAME", "alice")
    monkeypatch.setenv("MULTI_FETCH_PASSWORD", "s3cret")
    held = credentials(None)
    assert (held["username"], held["password"]) == ("alice", "s3cret")
    monkeypatch.delenv("MULTI_FETCH_USERNAME", raising=False)
    monkeypatch.delenv("MULTI_FETCH_PASSWORD", raising=False)
    assert (credentials(None)["username"], credentials(None)["password"]) == ("", "")


def test_a_credential_helper_inherits_neither_user_nor_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-spy"
    helper.write_text(f"#!/bin/sh\nenv > {tmp_path}/seen\necho credentials not found\nexit 1\n")
    helper.chmod(0o755)
    config = tmp_path / "config.json"
    config.write_text('{"credsStore": "spy"}')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("MULTI_FETCH_USERNAME", "t0ken")
    monkeypatch.setenv("MULTI_FETCH_PASSWORD", "s3cret")
    held = credentials(str(config))
    assert held["password"] == "s3cret"
    assert held["keychain"].lookup("r.example") is None
    seen = (tmp_path / "seen").read_text()
    assert "PATH=" in seen
    assert "s3cret" not in seen
    assert "t0ken" not in seen


def test_the_keychain_is_of_the_file_that_is_named_or_of_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "HOME", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path))
    (tmp_path / "config.json").write_text('{"auths": {"r.example": {"password": "own"}}}')
    named = tmp_path / "named"
    named.write_text('{"auths": {"r.example": {"password": "named"}}}')
    for path, password in ((str(named), "named"), (None, "own")):
        credential = credentials(path)["keychain"].lookup("r.example")
        assert credential is not None
        assert credential.password == password


def test_no_file_is_read_before_a_registry_asks(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{")
    keychain = credentials(str(path))["keychain"]
    with pytest.raises(CredentialsError):
        keychain.lookup("r.example")


def test_the_variable_is_the_flags_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.touch()
    two.touch()
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(one))
    assert parsed() == str(one)
    assert parsed("--authfile", str(two)) == str(two)
    for empty in ("", None):
        if empty is None:
            monkeypatch.delenv("REGISTRY_AUTH_FILE")
        else:
            monkeypatch.setenv("REGISTRY_AUTH_FILE", empty)
        assert parsed() is None


def test_a_file_may_be_a_pipe_and_not_a_directory(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert auth_file(str(tmp_path / "pipe")) == str(tmp_path / "pipe")
    for absent in (str(tmp_path / "absent"), "", "a\0b"):
        with pytest.raises(argparse.ArgumentTypeError, match="there is no file"):
            auth_file(absent)
    with pytest.raises(argparse.ArgumentTypeError, match="is a directory"):
        auth_file(str(tmp_path))


@pytest.mark.parametrize(
    ("command", "remote"), [(MULTI_FETCH, "localhost:1/a"), (FETCH_OBJECT, "localhost:1/a:v1")]
)
def test_a_file_that_is_not_there_is_a_usage_error(
    command: str, remote: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "absent")
    for done in (
        run(command, "--authfile", path, remote),
        run(command, remote, REGISTRY_AUTH_FILE=path),
    ):
        assert (done.returncode, done.stdout) == (2, "")
        assert f"argument --authfile: there is no file '{path}'" in done.stderr
