"""A registry on a real socket, a store before it, and somebody who consumes as the worker does."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest

from multi_fetch.limits import MAX_DATA_BYTES
from multi_fetch.oci.digest import Digest, digest_of
from multi_fetch.oci.reference import Reference, parse_familiar
from multi_fetch.remotes import Patience, open_remote
from multi_fetch.store import StoreSettings, open_store
from multi_fetch.store.blobs import Check
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.registry import serve_layout
from multi_fetch.verify import Verifier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from multi_fetch.remotes import Remote
    from multi_fetch.store.remote import StoredRemote
    from multi_fetch.testing.faults import Fault
    from multi_fetch.testing.registry import LoopbackRegistry

_random = random.Random("store")
SMALL: Final = _random.randbytes(1_000)
LARGE: Final = _random.randbytes(4 * MAX_DATA_BYTES + 17)
# Trouble with the registry is an answer at once.
IMPATIENT: Final = Patience(retries=0)


class Sample:
    """What the registry has: an image of two layers by the tag ``latest``."""

    def __init__(self, folder: Path) -> None:
        builder = LayoutBuilder(folder)
        layers = [builder.add_blob(SMALL), builder.add_blob(LARGE)]
        self.image = builder.add_image(builder.add_empty(), layers)
        builder.tag("latest", self.image)
        self.layout = builder.finish()
        self.small, self.large = layers[0].digest, layers[1].digest


class Place:
    """A registry, and a folder for a store before it."""

    def __init__(self, registry: LoopbackRegistry, folder: Path) -> None:
        self.registry = registry
        self.folder = folder
        self.locator = f"{registry.address}/demo/app"

    def ref(self, asked: str) -> Reference:
        """A tag, or a digest."""
        ref = parse_familiar(self.locator)
        return Reference(ref.locator, f"@{asked}" if isinstance(asked, Digest) else asked)

    @asynccontextmanager
    async def stored(
        self,
        *,
        is_required: bool = False,
        check: Check = Check.BY_READER,
        foreign_urls: bool = False,
    ) -> AsyncIterator[StoredRemote]:
        settings = StoreSettings(path=str(self.folder), is_required=is_required, check=check)
        ref = self.ref("")
        async with (
            open_remote(ref, patience=IMPATIENT, foreign_urls=foreign_urls) as remote,
            open_store(remote, settings) as stored,
        ):
            yield stored

    def path(self, digest: Digest) -> Path:
        return self.folder / "blobs" / digest.algorithm / digest.encoded

    def put(self, content: bytes) -> Path:
        path = self.path(digest_of(content))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def unfinished(self) -> list[Path]:
        """Files of content that is not whole."""
        return [path for path in (self.folder / "ingest").iterdir() if path.name[:3] == "sha"]

    def asked(self) -> list[str]:
        """What the registry answered: ``GET latest``, with a range where there was one.

        It is looked for in vain among manifests where nobody says what it is.
        """
        return [
            f"{each.method} {each.path.rpartition('/')[2]}"
            + "".join(f" {value}" for name, value in each.headers if name == "range")
            for each in self.registry.requests
            if each.status != 404
        ]


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return Sample(tmp_path / "registry")


@asynccontextmanager
async def serving(sample: Sample, folder: Path, *faults: Fault) -> AsyncIterator[Place]:
    """The registry with faults, and a store that is not there yet."""
    async with serve_layout(sample.layout, faults=faults) as registry:
        yield Place(registry, folder / "store")


async def consume(remote: Remote, ref: Reference) -> tuple[bytes, Path | None]:
    """Fetches and verifies, then keeps; gives the content, and the file that has it."""
    async with remote.open(ref) as opened:
        verifier = Verifier(opened.descriptor.digest, opened.descriptor.size)
        content = b""
        async for chunk in opened.chunks:
            verifier.update(chunk)
            content += chunk
        verifier.finish()
        assert opened.name == str(ref)
        return content, None if opened.keep is None else await opened.keep()
