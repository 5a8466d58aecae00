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


def test_flags_say_what_hints_say(
    builder: LayoutBuilder, remote: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    platform = Platform(os="linux", architecture="arm64")
    image = builder.add_image(builder.add_empty(), [builder.add_blob(b"layer")])
    index = builder.add_index([replace(image, platform=platform)])
    forms = {
        ("--descriptor",): ("content:none",),
        ("--platform", "linux/arm64"): ("platform:linux/arm64",),
        ("--platform", "linux/arm64", "--descriptor"): ("platform:linux/arm64", "content:none"),
        ("--range", "3-9"): ("range:3-9",),
    }
    for flags, hints in forms.items():
        outs = []
        for words in ([*flags, f"{remote}@{index.digest}"], [remote, index.digest, *hints]):
            assert main(words) == 0
            outs.append(capfdbinary.readouterr().out)
        assert outs[0] == outs[1] != b""


def test_a_file_has_its_name_once_its_content_is_verified(
    builder: LayoutBuilder, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    output = tmp_path / "out" / "layer"
    output.parent.mkdir()
    blob = builder.add_blob(LARGE)
    for faults, status in (([Fault(flip_byte(len(LARGE) - 1))], 1), ([], 0)):
        with loopback(builder.finish(), *faults) as registry:
            words = [f"{registry.address}/demo/app", blob.digest, "--output", str(output)]
            assert main(words) == status
        assert output.exists() == (not status)
        assert len(list(output.parent.iterdir())) == output.exists()
    assert output.read_bytes() == LARGE
    assert capfdbinary.readouterr().out == b""


def test_a_file_that_cannot_be_written_is_told(
    remote: str, blob: Descriptor, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([remote, blob.digest, "--output", "/dev/full"]) == 1
    assert capfd.readouterr().err == (
        "fetch-object: cannot write to /dev/full: No space left on device; make room there\n"
    )


def test_what_is_in_a_store_is_fetched_once(
    builder: LayoutBuilder, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    blob, large = builder.add_blob(CONTENT), builder.add_blob(LARGE)
    with loopback(builder.finish()) as registry:
        for digest in (blob.digest, large.digest) * 2:
            words = [f"{registry.address}/demo/app@{digest}", "--store", str(tmp_path / "store")]
            assert main(words) == 0
        assert sum("/blobs/" in each.path for each in registry.requests) == 2
    assert capfdbinary.readouterr().out == (CONTENT + LARGE) * 2


def test_progress_is_told_as_json(
    remote: str, blob: Descriptor, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([remote, blob.digest, "--progress", "json"]) == 0
    last = json.loads(capfd.readouterr().err.splitlines()[-1])["progress"]
    assert last["succeeded"] == 1
    assert last["bytes"] == len(CONTENT)


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
        (["redis:7", "--range", "9"], "range"),
        (["redis:7", "--platform", "linux"], "platform"),
        (["redis:7", "--platform", "linux/amd64", "--range", "0-9"], "do not go together"),
        (["redis:7", "--offline"], "add --store <folder>"),
        (["redis:7", "--output", "/"], "is a folder: name a file in it"),
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
