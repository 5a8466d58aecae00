"""Steps of ``multi-fetch doctor`` in a layout: its files, its tags, and what is below them.

Manifests are read and verified; of blobs it is seen that they are there, with the right size. Their
content is verified when it is fetched.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from multi_fetch.errors import MultiFetchError
from multi_fetch.limits import MAX_MANIFEST_BYTES, MAX_TREE
from multi_fetch.oci.manifest import is_manifest, parse_manifest
from multi_fetch.oci.reference import Reference
from multi_fetch.registry.url import shown
from multi_fetch.remotes import open_remote
from multi_fetch.verify import Verifier, hold

if TYPE_CHECKING:
    from multi_fetch.cli.checkup import Checkup
    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.remotes import Remote


async def check_layout(checkup: Checkup, ref: Reference) -> bool:
    """Takes all steps; tells whether the layout can be read at all."""
    async with open_remote(ref) as remote:
        if ref.object:
            names = [ref.object]
        else:
            tags = await checkup.take("layout", lambda: _tags(remote, ref))
            if tags is None:
                return False
            checkup.ok("layout", f"{len(tags)} tags in index.json")
            names = tags
        walk = _Walk(checkup, remote, ref.locator)
        for name in names:
            await walk.check(name)
        walk.tell()
    return True


async def _tags(remote: Remote, ref: Reference) -> list[str]:
    found: list[str] = []
    async with aclosing(remote.tags(ref)) as pages:
        async for page in pages:
            found += page
    return found


class _Walk:
    """All that is below tags, each digest once."""

    def __init__(self, checkup: Checkup, remote: Remote, locator: str) -> None:
        self._checkup = checkup
        self._remote = remote
        self._locator = locator
        self._seen: set[str] = set()
        self._manifests = 0
        self._blobs = 0
        self._bytes = 0

    async def check(self, name: str) -> None:
        """Goes down from a tag or a digest."""

        async def resolve() -> Descriptor:
            return (await self._remote.resolve(Reference(self._locator, name))).descriptor

        top = await self._checkup.take("object", resolve)
        waiting = [] if top is None else [top]
        while waiting and len(self._seen) < MAX_TREE:
            descriptor = waiting.pop()
            if descriptor.digest in self._seen:
                continue
            self._seen.add(descriptor.digest)
            try:
                waiting += await self._look(descriptor)
            except MultiFetchError as error:
                self._complain(name, descriptor, error)

    def tell(self) -> None:
        """What was found, all together."""
        self._checkup.ok(
            "content",
            f"{self._manifests} manifests verified; {self._blobs} blobs of {self._bytes} bytes in"
            " all are there, with the right sizes",
        )

    async def _look(self, descriptor: Descriptor) -> list[Descriptor]:
        """What is below an object."""
        ref = Reference(self._locator, f"@{descriptor.digest}")
        types = (descriptor.media_type,)
        if not is_manifest(descriptor.media_type):
            await self._remote.resolve(ref, media_types=types, size=descriptor.size)
            self._blobs += 1
            self._bytes += descriptor.size or 0
            return []
        async with self._remote.open(ref, media_types=types, size=descriptor.size) as opened:
            verifier = Verifier(descriptor.digest, descriptor.size)
            content, _ = await hold(opened.chunks, verifier, MAX_MANIFEST_BYTES)
        self._manifests += 1
        return parse_manifest(content, descriptor.media_type).children()

    def _complain(self, name: str, descriptor: Descriptor, error: MultiFetchError) -> None:
        if descriptor.urls and error.code == "not-found":
            self._checkup.warn(
                "content",
                f"{name}: {descriptor.digest} is elsewhere, at {shown(descriptor.urls[0])}",
                "add --foreign-urls to fetch it from there",
            )
            return
        self._checkup.fail(
            "content",
            f"{name}: {error.message}",
            "copy the image into the layout once more, as with 'skopeo copy'",
            error.code,
        )
