"""A worker that is started before there is something to ask has the registry ready by then."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

from multi_fetch.testing.faults import Fault, require_bearer
from tests.end_to_end.conftest import AT_ONCE_SECONDS, MULTI_FETCH, SMALL, Sample
from tests.loopback import loopback
from tests.parent import Parent

if TYPE_CHECKING:
    from multi_fetch.testing.registry import LoopbackRegistry


def paths(registry: LoopbackRegistry) -> list[str]:
    return [request.path for request in registry.requests]


def wait_for(registry: LoopbackRegistry, count: int) -> None:
    """Returns when so many requests have come."""
    deadline = time.monotonic() + AT_ONCE_SECONDS
    while len(registry.requests) < count:
        assert time.monotonic() < deadline, paths(registry)
        time.sleep(0.005)


def test_a_token_is_there_before_the_first_line(sample: Sample) -> None:
    lock = Fault(require_bearer("t0ken"))
    with (
        loopback(sample.layout, lock) as registry,
        Parent([MULTI_FETCH, f"{registry.address}/demo/app"]) as parent,
    ):
        parent.next_frame()
        wait_for(registry, 2)
        before = paths(registry)
        parent.write(f"{sample.small} mediatype:application/octet-stream\n".encode())
        assert bytes(parent.next_closed().content) == SMALL
        assert parent.finish() == 0
        after = paths(registry)
        assert parent.stderr == ""
    assert before[0] == "/v2/"
    assert len(after) == 3
    assert after[2].endswith(f"/blobs/{sample.small}")


def test_nothing_is_asked_where_that_is_not_wanted(sample: Sample) -> None:
    with (
        loopback(sample.layout) as registry,
        Parent([MULTI_FETCH, "--no-warm", f"{registry.address}/demo/app"]) as parent,
    ):
        parent.next_frame()
        parent.write(b"latest\n")
        assert parent.next_closed().is_verified
        assert parent.finish() == 0
        assert paths(registry) == ["/v2/demo/app/manifests/latest"]


def test_nothing_is_asked_where_a_line_is_there(sample: Sample) -> None:
    """It is in the pipe before the worker is started, however busy the machine."""
    ours, theirs = os.pipe()
    os.write(theirs, b"latest\n")
    os.close(theirs)
    with loopback(sample.layout) as registry, os.fdopen(ours) as lines:
        command = [MULTI_FETCH, f"{registry.address}/demo/app"]
        done = subprocess.run(command, stdin=lines, capture_output=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, b"")
        assert paths(registry) == ["/v2/demo/app/manifests/latest"]


def test_a_registry_that_is_not_there_is_no_matter_before_the_first_line() -> None:
    with Parent([MULTI_FETCH, "127.0.0.1:1/nobody/listens"]) as parent:
        parent.next_frame()
        assert parent.finish() == 0
        assert parent.stderr == ""
