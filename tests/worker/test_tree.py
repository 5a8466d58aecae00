from __future__ import annotations

import gc
import json
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from multi_fetch.errors import NotFoundError, RegistryError, TooLargeError, UnsupportedError
from multi_fetch.limits import MAX_CHILDREN, MAX_FOUND_MEMORY, MAX_TREE
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import DOCKER_SCHEMA1, OCI_INDEX, OCI_MANIFEST, OCTET_STREAM
from multi_fetch.oci.platform import parse_platform
from multi_fetch.oci.reference import parse_reference
from multi_fetch.protocol.request import Children, Request
from multi_fetch.worker.job import Job, Target
from multi_fetch.worker.tree import Trees, branch
from multi_fetch.worker.window import Window

if TYPE_CHECKING:
    from pathlib import Path

    from multi_fetch.oci.digest import Digest

CONFIG, LAYER, OTHER = (digest_of(name) for name in (b"config", b"layer", b"other"))
TARGET = Target(ref=parse_reference("registry.test/app:multi"))


def named(digest: Digest, media_type: str = "a/b", size: int = 5, **more: object) -> object:
    return {"mediaType": media_type, "digest": digest, "size": size, **more}


def described(content: bytes, media_type: str) -> Descriptor:
    return Descriptor(media_type=media_type, digest=digest_of(content), size=len(content))


def new_window() -> Window:
    return Window(100, jobs=100, streams=1, is_ordered=False, on_start=lambda _: None)


def below(
    document: object,
    children: Children = Children.ALL,
    *,
    media_type: str = OCI_MANIFEST,
    is_content_wanted: bool = True,
) -> list[Job]:
    request = Request(
        object="a", children=children, is_content_wanted=is_content_wanted, deadline_seconds=9
    )
    content = json.dumps(document).encode()
    job = Job(id=1, request=request)
    return Trees(new_window()).below(job, described(content, media_type), content)


def requests(jobs: list[Job]) -> list[Request]:
    return [job.request for job in jobs if job.request is not None]


MANIFEST = {"config": named(CONFIG), "layers": [named(LAYER), named(OTHER), named(LAYER)]}
INDEX = {"manifests": [named(LAYER, OCI_MANIFEST), named(OTHER, "a/b")]}


def test_what_a_manifest_names_becomes_a_request_each_once_and_in_its_order() -> None:
    jobs = below(MANIFEST)
    assert [job.id for job in jobs] == [-1, -2, -3]
    assert [request.digest for request in requests(jobs)] == [CONFIG, LAYER, OTHER]
    assert {job.parent.id for job in jobs if job.parent is not None} == {1}
    first = requests(jobs)[0]
    assert (first.media_types, first.size, first.deadline_seconds) == (("a/b",), 5, 9)


@pytest.mark.parametrize(
    ("children", "found"),
    [
        (Children.NONE, []),
        (Children.ALL, [(LAYER, True, Children.ALL), (OTHER, True, Children.NONE)]),
        (Children.MANIFESTS, [(LAYER, True, Children.MANIFESTS)]),
        (Children.BLOBS, [(LAYER, False, Children.BLOBS), (OTHER, True, Children.NONE)]),
    ],
)
def test_each_sort_of_children_finds_its_own(
    children: Children, found: list[tuple[Digest, bool, Children]]
) -> None:
    jobs = requests(below(INDEX, children, media_type=OCI_INDEX))
    assert [(each.digest, each.is_content_wanted, each.children) for each in jobs] == found


def test_a_listing_asks_for_no_content_anywhere_below() -> None:
    jobs = requests(below(MANIFEST, is_content_wanted=False))
    assert not any(request.is_content_wanted for request in jobs)


def test_the_subject_of_a_manifest_is_not_below_it_and_a_blob_has_nothing_below() -> None:
    assert len(below({**MANIFEST, "subject": named(digest_of(b"subject"))})) == 3
    assert below(MANIFEST, media_type=OCTET_STREAM) == []


def test_one_digest_below_a_root_becomes_a_request_once_wherever_it_is_named() -> None:
    trees = Trees(new_window())
    root = Job(id=1, request=Request(object="a", children=Children.ALL))
    index = json.dumps(INDEX).encode()
    child, _ = trees.below(root, described(index, OCI_INDEX), index)
    manifest = json.dumps(MANIFEST).encode()
    found = trees.below(child, described(manifest, OCI_MANIFEST), manifest)
    assert [request.digest for request in requests(found)] == [CONFIG]
    assert [job.id for job in found] == [-3]


def test_a_tree_has_a_bound() -> None:
    trees, root = Trees(new_window()), Job(id=1, request=Request(object="a", children=Children.ALL))

    def find(start: int) -> list[Job]:
        layers = [named(digest_of(b"%d" % (start + each))) for each in range(MAX_CHILDREN)]
        content = json.dumps({"layers": layers}).encode()
        return trees.below(root, described(content, OCI_MANIFEST), content)

    taken = sum(len(find(start)) for start in range(0, MAX_TREE - MAX_CHILDREN, MAX_CHILDREN))
    assert taken == MAX_TREE - MAX_CHILDREN
    with pytest.raises(TooLargeError):
        find(MAX_TREE)


class Full:
    """A store whose index has left room for few."""

    def index_memory(self) -> int:
        return MAX_FOUND_MEMORY - 10_000

    async def keep(self, digest: Digest, content: bytes) -> Path | None:
        raise NotImplementedError


def test_what_a_stores_index_takes_is_no_room_for_what_is_found() -> None:
    root = Job(id=1, request=Request(object="a", children=Children.ALL))
    few, more = (
        json.dumps({"layers": [named(digest_of(b"%d" % each)) for each in range(count)]}).encode()
        for count in (5, 20)
    )
    trees = Trees(new_window(), Full())
    assert len(trees.below(root, described(few, OCI_MANIFEST), few)) == 5
    with pytest.raises(
        TooLargeError, match=r"beside an index.json that takes 67 MiB: .* other requests"
    ):
        trees.below(root, described(more, OCI_MANIFEST), more)


@pytest.mark.parametrize("letters", ["v", "\U0001f600"])
def test_what_is_below_all_that_is_open_has_a_bound_and_is_counted_until_it_is_done(
    letters: str,
) -> None:
    window = new_window()
    trees = Trees(window)
    layers = [named(digest_of(b"%d" % each)) for each in range(MAX_CHILDREN)]
    content = json.dumps({"layers": layers, "annotations": {"a": letters * 200_000}}).encode()
    found: list[Job] = []

    def find(root_id: int) -> None:
        root = Job(id=root_id, request=Request(object="a", children=Children.ALL))
        jobs = trees.below(root, described(content, OCI_MANIFEST), content)
        window.add_children(root, jobs)
        found.extend(jobs)

    def find_too_much() -> None:
        for number in range(1, 100):
            find(number)

    with pytest.raises(TooLargeError, match="other requests"):
        find_too_much()
    assert MAX_FOUND_MEMORY // 2 < window.found.memory <= MAX_FOUND_MEMORY
    for job in found:
        window.close(job, None)
    assert window.found.memory == 0
    find(100)


@pytest.mark.parametrize("media_type", ["téxt/plain", "a/b\r\nX: y", "a/b; c=d", ""])
def test_what_is_no_media_type_is_told_but_never_asked_by(media_type: str) -> None:
    (job,) = below({"layers": [named(LAYER, media_type)]})
    assert job.described is not None
    assert job.described.media_type == media_type
    assert requests([job])[0].media_types == ()


@pytest.mark.parametrize(
    "layer",
    [named(LAYER, size=-1), named(LAYER, size=1 << 63), named(LAYER, "a/" + "b" * 300), {"a": 1}],
)
def test_what_no_frame_or_header_could_carry_is_refused(layer: object) -> None:
    with pytest.raises(RegistryError):
        below({"layers": [layer]})


def test_schema_1_is_refused() -> None:
    with pytest.raises(UnsupportedError):
        below({}, media_type=DOCKER_SCHEMA1)


def test_what_is_embedded_is_not_sent_twice() -> None:
    (job,) = below({"layers": [named(LAYER, data="bGF5ZXI=")]})
    assert job.described is not None
    assert job.described.data == ""


def on(platform: str, digest: Digest) -> object:
    os, architecture = platform.split("/")
    return named(digest, OCI_MANIFEST, platform={"os": os, "architecture": architecture})


def test_a_branch_is_the_manifest_of_its_platform() -> None:
    content = json.dumps({"manifests": [on("linux/386", OTHER), on("linux/amd64", LAYER)]}).encode()
    found = branch(TARGET, described(content, OCI_INDEX), content, parse_platform("linux/amd64"))
    assert str(found.ref) == f"registry.test/app@{LAYER}"
    assert (found.media_types, found.size) == ((OCI_MANIFEST,), 5)
    assert found.described is not None
    assert str(found.described.platform) == "linux/amd64"


@pytest.mark.parametrize(
    ("manifests", "told"),
    [
        ([on("linux/amd64", LAYER), on("linux/386", OTHER)], "it has linux/386, linux/amd64"),
        ([named(LAYER, OCI_MANIFEST)], "it has none that names a platform"),
        ([], "it has none that names a platform"),
    ],
)
def test_a_platform_that_is_not_there_lists_those_that_are(
    manifests: list[object], told: str
) -> None:
    content = json.dumps({"manifests": manifests}).encode()
    with pytest.raises(NotFoundError, match=told):
        branch(TARGET, described(content, OCI_INDEX), content, parse_platform("linux/s390x"))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"annotations": {"one": "x" * 20}},
        {"annotations": {f"key{number}": "x" * 20 for number in range(4)}},
        {"urls": ["https://store.test/a", "https://store.test/b"]},
        {"platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
    ],
)
def test_what_is_found_takes_no_more_memory_than_is_counted_for_it(more: dict[str, object]) -> None:
    names = [str(digest_of(f"{number}".encode())) for number in range(2_000)]
    layers = [{"mediaType": "a/b", "digest": name, "size": 5, **more} for name in names]
    content = json.dumps({"layers": layers}, separators=(",", ":")).encode()
    window, root = new_window(), Job(id=1, request=Request(object="a", children=Children.ALL))
    window.admit_now(root)
    gc.collect()
    tracemalloc.start()
    try:
        found = Trees(window).below(root, described(content, OCI_MANIFEST), content)
        window.add_children(root, found)
        taken_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(found) == len(layers)
    assert taken_bytes <= 1.05 * window.found.memory
