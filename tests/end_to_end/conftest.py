"""What the real commands are run on: one layout, and where it is served."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from multi_fetch.testing.builder import LayoutBuilder
from tests.loopback import loopback

if TYPE_CHECKING:
    from collections.abc import Iterator

    from multi_fetch.testing.layout import Layout
    from multi_fetch.testing.registry import LoopbackRegistry

MULTI_FETCH: Final = str(Path(sys.executable).with_name("multi-fetch"))
FETCH_OBJECT: Final = str(Path(sys.executable).with_name("fetch-object"))

# A wait that takes longer than this is no longer "at once": far above what a busy machine takes to
# start a process, and below the 30 s for which one waits for a silent server.
AT_ONCE_SECONDS: Final = 20.0

_random = random.Random("end to end")
SMALL: Final = _random.randbytes(1_000)
LARGE: Final = _random.randbytes(3 * 1024 * 1024 + 17)


class Sample:
    """A layout.

    Attributes:
        contents: what is there, by the object that a request names.
        small: the digest of SMALL; ``large`` that of LARGE.
        latest: the content of the tag ``latest``, an image manifest.
    """

    def __init__(self, folder: Path) -> None:
        builder = LayoutBuilder(folder)
        small, large = builder.add_blob(SMALL), builder.add_blob(LARGE)
        empty = builder.add_blob(b"")
        sha512 = builder.add_blob(SMALL, algorithm="sha512")
        image = builder.add_image(builder.add_empty(), [small, large])
        index = builder.add_index([image])
        builder.tag("latest", image)
        builder.tag("index", index)
        self.layout: Layout = builder.finish()
        self.small, self.large = str(small.digest), str(large.digest)
        self.latest = self._read(image.digest.encoded)
        self.contents: dict[str, bytes] = {
            "latest": self.latest,
            str(image.digest): self.latest,
            f"@{image.digest}": self.latest,
            f"latest@{image.digest}": self.latest,
            "index": self._read(index.digest.encoded),
            self.small: SMALL,
            self.large: LARGE,
            str(empty.digest): b"",
            str(sha512.digest): SMALL,
        }

    def _read(self, encoded: str) -> bytes:
        return (self.layout_folder / encoded).read_bytes()

    @property
    def layout_folder(self) -> Path:
        return self.layout.folder / "blobs" / "sha256"


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return Sample(tmp_path_factory.mktemp("layout"))


@pytest.fixture(scope="session")
def registry(sample: Sample) -> Iterator[LoopbackRegistry]:
    """A registry without faults; a test that counts requests starts its own."""
    with loopback(sample.layout) as running:
        yield running


@pytest.fixture(scope="session")
def remote(registry: LoopbackRegistry) -> str:
    return f"{registry.address}/demo/app"
