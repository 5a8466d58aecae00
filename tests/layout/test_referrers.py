"""What there is in a layout: its tags, and what refers to a digest."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest

from multi_fetch.errors import RegistryError
from multi_fetch.layout import open_layout
from multi_fetch.layout.archive import Archive
from multi_fetch.layout.remote import PAGE_MANIFESTS, LayoutRemote
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.reference import Reference, parse_remote
from multi_fetch.testing.builder import LayoutBuilder
from tests.layout.conftest import pack

if TYPE_CHECKING:
    from pathlib import Path

    from multi_fetch.oci.descriptor import Descriptor


class Shop:
    """An image, and three that refer to it: one below an index, one by its config's type."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.builder = builder = LayoutBuilder(folder)
        empty = builder.add_empty()
        self.image = builder.add_image(empty, [])
        self.sbom = builder.add_image(
            empty, [], artifact_type="a/sbom", subject=self.image, annotations={"k": "v"}
        )
        self.sig = builder.add_image(builder.add_blob(b"sig", "a/sig"), [], subject=self.image)
        self.deep = builder.add_image(empty, [], artifact_type="a/deep", subject=self.image)
        builder.tag("latest", self.image)
        builder.tag("docker.io/library/redis:7", self.image)
        builder.tag("no tag", self.image)
        builder.tag("all", builder.add_index([self.deep]))
        builder.finish()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "layout")


async def referrers(remote: LayoutRemote, digest: str, artifact_type: str = "") -> list[Descriptor]:
    ref = Reference("oci:x", f"@{digest}")
    return [each async for page in remote.referrers(ref, artifact_type) for each in page]


async def test_names_are_those_to_ask_by(shop: Shop) -> None:
    async with open_layout(parse_remote(f"oci:{shop.folder}")) as remote:
        names = [name async for page in remote.tags(Reference("oci:x")) for name in page]
    assert names == ["7", "all", "latest", "no tag"]


@pytest.mark.parametrize("scheme", ["oci", "oci-archive"])
async def test_a_referrer_is_found_wherever_an_index_leads_to(
    shop: Shop, tmp_path: Path, scheme: str
) -> None:
    path = shop.folder if scheme == "oci" else pack(shop.folder, tmp_path / "a.tar")
    async with open_layout(parse_remote(f"{scheme}:{path}")) as remote:
        found = {each.artifact_type: each for each in await referrers(remote, shop.image.digest)}
        assert {kind: each.digest for kind, each in found.items()} == {
            "a/sbom": shop.sbom.digest,
            "a/sig": shop.sig.digest,
            "a/deep": shop.deep.digest,
        }
        assert found["a/sbom"].annotations == {"k": "v"}
        (only,) = await referrers(remote, shop.image.digest, "a/sig")
        assert only.digest == shop.sig.digest
        assert await referrers(remote, digest_of(b"nothing")) == []


async def test_a_damaged_manifest_refers_to_nobody(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    path = shop.folder / "blobs" / "sha256" / shop.sbom.digest.encoded
    path.write_bytes(path.read_bytes().replace(b"a/sbom", b"a/evil"))
    (shop.folder / "blobs" / "sha256" / shop.sig.digest.encoded).unlink()
    async with open_layout(parse_remote(f"oci:{shop.folder}")) as remote:
        with caplog.at_level(logging.WARNING):
            (found,) = await referrers(remote, shop.image.digest)
    assert found.digest == shop.deep.digest
    assert len(caplog.records) == 2


async def test_many_manifests_are_looked_into_page_by_page(tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path)
    empty = builder.add_empty()
    image = builder.add_image(empty, [])
    for number in range(PAGE_MANIFESTS + 5):
        builder.add_image(empty, [], subject=image, annotations={"n": str(number)})
    builder.finish()
    remote = LayoutRemote(Archive("oci-archive:x", str(pack(tmp_path, tmp_path / "a.tar"))))
    pages = [page async for page in remote.referrers(Reference("oci:x", f"@{image.digest}"))]
    assert len(pages) == 2
    assert sum(map(len, pages)) == PAGE_MANIFESTS + 5


async def test_a_layout_that_is_none_lists_nothing(tmp_path: Path) -> None:
    (tmp_path / "oci-layout").write_text("{}")
    (tmp_path / "index.json").write_text(json.dumps({"manifests": []}))
    async with open_layout(parse_remote(f"oci:{tmp_path}")) as remote:
        with pytest.raises(RegistryError):
            await anext(remote.tags(Reference("oci:x")))
