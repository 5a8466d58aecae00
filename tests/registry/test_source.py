"""What is remembered of one of several hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing

from multi_fetch.durations import MIRROR_REST_SECONDS
from multi_fetch.errors import (
    CredentialsError,
    DeadlineExceededError,
    DeniedError,
    DigestMismatchError,
    MultiFetchError,
    NotFoundError,
    RateLimitedError,
    RegistryError,
    SizeMismatchError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedError,
)
from multi_fetch.limits import MAX_DISTRUSTED
from multi_fetch.oci.reference import Reference
from multi_fetch.registry.hosts import Host
from multi_fetch.registry.source import Source

if TYPE_CHECKING:
    from multi_fetch.registry.resolver import RegistryRemote

DIGEST = "sha256:aa"


def source(**capabilities: bool) -> Source:
    host = Host("https", "m.example", **capabilities)  # type: ignore[arg-type]
    return Source(host, cast("RegistryRemote", None))


@pytest.mark.parametrize("may_pull", [True, False])
@pytest.mark.parametrize("may_resolve", [True, False])
def test_a_tags_content_needs_both_capabilities(*, may_pull: bool, may_resolve: bool) -> None:
    asked = source(may_pull=may_pull, may_resolve=may_resolve)
    tag, digest, both = (Reference("r/a", text) for text in ("v1", f"@{DIGEST}", f"v1@{DIGEST}"))
    assert asked.may_open(tag) is (may_pull and may_resolve)
    assert asked.may_resolve(tag) is may_resolve
    for ref in (digest, both):  # then the digest decides
        assert asked.may_open(ref) is asked.may_resolve(ref) is may_pull


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("no connection"),
        UnavailableError("503", status=503),
        DeadlineExceededError("silent"),
        UnauthorizedError("401", status=401),
        CredentialsError("no program"),
        DeniedError("403", status=403),
        RateLimitedError("429", status=429),
    ],
)
async def test_trouble_of_a_host_lets_it_rest(
    error: MultiFetchError, autojump_clock: trio.testing.MockClock
) -> None:
    asked = source()
    asked.note(error, DIGEST)
    assert not asked.is_ready(DIGEST)
    assert not asked.is_ready("")
    await trio.sleep(MIRROR_REST_SECONDS)
    assert asked.is_ready("")


@pytest.mark.parametrize(
    "error",
    [
        NotFoundError("404", status=404),
        UnavailableError("500", status=500),
        RegistryError("odd"),
        UnsupportedError("schema 1"),
        TooLargeError("large"),
    ],
)
async def test_trouble_with_an_object_says_nothing_of_the_host(error: MultiFetchError) -> None:
    asked = source()
    asked.note(error, DIGEST)
    assert asked.is_ready(DIGEST)


@pytest.mark.parametrize(
    "error", [DigestMismatchError(want=DIGEST, got="sha256:bb"), SizeMismatchError(want=1, got=2)]
)
async def test_wrong_bytes_are_held_against_it_for_that_digest_alone(
    error: MultiFetchError,
) -> None:
    asked = source()
    asked.note(error, DIGEST)
    assert not asked.is_ready(DIGEST)
    assert asked.is_ready("sha256:cc")
    asked.note(error, "")
    assert asked.is_ready("")


async def test_after_its_rest_one_tries_it_and_if_it_works_all_do(
    autojump_clock: trio.testing.MockClock,
) -> None:
    asked = source()
    asked.rest()
    await trio.sleep(MIRROR_REST_SECONDS)
    assert [asked.is_ready("") for _ in range(3)] == [True, False, False]
    await trio.sleep(MIRROR_REST_SECONDS)  # the one who tried was cancelled, say
    assert asked.is_ready("")
    asked.works()
    assert [asked.is_ready("") for _ in range(3)] == [True, True, True]


async def test_what_is_held_against_it_has_a_bound() -> None:
    asked = source()
    for number in range(MAX_DISTRUSTED + 1):
        asked.distrust(f"sha256:{number}")
    assert asked.is_ready("sha256:0")
    assert not asked.is_ready("sha256:1")
    assert not asked.is_ready(f"sha256:{MAX_DISTRUSTED}")
