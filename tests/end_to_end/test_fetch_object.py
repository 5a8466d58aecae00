"""fetch-object as a process: one object's bytes, or at most a part of them and a failure."""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from multi_fetch.oci.descriptor import Descriptor, Platform
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCI_MANIFEST
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.faults import (
    Effect,
    Fault,
    close_after,
    flip_byte,
    lengthen,
    require_bearer,
    shorten,
    stall_after,
)
from multi_fetch.testing.messages import BEFORE_HEAD
from tests.end_to_end.conftest import AT_ONCE_SECONDS, FETCH_OBJECT, LARGE, SMALL, Sample
from tests.loopback import loopback

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def fetch(*words: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [FETCH_OBJECT, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, **variables},
        check=False,
    )


def test_each_object_comes_byte_for_byte(sample: Sample, remote: str) -> None:
    for name, content in sample.contents.items():
        done = fetch(remote, name)
        assert (done.returncode, done.stderr) == (0, b""), name
        assert done.stdout == content


def test_the_whole_reference_may_be_one_word(sample: Sample, remote: str) -> None:
    assert fetch(f"{remote}:latest").stdout == sample.latest
    assert fetch(f"{remote}@{sample.small}").stdout == SMALL


def test_a_port_without_tls_is_asked_once(remote: str, tmp_path: Path) -> None:
    authority = remote.partition("/")[0]
    folder = tmp_path / authority
    folder.mkdir()
    (folder / "hosts.toml").write_text(f'server = "https://{authority}"')
    done = fetch("--hosts-dir", str(tmp_path), remote, "latest")
    assert done.returncode == 3
    assert b"attempts=1" in done.stderr
    assert b"the port speaks no TLS" in done.stderr


def test_a_failure_that_comes_at_once_is_told() -> None:
    """Nobody has begun to watch stdout by then."""
    done = fetch("registry.example/a:latest", HTTPS_PROXY="http://127.0.0.1:no-port")
    assert done.returncode == 1
    assert b"is no proxy" in done.stderr


def test_hints_are_obeyed_and_unknown_ones_ignored(sample: Sample, remote: str) -> None:
    size = f"size:{len(SMALL)}"
    layer = "mediatype:application/vnd.oci.image.layer.v1.tar"
    assert fetch(remote, sample.small, layer, size, "colour:blue").stdout == SMALL
    wrong = fetch(remote, sample.small, "size:999")
    assert (wrong.returncode, wrong.stdout) == (1, b"")
    assert b"code=size-mismatch" in wrong.stderr


def test_content_none_writes_the_descriptor_as_json(sample: Sample, remote: str) -> None:
    done = fetch(remote, "latest", "content:none")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": next(name for name in sample.contents if name.startswith("sha256:")),
        "size": len(sample.latest),
    }


def test_an_object_that_is_not_there_is_a_failure_without_output(remote: str) -> None:
    done = fetch(remote, "nowhere")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"code=not-found" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_remote_that_cannot_be_used_has_its_own_status(sample: Sample) -> None:
    refused = fetch("--retries", "0", "127.0.0.1:1/nobody/listens", "latest")
    assert (refused.returncode, refused.stdout) == (3, b"")
    lock = Fault(require_bearer("token", username="u", password="open sesame"))
    with loopback(sample.layout, lock) as registry:
        ref = f"{registry.address}/demo/app:latest"
        assert fetch(ref).returncode == 3
        done = fetch(ref, MULTI_FETCH_USERNAME="u", MULTI_FETCH_PASSWORD="open sesame")
        assert (done.returncode, done.stdout) == (0, sample.latest)


@pytest.mark.parametrize("effect", [flip_byte(7), shorten(1), lengthen(b"x"), close_after(500)])
def test_small_content_that_is_not_what_was_asked_for_is_never_written(
    sample: Sample, effect: Effect
) -> None:
    with loopback(sample.layout, Fault(effect, path="*/blobs/*")) as registry:
        done = fetch("--retries", "0", f"{registry.address}/demo/app", sample.small)
    assert done.returncode in {1, 3}
    assert done.stdout == b""
    assert b"fetch failed" in done.stderr


@pytest.mark.parametrize("effect", [flip_byte(len(LARGE) - 1), shorten(1), close_after(2_000_000)])
def test_of_large_content_that_fails_at_most_a_part_is_written(
    sample: Sample, effect: Effect
) -> None:
    with loopback(sample.layout, Fault(effect, path="*/blobs/*")) as registry:
        done = fetch("--retries", "0", f"{registry.address}/demo/app", sample.large)
    assert done.returncode in {1, 3}
    assert len(done.stdout) <= len(LARGE)
    assert LARGE.startswith(done.stdout[:1_000_000])


@contextmanager
def fetching_large(sample: Sample, stalls_after: int) -> Iterator[subprocess.Popen[bytes]]:
    """A run whose registry is silent after so many bytes of the blob."""
    stall = Fault(stall_after(stalls_after), path="*/blobs/*")
    with loopback(sample.layout, stall) as registry:
        command = [FETCH_OBJECT, f"{registry.address}/demo/app", sample.large]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            yield process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_with_its_status(sample: Sample, number: signal.Signals) -> None:
    with fetching_large(sample, stalls_after=2_000_000) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=AT_ONCE_SECONDS)
    assert process.returncode == 128 + number
    assert b"code=cancelled" in stderr
    assert b"Traceback" not in stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_nothing_beside_the_file_of_output(
    sample: Sample, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "out").write_bytes(b"before")
    with loopback(sample.layout, Fault(stall_after(), path="*/blobs/*")) as registry:
        command = [FETCH_OBJECT, "-o", str(tmp_path / "out"), f"{registry.address}/demo/app"]
        with subprocess.Popen([*command, sample.large], stderr=subprocess.PIPE) as process:
            while not registry.requests:
                assert process.poll() is None
                select.select([], [], [], 0.01)
            process.send_signal(number)
            process.communicate(timeout=AT_ONCE_SECONDS)
    assert process.returncode == 128 + number
    assert [each.name for each in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_bytes() == b"before"


def test_the_timeout_ends_it(sample: Sample) -> None:
    with loopback(sample.layout, Fault(stall_after())) as registry:
        done = fetch(f"{registry.address}/demo/app:latest", CONTAINERD_FETCH_TIMEOUT="300ms")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"code=timeout" in done.stderr


def test_a_reader_that_goes_ends_it_quietly(sample: Sample, remote: str) -> None:
    with subprocess.Popen(
        [FETCH_OBJECT, remote, sample.large], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.wait(AT_ONCE_SECONDS) == 128 + signal.SIGPIPE
        assert process.stderr.read() == b""


@pytest.mark.parametrize("stalls_after", [BEFORE_HEAD, 600_000])
def test_a_reader_that_goes_is_noticed_also_while_the_registry_says_nothing(
    sample: Sample, stalls_after: int
) -> None:
    with fetching_large(sample, stalls_after) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if stalls_after > 0:
            assert process.stdout.read(1)
        process.stdout.close()
        assert process.wait(AT_ONCE_SECONDS) == 128 + signal.SIGPIPE
        assert process.stderr.read() == b""


def test_a_file_takes_the_content(sample: Sample, remote: str, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        subprocess.run([FETCH_OBJECT, remote, sample.large], stdout=file, check=True)
    assert (tmp_path / "large").read_bytes() == LARGE


def test_a_stdout_that_is_full_or_closed_is_told(remote: str) -> None:
    full = subprocess.run(
        f"{FETCH_OBJECT} {remote}:latest > /dev/full", shell=True, capture_output=True, check=False
    )
    closed = subprocess.run(
        f"{FETCH_OBJECT} {remote}:latest >&-", shell=True, capture_output=True, check=False
    )
    assert (full.returncode, closed.returncode) == (1, 2)
    assert full.stderr == (
        b"fetch-object: cannot write to stdout: No space left on device; make room there\n"
    )
    assert closed.stderr.startswith(b"fetch-object: stdout is closed")


def test_a_manifest_within_its_index_is_not_asked_for(tmp_path: Path) -> None:
    content = b'{"schemaVersion":2,"layers":[]}'
    platform = Platform(os="linux", architecture="arm64")
    builder = LayoutBuilder(tmp_path)
    inner = Descriptor(
        media_type=OCI_MANIFEST,
        digest=digest_of(content),
        size=len(content),
        data=base64.b64encode(content).decode(),
        platform=platform,
    )
    builder.tag("multi", builder.add_index([inner]))
    with loopback(builder.finish()) as registry:
        words = [f"{registry.address}/a", "multi", "platform:linux/arm64"]
        whole, described = fetch(*words), fetch(*words, "content:none")
        asked = {request.path for request in registry.requests}
    assert (whole.returncode, whole.stdout) == (0, content)
    assert json.loads(described.stdout)["digest"] == digest_of(content)
    assert not any(digest_of(content) in path for path in asked)
