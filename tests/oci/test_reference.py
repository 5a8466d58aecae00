from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.errors import (
    HostnameRequiredError,
    InvalidReferenceError,
    ObjectRequiredError,
)
from multi_fetch.oci.reference import Reference, parse_familiar, parse_reference, parse_remote

if TYPE_CHECKING:
    from collections.abc import Callable

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"

# containerd's grammar: text, host, repository, object, tag, digest
CONTAINERD = [
    ("docker.io/library/redis:foo", "docker.io", "library/redis", "foo", "foo", ""),
    ("docker.io/library/redis:foo?x=y", "docker.io", "library/redis", "foo", "foo", ""),
    ("docker.io/library/redis:foo#x", "docker.io", "library/redis", "foo", "foo", ""),
    (
        f"docker.io/library/redis:foo@{DIGEST}",
        "docker.io",
        "library/redis",
        f"foo@{DIGEST}",
        "foo",
        DIGEST,
    ),
    (f"docker.io/library/redis@{DIGEST}", "docker.io", "library/redis", f"@{DIGEST}", "", DIGEST),
    ("docker.io/a@sha256:short", "docker.io", "a", "@sha256:short", "", "sha256:short"),
    ("localhost:5000/a/b/c:d", "localhost:5000", "a/b/c", "d", "d", ""),
    ("[::1]:5000/a:b", "[::1]:5000", "a", "b", "b", ""),
    ("127.0.0.1/a:b", "127.0.0.1", "a", "b", "b", ""),
    (
        "sub-dom1.foo.com/bar/baz:long-tag",
        "sub-dom1.foo.com",
        "bar/baz",
        "long-tag",
        "long-tag",
        "",
    ),
    ("sub-dom1.foo.com/quux:t", "sub-dom1.foo.com", "quux", "t", "t", ""),
    ("h//a//b:c", "h", "a/b", "c", "c", ""),
    ("redis/x:y", "redis", "x", "y", "y", ""),
]


@pytest.mark.parametrize(
    ("text", "host", "repository", "object_", "tag", "digest"), CONTAINERD, ids=lambda text: text
)
def test_a_reference_reads_as_containerd_reads_it(
    text: str, host: str, repository: str, object_: str, tag: str, digest: str
) -> None:
    ref = parse_reference(text)
    assert (ref.hostname, ref.repository, ref.object) == (host, repository, object_)
    assert (ref.tag, ref.digest) == (tag, digest)


@pytest.mark.parametrize(("text", "host", "repository", "object_", "tag", "digest"), CONTAINERD)
def test_its_text_is_canonical(
    text: str, host: str, repository: str, object_: str, tag: str, digest: str
) -> None:
    ref = parse_reference(text)
    assert parse_reference(str(ref)) == ref


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("/library/redis:latest", HostnameRequiredError),
        ("?x", HostnameRequiredError),
        ("docker.io", ObjectRequiredError),
        ("docker.io/library/redis", ObjectRequiredError),
        ("docker.io/library/redis?x=y", ObjectRequiredError),
        ("docker.io/library/redis?x=y:z", ObjectRequiredError),
        ("docker.io/library/redis:", ObjectRequiredError),
        ("redis", ObjectRequiredError),
    ],
)
def test_a_missing_part_has_its_own_error(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_reference(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "redis:latest",
        f"redis@{DIGEST}",
        "https://docker.io/library/redis:latest",
        "docker.io/a b:c",
        "docker.io/ä:c",
        "docker.io/a:b\n",
        "docker.io/a\x00:b",
        "do_cker..io-/a:b",
        "docker.io:port/a:b",
        "docker.io/../a:b",
        "docker.io/./a:b",
        "docker.io/:tag",
        "a" * 260 + "/b:c",
        "[::1/a:b",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        parse_reference(text)
    assert isinstance(caught.value, ValueError)


# Docker's grammar: text, canonical text
DOCKER = [
    ("redis", "docker.io/library/redis"),
    ("redis:7", "docker.io/library/redis:7"),
    (f"redis@{DIGEST}", f"docker.io/library/redis@{DIGEST}"),
    (f"redis:7@{DIGEST}", f"docker.io/library/redis:7@{DIGEST}"),
    ("user/app", "docker.io/user/app"),
    ("user/app:v1.2_x-y", "docker.io/user/app:v1.2_x-y"),
    ("docker.io/redis", "docker.io/library/redis"),
    ("docker.io/library/redis", "docker.io/library/redis"),
    ("docker.io/user/app", "docker.io/user/app"),
    ("index.docker.io/redis", "docker.io/library/redis"),
    ("registry-1.docker.io/library/redis", "docker.io/library/redis"),
    ("localhost/app", "localhost/app"),
    ("localhost:5000/app:v1", "localhost:5000/app:v1"),
    ("localhost:5000", "docker.io/library/localhost:5000"),
    ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b"),
    ("[::1]:5000/a:b", "[::1]:5000/a:b"),
    ("ghcr.io/owner/repo:tag", "ghcr.io/owner/repo:tag"),
    ("registry:5000/a", "registry:5000/a"),
    ("Registry/a", "Registry/a"),
    ("a/b/c/d", "docker.io/a/b/c/d"),
    ("a__b/c--d/e.f_g", "docker.io/a__b/c--d/e.f_g"),
    ("quay.io/a", "quay.io/a"),
    (f"x@md5:{HEX[:32]}", f"docker.io/library/x@md5:{HEX[:32]}"),
    (HEX[1:], f"docker.io/library/{HEX[1:]}"),
]


@pytest.mark.parametrize(("text", "canonical"), DOCKER)
def test_a_familiar_name_reads_as_docker_reads_it(text: str, canonical: str) -> None:
    assert str(parse_familiar(text)) == canonical
    assert parse_familiar(canonical) == parse_familiar(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("Redis", "lower case"),
        ("docker.io/Redis", "lower case"),
        ("redis:", "not a tag"),
        (":tag", "not a repository's name"),
        ("redis:" + "t" * 129, "not a tag"),
        ("redis:.t", "not a tag"),
        ("redis:a:b", "not a tag"),
        ("redis@", "not a"),
        ("redis@sha256:short", "64 lower-case hex digits"),
        (f"redis@{DIGEST}@{DIGEST}", "not a digest"),
        ("https://docker.io/redis", "leave out the scheme"),
        ("-redis", "not a repository's name"),
        ("redis/", "not a repository's name"),
        ("a//b", "not a repository's name"),
        ("a..b", "not a repository's name"),
        ("a___b", "not a repository's name"),
        ("/redis", "not a repository's name"),
        ("host.example:x/redis", "not a host"),
        ("-host.example/redis", "not a host"),
        ("redis latest", "blanks"),
        ("redis\n", "blanks"),
        ("rédis", "non-ASCII"),
        ("x.example/" + "a" * 256, "more than 255"),
        ("x" * 260 + ".example/a", "not a host"),
        (HEX, "an image's id"),
        (f"x@md5:{HEX[:31]}", "too short"),
    ],
)
def test_what_docker_refuses_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidReferenceError, match=reason):
        parse_familiar(text)


def test_the_longest_name_is_taken() -> None:
    assert parse_familiar("x.example/" + "a" * 255).repository == "a" * 255


@pytest.mark.parametrize(("text", "host", "repository", "object_", "tag", "digest"), CONTAINERD[:1])
def test_both_grammars_agree_where_the_host_is_written(
    text: str, host: str, repository: str, object_: str, tag: str, digest: str
) -> None:
    assert parse_familiar(text) == parse_reference(text)


SECRET = "hunter2"


@pytest.mark.parametrize("parse", [parse_reference, parse_familiar])
@pytest.mark.parametrize(
    "text",
    [
        "user:hunter2@host/name:tag",
        "user:hunter2@host.example:5000/name:tag",
        "user:hunter2@host",
        "user:hunter2@host:5000",
        "https://user:hunter2@host/name",
        "user:hunter2@ho\nst/name",
        "user:hunter2@host /name",
        "hunter2@host/name",
        "us/er:hunter2@host/name",
        "user:a/hunter2@host",
        "user:hunter2/a@host:5000",
        f"user:hunter2@host/name@{DIGEST}",
        f"user:hunter2@host@{DIGEST}",
    ],
)
def test_a_password_is_refused_and_never_repeated(
    parse: Callable[[str], Reference], text: str
) -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        parse(text)
    assert SECRET not in str(caught.value)
    assert SECRET not in str(caught.value.__cause__ or "")


@given(st.text() | st.from_regex(r"[a-z:@/.\[\]A-Z0-9_-]{0,40}", fullmatch=True))
def test_any_text_is_a_reference_or_an_invalid_one(text: str) -> None:
    for parse in (parse_reference, parse_familiar):
        try:
            ref = parse(text)
        except InvalidReferenceError as error:
            assert len(error.message) < 2_000  # noqa: PT017 - anything else must come through
        else:
            assert ref.hostname
            assert parse(str(ref)) == ref


def test_a_reference_without_an_object_is_its_locator() -> None:
    ref = Reference("docker.io/library/redis")
    assert (str(ref), ref.tag, ref.digest) == ("docker.io/library/redis", "", "")


# oci:<path>[:<tag>][@<digest>]: text, locator, object
LAYOUTS = [
    ("oci:/srv/mirror", "oci:/srv/mirror", ""),
    ("oci:mirror/", "oci:mirror", ""),
    ("oci:/", "oci:/", ""),
    ("oci:.", "oci:.", ""),
    ("oci:mirror:latest", "oci:mirror", "latest"),
    (f"oci:mirror@{DIGEST}", "oci:mirror", f"@{DIGEST}"),
    (f"oci:mirror:@{DIGEST}", "oci:mirror", f"@{DIGEST}"),
    (f"oci:mirror:v1@{DIGEST}", "oci:mirror", f"v1@{DIGEST}"),
    ("oci:my images/a b", "oci:my images/a b", ""),
    ("oci:/home/a@b/mirror:v1", "oci:/home/a@b/mirror", "v1"),
    ("oci:mirror@home:v1", "oci:mirror@home", "v1"),
    (f"oci:mirror@home@{DIGEST}", "oci:mirror@home", f"@{DIGEST}"),
    ("oci:Bücher", "oci:Bücher", ""),
    ("oci:5000/app", "oci:5000/app", ""),
    ("oci-archive:image.tar", "oci-archive:image.tar", ""),
    ("oci-archive:image.tar:latest", "oci-archive:image.tar", "latest"),
]


@pytest.mark.parametrize(("text", "locator", "found"), LAYOUTS)
def test_a_layout_is_named_as_skopeo_does(text: str, locator: str, found: str) -> None:
    ref = parse_remote(text)
    assert (ref.locator, ref.object) == (locator, found)
    assert f"{ref.scheme}:{ref.path}" == locator
    assert parse_remote(str(ref)) == ref


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("oci:", "names no layout: write oci:<path>"),
        ("oci-archive::latest", "names no layout: write oci-archive:<path>"),
        (f"oci:@{DIGEST}", "names no layout"),
        ("oci:a:", "'' is not a tag"),
        ("oci:a:b:c", "a path has no colon"),
        ("oci:a:docker.io/library/redis:7", "is not a tag"),
        ("oci:a@sha256:abc", "64 lower-case hex digits"),
        ("oci://ghcr.io/o/chart", "<host>/<repository>"),
        ("oci:a\nb", "control characters"),
        ("oci:a\0b", "control characters"),
        ("oci:\udcff", "no UTF-8"),
        ("oci:" + "a" * 4097, "longer than 4096"),
    ],
)
def test_what_is_no_layout_is_refused_with_what_to_write(text: str, reason: str) -> None:
    with pytest.raises(InvalidReferenceError, match=re.escape(reason)):
        parse_remote(text)


@pytest.mark.parametrize(
    "text", ["redis", "oci", "oci-archive", "ghcr.io/o/r:oci", "docker.io/oci:a"]
)
def test_what_has_no_scheme_is_a_familiar_name(text: str) -> None:
    assert parse_remote(text) == parse_familiar(text)
    assert (parse_remote(text).scheme, parse_remote(text).path) == ("", "")


@given(st.sampled_from(["oci:", "oci-archive:"]), st.text())
def test_any_path_is_a_layout_or_an_invalid_reference(scheme: str, text: str) -> None:
    try:
        ref = parse_remote(scheme + text)
    except InvalidReferenceError:
        return
    assert parse_remote(str(ref)) == ref
    assert ref.path
