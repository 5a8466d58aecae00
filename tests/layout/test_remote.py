"""The contracts over a layout, as a folder and as an archive."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from multi_fetch.errors import (
    InvalidDigestError,
    InvalidReferenceError,
    InvalidRequestError,
    NotFoundError,
    ObjectRequiredError,
    SizeMismatchError,
)
from multi_fetch.layout import open_layout
from multi_fetch.layout.remote import LayoutRemote
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCTET_STREAM
from multi_fetch.oci.reference import Reference, parse_remote
from multi_fetch.protocol.request import ByteRange
from multi_fetch.remotes import Report, open_remote
from tests.layout.conftest import LARGE, SMALL, pack

if TYPE_CHECKING:
    from pathlib import Path

    from multi_fetch.layout.part import Source
    from tests.layout.conftest import Sample


async def read(remote: LayoutRemote, ref: Reference, byte_range: ByteRange | None = None) -> bytes:
    async with remote.open(ref, byte_range=byte_range) as opened:
        assert opened.name == str(ref)
        return b"".join([bytes(chunk) async for chunk in opened.chunks])


async def test_open_and_resolve_give_what_is_asked_for(sample: Sample, source: Source) -> None:
    remote = LayoutRemote(source)
    latest = sample.path(sample.outer.digest).read_bytes()
    for asked, expected in (
        ("latest", latest),
        (f"@{sample.outer.digest}", latest),
        (f"nowhere@{sample.small.digest}", SMALL),
        (f"@{sample.large.digest}", LARGE),
    ):
        ref = Reference(source.name, asked)
        assert await read(remote, ref) == expected
        resolved = await remote.resolve(ref)
        assert (resolved.name, resolved.descriptor.size) == (str(ref), len(expected))
        async with resolved.fetcher.fetch(resolved.descriptor, offset=7) as chunks:
            assert b"".join([bytes(chunk) async for chunk in chunks]) == expected[7:]
    assert remote.report() == Report()


@pytest.mark.parametrize("content", [SMALL, LARGE])
async def test_a_range_is_exactly_those_bytes(source: Source, content: bytes) -> None:
    remote = LayoutRemote(source)
    ref = Reference(source.name, f"@{digest_of(content)}")
    size = len(content)
    for first, last in ((0, 0), (3, 9), (size - 1, None), (size - 1, size + 5), (0, None)):
        end = size if last is None else last + 1
        assert await read(remote, ref, ByteRange(first, last)) == content[first:end]
    for last in (None, size + 1):
        with pytest.raises(InvalidRequestError, match=f"which has {size} bytes"):
            await read(remote, ref, ByteRange(size, last))


async def test_a_fetch_from_the_end_on_is_empty_and_another_size_is_told(
    sample: Sample, source: Source
) -> None:
    fetcher = (await LayoutRemote(source).resolve(Reference(source.name, "latest"))).fetcher
    for offset in (len(LARGE), len(LARGE) + 1):
        async with fetcher.fetch(sample.large, offset=offset) as chunks:
            assert [chunk async for chunk in chunks] == []
    wrong = Descriptor(media_type=OCTET_STREAM, digest=sample.large.digest, size=1)
    with pytest.raises(SizeMismatchError):
        async with fetcher.fetch(wrong):
            pass
    unknown = Descriptor(media_type=OCTET_STREAM, digest=sample.large.digest, size=None)
    async with fetcher.fetch(unknown, offset=len(LARGE) - 3) as chunks:
        assert [bytes(chunk) async for chunk in chunks] == [LARGE[-3:]]


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ("", ObjectRequiredError),
        ("none", NotFoundError),
        ("../x", InvalidReferenceError),
        ("@sha256:../../../etc/passwd", InvalidDigestError),
        ("@../..:x", InvalidDigestError),
        (f"@{digest_of(b'absent')}", NotFoundError),
        ("@md5:abc", NotFoundError),
        ("@x:" + "y" * 300, NotFoundError),
    ],
)
async def test_what_cannot_be_asked_for_has_its_error(
    source: Source, asked: str, error: type[Exception]
) -> None:
    remote = LayoutRemote(source)
    with pytest.raises(error):
        await remote.resolve(Reference(source.name, asked))
    with pytest.raises(error):
        await read(remote, Reference(source.name, asked))


async def test_another_layouts_reference_is_refused(source: Source) -> None:
    with pytest.raises(InvalidReferenceError, match="is not in"):
        await LayoutRemote(source).resolve(Reference("oci:other", "latest"))


async def test_a_reference_opens_its_folder_or_archive(sample: Sample, tmp_path: Path) -> None:
    pack(sample.folder, tmp_path / "layout.tar")
    for text in (f"oci:{sample.folder}:latest", f"oci-archive:{tmp_path}/layout.tar:latest"):
        ref = parse_remote(text)
        async with open_remote(ref, username="not", password="needed") as remote:
            assert (await remote.resolve(ref)).descriptor.digest == sample.outer.digest


async def test_a_repository_is_no_layout() -> None:
    with pytest.raises(InvalidReferenceError, match="write oci:<folder>"):
        async with open_layout(Reference("docker.io/library/redis")):
            pass


def test_a_layout_needs_no_http() -> None:
    code = (
        "import sys, multi_fetch.layout;"
        "print(sorted({'multi_fetch.registry', 'httpx', 'h11'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
