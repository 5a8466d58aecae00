"""A static nginx with one worker: the pull API as files, over plain HTTP and over TLS.

It costs next to nothing a request, so that what is measured is the client. Each address is a free
port that was looked for; the kernel's own choice cannot be asked of nginx.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trustme

from bench.content import MANIFEST_TYPE, REPOSITORY
from bench.measure import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND: Final = "nginx"
START_SECONDS: Final = 10.0
LOOPBACK: Final = "127.0.0.1"

CONFIG: Final = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  types {{ }}
  default_type application/octet-stream;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen {plain};
    {tls}
    root {root};
    location = /v2/ {{
      default_type application/json;
      add_header Docker-Distribution-Api-Version registry/2.0;
      return 200 '{{}}';
    }}
    location /v2/{repository}/manifests/ {{ default_type {manifest_type}; }}
  }}
}}
"""
TLS: Final = """listen {address} ssl;
    ssl_certificate {directory}/server.pem;
    ssl_certificate_key {directory}/server.pem;"""


@dataclass(frozen=True)
class Web:
    """A running nginx.

    Attributes:
        address: of plain HTTP.
        tls_address: of TLS: not a loopback address, since clients speak plain HTTP to those. None
            where this machine has no other.
        root: where its files are.
        roots: the file with the root certificate, as SSL_CERT_FILE takes it.
    """

    address: str
    tls_address: str | None
    root: Path
    roots: Path


def is_installed() -> bool:
    return shutil.which(COMMAND, path=_PATH) is not None


# Debian has it where root alone looks.
_PATH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin"


@contextmanager
def nginx(directory: Path) -> Iterator[Web]:
    """An nginx that answers, with its files below the directory.

    Raises:
        BenchError: it did not start.
    """
    root, roots = directory / "static", directory / "roots.pem"
    root.mkdir()
    own = own_address()
    address = f"{LOOPBACK}:{free_port(LOOPBACK)}"
    tls_address = f"{own}:{free_port(own)}" if own else None
    _write_certificate(directory, own or LOOPBACK, roots)
    config = directory / "nginx.conf"
    config.write_text(
        CONFIG.format(
            directory=directory,
            plain=address,
            tls=TLS.format(address=tls_address, directory=directory) if tls_address else "",
            root=root,
            repository=REPOSITORY,
            manifest_type=MANIFEST_TYPE,
        )
    )
    command = shutil.which(COMMAND, path=_PATH)
    assert command is not None, "asked before"
    process = subprocess.Popen(
        # A worker of root's would be another user's, and could not read the folder.
        [command, "-p", directory, "-c", config, "-g", "user root;" if _is_root() else ""],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_it_answers(process, address, directory / "nginx.log")
        yield Web(address, tls_address, root, roots)
    finally:
        process.terminate()
        process.wait()


def own_address() -> str | None:
    """An address of this machine that is not its loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: documentation; nothing is sent
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith("127.") else address


def free_port(host: str) -> int:
    with socket.create_server((host, 0)) as server:
        return int(server.getsockname()[1])


def _is_root() -> bool:
    return os.geteuid() == 0


def _write_certificate(directory: Path, address: str, roots: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(roots))
    ca.issue_cert(address).private_key_and_cert_chain_pem.write_to_path(
        str(directory / "server.pem")
    )


def _wait_until_it_answers(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection(address, timeout=START_SECONDS)
        try:
            connection.request("GET", "/v2/")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.02)
        finally:
            connection.close()
    words = log.read_text(errors="replace")[-2000:] if log.exists() else ""
    raise BenchError(f"{COMMAND} did not start: {words}")
