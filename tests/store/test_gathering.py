"""A layout that everything goes into, and one store behind another."""

from __future__ import annotations

import errno
import json
import shutil
from typing import TYPE_CHECKING

import pytest

from multi_fetch.errors import UnavailableError
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.layout import REF_NAME
from multi_fetch.remotes import open_remote
from multi_fetch.store import Naming, StoreSettings, open_offline, open_store
from multi_fetch.store.folder import StoreFolder
from tests.store.conftest import IMPATIENT, Place, Sample, consume, serving

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_layout_is_told_what_it_has_and_asks_for_a_known_tag_by_head(
    sample: Sample, tmp_path: Path
) -> None:
    async with serving(sample, tmp_path) as place:
        for _ in range(2):
            settings = StoreSettings(path=str(place.folder), naming=Naming.LAYOUT)
            async with (
                open_remote(place.ref(""), patience=IMPATIENT) as remote,
                open_store(remote, settings) as layout,
            ):
                _, path = await consume(layout, place.ref("latest"))
                assert path == place.path(sample.image.digest)
                await layout.enter([(place.ref("latest"), sample.image)])
                assert named(place) == {"latest": sample.image.digest}
        assert place.asked() == ["GET latest", "HEAD latest"]


def named(place: Place) -> dict[str, str]:
    index = place.folder / "index.json"
    entries = json.loads(index.read_bytes())["manifests"]
    return {each["annotations"][REF_NAME]: each["digest"] for each in entries}


async def test_a_layout_alone_knows_its_bare_tags(sample: Sample, tmp_path: Path) -> None:
    async with serving(sample, tmp_path) as place:
        settings = StoreSettings(path=str(place.folder), naming=Naming.LAYOUT)
        async with (
            open_remote(place.ref(""), patience=IMPATIENT) as remote,
            open_store(remote, settings) as layout,
        ):
            await consume(layout, place.ref("latest"))
            assert not (place.folder / "index.json").read_text().count("latest")
            await layout.enter([(place.ref("latest"), sample.image)])
        async with open_offline(settings) as offline:
            content, _ = await consume(offline, place.ref("latest"))
            assert digest_of(content) == sample.image.digest


async def test_an_index_that_cannot_be_written_is_told_with_the_way_on(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with serving(sample, tmp_path) as place, place.stored() as stored:
        await consume(stored, place.ref("latest"))
        monkeypatch.setattr(StoreFolder, "replace", full)
        with pytest.raises(UnavailableError, match="No space left on device; mend that"):
            await stored.enter([(place.ref("v2"), sample.image)])


async def test_one_store_may_be_behind_another_and_both_keep(
    sample: Sample, tmp_path: Path
) -> None:
    async with serving(sample, tmp_path) as place:
        front = StoreSettings(path=str(tmp_path / "front"), naming=Naming.LAYOUT, is_required=True)
        for _ in range(2):
            async with place.stored() as stored, open_store(stored, front) as both:
                for asked in ("latest", sample.small, sample.large):
                    content, path = await consume(both, place.ref(asked))
                    assert path is not None
                    assert path.is_relative_to(tmp_path / "front")
                    assert path.read_bytes() == content
                    assert place.path(digest_of(content)).read_bytes() == content
            shutil.rmtree(tmp_path / "front")
        assert [each for each in place.asked() if each.startswith("GET")] == [
            "GET latest",
            f"GET {sample.small}",
            f"GET {sample.large}",
        ]
