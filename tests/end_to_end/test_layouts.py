"""Layouts as remotes, through the real process: what a registry answers, a folder answers too."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tarfile
from typing import TYPE_CHECKING, Final

import pytest

from tests.end_to_end.conftest import FETCH_OBJECT, LARGE, MULTI_FETCH, SMALL, Sample
from tests.layout.process import ask
from tests.parent import Parent, run

if TYPE_CHECKING:
    from pathlib import Path

ABSENT: Final = "sha256:" + "0" * 64


@pytest.fixture(scope="session")
def archive(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "layout.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(sample.layout.folder, ".")
    return path


@pytest.fixture(params=["oci", "oci-archive"])
def layout(sample: Sample, archive: Path, request: pytest.FixtureRequest) -> str:
    path = sample.layout.folder if request.param == "oci" else archive
    return f"{request.param}:{path}"


@pytest.fixture
def folder(sample: Sample, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return shutil.copytree(sample.layout.folder, tmp_path / "copy")


@pytest.mark.parametrize("flags", [[], ["--ordered"], ["--jobs", "1"], ["--window", "1"]])
def test_each_object_arrives_byte_for_byte(sample: Sample, layout: str, flags: list[str]) -> None:
    lines = "\n".join(sample.contents).encode()
    done = run([MULTI_FETCH, *flags, layout], lines, ordered="--ordered" in flags)
    assert (done.status, done.stderr) == (0, "")
    assert done.session.hello is not None
    assert done.session.hello.remote == layout
    for number, content in enumerate(sample.contents.values(), start=1):
        assert done.answers[number].content == content
        assert done.answers[number].is_verified


def test_the_same_lines_have_the_same_answers_as_over_a_registry(
    sample: Sample, remote: str, layout: str
) -> None:
    """Hints, ranges, children and failures too; only names and words differ."""
    lines = [
        *sample.contents,
        "latest content:none",
        f"{sample.large} content:none",
        f"{sample.small} mediatype:a/b size:{len(SMALL)}",
        f"{sample.small} size:3",
        f"{sample.large} range:0-0",
        f"{sample.large} range:{len(LARGE) - 5}-",
        f"{sample.large} range:5-{len(LARGE) + 5}",
        f"{sample.large} range:{len(LARGE)}-",
        "latest range:3-9",
        f"latest digest:{ABSENT}",
        "latest platform:linux/amd64",
        "index platform:plan9/mips",
        "nope",
        ABSENT,
        f"{ABSENT} mediatype:a/b",
        f"nope@{sample.small}",
        "index children:all",
        "index children:manifests content:none",
        "latest size:big",
    ]
    over_http, over_files = ask(remote, *lines), ask(layout, *lines)
    assert over_files == over_http
    answers, status = over_files
    assert status == 1
    outcomes = {answer.outcome for answer in answers.values()}
    assert outcomes >= {"end", "not-found", "size-mismatch", "digest-mismatch", "invalid-request"}
    assert min(answers) <= -5, "children came"


def test_names_are_references_that_lead_back(sample: Sample, layout: str) -> None:
    done = run([MULTI_FETCH, layout], f"latest\n{sample.small}\n".encode())
    for answer in done.answers.values():
        assert answer.begin is not None
        again = subprocess.run([FETCH_OBJECT, answer.begin.name], capture_output=True, check=True)
        assert again.stdout == answer.content


def test_fetch_object_takes_an_object_in_one_word_or_two(sample: Sample, layout: str) -> None:
    for words in ([f"{layout}:latest"], [layout, "latest"], [f"{layout}:latest@{sample.small}"]):
        done = subprocess.run([FETCH_OBJECT, *words], capture_output=True, check=False)
        expected = SMALL if "@" in words[0] else sample.latest
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, b"")


def test_a_damaged_layout_fails_object_by_object(sample: Sample, folder: Path) -> None:
    """What is missing, altered, cut, linked away or no file fails alone, with its own code."""
    blobs = folder / "blobs" / "sha256"
    outside = folder.parent / "outside"
    outside.write_bytes(b"linked")
    lines, codes = ["latest", sample.large], {}
    for name, damage in (("missing", "not-found"), ("fifo", "registry-error")):
        lines.append(f"sha256:{name.encode().hex():0<64}")
        codes[len(lines)] = damage
    os.mkfifo(blobs / lines[-1].partition(":")[2])
    lines.append("sha256:" + "1" * 64)
    (blobs / ("1" * 64)).symlink_to(outside)
    codes[len(lines)] = "denied"
    lines.append("index")
    index = blobs / sample.layout.tags["index"].digest.encoded
    index.write_bytes(index.read_bytes().swapcase())
    codes[len(lines)] = "digest-mismatch"
    lines.append(f"{sample.small} size:{len(SMALL)}")
    (blobs / sample.small.partition(":")[2]).write_bytes(SMALL[:-1])
    codes[len(lines)] = "size-mismatch"
    done = run([MULTI_FETCH, f"oci:{folder}"], "\n".join(lines).encode())
    assert done.codes == codes
    assert done.status == 1
    assert done.answers[2].content == LARGE


def test_altered_large_content_has_no_end(sample: Sample, folder: Path) -> None:
    path = folder / "blobs" / "sha256" / sample.large.partition(":")[2]
    with path.open("r+b") as file:
        file.seek(len(LARGE) - 1)
        file.write(bytes([LARGE[-1] ^ 1]))
    done = run([MULTI_FETCH, f"oci:{folder}"], sample.large.encode())
    assert done.codes == {1: "digest-mismatch"}


@pytest.mark.parametrize(
    ("name", "content"), [("index.json", "{"), ("index.json", None), ("oci-layout", "{}")]
)
def test_a_folder_that_is_no_layout_fails_each_object(
    sample: Sample, folder: Path, name: str, content: str | None
) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    done = run([MULTI_FETCH, f"oci:{folder}"], f"latest\n{sample.small}\n".encode())
    assert done.codes == {1: "registry-error", 2: "registry-error"}
    assert done.status == 1


def test_a_remote_that_is_not_there_has_its_own_status(tmp_path: Path) -> None:
    for scheme in ("oci", "oci-archive"):
        done = run([MULTI_FETCH, f"{scheme}:{tmp_path}/none"], b"latest\n")
        assert (done.status, done.codes) == (3, {1: "unavailable"})
        assert "there is no such" in done.stderr


def test_an_archive_that_is_compressed_says_what_to_do(tmp_path: Path, archive: Path) -> None:
    with tarfile.open(tmp_path / "layout.tar.gz", "w:gz") as tar:
        tar.add(archive, "x")
    done = run([MULTI_FETCH, f"oci-archive:{tmp_path}/layout.tar.gz"], b"latest\n")
    assert (done.status, done.codes) == (1, {1: "unsupported"})
    assert "decompress it" in done.stderr


def test_a_tag_that_is_written_while_the_worker_runs_is_found(sample: Sample, folder: Path) -> None:
    """As a store that others write to."""
    with Parent([MULTI_FETCH, f"oci:{folder}"]) as parent:
        parent.write(b"new\n")
        assert parent.next_closed().code == "not-found"
        text = (folder / "index.json").read_text().replace('"latest"', '"new"')
        (folder / "index.new").write_text(text)
        (folder / "index.new").replace(folder / "index.json")
        parent.write(b"new\n")
        assert parent.next_closed().content == sample.latest
        assert parent.finish() == 1


def test_a_signal_ends_a_worker_that_has_threads_waiting(sample: Sample, layout: str) -> None:
    with Parent([MULTI_FETCH, layout]) as parent:
        parent.write(f"{sample.small}\n".encode())
        assert parent.next_closed().is_verified
        parent.process.send_signal(signal.SIGTERM)
        assert parent.finish() == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("remote", "part"),
    [
        ("oci:", "write oci:<path>"),
        ("oci:a:latest", "write 'multi-fetch oci:a' and 'latest' as a line of stdin"),
        ("oci://ghcr.io/o/r", "<host>/<repository>"),
        ("oci:a:b:c", "a path has no colon"),
    ],
)
def test_what_is_no_layout_is_a_usage_error(remote: str, part: str) -> None:
    done = subprocess.run(
        [MULTI_FETCH, remote], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert part in done.stderr
