"""A real docker-registry (Debian's package) on a free loopback port, for as long as a test needs.

The process listens on port 0 and tells its log which port the kernel chose, so no other process
can take the port between the choice and the use.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND: Final = "docker-registry"
START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.02
LISTENING = re.compile(r"listening on (?P<address>127\.0\.0\.1:[0-9]+)")

CONFIG = """\
version: 0.1
log:
  level: info
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: {storage}
  cache:
    blobdescriptor: inmemory
http:
  addr: 127.0.0.1:{port}
"""
PROXY = """\
proxy:
  remoteurl: {url}
"""
HTPASSWD = """\
auth:
  htpasswd:
    realm: loopback
    path: {path}
"""


@dataclass(frozen=True)
class Account:
    """A user of a registry with passwords, and the line of its htpasswd file.

    The registry takes bcrypt alone, which is not in the standard library; so the line is made
    beforehand: ``htpasswd -nbBC 4 <username> <password>``.
    """

    username: str
    password: str
    htpasswd: str


READER: Final = Account(
    username="reader",
    password="open sesame",
    htpasswd="reader:$2y$04$V/LLnvto99DBSRzknJYHYeHmkILmVAaLvaBc/97IpRZ/B1Jf0JSay",
)


@dataclass(frozen=True)
class DockerRegistry:
    """A running registry.

    Attributes:
        address: ``127.0.0.1:<port>``, as it stands in a reference.
        storage: the folder of its filesystem driver.
        log: the file of its log.
        account: who may use it; None where everybody may.
    """

    address: str
    storage: Path
    log: Path
    account: Account | None

    @property
    def url(self) -> str:
        return f"http://{self.address}"


class RegistryStartError(Exception):
    """The registry did not start; the message holds the end of its log."""


def is_installed() -> bool:
    return shutil.which(COMMAND) is not None


@contextmanager
def docker_registry(
    directory: Path,
    *,
    account: Account | None = None,
    auth: str = "",
    http: str = "",
    port: int = 0,
    upstream: DockerRegistry | None = None,
) -> Iterator[DockerRegistry]:
    """A registry that answers, with its config, storage and log in the directory.

    ``auth`` is the section of that name for its configuration, where there is no account, and
    ``http`` are further lines of that one. The port is any that is free, if not given. With an
    ``upstream`` it is a pull-through cache of that one.

    At the end the storage is removed, as pytest keeps the folders of several runs; the log stays.

    Raises:
        RegistryStartError: it ended or did not answer within START_SECONDS.
    """
    storage, log, config = directory / "storage", directory / "log", directory / "config.yml"
    storage.mkdir(exist_ok=True)
    text = CONFIG.format(storage=storage, port=port) + http + auth
    if upstream is not None:
        text += PROXY.format(url=upstream.url)
    if account is not None:
        users = directory / "htpasswd"
        users.write_text(account.htpasswd + "\n")
        text += HTPASSWD.format(path=users)
    config.write_text(text)
    # REGISTRY_* in the environment would override the file.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("REGISTRY_")}
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [COMMAND, "serve", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env=environment,
        )
    try:
        yield DockerRegistry(_wait_until_it_answers(process, log), storage, log, account)
    finally:
        _stop(process)
        shutil.rmtree(storage)


def _wait_until_it_answers(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        match = LISTENING.search(log.read_text(errors="replace"))
        if match is not None and _is_answered(match["address"]):
            return match["address"]
        time.sleep(POLL_SECONDS)
    state = "is silent" if process.poll() is None else f"ended with status {process.returncode}"
    raise RegistryStartError(
        f"{COMMAND} {state}; its log: {log.read_text(errors='replace')[-2000:]}"
    )


def _is_answered(address: str) -> bool:
    """Whether GET /v2/ gets the answer of a registry: 401 where it wants a password, 400 TLS."""
    with closing(http.client.HTTPConnection(address, timeout=START_SECONDS)) as connection:
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status in {200, 400, 401}
        except (OSError, http.client.HTTPException):
            return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
