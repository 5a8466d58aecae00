"""The real worker with a store, as a parent meets it."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from multi_fetch.oci.digest import digest_of
from tests.end_to_end.conftest import FETCH_OBJECT, LARGE, MULTI_FETCH, SMALL, Sample
from tests.loopback import loopback
from tests.parent import run

if TYPE_CHECKING:
    from pathlib import Path

    from multi_fetch.testing.registry import LoopbackRegistry

LINES = "latest\n{small}\n{large} size:3145745\nindex children:all\n{large} range:0-9\nnope\n"


def lines(sample: Sample) -> bytes:
    return LINES.format(small=sample.small, large=sample.large).encode()


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("answers", ["data", "paths"])
def test_the_answers_are_the_same_from_the_registry_from_the_store_and_offline(
    sample: Sample, tmp_path: Path, answers: str, ordered: bool
) -> None:
    flags = ["--store", str(tmp_path / "store"), "--answers", answers]
    flags += ["--ordered"] if ordered else []
    with loopback(sample.layout) as registry:
        remote = f"{registry.address}/demo/app"
        plain = run([MULTI_FETCH, *flags[4:], remote], lines(sample), ordered=ordered)
        runs = [
            run([MULTI_FETCH, *flags, *more, remote], lines(sample), ordered=ordered)
            for more in ([], [], ["--verify-store"], ["--offline"])
        ]
        large = [each for each in registry.requests if each.path.endswith(sample.large)]
    want = facts(plain)
    for each in runs:
        assert each.status == 1
        assert facts(each) == want
        is_named = {answer.path is not None for answer in each.session.answers.values()}
        assert is_named == ({False} if answers == "data" else {True, False})
    # Twice by the run without a store, its range among them; then once, and the range beside it
    # if that came first.
    assert len([each for each in large if each.status == 200 and each.method == "GET"]) <= 3


@pytest.mark.parametrize(
    ("command", "failure"),
    [
        (
            "$multi_fetch --store store --answers paths",
            b"cannot keep this: File too large; mend that",
        ),
        ("$multi_fetch --into layout", b"cannot keep this: File too large; mend that"),
        ("$fetch_object -o whole", b"cannot write to whole: File too large"),
        ("$multi_fetch", b"cannot write to stdout: File too large"),
        ("$fetch_object", b"cannot write to stdout: File too large"),
    ],
)
def test_where_no_more_can_be_written_that_is_told_and_nothing_half_done_is_left(
    sample: Sample, tmp_path: Path, remote: str, command: str, failure: bytes
) -> None:
    asked = sample.large if "fetch_object" in command else ""
    done = subprocess.run(
        ["/bin/sh", "-c", f"ulimit -f 2000; {command} {remote} {asked} > out"],
        input=f"{sample.small}\n{sample.large}\n{sample.small}\n".encode(),
        stderr=subprocess.PIPE,
        env=os.environ | {"multi_fetch": MULTI_FETCH, "fetch_object": FETCH_OBJECT},
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 1
    assert failure in done.stderr
    assert b"Traceback" not in done.stderr
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    kept = {digest_of(SMALL).encoded, "index.json", "oci-layout"}
    assert left - {"out"} == (kept if "--" in command else set())


def facts(done: object) -> set[tuple[object, ...]]:
    """What was answered, whatever the order of what was found."""
    session = done.session  # type: ignore[attr-defined]  # a Run
    return {
        (max(each.id, 0), bytes(each.content), each.code, each.is_verified)
        for each in session.answers.values()
    }


def test_the_same_lines_in_order_wait_for_nobody_that_comes_later(
    sample: Sample, tmp_path: Path
) -> None:
    """Otherwise the first would wait until the others seem to have stopped, and fetch again."""
    with loopback(sample.layout) as registry:
        for number in range(5):
            store = str(tmp_path / str(number))
            done = run(
                [MULTI_FETCH, "--ordered", "--store", store, f"{registry.address}/demo/app"],
                f"{sample.large}\n".encode() * 8,
                ordered=True,
            )
            assert done.status == 0
        fetched = [each for each in registry.requests if each.status == 200]
    assert len(fetched) == 5


@pytest.mark.parametrize("is_kept_open", [False, True])
def test_a_file_that_was_altered_behind_its_frame_is_fetched_again_before_it_is_named(
    sample: Sample, tmp_path: Path, is_kept_open: bool
) -> None:
    """By its name or by a descriptor of before, and with its times set back."""
    path = tmp_path / "store" / "blobs" / "sha256" / digest_of(LARGE).encoded
    flags = ["--store", str(tmp_path / "store"), "--answers", "paths"]
    line = f"{sample.large}\n".encode()
    with loopback(sample.layout) as registry:
        command = [MULTI_FETCH, *flags, f"{registry.address}/demo/app"]
        assert run(command, line).session.answers[1].is_verified
        for _ in range(3):
            with path.open("r+b", buffering=0) as file:
                if is_kept_open:
                    assert run(command, line).session.answers[1].is_verified
                before = path.stat()
                file.write(bytes([LARGE[0] ^ 1]))
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            done = run(command, line)
            assert (done.status, done.session.answers[1].is_verified) == (0, True)
            assert "damaged, and was removed" in done.stderr
            assert run(command, line).stderr == ""
        fetched = [each for each in registry.requests if each.status == 200]
    assert len(fetched) == 4


def test_json_lines_name_files_too(
    registry: LoopbackRegistry, sample: Sample, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    flags = ["--store", str(store), "--answers", "paths", "--format", "jsonl"]
    done = subprocess.run(
        [MULTI_FETCH, *flags, f"{registry.address}/demo/app"],
        input=f"{sample.small}\n".encode(),
        capture_output=True,
        check=True,
    )
    file = json.loads(done.stdout.splitlines()[2])
    path = store / "blobs" / "sha256" / digest_of(SMALL).encoded
    assert file == {"frame": "file", "id": 1, "path": str(path), "size": len(SMALL)}


def test_unpack_copies_what_files_have(
    registry: LoopbackRegistry, sample: Sample, tmp_path: Path
) -> None:
    script = '"$0" --store store --answers paths "$1" | "$0-unpack" --into out'
    subprocess.run(
        ["sh", "-c", script, MULTI_FETCH, f"{registry.address}/demo/app"],
        input=f"{sample.large}\n{sample.small}\n".encode(),
        cwd=tmp_path,
        check=True,
    )
    kept, out = (tmp_path / name / "blobs" / "sha256" for name in ("store", "out"))
    for content in (SMALL, LARGE):
        name = digest_of(content).encoded
        assert (out / name).read_bytes() == content == (kept / name).read_bytes()
        assert (out / name).stat().st_ino != (kept / name).stat().st_ino


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--answers", "paths"], "--answers paths needs a store: add --store <folder>"),
        (["--offline"], "--offline needs a store"),
        (["--store", "/dev/null"], "is a file"),
        (["--store", "\udcff", "--answers", "paths"], "UTF-8"),
    ],
)
def test_flags_that_make_no_sense_are_wrong_usage(flags: list[str], told: str) -> None:
    environment = {name: value for name, value in os.environ.items() if "STORE" not in name}
    done = subprocess.run(
        [MULTI_FETCH, *flags, "127.0.0.1:1/a"],
        input=b"",
        capture_output=True,
        check=False,
        env=environment,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert told in done.stderr.decode()
