"""What a worker holds in memory is bounded, however much a registry sends at the same time."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from multi_fetch.limits import MAX_MANIFEST_BYTES, MAX_PAGE_BYTES
from multi_fetch.oci.media_types import OCI_INDEX, OCI_MANIFEST
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.faults import Fault
from multi_fetch.testing.messages import Answer
from tests.end_to_end.conftest import MULTI_FETCH, Sample
from tests.loopback import loopback
from tests.parent import Parent

if TYPE_CHECKING:
    from multi_fetch.testing.faults import Respond
    from multi_fetch.testing.messages import Request

MIB: Final = 1024 * 1024
MOST_BYTES: Final = 150 * MIB

pytestmark = pytest.mark.timeout(600)  # hundreds of megabytes, on any machine

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's peak")

# As many as a page may have, of 4 MiB in all.
TAGS: Final = json.dumps(
    {"tags": [f"{number:05}".ljust(60, "x") for number in range(65_000)]}, separators=(",", ":")
).encode()
REFERRERS: Final = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            {
                "mediaType": OCI_MANIFEST,
                "digest": f"sha256:{number:064}",
                "size": 1,
                "annotations": {"k": "v" * 800},
            }
            for number in range(4_000)
        ],
    },
    separators=(",", ":"),
).encode()


def send_tags(request: Request, respond: Respond) -> Answer:
    return Answer(200, (("Content-Type", "application/json"),), TAGS)


def send_referrers(request: Request, respond: Respond) -> Answer:
    return Answer(200, (("Content-Type", OCI_INDEX),), REFERRERS)


def send_manifest(request: Request, respond: Respond) -> Answer:
    """Another one of 4 MiB for each tag."""
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "n": request.path}).encode()
    return Answer(200, (("Content-Type", OCI_MANIFEST),), body.ljust(MAX_MANIFEST_BYTES))


def peak_bytes(pid: int) -> int:
    """VmHWM of proc(5)."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def peak_of(address: str, lines: list[str], *flags: str, code: str = "") -> int:
    """What a worker's memory has come to when it has answered all lines."""
    ordered = "--ordered" in flags
    command = [MULTI_FETCH, *flags, "-"]
    with Parent(command, ordered=ordered, keeps_content=False) as parent:
        parent.write("".join(f"{line}\n" for line in lines).replace("HOST", address).encode())
        for _ in lines:
            assert parent.next_closed().code == code
        return peak_bytes(parent.process.pid)


@linux
@pytest.mark.parametrize("flags", [(), ("--ordered",)])
def test_pages_of_many_listings_are_held_within_a_budget(
    sample: Sample, flags: tuple[str, ...]
) -> None:
    assert len(TAGS) < MAX_PAGE_BYTES
    assert len(REFERRERS) < MAX_PAGE_BYTES
    faults = [Fault(send_tags, path="*/tags/*"), Fault(send_referrers, path="*/referrers/*")]
    lines = [f"!tags HOST/a/r{number}" for number in range(16)]
    lines += [f"!referrers HOST/a/b@sha256:{number:064}" for number in range(16)]
    with loopback(sample.layout, *faults) as registry:
        assert peak_of(registry.address, lines, *flags) < MOST_BYTES


@linux
@pytest.mark.parametrize("flags", [(), ("--ordered",)])
def test_manifests_of_many_jobs_are_held_within_a_budget(
    sample: Sample, flags: tuple[str, ...]
) -> None:
    lines = [f"HOST/demo/app:t{number}" for number in range(64)]
    with loopback(sample.layout, Fault(send_manifest, path="*/manifests/*")) as registry:
        assert peak_of(registry.address, lines, "--jobs", "64", *flags) < MOST_BYTES


def send_blob(request: Request, respond: Respond) -> Answer:
    """Another one for each digest, which is why none of them is right."""
    return Answer(200, (("Content-Length", "500000"),), request.path.encode().ljust(500_000))


@linux
def test_more_jobs_have_smaller_buffers(sample: Sample) -> None:
    lines = [f"HOST/demo/app@sha256:{number:064} size:500000" for number in range(1_100)]
    with loopback(sample.layout, Fault(send_blob, path="*/blobs/*")) as registry:
        flags = ("--jobs", "256", "--window", "2000")
        assert peak_of(registry.address, lines, *flags, code="digest-mismatch") < MOST_BYTES


@linux
def test_indexes_of_many_layouts_are_not_kept_together(tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path / "0")
    image = builder.add_image(builder.add_empty(), [])
    for number in range(20_000):
        builder.tag(f"t{number}", image)
    layout = builder.finish().folder
    for number in range(1, 16):
        shutil.copytree(layout, tmp_path / f"{number}")
    lines = [f"oci:{tmp_path}/{number}:t7" for number in range(16)]
    assert peak_of("", lines) < MOST_BYTES
