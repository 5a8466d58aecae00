"""The store's flags: what they mean together, and what the environment adds."""

from __future__ import annotations

import argparse
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from multi_fetch.cli.store import (
    STORE_VARIABLE,
    add_store_flags,
    store_settings,
    with_files,
    with_store,
)
from multi_fetch.errors import InvalidRequestError, NotFoundError
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.reference import Reference, parse_remote
from multi_fetch.store import StoreSettings
from multi_fetch.store.blobs import Check
from tests.worker.memory_remote import MemoryRemote

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from multi_fetch.remotes import Remote

REGISTRY = parse_remote("a.example/a")


@pytest.fixture(autouse=True)
def _no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STORE_VARIABLE, raising=False)


def settings(*words: str, ref: Reference = REGISTRY) -> StoreSettings | None:
    parser = argparse.ArgumentParser()
    add_store_flags(parser)
    return store_settings(parser.parse_args(words), ref)


def test_without_a_store_there_is_none() -> None:
    assert settings() is None


def test_the_flags_are_the_settings(tmp_path: Path) -> None:
    store = str(tmp_path)
    assert settings("--store", store) == StoreSettings(path=store)
    assert settings("--store", store, "--store-only", "--verify-store") == StoreSettings(
        path=store, is_required=True, check=Check.ALWAYS
    )
    offline = settings("--store", store, "--offline")
    assert offline == StoreSettings(path=store, is_offline=True)


def test_the_environment_is_for_registries_and_a_flag_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path))
    assert settings() == StoreSettings(path=str(tmp_path))
    assert settings(ref=parse_remote("oci:x")) is None
    other = str(tmp_path / "other")
    assert settings("--store", other, ref=parse_remote("oci:x")) == StoreSettings(path=other)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--store-only"], "--store-only needs a store"),
        (["--verify-store"], "--verify-store needs a store"),
        (["--offline"], "--offline needs a store"),
        (["--store", "new", "--offline"], "not there"),
        (["--store", ".", "--offline", "--store-only"], "does not go with"),
        (["--store", __file__], "is a file"),
    ],
)
def test_what_makes_no_sense_is_told(
    words: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidRequestError, match=problem):
        settings(*words)


def test_files_can_be_named_in_a_store_whose_path_is_text() -> None:
    store = StoreSettings(path="x", check=Check.ALWAYS)
    assert with_files(store) == StoreSettings(path="x", check=Check.ALWAYS, is_required=True)
    plain = with_files(StoreSettings(path="x"))
    assert plain == StoreSettings(path="x", check=Check.ONCE, is_required=True)
    with pytest.raises(InvalidRequestError, match="--answers paths needs a store"):
        with_files(None)
    with pytest.raises(InvalidRequestError, match="UTF-8"):
        with_files(StoreSettings(path="\udcff"))


async def test_a_remote_is_put_behind_the_store_or_not_opened_at_all(tmp_path: Path) -> None:
    remote = MemoryRemote()
    ref = Reference("a.example/a", f"@{remote.add(b'content')}")
    openings = 0

    @asynccontextmanager
    async def opening() -> AsyncIterator[Remote]:
        nonlocal openings
        openings += 1
        yield remote

    async with with_store(opening(), None) as plain:
        assert plain is remote
    store = StoreSettings(path=str(tmp_path / "store"))
    async with with_store(opening(), store) as stored, stored.open(ref) as opened:
        content = b"".join([bytes(chunk) async for chunk in opened.chunks])
        assert digest_of(content) == ref.digest
        assert opened.keep is not None
        await opened.keep()
    alone = StoreSettings(path=store.path, is_offline=True)
    async with with_store(opening(), alone) as offline:
        async with offline.open(ref) as opened:
            assert opened.whole == b"content"
        with pytest.raises(NotFoundError):
            await offline.resolve(Reference("a.example/a", "latest"))
    assert openings == 2
