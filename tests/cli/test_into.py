"""--into: what it means beside the other flags."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from multi_fetch.cli.into import into_settings, with_into
from multi_fetch.cli.multi_fetch import make_parser
from multi_fetch.cli.store import STORE_VARIABLE, store_settings, with_store
from multi_fetch.errors import InvalidRequestError
from multi_fetch.keeping import Gathering
from multi_fetch.oci.reference import Reference, parse_remote
from multi_fetch.store import Naming, StoreSettings
from multi_fetch.store.blobs import Check
from tests.worker.memory_remote import MemoryRemote

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator

    from multi_fetch.remotes import Remote

REGISTRY = parse_remote("a.example/a")


@pytest.fixture(autouse=True)
def _no_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


def parsed(*words: str) -> argparse.Namespace:
    return make_parser().parse_args([*words, "a.example/a"])


def test_without_the_flag_there_is_none() -> None:
    assert into_settings(parsed(), REGISTRY) is None


def test_a_layout_keeps_all_and_has_bare_tags_or_whole_references_of_many() -> None:
    asked = parsed("--into", "d", "--verify-store")
    want = StoreSettings(path="d", naming=Naming.LAYOUT, is_required=True, check=Check.ALWAYS)
    assert into_settings(asked, REGISTRY) == want
    everywhere = into_settings(parsed("--into", "d"), Reference("-"))
    assert everywhere is not None
    assert everywhere.naming is Naming.LAYOUT_OF_MANY


def test_offline_the_layout_is_the_store_where_no_other_is_named() -> None:
    asked = parsed("--into", "d", "--offline")
    into = into_settings(asked, REGISTRY)
    store = store_settings(asked, REGISTRY, into)
    layout = StoreSettings(path="d", naming=Naming.LAYOUT, is_required=True, check=Check.ONCE)
    assert into == layout
    assert store == replace(layout, is_offline=True)
    Path("s").mkdir()
    asked = parsed("--into", "d", "--offline", "--store", "s")
    assert store_settings(asked, REGISTRY, into) == StoreSettings(path="s", is_offline=True)
    online = parsed("--into", "d", "--verify-store")
    assert store_settings(online, REGISTRY, into) is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--format", "jsonl"], "leave out --format jsonl, or --into"),
        (["--answers", "paths"], "leave out --answers paths, or --into"),
        (["--ordered"], "leave out --ordered, or --into"),
        (["--into", __file__], "is a file: name a folder"),
        (["--into", ""], "needs the name of a folder"),
    ],
)
def test_what_does_not_go_with_it_is_told(words: list[str], told: str) -> None:
    with pytest.raises(InvalidRequestError, match=told):
        into_settings(parsed("--into", "d", *words), REGISTRY)


def test_a_damaged_index_is_told_before_anything_is_fetched() -> None:
    folder = Path("d")
    folder.mkdir()
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text("{")
    with pytest.raises(InvalidRequestError, match=r"layout d: index\.json cannot be read"):
        into_settings(parsed("--into", "d"), REGISTRY)


def test_a_store_is_another_folder() -> None:
    Path("d").mkdir()
    Path("s").symlink_to("d")
    asked = parsed("--into", "d", "--store", "s")
    with pytest.raises(InvalidRequestError, match="are the same folder, s: leave out --store"):
        store_settings(asked, REGISTRY, into_settings(asked, REGISTRY))


def test_what_needs_a_store_still_does() -> None:
    asked = parsed("--into", "d", "--store-only")
    with pytest.raises(InvalidRequestError, match="--store-only needs a store"):
        store_settings(asked, REGISTRY, into_settings(asked, REGISTRY))


async def test_what_is_opened_gathers_behind_a_store_or_alone() -> None:
    remote = MemoryRemote()

    @asynccontextmanager
    async def opening() -> AsyncIterator[Remote]:
        yield remote

    into = StoreSettings(path="d", naming=Naming.LAYOUT, is_required=True)
    async with with_into(opening(), None) as plain:
        assert plain is remote
    async with with_into(opening(), into) as alone:
        assert isinstance(alone, Gathering)
    behind = with_store(opening(), StoreSettings(path="s"))
    async with with_into(behind, into) as both:
        assert isinstance(both, Gathering)
