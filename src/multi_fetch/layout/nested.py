"""What the indexes below a layout's index.json name, and those below them.

So it is known what a manifest is that is asked for by its digest alone. Content is verified, as
something is concluded from it. All here blocks: it is for threads.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING

from msgspec.structs import replace

from multi_fetch.advice import COPY_AGAIN
from multi_fetch.errors import (
    MultiFetchError,
    NotFoundError,
    RegistryError,
    TooLargeError,
    UnsupportedError,
)
from multi_fetch.layout.part import translated
from multi_fetch.limits import MAX_LAYOUT_KEPT_MEMORY, MAX_MANIFEST_BYTES
from multi_fetch.oci.digest import Digest, digest_of
from multi_fetch.oci.layout import blob_name, entry_memory
from multi_fetch.oci.manifest import parse_manifest
from multi_fetch.oci.media_types import INDEX_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from multi_fetch.layout.part import Source
    from multi_fetch.oci.descriptor import Descriptor

log = logging.getLogger(__name__)


def add_nested(source: Source, named: dict[Digest, Descriptor], memory: int) -> int:
    """Adds what is named below what is known, as far as there is room for it.

    Args:
        source: where the layout's files are.
        named: what is known; the rest is added, bare.
        memory: what that takes, in bytes, of MAX_LAYOUT_KEPT_MEMORY.

    Returns:
        What the rest takes.
    """
    types: dict[str, str] = {}
    added = 0
    left = deque(named.values())
    while left:
        outer = left.popleft()
        if outer.media_type not in INDEX_TYPES:
            continue
        for inner in _below(source, outer):
            if inner.digest in named:
                continue
            more = entry_memory(inner)
            if memory + added + more > MAX_LAYOUT_KEPT_MEMORY:
                return added
            added += more
            media_type = types.setdefault(inner.media_type, inner.media_type)
            named[inner.digest] = bare = replace(inner.bare(), media_type=media_type)
            left.append(bare)
    return added


def _below(source: Source, outer: Descriptor) -> Iterable[Descriptor]:
    try:
        with closing(source.open(blob_name(outer.digest))) as part:
            if part.size > MAX_MANIFEST_BYTES:
                raise TooLargeError(f"{outer.digest} has {part.size} bytes{COPY_AGAIN}")
            with translated(f"{outer.digest} in {source.name}"):
                content = part.read(part.size)
        if not is_intact(outer.digest, content):
            raise RegistryError(f"{outer.digest} is damaged{COPY_AGAIN}")
        return parse_manifest(content, outer.media_type).manifests or ()
    except NotFoundError:
        return ()  # image-layout.md: content may be missing here and be had from elsewhere
    except MultiFetchError as error:
        # Whoever asks for the index itself is told; of what lies below, the content decides.
        log.warning("an index was passed over", extra={"error": error.message})
        return ()


def is_intact(digest: Digest, content: bytes) -> bool:
    """Whether content has its digest; not, where nobody can say."""
    try:
        return digest_of(content, digest.algorithm) == digest
    except UnsupportedError:
        return False
