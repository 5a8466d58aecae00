"""A real proxy: Debian's tinyproxy, which asks for a password, before docker-registry."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import trustme

from tests.integration.conftest import require
from tests.integration.docker_registry import READER, docker_registry
from tests.integration.push import SMALL_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.docker_registry import DockerRegistry
    from tests.integration.push import Filled

COMMAND: Final = "tinyproxy"
FETCH_OBJECT: Final = str(Path(sys.executable).with_name("fetch-object"))
START_SECONDS: Final = 10.0

pytestmark = pytest.mark.integration


@contextmanager
def tinyproxy(folder: Path, *tunnels: int) -> Iterator[tuple[str, Path]]:
    """Where it is, with a login, and its log; it opens tunnels to these ports alone."""
    require(COMMAND)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    log, config = folder / "tinyproxy.log", folder / "tinyproxy.conf"
    lines = [f"Port {port}", "Listen 127.0.0.1", f'LogFile "{log}"', "BasicAuth me open-sesame"]
    config.write_text("\n".join([*lines, *(f"ConnectPort {each}" for each in tunnels), ""]))
    with subprocess.Popen([COMMAND, "-d", "-c", str(config)]) as process:
        try:
            wait_for(port)
            yield f"http://me:open-sesame@127.0.0.1:{port}", log
        finally:
            process.terminate()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "it does not listen"
            time.sleep(0.02)
        else:
            return


def fetch(folder: Path, ref: str) -> subprocess.CompletedProcess[bytes]:
    """As a user whose hosts.toml names the proxy; others are not for this machine."""
    return subprocess.run(
        [FETCH_OBJECT, "--hosts-dir", str(folder), "--retries", "0", ref],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=os.environ
        | {"MULTI_FETCH_USERNAME": READER.username, "MULTI_FETCH_PASSWORD": READER.password},
        check=False,
        timeout=60,
    )


def hosts_file(folder: Path, registry: str, text: str) -> Path:
    place = folder / "certs.d" / registry
    place.mkdir(parents=True, exist_ok=True)
    (place / "hosts.toml").write_text(text)
    return folder / "certs.d"


def a_blob(filled: Filled) -> tuple[str, bytes]:
    return next(each for each in filled.blobs.items() if len(each[1]) == SMALL_BYTES)


def test_a_private_registry_is_asked_through_a_proxy_with_a_password(
    private_registry: DockerRegistry, private_filled: Filled, tmp_path: Path
) -> None:
    digest, content = a_blob(private_filled)
    address = private_registry.address
    ref = f"{address}/{private_filled.repository}@{digest}"
    with tinyproxy(tmp_path) as (proxy, log):
        folder = hosts_file(tmp_path, address, f'server = "http://{address}"\nproxy = "{proxy}"')
        done = fetch(folder, ref)
        assert (done.returncode, done.stdout) == (0, content), done.stderr
        assert f"GET http://{address}/v2/".encode() in log.read_bytes()
        wrong = proxy.replace("sesame", "poppy")
        hosts_file(tmp_path, address, f'server = "http://{address}"\nproxy = "{wrong}"')
        done = fetch(folder, ref)
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"poppy" not in done.stderr


def test_a_registry_with_tls_is_asked_through_a_proxys_tunnel(
    registry: DockerRegistry, filled: Filled, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pem = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
    digest, content = a_blob(filled)
    (tmp_path / "registry").mkdir()
    settings = f"  tls:\n    certificate: {pem}\n    key: {pem}\n"
    with docker_registry(tmp_path / "registry", upstream=registry, http=settings) as secure:
        port = int(secure.address.rpartition(":")[2])
        with tinyproxy(tmp_path, port) as (proxy, log):
            text = (
                f'server = "https://{secure.address}"\nproxy = "{proxy}"\nca = "{tmp_path}/ca.pem"'
            )
            folder = hosts_file(tmp_path, secure.address, text)
            done = fetch(folder, f"{secure.address}/{filled.repository}@{digest}")
            assert (done.returncode, done.stdout) == (0, content), done.stderr
            assert f"CONNECT {secure.address}".encode() in log.read_bytes()
            assert digest.encode() not in log.read_bytes()
