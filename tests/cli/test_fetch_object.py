"""fetch-object's command line in this process; as a process of its own it is in end_to_end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from multi_fetch.cli.fetch_object import main
from multi_fetch.limits import MAX_INDEX_DEPTH
from multi_fetch.oci.descriptor import Platform
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.faults import Fault, change_body, flip_byte
from tests.loopback import loopback

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from multi_fetch.oci.descriptor import Descriptor

CONTENT = bytes(range(256))
LARGE = CONTENT * 4_096


@pytest.fixture
def builder(tmp_path: Path) -> LayoutBuilder:
    return LayoutBuilder(tmp_path)


@pytest.fixture
def blob(builder: LayoutBuilder) -> Descriptor:
    return builder.add_blob(CONTENT)


@pytest.fixture
def remote(builder: LayoutBuilder, blob: Descriptor) -> Iterator[str]:
    builder.add_blob(LARGE)
    with loopback(builder.finish()) as registry:
        yield f"{registry.address}/demo/app"


def test_both_forms_write_the_content(
    remote: str, blob: Descriptor, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    for words in ([remote, blob.digest], [f"{remote}@{blob.digest}"], [remote, f"@{blob.digest}"]):
        assert main(words) == 0
        assert capfdbinary.readouterr() == (CONTENT, b"")


def test_large_content_is_written_as_it_comes(
    builder: LayoutBuilder, remote: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main([remote, builder.add_blob(LARGE).digest]) == 0
    assert capfdbinary.readouterr() == (LARGE, b"")


def test_content_none_writes_the_descriptor(
    remote: str, blob: Descriptor, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([remote, blob.digest, "content:none"]) == 0
    out, _ = capfd.readouterr()
    assert json.loads(out)["digest"] == blob.digest


def test_content_that_was_altered_is_not_written(
    builder: LayoutBuilder, blob: Descriptor, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with loopback(builder.finish(), Fault(flip_byte(3))) as registry:
        assert main([f"{registry.address}/demo/app", blob.digest]) == 1
    out, err = capfdbinary.readouterr()
    assert out == b""
    assert b"code=digest-mismatch" in err


def test_what_is_not_there_fails_and_what_cannot_be_reached_has_its_own_status(
    remote: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([f"{remote}:nowhere"]) == 1
    assert main(["--retries", "0", "127.0.0.1:1/nobody/listens:latest"]) == 3
    out, err = capfd.readouterr()
    assert out == ""
    assert "code=not-found" in err
    assert "code=unavailable" in err


def test_the_index_that_is_looked_into_is_the_one_that_was_found(
    builder: LayoutBuilder, capfd: pytest.CaptureFixture[str]
) -> None:
    """And is held against its digest: what is there under its tag by then is another's."""
    platform = Platform(os="linux", architecture="amd64")
    images = [
        builder.add_image(builder.add_empty(), layers, platform=platform)
        for layers in ([], [builder.add_blob(CONTENT)])
    ]
    asked, other = (builder.add_index([image]) for image in images)
    builder.tag("multi", asked)
    content = (builder.folder / "blobs" / "sha256" / other.digest.encoded).read_bytes()
    moved = Fault(change_body(lambda _: content), method="GET", path="*/manifests/multi")
    with loopback(builder.finish(), moved) as registry:
        remote = f"{registry.address}/demo/app"
        hints = ["platform:linux/amd64", "content:none", f"digest:{asked.digest}"]
        assert main([remote, "multi", *hints]) == 0
    out, _ = capfd.readouterr()
    assert json.loads(out)["digest"] == images[0].digest


def test_indexes_of_indexes_come_to_an_end(
    builder: LayoutBuilder, capfd: pytest.CaptureFixture[str]
) -> None:
    platform = Platform(os="linux", architecture="amd64")
    index = builder.add_index([])
    for _ in range(MAX_INDEX_DEPTH + 1):
        index = builder.add_index([replace(index, platform=platform)])
    with loopback(builder.finish()) as registry:
        remote = f"{registry.address}/demo/app"
        words = [remote, index.digest, "platform:linux/amd64"]
        assert [main(words), main([*words, "content:none"])] == [1, 1]
    assert capfd.readouterr().err.count("code=unsupported") == 2


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["redis"], "names no object"),
        (["redis:7", "8"], "names an object already: leave out '8'"),
        (["redis:7", "size:1"], "write 'fetch-object docker.io/library/redis 7 size:1'"),
        (["redis", "a/b"], "a/b"),
        (["redis", "7", "no-hint"], "no-hint"),
    ],
)
def test_wrong_usage_is_told_with_status_2(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fetch-object: ")
    assert part in err
