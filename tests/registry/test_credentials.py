"""Credentials are held, never shown; a keychain reads what there is, when it is asked."""

from __future__ import annotations

import base64
import json
import os
import threading
from typing import TYPE_CHECKING

import pytest
import trio

from multi_fetch.errors import CredentialsError
from multi_fetch.limits import MAX_CREDENTIALS_FILE_BYTES
from multi_fetch.registry.credentials import Credential, Keychain

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

    from tests.registry.conftest import Install

ANSWER = """echo '{"Username": "helped", "Secret": "s3cret"}'"""
NOT_FOUND = "echo credentials not found in native keychain; exit 1"


def entry(username: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:s3cret".encode()).decode()}


def write(path: Path, **document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


async def found(keychain: Keychain, registry: str = "r.example", repository: str = "a/b") -> str:
    credential = await keychain.find(registry, repository)
    return "" if credential is None else credential.username


def test_repr_names_what_is_held_and_shows_none_of_it() -> None:
    credential = Credential(username="alice", password="s3cret", identity_token="idt")
    assert repr(credential) == "Credential(username=***, password=***, identity_token=***)"
    assert str(credential) == repr(credential)


def test_a_login_is_a_username_or_a_password() -> None:
    assert Credential(username="alice").has_login
    assert Credential(password="s3cret").has_login
    assert not Credential(identity_token="idt", registry_token="rt").has_login


def test_what_holds_nothing_is_empty() -> None:
    assert Credential().is_empty
    assert not Credential(registry_token="rt").is_empty
    assert not Credential(identity_token="idt").is_empty


async def test_the_first_file_that_knows_the_registry_decides(tmp_path: Path) -> None:
    paths = [
        tmp_path / "absent" / "auth.json",
        write(tmp_path / "one", auths={"other.example": entry("one"), "r.example": {}}),
        write(tmp_path / "two", auths={"r.example": entry("two")}),
        write(tmp_path / "three", auths={"r.example/a/b": entry("three")}),
    ]
    assert await found(Keychain(paths)) == "two"
    assert await found(Keychain(paths), "third.example") == ""
    assert await found(Keychain([])) == ""


async def test_where_a_credential_was_found_is_told_without_it(
    tmp_path: Path, install: Install
) -> None:
    install(ANSWER)
    paths = [
        write(tmp_path / "one", auths={"https://u:s3cret@r.example": entry("one")}),
        write(tmp_path / "two", credsStore="test", auths={"h.example": {}}),
    ]
    keychain = Keychain(paths)
    assert list(keychain.paths) == paths
    held = await keychain.locate("r.example", "a/b")
    assert held is not None
    assert (held.path, held.entry) == (str(paths[0]), "auths.***@r.example")
    helped = await keychain.locate("h.example")
    assert helped is not None
    assert (helped.path, helped.entry) == (str(paths[1]), "docker-credential-test")
    assert helped.credential.username == "helped"
    assert await Keychain(paths[:1]).locate("third.example") is None


async def test_a_file_behind_the_one_that_decides_is_not_read(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "good", auths={"r.example": entry("a")}), tmp_path / "bad"
    bad.write_text("{")
    keychain = Keychain([good, bad])
    assert await found(keychain) == "a"
    with pytest.raises(CredentialsError, match="bad"):
        await found(keychain, "other.example")


def test_loading_reads_all_files_and_says_which_is_malformed(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "good", auths={"r.example": entry("a")}), tmp_path / "bad"
    bad.write_text("{")
    Keychain.load([good, str(tmp_path / "absent")])
    with pytest.raises(CredentialsError) as caught:
        Keychain.load([str(good), bad])
    assert caught.value.path == str(bad)


def test_a_lookup_waits_and_needs_no_event_loop(tmp_path: Path, install: Install) -> None:
    install(ANSWER)
    keychain = Keychain.load(
        [write(tmp_path / "c", auths={"r.example": entry("a")}, credHelpers={"h.example": "test"})]
    )
    assert keychain.lookup("r.example") == Credential(username="a", password="s3cret")
    assert keychain.lookup("h.example", "a/b") == Credential(username="helped", password="s3cret")
    assert keychain.lookup("other.example") is None


async def test_a_lookup_works_in_a_thread_that_runs_trio_too(tmp_path: Path) -> None:
    path = write(tmp_path / "c", auths={"r.example": entry("a")})
    assert Keychain([path]).lookup("r.example") is not None


def test_without_paths_the_users_own_places_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "HOME", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path))
    write(tmp_path / "config.json", auths={"r.example": entry("docker")})
    write(tmp_path / ".dockercfg", **{"https://old.example/v1/": entry("old")})
    keychain = Keychain.load()
    for registry, username in (("r.example", "docker"), ("old.example", "old")):
        credential = keychain.lookup(registry)
        assert credential is not None
        assert credential.username == username


async def test_dockers_order_holds_in_a_file(tmp_path: Path, install: Install) -> None:
    path = write(tmp_path / "c", auths={"r.example": entry("entry")}, credsStore="test")
    install(ANSWER)
    assert await found(Keychain([path])) == "helped"
    install(NOT_FOUND)
    assert await found(Keychain([path])) == "entry"


async def test_a_helper_that_knows_nothing_leaves_it_to_the_next_file(
    tmp_path: Path, install: Install
) -> None:
    install(NOT_FOUND)
    one = write(tmp_path / "one", credHelpers={"r.example": "test"})
    two = write(tmp_path / "two", auths={"r.example": entry("two")})
    assert await found(Keychain([one, two])) == "two"


async def test_a_helper_is_run_anew_each_time(tmp_path: Path, install: Install) -> None:
    keychain = Keychain([write(tmp_path / "c", credsStore="test")])
    install(NOT_FOUND)
    assert await found(keychain) == ""
    install(ANSWER)
    assert await found(keychain) == "helped"


async def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "c", auths={"r.example": entry("old")})
    keychain = Keychain.load([path])
    assert await found(keychain) == "old"
    write(path, auths={"r.example": entry("newer")})
    assert await found(keychain) == "newer"
    path.unlink()
    assert await found(keychain) == ""


async def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    document = json.dumps({"auths": {"r.example": entry("piped")}})
    writer = threading.Thread(target=path.write_text, args=(document,))
    writer.start()
    keychain = Keychain([path])
    with trio.fail_after(10):
        assert await found(keychain) == "piped"
        assert await found(keychain) == "piped"
    writer.join()


async def test_a_pipe_that_nobody_writes_into_does_not_hold_a_cancellation_up(
    tmp_path: Path,
) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with trio.fail_after(10), trio.move_on_after(0.1) as scope:
        await found(Keychain([path]))
    assert scope.cancelled_caught
    with path.open("wb"):  # lets the thread go
        pass


async def test_a_pipe_that_nobody_writes_into_has_its_time(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "config.json"
    os.mkfifo(path)
    keychain = Keychain([path])
    try:
        for _ in range(2):  # the second look-up finds the first one's thread still there
            with pytest.raises(CredentialsError, match=r"config\.json could not be read in 60 s"):
                await keychain.find("r.example")
    finally:
        os.close(os.open(path, os.O_WRONLY))  # lets the thread go


@pytest.mark.parametrize("kind", ["directory", "too large", "loop"])
async def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "c"
    if kind == "directory":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    else:
        path.write_bytes(b" " * (MAX_CREDENTIALS_FILE_BYTES + 1))
    with pytest.raises(CredentialsError) as caught:
        await found(Keychain([path]))
    assert caught.value.path == str(path)
    assert str(path) in caught.value.message
