"""A store after kills at random instants, on a full disk, and without permission.

Whatever happened: each blob is what its name says, the next run completes, and no lock holds it up.
STORE_KILLS says how many workers are killed; 200 take some 30 s.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from multi_fetch.oci.layout import BLOBS_FOLDER, MARKER_FILE
from multi_fetch.store.folder import StoreFolder
from multi_fetch.store.survey import is_sound, kept_in
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.faults import Fault, drip
from multi_fetch.testing.layout import read_layout
from tests.disks import run_where_mounts_are_own
from tests.end_to_end.conftest import MULTI_FETCH
from tests.loopback import loopback
from tests.parent import asked_by, read_stream, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from multi_fetch.testing.layout import Layout
    from multi_fetch.testing.registry import LoopbackRegistry

KILLS: Final = int(os.environ.get("STORE_KILLS", "200"))
WORKERS_OF_A_ROUND: Final = 50
KILLER: Final = Path(__file__).with_name("kill_workers.py")
# Far above what a run takes, and below what a lock that nobody lets go of would.
RUN_SECONDS: Final = 60.0

_random = random.Random("crashes")
SIZES: Final = [*(3_000 for _ in range(12)), *(1_500_000 for _ in range(6)), 6_000_000]


class Place:
    """A registry with small and large blobs, and the lines that ask for all of it."""

    def __init__(self, layout: Layout, registry: LoopbackRegistry, digests: list[str]) -> None:
        self.layout = layout
        self.registry = registry
        self.digests = digests
        self.remote = f"{registry.address}/demo/app"
        self.lines = "".join(f"{each}\n" for each in ["latest children:all", *digests]).encode()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    builder = LayoutBuilder(tmp_path / "registry")
    blobs = [builder.add_blob(_random.randbytes(size)) for size in SIZES]
    builder.tag("latest", builder.add_image(builder.add_empty(), blobs))
    layout = builder.finish()
    with loopback(layout) as registry:
        yield Place(layout, registry, [each.digest for each in blobs])


def all_is_sound(store: Path) -> None:
    folder = StoreFolder(str(store))
    kept = list(kept_in(folder)) if (store / BLOBS_FOLDER).exists() else []
    for each in kept:
        assert is_sound(folder, each.digest), each
    # A machine can be so busy that nobody lived to see the marker written; content comes after it.
    if kept or (store / MARKER_FILE).exists():
        read_layout(store)


def complete(place: Place, store: Path, *flags: str) -> None:
    """A run that nothing happens to."""
    began = time.monotonic()
    done = run([MULTI_FETCH, "--store", str(store), *flags, place.remote], place.lines)
    assert done.status == 0, done.stderr
    assert time.monotonic() - began < RUN_SECONDS
    assert all(each.is_verified for each in done.session.answers.values())


@pytest.mark.timeout(600)  # two hundred kills, on any machine
def test_workers_that_are_killed_leave_a_sound_store_that_the_next_run_completes(
    place: Place, tmp_path: Path
) -> None:
    store, lines = tmp_path / "store", tmp_path / "lines"
    lines.write_bytes(place.lines)
    killed, seed, workers = 0, 0, str(WORKERS_OF_A_ROUND)
    while killed < KILLS:
        done = subprocess.run(
            [sys.executable, KILLER, "--store", store, place.remote, lines, workers, str(seed)],
            capture_output=True,
            check=True,
            timeout=2 * RUN_SECONDS,
        )
        killed, seed = killed + int(done.stdout), seed + 1
        assert seed * WORKERS_OF_A_ROUND <= 8 * KILLS, "some are to be killed while they work"
    all_is_sound(store)
    complete(place, store)
    all_is_sound(store)
    kept = {path.name for path in (store / "blobs" / "sha256").iterdir()}
    assert kept == {path.name for path in (place.layout.folder / "blobs" / "sha256").iterdir()}
    before = len(place.registry.requests)
    complete(place, store)
    asked = [each.method for each in list(place.registry.requests)[before:]]
    assert asked == ["HEAD"], "all is there, and only the tag is asked for"


def test_what_a_killed_worker_had_begun_is_gone_on_with(place: Place, tmp_path: Path) -> None:
    store, large = tmp_path / "store", place.digests[-1]
    slow = Fault(drip(64 * 1024, every_seconds=0.02), path=f"*/blobs/{large}", times=1)
    with loopback(place.layout, slow) as registry:
        command = [MULTI_FETCH, "--store", str(store), f"{registry.address}/demo/app"]
        line = f"{large} size:{SIZES[-1]}\n".encode()
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as worker:
            assert worker.stdin is not None
            worker.stdin.write(line)
            worker.stdin.flush()
            length = wait_for_rest(store / "ingest", 1_000_000)
            worker.kill()
        done = run(command, line)
        assert (done.status, done.session.answers[1].is_verified) == (0, True)
        asked = dict(registry.requests[-1].headers)["range"]
        assert int(asked.removeprefix("bytes=").removesuffix("-")) >= length


def wait_for_rest(folder: Path, length: int) -> int:
    """Returns once an unfinished file has so many bytes."""
    end = time.monotonic() + RUN_SECONDS
    while time.monotonic() < end:
        sizes = [path.stat().st_size for path in folder.glob("sha256-*")]
        if max(sizes, default=0) >= length:
            return length
        time.sleep(0.01)
    pytest.fail("nothing was begun")


# --- a full disk ------------------------------------------------------------------------------

FULL = r"""
set -e
mount -t tmpfs -o size=4m tmpfs "$1"
printf '%s\n' full > "$5/log"
"$2" --store "$1/store" --log-format json "$3" < "$4" > "$5/plain" 2>> "$5/log"
echo "$?" > "$5/status"
"$2" --store "$1/store" --store-only "$3" < "$4" > /dev/null 2>&1 || echo "$?" >> "$5/status"
"$2-store" verify "$1/store"
mount -o remount,size=100m "$1"
"$2" --store "$1/store" --store-only "$3" < "$4" > /dev/null
"$2-store" verify "$1/store"
"$2-store" list "$1/store" | wc -l > "$5/count"
"""


@pytest.mark.timeout(600)  # six processes, on any machine
def test_a_full_disk_costs_nothing_but_a_warning_and_the_next_run_completes(
    place: Place, tmp_path: Path
) -> None:
    disk, lines = tmp_path / "disk", tmp_path / "lines"
    disk.mkdir()
    lines.write_bytes(place.lines)
    words = disk, MULTI_FETCH, place.remote, lines, tmp_path
    run_where_mounts_are_own(FULL, *words, timeout_seconds=RUN_SECONDS * 2)
    assert (tmp_path / "status").read_text().split() == ["0", "1"]
    log = (tmp_path / "log").read_text()
    assert log.count("No space left on device") == 1
    assert log.count("\n") == 2, log
    session = read_stream((tmp_path / "plain").read_bytes(), asked=asked_by(place.lines))
    assert all(each.is_verified for each in session.answers.values())
    assert int((tmp_path / "count").read_text()) == len(SIZES) + 2


# --- without permission -----------------------------------------------------------------------


def without_privileges() -> list[str]:
    """What a command is run by, so that a folder's mode counts for it."""
    if os.geteuid() != 0:
        return []
    caps = "--bounding-set=-dac_override,-dac_read_search"
    setpriv = shutil.which("setpriv")
    if setpriv is None or subprocess.run([setpriv, caps, "true"], check=False).returncode:
        pytest.skip("root may write everywhere, and setpriv cannot take that away here")
    return [setpriv, caps]


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_without_permission_content_comes_with_one_warning_or_not_at_all(
    place: Place, tmp_path: Path, mode: int
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    store.chmod(mode)
    command = [*without_privileges(), MULTI_FETCH, "--store", str(store)]
    done = run([*command, place.remote], place.lines)
    assert done.status == 0
    assert done.stderr.count("WARNING") == 1, done.stderr
    done = run([*command, "--store-only", place.remote], place.lines)
    assert done.status == 3
    assert {each.code for each in done.session.answers.values()} == {"unavailable"}
    store.chmod(0o755)
    assert list(store.iterdir()) == []


def test_a_full_store_that_may_only_be_read_serves_all_the_same(
    place: Place, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    complete(place, store)
    for folder in (store, *(path for path in store.rglob("*") if path.is_dir())):
        folder.chmod(0o555)
    before = len(place.registry.requests)
    command = [*without_privileges(), MULTI_FETCH, "--store", str(store)]
    for flags in ([], ["--offline"], ["--answers", "paths"]):
        done = run([*command, *flags, place.remote], place.lines)
        assert (done.status, done.stderr) == (0, "")
    assert all(each.method == "HEAD" for each in list(place.registry.requests)[before:])
    for folder in (store, *(path for path in store.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
