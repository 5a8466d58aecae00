"""What is below an object: an index's manifests, a manifest's config and layers."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from multi_fetch.errors import NotFoundError, TooLargeError
from multi_fetch.limits import (
    EXTRA_MEMORY,
    FOUND_MEMORY,
    MAX_FOUND_MEMORY,
    MAX_TREE,
    MAX_TREE_EMBEDDED_BYTES,
)
from multi_fetch.oci.descriptor import NO_ANNOTATIONS
from multi_fetch.oci.manifest import extras_of, is_manifest, parse_manifest
from multi_fetch.oci.media_types import INDEX_TYPES, is_media_type
from multi_fetch.oci.platform import names, select
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.request import Children, Request
from multi_fetch.worker.embedded import embedded_content
from multi_fetch.worker.job import Job, Target, Tree

if TYPE_CHECKING:
    from multi_fetch.keeping import Keeping
    from multi_fetch.oci.descriptor import Descriptor, Platform
    from multi_fetch.worker.window import Window


# Of the platforms that there are: the largest indexes have some ten.
MAX_SHOWN_CHARACTERS: Final = 1_000

# Of what is found; an image has three.
MAX_SHARED_TYPES: Final = 64


class Trees:
    """Numbers what is found, -1, -2, ... over a whole run.

    Args:
        window: where it is kept until its turn comes.
        keeping: whose index takes some of the room, if there is one.
    """

    def __init__(self, window: Window, keeping: Keeping | None = None) -> None:
        self._window = window
        self._keeping = keeping
        self._ids = count(1)
        self._types: dict[str, tuple[str, ...]] = {}

    def below(self, job: Job, descriptor: Descriptor, content: bytes) -> list[Job]:
        """The jobs for what a job's verified content names and its request wants.

        Each digest below one root becomes a job once, where it is found first.

        Raises:
            RegistryError: the content is no manifest, though its type says so.
            UnsupportedError: it is of schema 1.
            TooLargeError: it names too much, or the whole tree does, or all that is open.
        """
        request = job.request
        if request is None or request.children is Children.NONE:
            return []
        if not is_manifest(descriptor.media_type):
            return []
        if job.tree is None:
            job.tree = Tree(is_content_wanted=request.is_content_wanted, seen={descriptor.digest})
        seen = job.tree.seen
        new = [
            child
            for child in parse_manifest(content, descriptor.media_type).children()
            if child.digest not in seen and _is_wanted(child, request.children)
        ]
        if len(seen) + len(new) > MAX_TREE:
            raise TooLargeError(
                f"there are more than {MAX_TREE} objects below the request: ask for parts of it"
            )
        extras = extras_of(new) + sum(child.platform is not None for child in new)
        texts = _memory(content) + EXTRA_MEMORY * extras
        memory = texts // max(1, len(new)) + FOUND_MEMORY
        taken = self._keeping.index_memory() if self._keeping else 0
        if self._window.found.memory + memory * len(new) > MAX_FOUND_MEMORY - taken:
            beside = f" beside an index.json that takes {taken >> 20} MiB" if taken >> 20 else ""
            raise TooLargeError(
                f"there are {len(new)} more objects below this than are kept at a time{beside}: ask"
                " for parts of it, or for it when the other requests are done"
            )
        seen.update(child.digest for child in new)
        return [self._job(job, request, job.tree, child, memory) for child in new]

    def _job(self, parent: Job, above: Request, tree: Tree, child: Descriptor, memory: int) -> Job:
        types = self._shared(child.media_type)
        has_children = is_manifest(child.media_type)
        is_only_passed = has_children and above.children is Children.BLOBS
        request = Request(
            object=child.digest,
            locator=above.locator,
            digest=child.digest,
            # It goes into a header.
            media_types=types if is_media_type(child.media_type) else (),
            size=child.size,
            is_content_wanted=tree.is_content_wanted and not is_only_passed,
            children=above.children if has_children else Children.NONE,
            deadline_seconds=above.deadline_seconds,
        )
        embedded = None
        if tree.embedded_bytes < MAX_TREE_EMBEDDED_BYTES:
            embedded = embedded_content(child)
            tree.embedded_bytes += len(embedded or b"")
        return Job(
            id=-next(self._ids),
            request=request,
            parent=parent,
            # What is embedded can be as large as the manifest, and is sent as content anyway.
            described=replace(
                child, media_type=types[0], annotations=child.annotations or NO_ANNOTATIONS, data=""
            ),
            embedded=embedded,
            tree=tree,
            memory=memory,
        )

    def _shared(self, media_type: str) -> tuple[str, ...]:
        """A media type, alone, in one piece of memory for the many that are of it."""
        types = self._types.get(media_type)
        if types is None:
            if len(self._types) >= MAX_SHARED_TYPES:
                self._types.clear()
            types = self._types[media_type] = (media_type,)
        return types


def _memory(content: bytes) -> int:
    """What the texts of a manifest may take: Python has four bytes for each letter of some."""
    return len(content) * (1 if content.isascii() and b"\\u" not in content else 4)


def branch(target: Target, index: Descriptor, content: bytes, wanted: Platform) -> Target:
    """The manifest of an index that serves a platform.

    Raises:
        NotFoundError: there is none; the message lists what there is.
        MultiFetchError: the index cannot be read.
    """
    manifests = parse_manifest(content, index.media_type).manifests or ()
    found = select(manifests, wanted)
    if found is None:
        there = ", ".join(names(manifests)) or "none that names a platform"
        raise NotFoundError(
            f"{target.ref} has no manifest for {wanted}; it has {there[:MAX_SHOWN_CHARACTERS]}"
        )
    return Target(
        ref=Reference(target.ref.locator, f"@{found.digest}"),
        media_types=(found.media_type,) if is_media_type(found.media_type) else (),
        size=found.size,
        urls=found.urls,
        described=replace(found, data=""),
        embedded=None if is_index(found) else embedded_content(found),
    )


def is_index(descriptor: Descriptor) -> bool:
    """Whether an object leads on to others by platform."""
    return descriptor.media_type in INDEX_TYPES


def _is_wanted(child: Descriptor, children: Children) -> bool:
    return children is not Children.MANIFESTS or is_manifest(child.media_type)
