"""multi-fetch-store, as its users meet it."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from multi_fetch.cli.store_command import age, main
from multi_fetch.limits import MAX_CHILDREN
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import digest_of
from multi_fetch.store.folder import StoreFolder
from multi_fetch.store.lock import locked
from multi_fetch.store.records import Records
from multi_fetch.testing.builder import LayoutBuilder
from tests.end_to_end.conftest import MULTI_FETCH

OLD = 1_700_000_000


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A tag, and content that nobody names, all of it old."""
    builder = LayoutBuilder(tmp_path / "store")
    image = builder.add_image(builder.add_empty(), [builder.add_blob(b"layer")])
    builder.tag("a.example/a:1", image)
    builder.add_blob(b"free")
    builder.finish()
    for path in (tmp_path / "store" / "blobs" / "sha256").iterdir():
        os.utime(path, (OLD, OLD))
    return tmp_path / "store"


def path_of(store: Path, content: bytes) -> Path:
    return store / "blobs" / "sha256" / digest_of(content).encoded


def run(*words: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, list[str], str]:
    status = main(list(words))
    told = capfd.readouterr()
    return status, told.out.splitlines(), told.err


def test_a_list_has_digest_size_use_and_tags(
    store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status, lines, _ = run("list", str(store), capfd=capfd)
    assert status == 0
    assert len(lines) == 4
    free = next(line for line in lines if digest_of(b"free") in line)
    assert free.split() == [digest_of(b"free"), "4", "2023-11-14T22:13:20Z"]
    assert sum(line.endswith("a.example/a:1") for line in lines) == 1
    _, lines, _ = run("list", "--json", str(store), capfd=capfd)
    found = [json.loads(line) for line in lines]
    assert {"digest": digest_of(b"free"), "size": 4, "used": OLD} in found
    assert [each["tags"] for each in found if "tags" in each] == [["a.example/a:1"]]


def test_verify_names_what_is_damaged_and_removes_it_if_told(
    store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("verify", str(store), capfd=capfd) == (0, [], "")
    path = path_of(store, b"layer")
    path.write_bytes(b"Layer")
    status, lines, _ = run("verify", str(store), capfd=capfd)
    assert (status, [line.split() for line in lines]) == (
        1,
        [["damaged", digest_of(b"layer"), "5"]],
    )
    assert path.exists()
    status, lines, _ = run("verify", "--json", "--remove", str(store), capfd=capfd)
    verdicts = [json.loads(line)["verdict"] for line in lines]
    assert (status, sorted(verdicts)) == (1, ["damaged", "sound", "sound", "sound"])
    assert not path.exists()
    assert run("verify", str(store), capfd=capfd) == (0, [], "")


def test_what_is_no_content_has_its_verdict_and_ends_no_look(
    store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A folder, a FIFO, and a link that leads out, each by the name of a digest."""
    (tmp_path / "outside").write_text("precious")
    odd = [store / "blobs" / "sha256" / (letter * 64) for letter in "abc"]
    odd[0].mkdir()
    os.mkfifo(odd[1])
    odd[2].symlink_to(tmp_path / "outside")
    for path in odd:
        os.utime(path, (OLD, OLD), follow_symlinks=False)
    told = [["damaged", f"sha256:{path.name}"] for path in odd]
    for words in (("verify",), ("verify", "--remove")):
        status, lines, _ = run(*words, str(store), capfd=capfd)
        assert (status, [line.split()[:2] for line in lines]) == (1, told)
    assert [os.path.lexists(path) for path in odd] == [True, False, False]
    assert (tmp_path / "outside").read_text() == "precious"
    status, lines, errors = run("prune", str(store), capfd=capfd)
    assert (status, [line.split()[:2] for line in lines]) == (
        1,
        [["removed", digest_of(b"free")], ["left", f"sha256:{odd[0].name}"]],
    )
    assert str(odd[0]) in errors


def test_what_verify_finds_damaged_is_no_longer_known_as_verified(
    store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As where a disk has damaged it, and nothing tells."""
    path, folder = path_of(store, b"layer"), StoreFolder(str(store))
    path.write_bytes(b"Layer")
    with path.open("rb") as file:
        Records(folder).note(digest_of(b"layer"), file.fileno())
        assert Records(folder).vouch_for(digest_of(b"layer"), file.fileno())
        assert run("verify", str(store), capfd=capfd)[0] == 1
        assert not Records(folder).vouch_for(digest_of(b"layer"), file.fileno())


def test_verify_misses_what_a_tag_stands_for(
    store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, lines, _ = run("list", str(store), capfd=capfd)
    digest = next(line.split()[0] for line in lines if line.endswith(":1"))
    (store / "blobs" / digest.replace(":", "/")).unlink()
    status, lines, _ = run("verify", str(store), capfd=capfd)
    assert (status, lines) == (1, [f"missing  {digest}  a.example/a:1"])


def test_prune_says_what_goes_and_keeps_what_a_tag_reaches(
    store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status, said, _ = run("prune", "--dry-run", str(store), capfd=capfd)
    assert (status, path_of(store, b"free").exists()) == (0, True)
    assert run("prune", str(store), capfd=capfd) == (0, said, "")
    assert [line.split()[:2] for line in said] == [["removed", digest_of(b"free")]]
    assert run("prune", str(store), capfd=capfd)[1] == []
    _, lines, _ = run("prune", "--tagged", "--max-size", "0", str(store), capfd=capfd)
    assert len(lines) == 4  # the image, its config and layer, and the tag
    assert run("list", str(store), capfd=capfd) == (0, [], "")


def test_a_dry_run_writes_nothing_and_waits_for_nobody(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In a layout that others made, and in a store of which somebody changes the index."""
    builder = LayoutBuilder(tmp_path)
    builder.add_blob(b"free")
    builder.tag("1", builder.add_image(builder.add_empty(), []))
    builder.finish()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"))}
    told = run("prune", "--dry-run", "--older-than", "0s", str(tmp_path), capfd=capfd)
    assert (told[0], [line.split()[1] for line in told[1]]) == (0, [digest_of(b"free")])
    assert {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"))} == before
    folder = StoreFolder(str(tmp_path))
    folder.prepare()
    with locked(folder.index_lock, 0):
        again = run("prune", "--dry-run", "--older-than", "0s", str(tmp_path), capfd=capfd)
    assert again == told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["list", "--older-than", "1d", "."], "--older-than is for 'prune'"),
        (["prune", "--tagged", "."], "add --older-than"),
        (["prune", "--remove", "."], "--remove is for 'verify'"),
        (["list", "nowhere"], "is not there"),
        (["list", "file"], "is a file"),
    ],
)
def test_wrong_usage_is_told(
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    status, lines, err = run(*words, capfd=capfd)
    assert (status, lines) == (2, [])
    assert told in err


def test_a_damaged_index_is_a_failure(store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (store / "index.json").write_text("{")
    status, _, err = run("prune", str(store), capfd=capfd)
    assert status == 1
    assert "index.json" in err
    assert path_of(store, b"free").exists()


@pytest.mark.parametrize(
    ("script", "status"), [('"$0-store" list "$1" > /dev/full', 1), ('"$0-store" list "$1"', 0)]
)
def test_the_command_is_installed_and_tells_what_goes_wrong(
    store: Path, script: str, status: int
) -> None:
    done = subprocess.run(
        ["sh", "-c", script, MULTI_FETCH, str(store)], check=False, capture_output=True, text=True
    )
    assert done.returncode == status
    assert ("No space left" in done.stderr) == bool(status)


@pytest.fixture(scope="session")
def vast_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thousands of indexes that each lead to as many objects as an index may name."""
    builder = LayoutBuilder(tmp_path_factory.mktemp("vast") / "store")
    named = [
        Descriptor(media_type="a/b", digest=digest_of(b"%d" % number), size=1)
        for number in range(MAX_CHILDREN)
    ]
    shared = builder.add_index(named)
    for number in range(3_000):
        own = replace(shared, annotations={"number": str(number)})
        builder.tag(f"a.example/a:{number}", builder.add_index([own]))
    builder.finish()
    return builder.folder


PEAK = """\
import re, sys
from pathlib import Path
from multi_fetch.cli.store_command import main
status = main(sys.argv[1:])
found = re.search(r"VmHWM:\\s+([0-9]+) kB", Path("/proc/self/status").read_text())
sys.stderr.write(f"\\n{found[1]}\\n")
sys.exit(status)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak so")
@pytest.mark.parametrize(
    "words", ["list", "verify", "prune --dry-run", "prune --dry-run --tagged --max-size 0"]
)
def test_no_store_takes_much_memory_to_look_after(vast_store: Path, words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *words.split(), str(vast_store)],
        check=True,
        capture_output=True,
    )
    assert int(done.stderr.split()[-1]) < 150 * 1024


def test_ages_have_units() -> None:
    assert [age(text) for text in ("30d", "12h", "0s", "0")] == [2_592_000.0, 43_200.0, 0.0, 0.0]
    for text in ("30", "d", "-1d", "1w"):
        with pytest.raises(argparse.ArgumentTypeError, match="no age"):
            age(text)


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_name_controls_no_terminal(
    store: Path, flags: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    document = json.loads((store / "index.json").read_bytes())
    document["manifests"][0]["annotations"] = {
        "org.opencontainers.image.ref.name": "a\x1b]0;x\x07\n\x9b\u202e"
    }
    (store / "index.json").write_text(json.dumps(document))
    assert main(["list", *flags, str(store)]) == 0
    said = capfd.readouterr().out
    assert "u001b]0;x" in said
    assert not set("\x1b\x07\x9b\u202e") & set(said)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("action", ["list", "verify", "prune"])
def test_a_signal_ends_it_at_once_and_without_a_word(
    tmp_path: Path, action: str, number: signal.Signals
) -> None:
    folder = tmp_path / "store"
    builder = LayoutBuilder(folder)
    for each in range(200):  # more lines than the pipe takes, so that it waits
        builder.add_blob(b"%d" % each)
    builder.finish()
    command = [f"{MULTI_FETCH}-store", "--json", action, str(folder)]
    command += ["--older-than", "0s"] if action == "prune" else []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pipesize=4096
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1) == b"{"
        process.send_signal(number)
        assert process.stderr.read() == b""
        assert process.wait() == -number
    assert main(["verify", str(folder)]) == 0
