"""What is remembered of one of several hosts."""

from __future__ import annotations

import gc
import weakref
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
    InvalidRequestError,
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
from multi_fetch.limits import MAX_DISTRUSTED, MAX_MIRROR_FAILURES
from multi_fetch.oci.reference import Reference
from multi_fetch.registry.hosts import Host
from multi_fetch.registry.source import Failures, Source
from multi_fetch.registry.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Callable

    from multi_fetch.registry.resolver import RegistryRemote

DIGEST = "sha256:aa"


def source(standing: Standing | None = None, **capabilities: bool) -> Source:
    host = Host("https", "m.example", **capabilities)  # type: ignore[arg-type]
    return Source(host, cast("RegistryRemote", None), standing)


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
        DeniedError("403", status=403),
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
    asked.note(UnavailableError("no connection"), DIGEST)
    await trio.sleep(MIRROR_REST_SECONDS)
    assert [asked.is_ready("") for _ in range(3)] == [True, False, False]
    await trio.sleep(MIRROR_REST_SECONDS)  # the one who tried was cancelled, say
    assert asked.is_ready("")
    asked.works()
    assert [asked.is_ready("") for _ in range(3)] == [True, True, True]


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("500", status=500),
        DeniedError("403", status=403),
        RegistryError("odd"),
        DigestMismatchError(want=DIGEST, got="sha256:bb"),
    ],
)
async def test_who_fails_again_and_again_rests_until_one_gets_through(
    error: MultiFetchError, autojump_clock: trio.testing.MockClock
) -> None:
    asked = source()
    for _ in range(MAX_MIRROR_FAILURES):
        assert asked.is_ready("")
        asked.note(error, "")
    assert not asked.is_ready("")
    await trio.sleep(MIRROR_REST_SECONDS)
    assert [asked.is_ready("") for _ in range(2)] == [True, False]
    asked.note(error, "")  # one more is enough
    await trio.sleep(MIRROR_REST_SECONDS - 1)
    assert not asked.is_ready("")
    asked.works()
    asked.note(error, "")
    assert asked.is_ready("")


@pytest.mark.parametrize(
    "error", [UnsupportedError("schema 1"), InvalidRequestError("range"), TooLargeError("large")]
)
async def test_an_answer_that_is_an_objects_own_is_no_failure_however_often(
    error: MultiFetchError,
) -> None:
    asked = source()
    for _ in range(2 * MAX_MIRROR_FAILURES):
        asked.note(error, DIGEST)
    assert asked.is_ready("")


async def test_who_has_not_one_object_does_not_fail(
    autojump_clock: trio.testing.MockClock,
) -> None:
    asked = source()
    for _ in range(2 * MAX_MIRROR_FAILURES):
        asked.note(UnavailableError("500", status=500), DIGEST)
        asked.note(NotFoundError("404", status=404), DIGEST)
    assert asked.is_ready("")
    asked.note(UnavailableError("503", status=503), DIGEST)
    await trio.sleep(MIRROR_REST_SECONDS)
    assert asked.is_ready("")
    asked.note(NotFoundError("404", status=404), DIGEST)  # of the one who tried: it is back
    assert asked.is_ready("")


async def test_a_repository_that_is_refused_is_not_the_hosts_trouble() -> None:
    standing = Standing()
    private, public = (source(standing=standing) for _ in range(2))
    private.note(UnauthorizedError("401", status=401), "")
    assert not private.is_ready("")
    assert public.is_ready("")
    public.note(UnavailableError("no connection"), "")
    assert not source(standing=standing).is_ready("")


@pytest.mark.parametrize(
    "refusal",
    [
        UnauthorizedError("401", status=401),
        DeniedError("403", status=403),
        DigestMismatchError(want=DIGEST, got="sha256:bb"),
    ],
)
async def test_a_repository_that_is_refused_tells_the_others_that_the_host_is_back(
    refusal: MultiFetchError, autojump_clock: trio.testing.MockClock
) -> None:
    standing = Standing()
    private, public = (source(standing=standing) for _ in range(2))
    public.note(UnavailableError("no connection"), "")
    await trio.sleep(MIRROR_REST_SECONDS)
    assert private.is_ready("")
    assert not public.is_ready("")
    private.note(refusal, "")
    assert public.is_ready("")


async def test_what_is_held_against_it_has_a_bound() -> None:
    asked = source()
    for number in range(MAX_DISTRUSTED + 1):
        asked.distrust(f"sha256:{number}")
    assert asked.is_ready("sha256:0")
    assert not asked.is_ready("sha256:1")
    assert not asked.is_ready(f"sha256:{MAX_DISTRUSTED}")


@pytest.mark.parametrize(
    "new_error",
    [lambda: SizeMismatchError(want=1, got=2), lambda: DeadlineExceededError("slow")],
)
async def test_a_failure_that_the_next_host_may_mend_leaves_nothing_to_the_collector(
    new_error: Callable[[], MultiFetchError],
) -> None:
    """Sizes that did not fit kept their connections: of TLS that took 6 MiB a second."""

    def raise_it(error: MultiFetchError) -> None:
        raise error

    def fail() -> weakref.ref[MultiFetchError]:
        failures = Failures()
        try:
            raise_it(new_error())
        except MultiFetchError as error:
            failures.add(source(), error, "", is_last=False)
            return weakref.ref(error)
        raise AssertionError

    gc.disable()
    try:
        assert fail()() is None
    finally:
        gc.enable()
