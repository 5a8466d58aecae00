"""What a remote does not have is asked of the URLs that its descriptor names, if the remote may."""

from __future__ import annotations

import json
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from multi_fetch.errors import NotFoundError, UnavailableError
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import digest_of, parse_digest
from multi_fetch.oci.media_types import OCI_INDEX, OCI_MANIFEST
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.frames import Begin, End, Error, Frame
from multi_fetch.remotes import Foreign, Opened
from multi_fetch.worker.foreign import describe_target
from multi_fetch.worker.job import Target
from multi_fetch.worker.serve import Settings
from tests.worker.harness import answers, content, terminals
from tests.worker.images import CONFIG, LAYER, add_image, described
from tests.worker.memory_remote import MemoryRemote

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from multi_fetch.oci.digest import Chunk

URL = "https://elsewhere.test/layer"
LOST = b"a layer that is elsewhere"
ORDERED = Settings(software="test", is_ordered=True, jobs=1)


class ForeignMemory(MemoryRemote):
    """A remote that is a Foreign; ``asked`` are the URLs that it was given."""

    def __init__(self, there: dict[str, bytes]) -> None:
        super().__init__()
        self.there = there
        self.asked: list[tuple[str, ...]] = []

    @asynccontextmanager
    async def open_foreign(
        self,
        ref: Reference,
        urls: Sequence[str],
        *,
        media_types: Sequence[str] = (),
        size: int | None = None,
    ) -> AsyncIterator[Opened]:
        self.asked.append(tuple(urls))
        if urls[0] not in self.there:
            raise UnavailableError("nobody is at home", status=503)
        descriptor = Descriptor(
            media_type=media_types[0], digest=parse_digest(ref.digest), size=size
        )
        async with aclosing(whole_chunk(self.there[urls[0]])) as chunks:
            yield Opened(str(ref), descriptor, chunks)


async def whole_chunk(content: bytes) -> AsyncGenerator[Chunk, None]:
    yield content


def add_foreign(remote: MemoryRemote, tag: str, lost: bytes = LOST, media_type: str = LAYER) -> str:
    """An image of a layer that is not there; gives the layer's digest."""
    part = {
        "mediaType": media_type,
        "digest": digest_of(lost),
        "size": len(lost),
        "urls": [URL],
    }
    config = described(remote, remote.add(b"{}"), CONFIG)
    document = {"mediaType": OCI_MANIFEST, "config": config, "layers": [part]}
    remote.add(json.dumps(document).encode(), tag, media_type=OCI_MANIFEST)
    return digest_of(lost)


def failure(frames: list[Frame], request_id: int) -> Error:
    (found,) = (each for each in frames if isinstance(each, Error) and each.id == request_id)
    return found


async def test_what_is_not_there_comes_from_its_urls_after_the_remote_was_asked() -> None:
    remote = ForeignMemory({URL: LOST})
    assert isinstance(remote, Foreign)
    digest = add_foreign(remote, "v1")
    _, frames = await answers(remote, b"v1 children:all\n", ORDERED)
    assert f"@{digest}" in remote.opened
    assert remote.asked == [(URL,)]
    assert content(frames, -2) == LOST
    end = terminals(frames)[-2]
    assert isinstance(end, End)
    assert end.digest == digest
    (begin,) = (each for each in frames if isinstance(each, Begin) and each.id == -2)
    assert begin.descriptor.urls == (URL,)


async def test_what_is_there_is_not_asked_of_its_urls() -> None:
    remote = ForeignMemory({URL: LOST})
    add_foreign(remote, "v1")
    remote.add(LOST)
    _, frames = await answers(remote, b"v1 children:all\n", ORDERED)
    assert (content(frames, -2), remote.asked) == (LOST, [])


async def test_only_what_is_not_found_is_asked_of_its_urls() -> None:
    remote = ForeignMemory({URL: LOST})
    digest = add_foreign(remote, "v1")
    remote.failures[digest] = UnavailableError("the registry is down", status=503)
    _, frames = await answers(remote, b"v1 children:all\n", ORDERED)
    assert (failure(frames, -2).code, remote.asked) == ("unavailable", [])


@pytest.mark.parametrize("hint", [b"", b" content:none"])
async def test_a_remote_that_may_not_says_what_would_allow_it(hint: bytes) -> None:
    remote = MemoryRemote()
    add_foreign(remote, "v1")
    _, frames = await answers(remote, b"v1 children:all" + hint + b"\n", ORDERED)
    error = failure(frames, -2)
    assert error.code == "not-found"
    assert "foreign URLs" in error.message
    assert "--foreign-urls" in error.message
    assert error.detail["status"] == 404


async def test_without_urls_nothing_is_said_of_them() -> None:
    remote = ForeignMemory({})
    lost = add_image(remote, "one", b"a lost layer", tag="v1")
    del remote.objects[digest_of(b"a lost layer")]
    for hint in (b"", b" content:none"):
        _, frames = await answers(remote, b"v1 children:all" + hint + b"\n", ORDERED)
        assert "foreign" not in failure(frames, -2).message
    assert (remote.asked, lost in remote.objects) == ([], True)


async def test_the_urls_error_is_the_objects() -> None:
    remote = ForeignMemory({})
    add_foreign(remote, "v1")
    _, frames = await answers(remote, b"v1 children:all\n", ORDERED)
    assert failure(frames, -2).code == "unavailable"


@pytest.mark.parametrize("wrong", [LOST[::-1], LOST + b"!", LOST[:-1]])
async def test_wrong_bytes_are_never_passed_on(wrong: bytes) -> None:
    remote = ForeignMemory({URL: wrong})
    add_foreign(remote, "v1")
    _, frames = await answers(remote, b"v1 children:all\n", ORDERED)
    code = "digest-mismatch" if len(wrong) == len(LOST) else "size-mismatch"
    assert (failure(frames, -2).code, content(frames, -2)) == (code, b"")


async def test_a_listing_of_what_is_elsewhere_has_its_descriptor() -> None:
    remote = ForeignMemory({URL: LOST})
    digest = add_foreign(remote, "v1")
    _, frames = await answers(remote, b"v1 children:all content:none\n", ORDERED)
    (begin,) = (each for each in frames if isinstance(each, Begin) and each.id == -2)
    assert (begin.descriptor.digest, content(frames, -2)) == (digest, b"")
    assert remote.asked == [(URL,)]


@pytest.mark.parametrize("hint", [b"", b" content:none"])
async def test_a_manifest_that_is_elsewhere_leads_on(hint: bytes) -> None:
    remote = ForeignMemory({})
    image = add_image(remote, "one", b"a layer")
    platform = {"os": "linux", "architecture": "amd64"}
    part = {**described(remote, image, OCI_MANIFEST), "urls": [URL], "platform": platform}
    remote.there[URL] = remote.objects.pop(image)
    index = json.dumps({"mediaType": OCI_INDEX, "manifests": [part]}).encode()
    remote.add(index, "multi", media_type=OCI_INDEX)
    for line in (b"multi children:all", b"multi children:all platform:linux/amd64"):
        _, frames = await answers(remote, line + hint + b"\n", ORDERED)
        ends = terminals(frames).values()
        assert all(isinstance(end, End) for end in ends)
        assert len(ends) == (3 if b"platform" in line else 4)


async def test_who_has_no_urls_does_not_share_a_fetch_with_who_has() -> None:
    """One asks for the layer itself, while another found it below a manifest."""
    remote = ForeignMemory({URL: LOST})
    digest = add_foreign(remote, "v1")
    lines = f"v1 children:all\n{digest} mediatype:{LAYER} size:{len(LOST)}\n"
    _, frames = await answers(remote, lines.encode())
    ended = terminals(frames)
    assert (type(ended[-2]), type(ended[2])) == (End, Error)


async def test_a_description_without_urls_fails_as_it_did() -> None:
    remote, digest = ForeignMemory({URL: LOST}), digest_of(LOST)
    target = Target(ref=Reference("registry.test/app", f"@{digest}"), media_types=(LAYER,))
    with pytest.raises(NotFoundError, match=r"is not there$"):
        await describe_target(remote, target)
