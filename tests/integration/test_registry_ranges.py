"""A remote on Debian's docker-registry (distribution 2.8): parts of blobs, and blobs in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from multi_fetch.errors import InvalidRequestError
from multi_fetch.oci.media_types import OCTET_STREAM
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.request import ByteRange
from multi_fetch.remotes import open_remote
from multi_fetch.verify import Verifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.integration.docker_registry import DockerRegistry
    from tests.integration.push import Filled

pytestmark = pytest.mark.integration


async def part(
    registry: DockerRegistry,
    filled: Filled,
    text: str,
    byte_range: ByteRange,
    types: Sequence[str] = (),
) -> tuple[int | None, bytes]:
    locator = f"{registry.address}/{filled.repository}"
    async with (
        open_remote(Reference(locator)) as remote,
        remote.open(Reference(locator, text), media_types=types, byte_range=byte_range) as opened,
    ):
        content = b"".join([bytes(chunk) async for chunk in opened.chunks])
        return opened.descriptor.size, content


@pytest.mark.parametrize("types", [(), (OCTET_STREAM,)])
async def test_a_part_of_a_blob(
    registry: DockerRegistry, filled: Filled, types: Sequence[str]
) -> None:
    digest, blob = next(each for each in filled.blobs.items() if len(each[1]) == 4096)
    for asked in (ByteRange(0, 0), ByteRange(7, 99), ByteRange(4095), ByteRange(4000, 9999)):
        last = 4096 if asked.last is None else asked.last + 1
        found = await part(registry, filled, f"@{digest}", asked, types)
        assert found == (4096, blob[asked.first : last])


async def test_a_part_from_beyond_the_end_is_an_invalid_request_that_tells_the_size(
    registry: DockerRegistry, filled: Filled
) -> None:
    digest = next(digest for digest, blob in filled.blobs.items() if len(blob) == 4096)
    with pytest.raises(InvalidRequestError, match="has 4096 bytes") as caught:
        await part(registry, filled, f"@{digest}", ByteRange(4096))
    assert caught.value.status == 416


async def test_a_large_blob_over_several_connections(
    registry: DockerRegistry, filled: Filled
) -> None:
    locator = f"{registry.address}/{filled.repository}"
    ref = Reference(locator, f"@{filled.large.digest}")
    async with (
        open_remote(Reference(locator), ranges=4) as remote,
        remote.open(ref, media_types=[OCTET_STREAM]) as opened,
    ):
        verifier = Verifier(opened.descriptor.digest, filled.large.size)
        async for chunk in opened.chunks:
            verifier.update(chunk)
    assert verifier.finish() == filled.large.digest
