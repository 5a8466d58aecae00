"""Fixtures: real registries. They start when the first test asks, one of a kind in a process."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.integration.docker_registry import (
    COMMAND,
    READER,
    DockerRegistry,
    docker_registry,
)
from tests.integration.push import Filled, fill

if TYPE_CHECKING:
    from collections.abc import Iterator


def require(command: str) -> None:
    """Skips the test where there is no such program, a Debian package; fails it under CI=true."""
    if shutil.which(command) is not None:
        return
    reason = f"{command} is not installed (Debian: apt-get install {command})"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """A registry that everybody may read and push to."""
    require(COMMAND)
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="session")
def filled(registry: DockerRegistry) -> Filled:
    """What ``registry`` holds."""
    return fill(registry)


@pytest.fixture(scope="session")
def private_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """A registry that asks for READER's password (Basic)."""
    require(COMMAND)
    with docker_registry(tmp_path_factory.mktemp("private"), account=READER) as running:
        yield running


@pytest.fixture(scope="session")
def private_filled(private_registry: DockerRegistry) -> Filled:
    """What ``private_registry`` holds: the same as the open one."""
    return fill(private_registry)
