"""Reads an OCI image layout: a folder with ``oci-layout``, ``index.json`` and ``blobs/``.

Source: image-spec, image-layout.md. What is a manifest is known only by walking down from
index.json through all indexes; every other blob is just a blob, as in a registry. Content is
looked up in the folder when it is asked for, so a test may alter or remove it at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from multi_fetch.errors import MultiFetchError
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import Digest
from multi_fetch.oci.layout import (
    INDEX_FILE,
    MARKER_FILE,
    LayoutIndex,
    check_marker,
    parse_layout_index,
)
from multi_fetch.oci.media_types import INDEX_TYPES, MANIFEST_TYPES
from multi_fetch.oci.referrer import REFERRER_TYPES, parse_referrer

if TYPE_CHECKING:
    from collections.abc import Iterator


class Layout(msgspec.Struct, frozen=True):
    """A layout's tags and manifests, and the way to its content.

    Attributes:
        folder: where ``index.json`` lies.
        tags: each tag with its manifest's descriptor.
        manifests: each manifest and index that index.json leads to.
    """

    folder: Path
    tags: Mapping[str, Descriptor]
    manifests: Mapping[Digest, Descriptor]

    def find_manifest(self, reference: str) -> Descriptor | None:
        """The manifest or index of a tag or digest, if there is one and its content is there."""
        found = self.tags.get(reference) or self.manifests.get(Digest(reference))
        return found if found and blob_path(self.folder, found.digest).is_file() else None

    def find_blob(self, digest: Digest) -> Path | None:
        """The file of a blob; None if there is none, or if it is a manifest."""
        path = blob_path(self.folder, digest)
        return path if digest not in self.manifests and path.is_file() else None

    def referrers(self, digest: str) -> list[Descriptor]:
        """What a registry lists as referring to a digest: manifests whose subject it is."""
        found: list[Descriptor] = []
        for each in self.manifests.values():
            path = blob_path(self.folder, each.digest)
            if each.media_type in REFERRER_TYPES and path.is_file():
                referrer = parse_referrer(path.read_bytes())
                if referrer.refers_to(digest):
                    found.append(referrer.describe(each))
        return found


def blob_path(folder: Path, digest: Digest) -> Path:
    """Where a layout keeps the content of a digest."""
    return folder / "blobs" / digest.algorithm / digest.encoded


def read_layout(folder: Path | str) -> Layout:
    """Reads ``oci-layout``, ``index.json`` and all indexes below.

    Raises:
        FileNotFoundError: the folder is no layout.
        ValueError: a file in it is not what image-spec says; the message names the file.
    """
    folder = Path(folder)
    with _naming(folder / MARKER_FILE):
        check_marker((folder / MARKER_FILE).read_bytes())
    index = _read_index(folder / INDEX_FILE)
    manifests = {each.digest: each for each in _walk(folder, index.manifests)}
    return Layout(folder, index.tags, manifests)


def _walk(folder: Path, top: tuple[Descriptor, ...]) -> Iterator[Descriptor]:
    seen: set[Digest] = set()
    left = list(reversed(top))
    while left:
        descriptor = left.pop()
        if descriptor.digest in seen or descriptor.media_type not in MANIFEST_TYPES:
            continue
        seen.add(descriptor.digest)
        yield descriptor
        path = blob_path(folder, descriptor.digest)
        # image-layout.md: content may be missing here and be had from elsewhere
        if descriptor.media_type in INDEX_TYPES and path.is_file():
            left.extend(reversed(_read_index(path).manifests))


def _read_index(path: Path) -> LayoutIndex:
    with _naming(path):
        return parse_layout_index(path.read_bytes(), path.name)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except MultiFetchError as error:
        raise ValueError(f"{path}: {error}") from error
