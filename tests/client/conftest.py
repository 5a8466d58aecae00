from __future__ import annotations

import gc
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import anyio
import pytest

from multi_fetch.client.pump import THREAD_NAME
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.process import running_registry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from multi_fetch.oci.descriptor import Descriptor

SMALL = b"a layer" * 100
# Above what one answer may have in memory.
LARGE = bytes(range(256)) * 12_000

RunAsync: TypeAlias = "Callable[[Callable[[], Awaitable[None]]], None]"


class Repository:
    """A repository that is served: ``latest`` is an image of two layers."""

    def __init__(
        self, remote: str, image: Descriptor, small: Descriptor, large: Descriptor
    ) -> None:
        self.remote = remote
        self.image = image
        self.small = small
        self.large = large


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    builder = LayoutBuilder(tmp_path_factory.mktemp("layout"))
    small, large = builder.add_blob(SMALL), builder.add_blob(LARGE)
    image = builder.add_image(builder.add_empty(), [small, large])
    builder.tag("latest", image)
    with running_registry(builder.finish().folder) as address:
        yield Repository(f"{address}/demo/app", image, small, large)


class Shop:
    """A repository with tags, and an image that two artifacts refer to."""

    def __init__(self, folder: Path) -> None:
        builder = LayoutBuilder(folder)
        empty = builder.add_empty()
        self.image = builder.add_image(empty, [])
        for kind in ("a/sbom", "a/sig"):
            builder.add_image(empty, [], artifact_type=kind, subject=self.image)
        self.tags = [f"v{number}" for number in range(10)]
        for tag in self.tags:
            builder.tag(tag, self.image)
        self.folder = builder.finish().folder
        self.remote = ""


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = Shop(tmp_path_factory.mktemp("shop"))
    shop.remote = f"oci:{shop.folder}"
    return shop


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    """Fails the test if it leaves an open file, a process or one of the client's threads behind.

    Not the threads of anyio's pools: those stay for a while, and hold nothing of a client's.
    """
    gc.collect()
    before, children = open_files(), child_pids()
    yield
    gc.collect()
    assert open_files() == before
    assert child_pids() <= children
    assert not [each for each in threading.enumerate() if each.name == THREAD_NAME]


@pytest.fixture(params=["trio", "asyncio"])
def run_async(request: pytest.FixtureRequest) -> RunAsync:
    """Runs an async function to its end, on each of the two."""

    def run(function: Callable[[], Awaitable[None]]) -> None:
        anyio.run(function, backend=request.param)

    return run


def open_files() -> int:
    """How many files this process has open, and the one that lists them."""
    return len(list(Path("/dev/fd").iterdir()))


def child_pids() -> set[int]:
    """The processes that this one has started and not reaped, where the system tells."""
    found = set()
    for told in Path("/proc").glob("[0-9]*/stat"):
        # It may have gone by now.
        with suppress(OSError):
            parent = told.read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                found.add(int(told.parent.name))
    return found


def is_alive(pid: int) -> bool:
    """Whether there is such a process, be it a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
