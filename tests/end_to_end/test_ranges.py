"""--ranges as a user meets it: the same bytes, over several connections."""

from __future__ import annotations

import random
import subprocess
from typing import TYPE_CHECKING, Final

from multi_fetch.limits import LEAST_SPLIT_BYTES
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.faults import Fault, drip, ignore_range
from tests.end_to_end.conftest import FETCH_OBJECT, MULTI_FETCH
from tests.loopback import loopback
from tests.parent import read_stream

if TYPE_CHECKING:
    from pathlib import Path

    from multi_fetch.testing.registry import LoopbackRegistry

BLOB: Final = random.Random("ranges").randbytes(LEAST_SPLIT_BYTES + 1_001)

# The first answer is slow, so that all that comes fast came by ranges.
SLOW: Final = Fault(drip(20_000, every_seconds=0.002), path="*/blobs/*", times=1)


def parts(registry: LoopbackRegistry) -> list[str]:
    """The ranges that were asked for."""
    told = [dict(request.headers).get("range", "") for request in registry.requests]
    return [each for each in told if each]


def test_a_large_blob_comes_whole_over_several_connections(tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path)
    digest = builder.add_blob(BLOB).digest
    with loopback(builder.finish(), SLOW) as registry:
        done = subprocess.run(
            [MULTI_FETCH, "--ranges", "4", f"{registry.address}/a"],
            input=f"{digest} mediatype:application/octet-stream\n".encode(),
            capture_output=True,
            check=True,
        )
        assert registry.connections > 2
        assert len(parts(registry)) >= 3
    answer = read_stream(done.stdout).answers[1]
    assert answer.is_verified
    assert bytes(answer.content) == BLOB
    assert done.stderr == b""


def test_so_it_does_for_fetch_object_and_a_registry_without_ranges_is_no_failure(
    tmp_path: Path,
) -> None:
    builder = LayoutBuilder(tmp_path)
    digest = builder.add_blob(BLOB).digest
    whole = Fault(ignore_range(), path="*/blobs/*")
    for faults in ([SLOW], [SLOW, whole]):
        with loopback(builder.finish(), *faults) as registry:
            command = [FETCH_OBJECT, "--ranges", "3", f"{registry.address}/a@{digest}"]
            done = subprocess.run(command, capture_output=True, check=True)
            assert done.stdout == BLOB
            assert done.stderr == b""
            assert parts(registry)


def test_a_number_that_is_none_is_a_usage_error() -> None:
    for text in ("0", "17", "many"):
        done = subprocess.run(
            [MULTI_FETCH, "--ranges", text, "127.0.0.1:1/a"], capture_output=True, check=False
        )
        assert done.returncode == 2
        assert b"from 1 to 16" in done.stderr
