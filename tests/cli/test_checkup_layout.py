"""What is found in a layout that is damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from multi_fetch.cli.checkup import Checkup, Finding
from multi_fetch.cli.checkup_layout import check_layout
from multi_fetch.oci.reference import parse_remote
from multi_fetch.testing.builder import LayoutBuilder

LAYOUT = Path(__file__).parents[2] / "examples" / "layout"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(LAYOUT, tmp_path / "layout"))


async def looked_at(text: str) -> tuple[bool, list[Finding]]:
    found: list[Finding] = []
    return await check_layout(Checkup(found.append), parse_remote(text)), found


def blobs(folder: Path) -> list[Path]:
    return sorted((folder / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)


async def test_one_that_is_whole(folder: Path) -> None:
    is_usable, found = await looked_at(f"oci:{folder}")
    assert is_usable
    assert [each.verdict for each in found] == ["ok", "ok"]


async def test_one_object_of_it(folder: Path) -> None:
    _, found = await looked_at(f"oci:{folder}:notes")
    assert [each.step for each in found] == ["content"]
    assert "1 manifests verified" in found[0].said


async def test_a_tag_that_is_not_there(folder: Path) -> None:
    is_usable, found = await looked_at(f"oci:{folder}:nope")
    assert is_usable
    assert (found[0].step, found[0].code) == ("object", "not-found")


@pytest.mark.parametrize("damage", ["missing", "cut", "altered"])
async def test_what_is_wrong_with_content_is_told_with_its_tag(folder: Path, damage: str) -> None:
    manifest = next(path for path in blobs(folder) if b"manifests" in path.read_bytes())
    content = manifest.read_bytes()
    if damage == "missing":
        manifest.unlink()
    else:
        manifest.write_bytes(content[:-1] if damage == "cut" else content.swapcase())
    is_usable, found = await looked_at(f"oci:{folder}")
    assert is_usable
    (failed,) = (each for each in found if each.verdict == "fail")
    assert failed.advice


async def test_a_blob_that_is_cut_is_found_by_its_size(folder: Path) -> None:
    largest = blobs(folder)[-1]
    largest.write_bytes(largest.read_bytes()[:-1])
    _, found = await looked_at(f"oci:{folder}")
    (failed,) = (each for each in found if each.verdict == "fail")
    assert (failed.step, failed.code) == ("content", "size-mismatch")


async def test_a_layer_that_is_elsewhere_is_a_warning_without_the_secrets_of_its_url(
    tmp_path: Path,
) -> None:
    builder = LayoutBuilder(tmp_path)
    layer = builder.add_blob(b"far away")
    (tmp_path / "blobs/sha256" / layer.digest.encoded).unlink()
    far = replace(layer, urls=("https://me:s3cret@far.example/x?sig=s3cret",))
    builder.tag("far", builder.add_image(builder.add_empty(), [far]))
    builder.finish()
    _, found = await looked_at(f"oci:{tmp_path}")
    (warned,) = (each for each in found if each.verdict == "warn")
    assert warned.said.endswith(" is elsewhere, at https://far.example/x?...")
    assert "s3cret" not in repr(found)


async def test_no_layout_at_all(tmp_path: Path) -> None:
    is_usable, found = await looked_at(f"oci:{tmp_path / 'nope'}")
    assert not is_usable
    assert (found[0].step, found[0].advice) == ("layout", "check the path")
