"""A real mirror: docker-registry as a pull-through cache of another, by way of a hosts.toml."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import trustme

from multi_fetch.client import Worker
from tests.integration.docker_registry import READER, docker_registry
from tests.integration.push import MIB, OCI_LAYER, OCI_MANIFEST, SMALL_BYTES
from tests.parent import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.docker_registry import DockerRegistry
    from tests.integration.push import Filled

pytestmark = pytest.mark.integration

MULTI_FETCH: Final = str(Path(sys.executable).with_name("multi-fetch"))
FETCH_OBJECT: Final = str(Path(sys.executable).with_name("fetch-object"))


@pytest.fixture
def mirror(registry: DockerRegistry, tmp_path: Path) -> Iterator[DockerRegistry]:
    """A cache that has nothing yet."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    with docker_registry(folder, upstream=registry) as running:
        yield running


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def hosts_dir(tmp_path: Path, registry: str, *mirrors: str, capabilities: str = "pull") -> str:
    """A folder that names mirrors of a registry."""
    folder = tmp_path / "certs.d" / f"{registry.replace(':', '_')}_"
    folder.mkdir(parents=True)
    tables = (f'[host."{url}"]\ncapabilities = ["{capabilities}"]\n' for url in mirrors)
    (folder / "hosts.toml").write_text(f'server = "http://{registry}"\n' + "".join(tables))
    return str(tmp_path / "certs.d")


def stored(registry: DockerRegistry, digest: str) -> Path:
    """Where a registry keeps a blob."""
    name = digest.partition(":")[2]
    place = registry.storage / "docker/registry/v2/blobs/sha256" / name[:2] / name / "data"
    deadline = time.monotonic() + 10  # a cache writes behind its answer
    while not place.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return place


def fetch(
    folder: str,
    address: str,
    filled: Filled,
    digest: str,
    *,
    ok: bool = True,
    env: dict[str, str] | None = None,
) -> bytes:
    """What fetch-object writes."""
    ref = f"{address}/{filled.repository}@{digest}"
    done = subprocess.run(
        [FETCH_OBJECT, "--hosts-dir", folder, ref],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=os.environ | (env or {}),
        check=False,
        timeout=60,
    )
    assert (done.returncode == 0) is ok, done.stderr
    return done.stdout


def run_fetch_object(*words: str) -> subprocess.CompletedProcess[bytes]:
    command = [FETCH_OBJECT, *words]
    return subprocess.run(command, capture_output=True, check=False, timeout=60)


def tls_settings(folder: Path) -> str:
    """Lines of a registry's section "http": it shows a certificate, and wants to be shown one.

    In the folder are then ca.pem, client.cert and client.key.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("me@client.example")
    server.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    client.cert_chain_pems[0].write_to_path(folder / "client.cert")
    client.private_key_pem.write_to_path(folder / "client.key")
    both = f"{folder}/server.pem"
    return f'  tls:\n    certificate: {both}\n    key: {both}\n    clientcas: ["{folder}/ca.pem"]\n'


def small(filled: Filled) -> dict[str, bytes]:
    """Some blobs of a few KiB each."""
    found = [each for each in filled.blobs.items() if len(each[1]) == SMALL_BYTES]
    return dict(found[:50])


def test_many_objects_come_by_way_of_the_mirror(
    registry: DockerRegistry, filled: Filled, mirror: DockerRegistry, tmp_path: Path
) -> None:
    folder = hosts_dir(tmp_path, registry.address, mirror.url)
    blobs, tag = small(filled), next(iter(filled.tags))
    remote = f"{registry.address}/{filled.repository}"
    lines = "".join(f"{each} mediatype:{OCI_LAYER}\n" for each in blobs) + f"{tag}\n"
    done = run([MULTI_FETCH, "--hosts-dir", folder, remote], lines.encode())
    assert done.status == 0, done.stderr
    for number, content in enumerate(blobs.values(), start=1):
        assert done.answers[number].content == content
    assert done.answers[51].content == filled.tags[tag].content
    for digest in blobs:
        assert stored(mirror, digest).read_bytes() == blobs[digest]


def test_a_tag_is_resolved_by_a_mirror_that_may_and_its_tree_comes_from_there(
    registry: DockerRegistry, filled: Filled, mirror: DockerRegistry, tmp_path: Path
) -> None:
    folder = hosts_dir(tmp_path, registry.address, mirror.url, capabilities='pull", "resolve')
    tag, manifest = next(
        (tag, each) for tag, each in filled.tags.items() if each.media_type == OCI_MANIFEST
    )
    remote = f"{registry.address}/{filled.repository}"
    done = run([MULTI_FETCH, "--hosts-dir", folder, remote], f"{tag} children:all\n".encode())
    assert done.status == 0, done.stderr
    assert done.answers[1].content == manifest.content
    assert len(done.answers) > 2
    assert stored(mirror, manifest.digest).exists()


def test_a_mirror_that_is_dead_costs_little(
    registry: DockerRegistry, filled: Filled, closed_port: int, tmp_path: Path
) -> None:
    folder = hosts_dir(tmp_path, registry.address, f"http://127.0.0.1:{closed_port}")
    digest, content = next(iter(small(filled).items()))
    began = time.monotonic()
    assert fetch(str(tmp_path), registry.address, filled, digest) == content
    alone = time.monotonic() - began  # much, on a busy machine
    assert fetch(folder, registry.address, filled, digest) == content
    assert time.monotonic() - began < 5 + 4 * alone


def test_what_is_wrong_on_a_mirrors_disk_comes_from_the_registry(
    registry: DockerRegistry, filled: Filled, mirror: DockerRegistry, tmp_path: Path
) -> None:
    folder = hosts_dir(tmp_path, registry.address, mirror.url)
    digest, content = next(iter(small(filled).items()))
    assert fetch(folder, registry.address, filled, digest) == content
    place = stored(mirror, digest)
    place.write_bytes(content[::-1])
    assert fetch(folder, mirror.address, filled, digest, ok=False) == b""
    assert fetch(folder, registry.address, filled, digest) == content


def test_a_large_blob_that_is_wrong_on_a_mirrors_disk_comes_from_the_registry_where_it_may(
    registry: DockerRegistry, filled: Filled, mirror: DockerRegistry, tmp_path: Path
) -> None:
    """Into files within the request; by frames with the second, as a part had been sent."""
    folder = hosts_dir(tmp_path, registry.address, mirror.url)
    digest, content = next(each for each in filled.blobs.items() if len(each[1]) == MIB)
    assert fetch(folder, registry.address, filled, digest) == content
    with stored(mirror, digest).open("r+b") as file:
        file.seek(len(content) - 1)
        file.write(bytes([content[-1] ^ 1]))
    command = [MULTI_FETCH, "--hosts-dir", folder, f"{registry.address}/{filled.repository}"]
    line = f"{digest} mediatype:{OCI_LAYER}\n".encode()
    gathering = [*command[:-1], "--into", str(tmp_path / "layout"), command[-1]]
    gathered = subprocess.run(gathering, input=line, capture_output=True, check=False, timeout=60)
    assert gathered.returncode == 0, gathered.stderr
    assert mirror.url in gathered.stderr.decode()
    kept = tmp_path / "layout" / "blobs" / "sha256" / digest.partition(":")[2]
    assert kept.read_bytes() == content
    written = tmp_path / "file"
    copied = run_fetch_object(
        "--output", str(written), "--hosts-dir", folder, f"{command[-1]}@{digest}"
    )
    assert copied.returncode == 0, copied.stderr
    assert written.read_bytes() == content
    done = run([*command[:-1], "--jobs", "1", "--ordered", command[-1]], line + line)
    assert done.status == 1
    assert done.answers[1].error is not None
    assert done.answers[1].error.code == "digest-mismatch"
    assert done.answers[2].content == content


def test_what_is_in_the_mirror_comes_while_the_registry_is_away(
    registry: DockerRegistry,
    filled: Filled,
    mirror: DockerRegistry,
    closed_port: int,
    tmp_path: Path,
) -> None:
    digest, content = next(iter(small(filled).items()))
    folder = hosts_dir(tmp_path / "one", registry.address, mirror.url)
    assert fetch(folder, registry.address, filled, digest) == content
    assert stored(mirror, digest).exists()
    away = f"127.0.0.1:{closed_port}"
    assert fetch(hosts_dir(tmp_path / "two", away, mirror.url), away, filled, digest) == content


def test_a_mirror_that_is_stopped_and_started_again_costs_no_object(
    registry: DockerRegistry, filled: Filled, tmp_path: Path
) -> None:
    """Before, in and after the middle of a batch."""
    blobs = list(filled.blobs.items())[:150]
    (tmp_path / "mirror").mkdir()
    with ExitStack() as stack:
        life = stack.enter_context(ExitStack())
        mirror = life.enter_context(docker_registry(tmp_path / "mirror", upstream=registry))
        folder = hosts_dir(tmp_path, registry.address, mirror.url)
        remote = f"{registry.address}/{filled.repository}"
        worker = stack.enter_context(Worker(remote, hosts_dir=folder))
        answers = [worker.submit(digest, f"mediatype:{OCI_LAYER}") for digest, _ in blobs[:50]]
        assert [each.read() for each in answers] == [content for _, content in blobs[:50]]
        answers = [worker.submit(digest, f"mediatype:{OCI_LAYER}") for digest, _ in blobs[50:100]]
        life.close()
        assert [each.read() for each in answers] == [content for _, content in blobs[50:100]]
        port = int(mirror.address.rpartition(":")[2])
        again = docker_registry(tmp_path / "mirror", upstream=registry, port=port)
        stack.enter_context(again)
        answers = [worker.submit(digest, f"mediatype:{OCI_LAYER}") for digest, _ in blobs[100:]]
        assert [each.read() for each in answers] == [content for _, content in blobs[100:]]


def test_a_large_body_goes_on_at_the_registry_when_the_mirror_is_stopped(
    registry: DockerRegistry, filled: Filled, tmp_path: Path
) -> None:
    (tmp_path / "mirror").mkdir()
    hasher = hashlib.sha256()
    with ExitStack() as life:
        mirror = life.enter_context(docker_registry(tmp_path / "mirror", upstream=registry))
        folder = hosts_dir(tmp_path, registry.address, mirror.url)
        ref = f"{registry.address}/{filled.repository}@{filled.large.digest}"
        command = [FETCH_OBJECT, "--hosts-dir", folder, ref]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as fetching:
            assert fetching.stdout is not None
            assert fetching.stderr is not None
            hasher.update(fetching.stdout.read(MIB))
            life.close()  # most of it is still to come, as pipes and sockets hold so much less
            while chunk := fetching.stdout.read(MIB):
                hasher.update(chunk)
            said = fetching.stderr.read().decode()
    assert fetching.returncode == 0, said
    assert f"sha256:{hasher.hexdigest()}" == filled.large.digest
    assert f"url={mirror.url}" in said


@pytest.mark.parametrize(
    ("path", "override"), [("/deep/er", "false"), ("/deep/er/v2", "false"), ("/deep/er/v2", "true")]
)
def test_a_mirror_behind_a_prefix_is_shown_a_client_certificate(
    registry: DockerRegistry, filled: Filled, tmp_path: Path, path: str, override: str
) -> None:
    """docker-registry's own TLS, with the authority of clients, and its http.prefix."""
    folder = tmp_path / "certs.d" / "_default"
    folder.mkdir(parents=True)
    (tmp_path / "mirror").mkdir()
    settings = f"  prefix: /deep/er/\n{tls_settings(tmp_path)}"
    digest, content = next(iter(small(filled).items()))
    with docker_registry(tmp_path / "mirror", upstream=registry, http=settings) as mirror:
        text = (
            f'server = "{registry.url}"\n[host."https://{mirror.address}{path}"]\n'
            f'capabilities = ["pull"]\noverride_path = {override}\nca = "{tmp_path}/ca.pem"\n'
        )
        shown = f'client = [["{tmp_path}/client.cert", "{tmp_path}/client.key"]]\n'
        (folder / "hosts.toml").write_text(text + shown)
        assert fetch(str(folder.parent), registry.address, filled, digest) == content
        assert stored(mirror, digest).read_bytes() == content
        other, content = list(small(filled).items())[1]
        (folder / "hosts.toml").write_text(text)
        assert fetch(str(folder.parent), registry.address, filled, other) == content
        name = other.partition(":")[2]
        assert not (mirror.storage / f"docker/registry/v2/blobs/sha256/{name[:2]}/{name}").exists()


@pytest.mark.parametrize("is_known", [True, False])
def test_dockers_folder_of_certificates_is_enough_for_a_registry_with_tls_on_this_machine(
    registry: DockerRegistry, filled: Filled, tmp_path: Path, *, is_known: bool
) -> None:
    (tmp_path / "private").mkdir()
    settings = tls_settings(tmp_path)
    digest, content = next(iter(small(filled).items()))
    with docker_registry(tmp_path / "private", upstream=registry, http=settings) as private:
        folder = tmp_path / "certs.d" / private.address
        folder.mkdir(parents=True)
        (folder / "ca.crt").symlink_to(tmp_path / "ca.pem")
        if is_known:
            (folder / "client.cert").symlink_to(tmp_path / "client.cert")
            (folder / "client.key").symlink_to(tmp_path / "client.key")
        got = fetch(str(folder.parent), private.address, filled, digest, ok=is_known)
    assert got == (content if is_known else b"")


def test_a_mirror_is_not_told_the_registrys_password(
    private_registry: DockerRegistry, private_filled: Filled, tmp_path: Path
) -> None:
    """Both want the same one; the mirror does not get it, so that it is left for the registry."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    digest, content = next(iter(small(private_filled).items()))
    with docker_registry(folder, account=READER) as strict:
        path = hosts_dir(tmp_path, private_registry.address, strict.url)
        known = {"MULTI_FETCH_USERNAME": READER.username, "MULTI_FETCH_PASSWORD": READER.password}
        got = fetch(path, private_registry.address, private_filled, digest, env=known)
    assert got == content
    log = strict.log.read_text()
    assert "error authorizing context" in log
    assert READER.username not in log
