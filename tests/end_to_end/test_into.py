"""The real worker with --into: a layout, and a line for each request."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.layout import REF_NAME
from multi_fetch.oci.media_types import OCI_INDEX
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.faults import Fault, answer_error, close_after, stall_after
from tests.end_to_end.conftest import LARGE, MULTI_FETCH, Sample
from tests.loopback import loopback

if TYPE_CHECKING:
    from pathlib import Path

    from multi_fetch.testing.registry import LoopbackRegistry

Line = dict[str, Any]


def gather(
    folder: Path, remote: str, *lines: str, flags: tuple[str, ...] = ()
) -> tuple[int, list[Line]]:
    """Status and lines of a run."""
    done = subprocess.run(
        [MULTI_FETCH, "--into", str(folder), *flags, remote],
        input="".join(f"{line}\n" for line in lines).encode(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def entries(folder: Path) -> list[tuple[str, str]]:
    """Name and digest of each entry of index.json."""
    found = json.loads((folder / "index.json").read_bytes())["manifests"]
    return [(each.get("annotations", {}).get(REF_NAME, ""), each["digest"]) for each in found]


def check_blobs(folder: Path) -> set[str]:
    """The digests that a layout has content of, all of which is what it should be."""
    found = set()
    for path in (folder / "blobs").glob("*/*"):
        digest = digest_of(path.read_bytes(), path.parent.name)
        assert digest.encoded == path.name
        found.add(str(digest))
    return found


def fetched(registry: LoopbackRegistry) -> list[str]:
    """What was asked for with its content."""
    return [each.path for each in registry.requests if each.method == "GET"]


def test_a_second_run_transfers_nothing(sample: Sample, tmp_path: Path) -> None:
    lines = ("index children:all", "latest", sample.small, f"@{digest_of(sample.latest)}")
    with loopback(sample.layout) as registry:
        remote = f"{registry.address}/demo/app"
        first = gather(tmp_path / "d", remote, *lines)
        before = len(fetched(registry))
        heads = len(registry.requests)
        second = gather(tmp_path / "d", remote, *lines)
        assert len(fetched(registry)) == before
        new = list(registry.requests)[heads:]
        asked = [(each.method, each.path.rpartition("/")[2]) for each in new]
    assert set(asked) == {("HEAD", "index"), ("HEAD", "latest")}
    by_object = [
        {str(line["object"]): str(line["path"]) for line in lines if line["id"] > 0}
        for status, lines in (first, second)
        if status == 0
    ]
    assert by_object[0] == by_object[1]
    for path in by_object[0].values():
        assert (tmp_path / "d" / path).is_file()
    index = digest_of(sample.contents["index"])
    latest = digest_of(sample.latest)
    names = {("index", index), ("latest", latest), ("", latest)}
    assert set(entries(tmp_path / "d")) == names
    assert str(digest_of(LARGE)) in check_blobs(tmp_path / "d")
    assert (tmp_path / "d" / "ingest").is_dir()


def test_a_manifest_by_digest_is_to_be_found_and_a_blob_is_no_manifest(
    registry: LoopbackRegistry, sample: Sample, tmp_path: Path
) -> None:
    digest = digest_of(sample.latest)
    remote = f"{registry.address}/demo/app"
    status, _ = gather(tmp_path, remote, str(digest), sample.small, f"v9@{digest}")
    assert status == 0
    assert sorted(entries(tmp_path)) == [("", digest), ("v9", digest)]
    assert gather(tmp_path / "d", remote, str(digest), sample.small)[0] == 0
    assert entries(tmp_path / "d") == [("", digest)]


def test_a_tag_is_the_platforms_manifest_where_one_asked_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MULTI_FETCH_STORE", raising=False)
    status, lines = gather(
        tmp_path / "d", "oci:examples/layout", "latest platform:linux/arm64 children:all"
    )
    assert status == 0
    (entry,) = json.loads((tmp_path / "d" / "index.json").read_bytes())["manifests"]
    assert entry["platform"] == {"architecture": "arm64", "os": "linux"}
    assert entry["annotations"] == {REF_NAME: "latest"}
    (root,) = [line for line in lines if line["id"] == 1]
    assert root["digest"] == entry["digest"]
    assert root["platform"] == entry["platform"]
    assert lines[-1] == root, "it is last: all that is below it is there"


def test_a_tag_that_moved_is_replaced_and_what_was_there_stays(tmp_path: Path) -> None:
    digests = []
    for content in (b"one", b"two"):
        builder = LayoutBuilder(tmp_path / content.decode())
        image = builder.add_image(builder.add_empty(), [builder.add_blob(content)])
        builder.tag("latest", image)
        with loopback(builder.finish()) as registry:
            assert gather(tmp_path / "d", f"{registry.address}/a/b", "latest children:all")[0] == 0
        digests.append(image.digest)
    assert entries(tmp_path / "d") == [("latest", digests[1])]
    assert {str(digest) for digest in digests} < check_blobs(tmp_path / "d")


def test_an_image_with_a_hole_is_not_entered_and_the_next_run_mends_it(
    sample: Sample, tmp_path: Path
) -> None:
    fault = Fault(answer_error(404, "BLOB_UNKNOWN"), path=f"*{sample.small}")
    with loopback(sample.layout, fault) as registry:
        status, lines = gather(tmp_path, f"{registry.address}/demo/app", "latest children:all")
    assert status == 1
    errors = {line["id"]: line["error"] for line in lines if "error" in line}
    assert errors[1]["message"].startswith("1 of 3 objects below it failed")
    assert {error["code"] for error in errors.values()} == {"not-found"}
    assert len(errors) == 2
    assert entries(tmp_path) == []
    with loopback(sample.layout) as registry:
        status, lines = gather(tmp_path, f"{registry.address}/demo/app", "latest children:all")
        # Nobody has told it of the tag yet; of the rest, what was missing alone is fetched.
        assert [path.rpartition("/")[2] for path in fetched(registry)] == ["latest", sample.small]
    assert status == 0
    assert entries(tmp_path) == [("latest", digest_of(sample.latest))]


def test_what_breaks_off_goes_on_where_it_was(sample: Sample, tmp_path: Path) -> None:
    cut = Fault(close_after(2 * 1024 * 1024), method="GET", path=f"*{sample.large}")
    with loopback(sample.layout, cut) as registry:
        remote = f"{registry.address}/demo/app"
        status, lines = gather(
            tmp_path, remote, f"{sample.large} size:{len(LARGE)}", flags=("--retries", "0")
        )
    assert status in {1, 3}
    assert lines[0]["error"]["code"] == "unavailable"
    with loopback(sample.layout) as registry:
        remote = f"{registry.address}/demo/app"
        status, _ = gather(tmp_path, remote, f"{sample.large} size:{len(LARGE)}")
        ranges = [dict(each.headers).get("range", "") for each in registry.requests]
    assert status == 0
    begun = [int(each.removeprefix("bytes=").rstrip("-")) for each in ranges if each]
    assert begun, ranges
    assert begun[0] > 1024 * 1024
    assert (tmp_path / "blobs" / "sha256" / digest_of(LARGE).encoded).read_bytes() == LARGE


def test_a_signal_ends_it_with_a_line_for_each_and_the_next_run_goes_on(
    sample: Sample, tmp_path: Path
) -> None:
    stall = Fault(stall_after(2 * 1024 * 1024), method="GET", path=f"*{sample.large}")
    with loopback(sample.layout, stall) as registry:
        process = subprocess.Popen(
            [MULTI_FETCH, "--into", str(tmp_path), f"{registry.address}/demo/app"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"latest children:all\n")
        process.stdin.flush()
        told = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGINT
    told += [json.loads(line) for line in out.splitlines()]
    assert {line["id"] for line in told} == {1, -1, -2, -3}
    assert {line["error"]["code"] for line in told if "error" in line} == {"cancelled"}
    assert entries(tmp_path) == []
    with loopback(sample.layout) as registry:
        assert gather(tmp_path, f"{registry.address}/demo/app", "latest children:all")[0] == 0
    assert entries(tmp_path) == [("latest", digest_of(sample.latest))]


def test_with_a_store_all_of_it_comes_from_there(sample: Sample, tmp_path: Path) -> None:
    store = ("--store", str(tmp_path / "store"))
    with loopback(sample.layout) as registry:
        remote = f"{registry.address}/demo/app"
        for number in range(2):
            status, _ = gather(tmp_path / f"{number}", remote, "index children:all", flags=store)
            assert status == 0
            assert check_blobs(tmp_path / f"{number}") == check_blobs(tmp_path / "store")
        gets = fetched(registry)
        assert len(gets) == len(set(gets))
        status, _ = gather(
            tmp_path / "2", remote, "index children:all", flags=(*store, "--offline")
        )
        assert (status, fetched(registry)) == (0, gets)
    assert entries(tmp_path / "2") == [("index", digest_of(sample.contents["index"]))]


def test_offline_it_says_what_is_there(sample: Sample, tmp_path: Path) -> None:
    with loopback(sample.layout) as registry:
        remote = f"{registry.address}/demo/app"
        assert gather(tmp_path, remote, "latest children:all")[0] == 0
    status, lines = gather(
        tmp_path, remote, "latest children:all", "index", flags=("--offline", "--verify-store")
    )
    assert status == 1
    errors = [line for line in lines if "error" in line]
    assert [(line["object"], line["error"]["code"]) for line in errors] == [("index", "not-found")]
    assert {line["id"] for line in lines} == {1, 2, -1, -2, -3}


@pytest.mark.parametrize("flags", [(), ("--verify-store",)])
def test_what_was_altered_is_found_and_mended(
    sample: Sample, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    with loopback(sample.layout) as registry:
        remote = f"{registry.address}/demo/app"
        gather(tmp_path, remote, "latest children:all")
        large = tmp_path / "blobs" / "sha256" / digest_of(LARGE).encoded
        large.write_bytes(LARGE[:-1] + b"!")
        status, _ = gather(tmp_path, remote, "latest children:all", flags=flags)
        assert status == 0
    assert large.read_bytes() == LARGE


def test_a_layout_may_go_into_itself(sample: Sample, tmp_path: Path) -> None:
    shutil.copytree(sample.layout.folder, tmp_path / "d")
    before = entries(tmp_path / "d")
    status, _ = gather(tmp_path / "d", f"oci:{tmp_path}/d", "latest children:all", "index")
    assert (status, entries(tmp_path / "d")) == (0, before)


def test_progress_is_told_beside_the_lines(sample: Sample, tmp_path: Path) -> None:
    with loopback(sample.layout) as registry:
        done = subprocess.run(
            [MULTI_FETCH, "--into", str(tmp_path), "--progress", "json", f"{registry.address}/a/b"],
            input=b"latest children:all\n",
            capture_output=True,
            check=True,
        )
    last = json.loads(done.stderr.splitlines()[-1])["progress"]
    assert (last["succeeded"], last["is_done"]) == (4, True)
    assert last["bytes"] > len(LARGE)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--format", "jsonl"], "leave out --format jsonl, or --into"),
        (["--store", "s", "--answers", "paths"], "leave out --answers paths, or --into"),
        (["--ordered"], "leave out --ordered, or --into"),
        (["--into", ""], "--into needs the name of a folder"),
        (["--into", "/dev/null"], "the layout /dev/null is a file: name a folder"),
        (["--into", "/etc"], "a folder with other files: name a new one, or an OCI image layout"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(
    flags: list[str], told: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [MULTI_FETCH, "--into", "d", *flags, "127.0.0.1:1/a"],
        input=b"",
        capture_output=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert told in done.stderr.decode()
    assert not any(tmp_path.iterdir())


def test_what_other_tools_wrote_stays(sample: Sample, tmp_path: Path) -> None:
    shutil.copytree(sample.layout.folder, tmp_path / "d")
    theirs = entries(tmp_path / "d")
    builder = LayoutBuilder(tmp_path / "new")
    builder.tag("v2", builder.add_image(builder.add_empty(), []))
    with loopback(builder.finish()) as registry:
        assert gather(tmp_path / "d", f"{registry.address}/a/b", "v2 children:all")[0] == 0
    now = entries(tmp_path / "d")
    assert now[: len(theirs)] == theirs
    assert [name for name, _ in now[len(theirs) :]] == ["v2"]
    status, lines = gather(tmp_path / "e", f"oci:{tmp_path}/d", "index children:all", "v2")
    assert status == 0
    assert OCI_INDEX in {line["mediaType"] for line in lines}


def test_the_images_of_many_repositories_go_by_their_whole_names(
    sample: Sample, tmp_path: Path
) -> None:
    with loopback(sample.layout) as registry:
        names = [f"{registry.address}/demo/{name}:latest" for name in ("app", "other")]
        lines = [*(f"{name} children:all" for name in names), f"{names[0]}@{sample.small}"]
        assert gather(tmp_path, "-", *lines)[0] == 0
        status, told = gather(tmp_path, "-", *lines)
        gets = [path for path in fetched(registry) if path.rpartition("/")[2] != "v2"]
    assert status == 0
    assert {line["object"] for line in told if line["id"] > 0} == {
        *names,
        f"{names[0]}@{sample.small}",
    }
    assert dict(entries(tmp_path)) == dict.fromkeys(names, digest_of(sample.latest))
    large = [path for path in gets if path.endswith(sample.large)]
    assert len(large) == 1, "the same layer of two repositories is fetched once"
    check_blobs(tmp_path)
