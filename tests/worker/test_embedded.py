"""Content that a manifest has within itself saves a request, where it is right."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.limits import MAX_EMBEDDED_BYTES, MAX_TREE_EMBEDDED_BYTES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import digest_of, parse_digest
from multi_fetch.oci.media_types import OCI_INDEX, OCI_MANIFEST
from multi_fetch.protocol.frames import Begin, End
from multi_fetch.worker.embedded import embedded_content
from multi_fetch.worker.serve import Settings
from tests.worker.harness import answers, content, terminals
from tests.worker.images import CONFIG, LAYER, add_image, described
from tests.worker.memory_remote import MemoryRemote

EMPTY = b"{}"
ORDERED = Settings(software="test", is_ordered=True)


def embedding(data: str, content: bytes = EMPTY, **changes: Any) -> Descriptor:
    facts = {"media_type": "a/b", "digest": digest_of(content), "size": len(content), **changes}
    return Descriptor(data=data, **facts)


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


@given(st.binary(min_size=1, max_size=200))
def test_what_is_embedded_and_right_is_the_content(content: bytes) -> None:
    assert embedded_content(embedding(encoded(content), content)) == content


@pytest.mark.parametrize(
    "descriptor",
    [
        embedding(""),
        embedding("e3"),
        embedding("e30=\n"),
        embedding("e3 0="),
        embedding("é30="),
        embedding(encoded(b"{]")),
        embedding(encoded(EMPTY + b" ")),
        embedding(encoded(EMPTY), size=3),
        embedding(encoded(EMPTY), size=None),
        embedding(encoded(EMPTY), digest=parse_digest("blake9:" + "a" * 64)),
        embedding(encoded(b"x" * (MAX_EMBEDDED_BYTES + 1)), b"x" * (MAX_EMBEDDED_BYTES + 1)),
        embedding("e30=" * MAX_EMBEDDED_BYTES),
    ],
)
def test_what_is_not_right_or_too_large_is_fetched(descriptor: Descriptor) -> None:
    assert embedded_content(descriptor) is None


def add_manifest(remote: MemoryRemote, tag: str, *parts: dict[str, object]) -> None:
    document = {"mediaType": OCI_MANIFEST, "config": parts[0], "layers": list(parts[1:])}
    remote.add(json.dumps(document).encode(), tag, media_type=OCI_MANIFEST)


async def test_an_embedded_config_is_answered_without_a_request() -> None:
    remote = MemoryRemote()
    config, layer = remote.add(EMPTY), remote.add(b"a layer")
    add_manifest(
        remote,
        "v1",
        {**described(remote, config, CONFIG), "data": encoded(EMPTY)},
        described(remote, layer, LAYER),
    )
    _, frames = await answers(remote, b"v1 children:all\n", ORDERED)
    assert remote.opened == ["v1", f"@{layer}"]
    assert (content(frames, -1), content(frames, -2)) == (EMPTY, b"a layer")
    (begin,) = (frame for frame in frames if isinstance(frame, Begin) and frame.id == -1)
    assert (begin.descriptor.digest, begin.descriptor.data, begin.parent) == (config, "", 1)
    end = terminals(frames)[-1]
    assert isinstance(end, End)
    assert end.digest == config


async def test_each_who_shares_embedded_content_is_told_what_its_own_manifest_says_of_it() -> None:
    remote = MemoryRemote()
    config = remote.add(EMPTY)
    part = {**described(remote, config, CONFIG), "data": encoded(EMPTY)}
    for tag in ("v1", "v2"):
        add_manifest(remote, tag, {**part, "annotations": {"of": tag}})
    lines = f"v1 children:all\n{config} mediatype:{CONFIG} size:2 children:all\nv2 children:all\n"
    _, frames = await answers(remote, lines.encode(), Settings(software="test", jobs=1))
    begun = {frame.id: frame for frame in frames if isinstance(frame, Begin)}
    told = {frame.parent: frame.descriptor.annotations for frame in begun.values()}
    assert (told[1], told[3]) == ({"of": "v1"}, {"of": "v2"})
    assert begun[2].descriptor == Descriptor(media_type=CONFIG, digest=config, size=2)
    assert remote.opened == ["v1", "v2"]  # so it was shared


async def test_wrong_embedded_content_is_not_believed() -> None:
    remote = MemoryRemote()
    config = remote.add(EMPTY)
    add_manifest(remote, "v1", {**described(remote, config, CONFIG), "data": encoded(b"[]")})
    _, frames = await answers(remote, b"v1 children:all\n", ORDERED)
    assert remote.opened == ["v1", f"@{config}"]
    assert content(frames, -1) == EMPTY


async def test_an_embedded_manifest_leads_on_to_its_own_children() -> None:
    remote = MemoryRemote()
    image = add_image(remote, "one", b"a layer")
    part = {
        **described(remote, image, OCI_MANIFEST),
        "data": encoded(remote.objects[image]),
    }
    index = {"mediaType": OCI_INDEX, "manifests": [part]}
    remote.add(json.dumps(index).encode(), "multi", media_type=OCI_INDEX)
    _, frames = await answers(remote, b"multi children:all\n", ORDERED)
    assert f"@{image}" not in remote.opened
    assert len(remote.opened) == 3
    assert content(frames, -1) == remote.objects[image]
    assert all(isinstance(end, End) for end in terminals(frames).values())


@pytest.mark.parametrize("hints", ["children:all content:none", "children:blobs"])
async def test_a_listing_asks_for_nothing_that_is_embedded(hints: str) -> None:
    """Neither for a blob's descriptor, nor for a manifest's content, which is only looked into."""
    remote = MemoryRemote()
    config = remote.add(EMPTY)
    add_manifest(remote, "v1", {**described(remote, config, CONFIG), "data": encoded(EMPTY)})
    manifest = digest_of(remote.objects["v1"])
    part = {
        **described(remote, manifest, OCI_MANIFEST),
        "data": encoded(remote.objects["v1"]),
    }
    index = {"mediaType": OCI_INDEX, "manifests": [part]}
    remote.add(json.dumps(index).encode(), "multi", media_type=OCI_INDEX)
    _, frames = await answers(remote, f"multi {hints}\n".encode(), ORDERED)
    assert not {f"@{config}", f"@{manifest}"} & {*remote.opened, *remote.resolved}
    begun = {frame.id: frame for frame in frames if isinstance(frame, Begin)}
    assert [begun[number].descriptor.digest for number in (-1, -2)] == [manifest, config]
    assert [begun[number].parent for number in (-1, -2)] == [1, -1]
    assert content(frames, -1) == b""
    assert all(isinstance(end, End) for end in terminals(frames).values())


@pytest.mark.parametrize("hints", ["", "content:none", "children:all"])
async def test_a_platforms_manifest_within_the_index_saves_a_request(hints: str) -> None:
    remote = MemoryRemote()
    image = add_image(remote, "one", b"a layer")
    platform = {"os": "linux", "architecture": "arm64"}
    part = {
        **described(remote, image, OCI_MANIFEST),
        "data": encoded(remote.objects[image]),
        "platform": platform,
    }
    index = {"mediaType": OCI_INDEX, "manifests": [part]}
    remote.add(json.dumps(index).encode(), "multi", media_type=OCI_INDEX)
    line = f"multi platform:linux/arm64 {hints}\n".encode()
    _, frames = await answers(remote, line, ORDERED)
    assert f"@{image}" not in {*remote.opened, *remote.resolved}
    begin = next(frame for frame in frames if isinstance(frame, Begin))
    assert (begin.descriptor.digest, begin.descriptor.data, begin.parent) == (image, "", None)
    assert content(frames, 1) == (b"" if hints == "content:none" else remote.objects[image])
    end = terminals(frames)[1]
    assert isinstance(end, End)
    assert end.children == (2 if hints == "children:all" else 0)


async def test_what_is_kept_below_one_request_has_a_bound() -> None:
    remote = MemoryRemote()
    size = MAX_EMBEDDED_BYTES
    blobs = [b"%d" % each + b"x" * (size - 3) for each in range(100, 170)]
    parts = [
        {**described(remote, remote.add(blob[:size]), LAYER), "data": encoded(blob[:size])}
        for blob in blobs
    ]
    add_manifest(remote, "v1", *parts)
    _, frames = await answers(remote, b"v1 children:all\n", ORDERED)
    kept = MAX_TREE_EMBEDDED_BYTES // size
    assert len(remote.opened) == 1 + len(parts) - kept
    assert [content(frames, -number) for number in range(1, 71)] == [each[:size] for each in blobs]
