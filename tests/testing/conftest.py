from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from multi_fetch.testing.builder import LayoutBuilder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.testing.layout import Layout

BLOB = bytes(range(256)) * 4


class Sample:
    """A layout with one blob of 1,024 bytes and one tagged image."""

    def __init__(self, folder: Path) -> None:
        builder = LayoutBuilder(folder)
        self.blob: Descriptor = builder.add_blob(BLOB)
        self.image: Descriptor = builder.add_image(builder.add_empty(), [self.blob])
        for tag in ("latest", "v1", "v2"):
            builder.tag(tag, self.image)
        self.layout: Layout = builder.finish()
        self.blob_path = f"/v2/demo/app/blobs/{self.blob.digest}"
        self.manifest_path = "/v2/demo/app/manifests/latest"


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return Sample(tmp_path)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client
