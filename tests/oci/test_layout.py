"""Layouts' documents: what index.json and oci-layout say, and what is refused."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.errors import (
    InvalidDigestError,
    InvalidRequestError,
    RegistryError,
    TooLargeError,
    UnsupportedError,
)
from multi_fetch.limits import MAX_LAYOUT_ENTRIES
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.layout import (
    REF_NAME,
    LayoutIndex,
    bare_layout_index,
    blob_name,
    check_marker,
    parse_layout_index,
)
from multi_fetch.oci.media_types import OCI_MANIFEST


def entry(text: str, tag: str | None = None, **more: object) -> dict[str, object]:
    annotations = {} if tag is None else {"annotations": {REF_NAME: tag}}
    digest = digest_of(text.encode())
    return {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(text), **annotations, **more}


def index_of(*entries: dict[str, object]) -> LayoutIndex:
    return parse_layout_index(json.dumps({"schemaVersion": 2, "manifests": entries}).encode())


def found(index: LayoutIndex, tag: str) -> str | None:
    descriptor = index.find(tag)
    return None if descriptor is None else descriptor.digest


def test_what_has_no_name_is_no_tag_but_is_there() -> None:
    index = index_of(entry("one"), entry("two", "latest"))
    assert [each.digest for each in index.manifests] == [digest_of(b"one"), digest_of(b"two")]
    assert list(index.tags) == ["latest"]


def test_of_two_descriptors_of_one_name_the_first_is_meant() -> None:
    assert found(index_of(entry("one", "v1"), entry("two", "v1")), "v1") == digest_of(b"one")


@pytest.mark.parametrize(
    "name", ["docker.io/library/redis:7", "localhost:5000/redis:7", "redis:7", "7"]
)
def test_a_tag_is_found_by_its_bare_name_and_as_the_tag_of_a_full_reference(name: str) -> None:
    assert found(index_of(entry("other", "latest"), entry("one", name)), "7") == digest_of(b"one")


def test_a_bare_name_comes_before_full_references() -> None:
    index = index_of(entry("full", "docker.io/library/redis:7"), entry("bare", "7"))
    assert found(index, "7") == digest_of(b"bare")


@pytest.mark.parametrize("name", ["a7", "x-7", "Redis:7", "host:7", "redis:7@", "https://redis:7"])
def test_what_only_looks_like_a_full_reference_is_none(name: str) -> None:
    expected = digest_of(b"one") if name == "host:7" else None
    assert found(index_of(entry("one", name)), "7") == expected


def test_full_references_that_differ_under_one_tag_are_ambiguous() -> None:
    """Their names and digests are told; if they mean the same, nothing is ambiguous."""
    index = index_of(entry("one", "docker.io/library/redis:7"), entry("two", "ghcr.io/o/redis:7"))
    with pytest.raises(InvalidRequestError, match=r"ambiguous.*ghcr\.io/o/redis:7"):
        index.find("7")
    same = index_of(entry("one", "docker.io/library/redis:7"), entry("one", "ghcr.io/o/redis:7"))
    assert found(same, "7") == digest_of(b"one")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"manifests":{}}',
        b'{"manifests":[1]}',
        b'{"manifests":[{"mediaType":"a/b","digest":"../../etc:passwd","size":1}]}',
        b'{"manifests":[{"mediaType":"a/b","digest":"sha256:../../../etc/passwd","size":1}]}',
        b'\xff{"manifests":[]}',
        b'{"manifests":' + b"[" * 100_000,
    ],
)
def test_an_index_that_cannot_be_read_is_refused(content: bytes) -> None:
    for parse in (parse_layout_index, bare_layout_index):
        with pytest.raises(RegistryError, match=r"index\.json cannot be read"):
            parse(content)


@pytest.mark.parametrize("more", [{"size": None}, {"size": -1}, {"size": 1 << 63}])
def test_a_descriptor_without_a_size_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(RegistryError):
        index_of(entry("one", **more))


def test_more_entries_than_the_limit_are_refused() -> None:
    one = json.dumps(entry("one")).encode()
    many = b",".join([one] * (MAX_LAYOUT_ENTRIES + 1))
    with pytest.raises(TooLargeError, match="65537"):
        parse_layout_index(b'{"manifests":[%s]}' % many)


@pytest.mark.parametrize("count", [30_000, 40_000])
def test_long_digests_and_types_count_for_what_they_take(count: int) -> None:
    """Of as many entries with short ones, all are kept."""
    start = '{"mediaType":"a/' + "m" * 250 + '","size":1,"digest":"' + "a" * 150 + ":"
    entries = ",".join(f'{start}{number:0>360}"}}' for number in range(count))
    with pytest.raises(TooLargeError, match="too much") if count > 35_000 else nullcontext():
        assert len(bare_layout_index(b'{"manifests":[%s]}' % entries.encode()).manifests) == count


@given(st.binary())
def test_any_bytes_are_an_index_or_an_error(content: bytes) -> None:
    for parse in (parse_layout_index, bare_layout_index):
        with suppress(RegistryError, TooLargeError):
            parse(content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["manifests", "digest", "size", "mediaType", "annotations", REF_NAME]),
            inner,
        )
    ),
)


@given(JSON)
def test_any_json_is_an_index_or_an_error(document: object) -> None:
    with suppress(RegistryError, TooLargeError):
        content = json.dumps({"manifests": document}).encode()
        index = parse_layout_index(content)
        assert all(each.size is not None for each in index.manifests)
        bare = bare_layout_index(content)
        assert [each.bare() for each in index.manifests] == list(bare.manifests)
        assert bare.tags.keys() == index.tags.keys() - {""}


def test_what_is_kept_of_a_bare_index_does_not_grow_with_what_it_says() -> None:
    annotations = {f"org.example.{each}": f"{each}" * 20 for each in range(5)}
    entries = [
        entry(f"{each}", f"t{each}", annotations=annotations | {REF_NAME: f"t{each}"})
        for each in range(5_000)
    ]
    content = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    tracemalloc.start()
    index = bare_layout_index(content)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert index.tags["t7"].digest == digest_of(b"7")
    assert kept < index.memory() < 500 * len(entries)


def test_names_that_take_too_much_memory_are_refused() -> None:
    # A text with one such character has four bytes for each.
    entries = [entry("a", f"{each}\N{OLD ITALIC LETTER A}".ljust(1_000)) for each in range(13_000)]
    content = json.dumps({"manifests": entries}, ensure_ascii=False).encode()
    with pytest.raises(TooLargeError, match="split the layout"):
        bare_layout_index(content)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"imageLayoutVersion":1}', b"\xff"])
def test_a_marker_that_cannot_be_read_is_refused(content: bytes) -> None:
    with pytest.raises(RegistryError, match="oci-layout cannot be read"):
        check_marker(content)


def test_another_version_of_layouts_is_not_supported() -> None:
    check_marker(b'{"imageLayoutVersion": "1.0.0", "more": 1}')
    with pytest.raises(UnsupportedError, match=r"'2\.0\.0'"):
        check_marker(b'{"imageLayoutVersion":"2.0.0"}')


def test_a_blobs_name_is_made_of_its_digest_and_of_nothing_else() -> None:
    digest = digest_of(b"abc")
    assert blob_name(digest) == f"blobs/sha256/{digest.encoded}"
    for text in ("../x:abc", "sha256:../../x", "a..b:c", "x:a/b", "/:x", "x:.", "nothing"):
        with pytest.raises(InvalidDigestError):
            blob_name(text)


@pytest.mark.parametrize(
    "content",
    [
        ",".join(f'"{number}":""' for number in range(750_000)),
        '"a":"' + "x" * 20_000_000 + '\\ud83d\\ude00"',
    ],
    ids=["fields", "wide"],
)
def test_an_index_that_would_take_too_much_memory_is_not_decoded(content: str) -> None:
    entry = f'"mediaType":"a/b","digest":"a:b","size":1,"annotations":{{{content}}}'.encode()
    with pytest.raises(TooLargeError, match="too much"):
        parse_layout_index(b'{"manifests":[{%b}]}' % entry)
