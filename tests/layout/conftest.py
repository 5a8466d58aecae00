"""A layout with all that there is to find, as a folder and as an archive."""

from __future__ import annotations

import random
import tarfile
from typing import TYPE_CHECKING, Final

import pytest

from multi_fetch.layout.archive import Archive
from multi_fetch.layout.folder import Folder
from multi_fetch.limits import MAX_DATA_BYTES
from multi_fetch.testing.builder import LayoutBuilder

if TYPE_CHECKING:
    from pathlib import Path

    from multi_fetch.layout.part import Source
    from multi_fetch.oci.digest import Digest

_random = random.Random("layout")
SMALL: Final = _random.randbytes(1_000)
LARGE: Final = _random.randbytes(2 * MAX_DATA_BYTES + 17)


class Sample:
    """An image in an index in an index, and blobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.builder = LayoutBuilder(folder)
        self.small = self.builder.add_blob(SMALL)
        self.large = self.builder.add_blob(LARGE)
        self.image = self.builder.add_image(self.builder.add_empty(), [self.small, self.large])
        self.inner = self.builder.add_index([self.image])
        self.outer = self.builder.add_index([self.inner])
        self.builder.tag("latest", self.outer)
        self.layout = self.builder.finish()

    @property
    def locator(self) -> str:
        return f"oci:{self.folder}"

    def path(self, digest: Digest) -> Path:
        return self.folder / "blobs" / digest.algorithm / digest.encoded


def pack(folder: Path, archive: Path, **options: int) -> Path:
    """Packs a layout's folder as ``tar -C folder -cf archive .`` does."""
    with tarfile.open(archive, "w", **options) as tar:  # type: ignore[call-overload]  # see above
        tar.add(folder, ".")
    return archive


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return Sample(tmp_path / "layout")


@pytest.fixture(params=["oci", "oci-archive"])
def source(sample: Sample, tmp_path: Path, request: pytest.FixtureRequest) -> Source:
    """The sample, once as a folder and once as an archive."""
    if request.param == "oci":
        return Folder(sample.locator, str(sample.folder))
    path = pack(sample.folder, tmp_path / "layout.tar")
    return Archive(f"oci-archive:{path}", str(path))
