"""A layout after kills at random instants, and on a full disk.

Whatever happened: each blob is what its name says, index.json names whole images alone, the next
run completes, and no lock holds it up. INTO_KILLS says how many workers are killed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

import pytest

from multi_fetch.oci.digest import digest_of
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.faults import Fault, drip
from tests.disks import run_where_mounts_are_own
from tests.end_to_end.conftest import MULTI_FETCH
from tests.loopback import loopback
from tests.store import kill_workers
from tests.store.kill_workers import count_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from multi_fetch.testing.layout import Layout
    from multi_fetch.testing.registry import LoopbackRegistry

KILLS: Final = int(os.environ.get("INTO_KILLS", "200"))
WORKERS_OF_A_FOLDER: Final = 8
# Far above what a run takes, and below what a lock that nobody lets go of would.
RUN_SECONDS: Final = 60.0

IMAGES: Final = 12
SIZES: Final = (3_000, 900, 1_800_000)


class Place:
    """A registry with many images, and the lines that ask for all of them."""

    def __init__(self, layout: Layout, registry: LoopbackRegistry) -> None:
        self.layout = layout
        self.registry = registry
        self.remote = f"{registry.address}/demo/app"
        self.tags = sorted(layout.tags)
        self.lines = "".join(f"{tag} children:all\n" for tag in self.tags).encode()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    chance = random.Random("into")
    builder = LayoutBuilder(tmp_path / "registry")
    images, faults = [], []
    for number in range(IMAGES):
        blobs = [builder.add_blob(chance.randbytes(size)) for size in SIZES]
        # Slow, so that kills meet them half way.
        faults.append(Fault(drip(300_000, every_seconds=0.02), path=f"*{blobs[-1].digest}"))
        images.append(builder.add_image(builder.add_empty(), blobs))
        builder.tag(f"v{number}", images[-1])
    builder.tag("all", builder.add_index(images[:3]))
    layout = builder.finish()
    with loopback(layout, *faults) as registry:
        yield Place(layout, registry)


def names_of(folder: Path) -> set[str]:
    """What a layout has content of, all of which is what it should be."""
    paths = list((folder / "blobs" / "sha256").iterdir())
    for path in paths:
        assert digest_of(path.read_bytes()).encoded == path.name
    return {path.name for path in paths}


def complete(place: Place, folder: Path) -> None:
    """A run that nothing happens to."""
    began = time.monotonic()
    done = subprocess.run(
        [MULTI_FETCH, "--into", str(folder), place.remote],
        input=place.lines,
        capture_output=True,
        check=False,
        timeout=RUN_SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert time.monotonic() - began < RUN_SECONDS
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["object"] for line in lines if line["id"] > 0} == set(place.tags)
    assert count_whole(folder) == len(place.tags)
    assert names_of(folder) == names_of(place.layout.folder)


@pytest.mark.timeout(600)  # two hundred kills, on any machine
def test_workers_that_are_killed_leave_whole_images_and_the_next_run_completes(
    place: Place, tmp_path: Path
) -> None:
    lines = tmp_path / "lines"
    lines.write_bytes(place.lines)
    killed, seed, resumed = 0, 0, False
    while killed < KILLS:
        folder = tmp_path / f"d{seed}"
        words = [
            "--into",
            str(folder),
            place.remote,
            str(lines),
            str(WORKERS_OF_A_FOLDER),
            str(seed),
        ]
        done = subprocess.run(
            [sys.executable, kill_workers.__file__, *words],
            capture_output=True,
            check=False,
            timeout=RUN_SECONDS * 2,
        )
        assert done.returncode == 0, done.stderr.decode()
        killed, seed = killed + int(done.stdout), seed + 1
        assert seed * WORKERS_OF_A_FOLDER <= 8 * KILLS, "some are to be killed while they work"
        complete(place, folder)
        shutil.rmtree(folder)
        asked = list(place.registry.requests)
        resumed |= any(name == "range" for each in asked for name, _ in each.headers)
    assert resumed, "what was begun is gone on with"


# --- a full disk ------------------------------------------------------------------------------

FULL: Final = r"""
set -e
mount -t tmpfs -o size=6m tmpfs "$1"
"$2" --into "$1/d" --log-level error "$3" < "$4" > "$5/full" 2> "$5/log" || echo "$?" > "$5/status"
cp "$1/d/index.json" "$5/index"
mount -o remount,size=100m "$1"
"$2" --into "$1/d" "$3" < "$4" > "$5/again"
cp -r "$1/d" "$5/d"
"""


def test_on_a_full_disk_lines_say_so_and_a_run_with_room_completes(
    place: Place, tmp_path: Path
) -> None:
    disk, lines = tmp_path / "disk", tmp_path / "lines"
    disk.mkdir()
    lines.write_bytes(place.lines)
    words = disk, MULTI_FETCH, place.remote, lines, tmp_path
    run_where_mounts_are_own(FULL, *words, timeout_seconds=RUN_SECONDS * 2)
    told = [json.loads(line) for line in (tmp_path / "full").read_text().splitlines()]
    errors = [line["error"] for line in told if "error" in line]
    assert (tmp_path / "status").read_text() == "1\n"
    assert {error["code"] for error in errors} == {"unavailable"}
    assert all("No space left on device" in error["message"] for error in errors)
    assert any("the layout" in error["message"] for error in errors)
    whole = {line["object"] for line in told if line["id"] > 0 and "error" not in line}
    entered = json.loads((tmp_path / "index").read_bytes())["manifests"]
    assert len(entered) == len(whole) < len(place.tags)
    again = [json.loads(line) for line in (tmp_path / "again").read_text().splitlines()]
    assert not any("error" in line for line in again)
    assert count_whole(tmp_path / "d") == len(place.tags)
    assert names_of(tmp_path / "d") == names_of(place.layout.folder)
