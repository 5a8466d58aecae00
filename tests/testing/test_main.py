import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import trio

from multi_fetch.testing.registry import serve_layout
from tests.testing.conftest import Sample

COMMAND = [sys.executable, "-m", "multi_fetch.testing"]


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, *arguments], stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_its_address_serves_and_ends_quietly_at_a_signal(
    sample: Sample, number: signal.Signals
) -> None:
    with started(str(sample.layout.folder)) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.fullmatch(r"listening on (127\.0\.0\.1:[0-9]+)\n", line)
        assert match is not None
        answer = httpx.get(f"http://{match[1]}{sample.manifest_path}", trust_env=False)
        assert answer.headers["Docker-Content-Digest"] == sample.image.digest
        process.send_signal(number)
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 0


async def test_a_port_that_is_taken_is_said_in_one_line(sample: Sample) -> None:
    folder = str(sample.layout.folder)
    async with serve_layout(sample.layout) as registry:
        port = registry.address.split(":")[1]
        done = await trio.run_process(
            [*COMMAND, folder, "--port", port], check=False, capture_stderr=True
        )
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"in use" in done.stderr


@pytest.mark.parametrize("port", ["65536", "-1", "http"])
def test_a_port_that_is_none_is_a_usage_error(sample: Sample, port: str) -> None:
    with started(str(sample.layout.folder), f"--port={port}") as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "Traceback" not in said
    assert "port" in said


def test_a_folder_that_is_no_layout_is_said_in_one_line(tmp_path: Path) -> None:
    with started(str(tmp_path)) as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert said.count("\n") == 1
    assert "oci-layout" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("python", [[], ["-u"]])
def test_an_address_that_cannot_be_told_is_said_in_one_line(
    sample: Sample, python: list[str]
) -> None:
    command = [sys.executable, *python, "-m", "multi_fetch.testing", str(sample.layout.folder)]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False, text=True
        )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "cannot write to stdout: No space left on device" in done.stderr
