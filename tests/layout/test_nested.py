"""What indexes below index.json name is known, within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from multi_fetch.errors import NotFoundError
from multi_fetch.layout.contents import Contents, Wanted
from multi_fetch.layout.folder import Folder
from multi_fetch.layout.nested import add_nested
from multi_fetch.limits import LAYOUT_ENTRY_MEMORY, MAX_LAYOUT_KEPT_MEMORY
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import Digest, digest_of
from multi_fetch.oci.layout import entry_memory
from multi_fetch.oci.media_types import OCI_INDEX, OCI_MANIFEST
from multi_fetch.shelf import Shelf
from multi_fetch.testing.builder import LayoutBuilder

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 500


def named(number: int) -> Descriptor:
    return Descriptor(
        media_type=OCI_MANIFEST,
        digest=digest_of(b"%d" % number),
        size=1,
        annotations={"a": "b"},
    )


@pytest.fixture
def outer(tmp_path: Path) -> Descriptor:
    """An index of an index of many manifests, which are not there."""
    builder = LayoutBuilder(tmp_path)
    inner = builder.add_index([named(number) for number in range(COUNT)])
    outer = builder.add_index([inner])
    builder.tag("1", outer)
    builder.finish()
    return outer


def test_all_that_indexes_below_name_is_added_bare(tmp_path: Path, outer: Descriptor) -> None:
    found = {outer.digest: outer}
    added = add_nested(Folder("oci:x", str(tmp_path)), found, 0)
    assert [each.media_type for each in found.values()][:2] == [OCI_INDEX, OCI_INDEX]
    assert list(found.values())[2:] == [named(number).bare() for number in range(COUNT)]
    assert added == sum(map(entry_memory, found.values())) - entry_memory(outer)


def test_no_more_is_added_than_there_is_room_for(tmp_path: Path, outer: Descriptor) -> None:
    found = {outer.digest: outer}
    taken = MAX_LAYOUT_KEPT_MEMORY - 10 * LAYOUT_ENTRY_MEMORY
    assert add_nested(Folder("oci:x", str(tmp_path)), found, taken) == 10 * LAYOUT_ENTRY_MEMORY
    assert len(found) == 1 + 10


def test_long_names_take_more_of_the_room() -> None:
    long = Descriptor(media_type="a/" + "m" * 250, digest=Digest("a:" + "b" * 500), size=1)
    assert entry_memory(named(1)) == LAYOUT_ENTRY_MEMORY
    assert entry_memory(long) > LAYOUT_ENTRY_MEMORY + 450


def test_what_is_known_of_nested_indexes_counts_beside_other_layouts(
    tmp_path: Path, outer: Descriptor
) -> None:
    """Four layouts with many manifests below their indexes took 335 MiB."""
    shelf = Shelf(1_000_000_000)
    contents = Contents(Folder("oci:x", str(tmp_path)), shelf)
    found = contents.find(Wanted("1", None))
    found.part.close()
    assert shelf.taken == entry_memory(outer) + len("1") + 49
    with pytest.raises(NotFoundError):
        contents.find(Wanted("", digest_of(b"nobody wrote this")))
    assert shelf.taken >= (COUNT + 2) * LAYOUT_ENTRY_MEMORY
