"""What pages of listings say, and where the next one is."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from multi_fetch.errors import RegistryError, TooLargeError
from multi_fetch.limits import MAX_PAGE_NAMES, MAX_TAG_CHARACTERS
from multi_fetch.oci.digest import Digest, digest_of
from multi_fetch.oci.reference import TAG
from multi_fetch.registry.pages import (
    fallback_tag,
    is_filtered,
    names_of_page,
    next_link,
    referrers_of_page,
    referrers_path,
    tags_path,
)


@pytest.mark.parametrize(
    ("header", "link"),
    [
        ("", None),
        ('</v2/a/tags/list?n=2&last=b>; rel="next"', "/v2/a/tags/list?n=2&last=b"),
        ("<x>;rel=next", "x"),
        ('<x> ; title="a \\" > , b"; REL="prev NEXT"', "x"),
        # RFC 8288, section 3.3: further occurrences of rel are ignored
        ('<x>; rel="prev"; rel="next"', None),
        ('<p>; rel="prev", <n?a=1,2;b>; rel="next"', "n?a=1,2;b"),
        ('<p>; rel=prev,, <n>; rel="next"; rel=prev', "n"),
        # what has no relation is the next page, for clients have always taken it for that
        ("</v2/a/tags/list?last=x>", "/v2/a/tags/list?last=x"),
        ("<a>; title*=UTF-8''x; rel=\"last\"", None),
        (' , <a>; rel="first" , ', None),
        ("<a>;;;rel=prev;", None),
    ],
)
def test_the_next_page_is_where_a_link_of_that_relation_leads(
    header: str, link: str | None
) -> None:
    assert next_link(header) == link


@pytest.mark.parametrize(
    "header", ["next", "/v2/a/tags/list; rel=next", "<a; rel=next", "<a>; rel=prev <b>", '<a>; "']
)
def test_a_link_that_cannot_be_read_is_no_end_of_the_list(header: str) -> None:
    with pytest.raises(RegistryError, match="Link"):
        next_link(header)


@given(st.text() | st.text(alphabet='<>;," =relnxt\\\t'))
@example("<" * 10_000)
@example("<a>;" + " " * 10_000)
@example('<a>; rel="' + "\\" * 10_000)
@example("," * 10_000)
def test_any_header_is_a_link_or_none_or_the_registrys_error(header: str) -> None:
    try:
        link = next_link(header)
    except RegistryError:
        return
    assert link is None or link in header


def test_the_names_of_a_page_are_as_they_are_written() -> None:
    assert names_of_page(b'{"name": "a", "tags": ["b", "", "\\n"]}') == ["b", "", "\n"]
    assert names_of_page(b'{"tags": null}') == names_of_page(b"{}") == []


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"tags": [1]}', b'{"tags": {}}', b'{"tags": ["\xff"]}']
)
def test_a_page_that_is_no_list_is_the_registrys_error(body: bytes) -> None:
    with pytest.raises(RegistryError, match="tags"):
        names_of_page(body)


def test_a_page_has_a_limit_that_is_seen_before_it_is_read() -> None:
    assert len(names_of_page(json.dumps({"tags": ["a"] * MAX_PAGE_NAMES}).encode())) == (
        MAX_PAGE_NAMES
    )
    with pytest.raises(TooLargeError):
        names_of_page(json.dumps({"tags": ["a"] * (MAX_PAGE_NAMES + 2)}).encode())


def test_referrers_are_those_of_the_artifact_type() -> None:
    named = [
        {"mediaType": "m/t", "digest": digest_of(each), "size": 1, "artifactType": f"a/{number}"}
        for number, each in enumerate((b"x", b"y"))
    ]
    body = json.dumps({"manifests": named}).encode()
    assert [each.artifact_type for each in referrers_of_page(body, "")] == ["a/0", "a/1"]
    assert [each.artifact_type for each in referrers_of_page(body, "a/1")] == ["a/1"]
    assert referrers_of_page(b'{"manifests": null}', "") == []


def test_what_was_filtered_is_said_in_a_header() -> None:
    assert is_filtered({"oci-filters-applied": "x, artifactType"})
    assert not is_filtered({"oci-filters-applied": "annotation"})
    assert not is_filtered({})


def test_paths_take_what_they_are_given_as_it_is() -> None:
    digest = digest_of(b"")
    assert tags_path("a/b") == "/v2/a/b/tags/list"
    assert tags_path("a", count=5, last="x&n=1") == "/v2/a/tags/list?n=5&last=x%26n%3D1"
    assert referrers_path("a", digest, "") == f"/v2/a/referrers/{digest}"
    assert referrers_path("a", digest, "t/a+json").endswith("?artifactType=t%2Fa%2Bjson")


@pytest.mark.parametrize(
    ("digest", "tag"),
    [
        (digest_of(b"").replace("sha256:", "sha256:"), digest_of(b"").replace(":", "-")),
        ("sha512:" + "a" * 128, "sha512-" + "a" * 64),
        ("a" * 40 + ":x=y", "a" * 32 + "-x-y"),
        ("multihash+base58:QmR", "multihash-base58-QmR"),
    ],
)
def test_the_tag_for_referrers_is_cut_as_the_spec_has_it(digest: str, tag: str) -> None:
    assert fallback_tag(Digest(digest)) == tag
    assert TAG.fullmatch(tag)
    assert len(tag) <= MAX_TAG_CHARACTERS
