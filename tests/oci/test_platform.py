"""Platforms: their names, and which manifest serves one (containerd's platforms package)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from multi_fetch.errors import InvalidRequestError
from multi_fetch.oci.descriptor import Descriptor, Platform
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.platform import names, normalised, parse_platform, select


@pytest.mark.parametrize(
    ("text", "os", "architecture", "variant"),
    [
        # containerd, platforms_test.go and database.go
        ("linux/amd64", "linux", "amd64", "v1"),
        ("linux/x86_64", "linux", "amd64", "v1"),
        ("linux/amd64/v3", "linux", "amd64", "v3"),
        ("linux/arm64", "linux", "arm64", "v8"),
        ("linux/aarch64", "linux", "arm64", "v8"),
        ("linux/arm64/8", "linux", "arm64", "v8"),
        ("linux/arm", "linux", "arm", "v7"),
        ("linux/arm/6", "linux", "arm", "v6"),
        ("linux/armhf", "linux", "arm", "v7"),
        ("linux/armel", "linux", "arm", "v6"),
        ("linux/i386", "linux", "386", ""),
        ("macos/arm64", "darwin", "arm64", "v8"),
        ("Windows/AMD64", "windows", "amd64", "v1"),
        ("linux/riscv64", "linux", "riscv64", ""),
    ],
)
def test_platforms_have_one_name(text: str, os: str, architecture: str, variant: str) -> None:
    assert parse_platform(text) == Platform(os=os, architecture=architecture, variant=variant)


@pytest.mark.parametrize(
    "text", ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/a b", "linux/é", "a/b\n"]
)
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="is not a platform"):
        parse_platform(text)


@given(st.text())
def test_any_text_is_a_platform_or_an_invalid_request(text: str) -> None:
    try:
        platform = parse_platform(text)
    except InvalidRequestError:
        return
    assert normalised(platform) == platform


def manifest(text: str) -> Descriptor:
    os, architecture, variant = (*text.split("/"), "")[:3]
    platform = Platform(os=os, architecture=architecture, variant=variant)
    return Descriptor(media_type="a/b", digest=digest_of(text.encode()), size=1, platform=platform)


@pytest.mark.parametrize(
    ("wanted", "offered", "best"),
    [
        ("linux/arm64", ["linux/amd64", "linux/arm64/v8"], "linux/arm64/v8"),
        ("linux/arm64/v8", ["linux/arm64"], "linux/arm64"),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], "linux/arm/v6"),
        ("linux/arm/v7", ["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("linux/arm", ["linux/arm/v6", "linux/arm"], "linux/arm"),
        ("linux/amd64", ["linux/amd64/v3", "linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["linux/amd64/v3"], None),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], "linux/amd64/v2"),
        ("linux/arm64/v8.2", ["linux/arm64", "linux/arm64/v8.1"], "linux/arm64/v8.1"),
        ("linux/arm64/v9", ["linux/arm64/v8"], "linux/arm64/v8"),
        # who names a platform wants that one: no 386 for amd64, no arm for arm64
        ("linux/amd64", ["linux/386"], None),
        ("linux/arm64", ["linux/arm/v7"], None),
        ("linux/amd64", ["windows/amd64"], None),
        ("linux/ppc64le/power9", ["linux/ppc64le/power8"], None),
        ("linux/amd64", [], None),
    ],
)
def test_the_newest_variant_that_runs_there_serves(
    wanted: str, offered: list[str], best: str | None
) -> None:
    found = select([manifest(each) for each in offered], parse_platform(wanted))
    assert found == (None if best is None else manifest(best))


def test_names_for_messages_are_sorted_and_have_nothing_that_a_terminal_obeys() -> None:
    odd = [Platform(os=os, architecture="z") for os in ("x\x1b[31m", "a\nb", "\x9b", "y" * 65)]
    manifests = [
        manifest("linux/arm/v7"),
        manifest("linux/amd64"),
        manifest("linux/amd64"),
        *(replace(manifest("linux/amd64"), platform=each) for each in odd),
    ]
    assert names(manifests) == ["linux/amd64", "linux/arm/v7"]


def test_of_equals_the_first_serves_and_what_names_no_platform_never_does() -> None:
    nameless = Descriptor(media_type="a/b", digest=digest_of(b"attestation"), size=1)
    first, second = manifest("linux/amd64"), manifest("linux/x86_64")
    wanted = parse_platform("linux/amd64")
    assert select([nameless, first, second], wanted) == first
    assert select([nameless], wanted) is None
