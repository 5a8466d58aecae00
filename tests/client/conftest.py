from __future__ import annotations

import gc
import os
import threading
import time
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


def _wait_until_closed(count: int) -> None:
    """A thread that asyncio or trio keeps may be about to close its file: it gets a moment."""
    gives_up_at = time.monotonic() + 5
    gc.collect()
    while open_files() > count and time.monotonic() < gives_up_at:
        time.sleep(0.02)
        gc.collect()


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    """Fails the test if it leaves an open file or one of the client's threads behind."""
    gc.collect()
    before = open_files()
    yield
    _wait_until_closed(before)
    assert open_files() == before
    assert not [each for each in threading.enumerate() if each.name == THREAD_NAME]


@pytest.fixture(params=["trio", "asyncio"])
def run_async(request: pytest.FixtureRequest) -> RunAsync:
    """Runs an async function to its end, on each of the two."""

    def run(function: Callable[[], Awaitable[None]]) -> None:
        anyio.run(function, backend=request.param)

    return run


@pytest.fixture
def no_file_is_left() -> Iterator[None]:
    """Fails the test if it leaves an open file behind; trio keeps threads for a while."""
    gc.collect()
    before = open_files()
    yield
    _wait_until_closed(before)
    assert open_files() == before


def open_files() -> int:
    """How many files this process has open, and the one that lists them."""
    return len(list(Path("/dev/fd").iterdir()))


def is_alive(pid: int) -> bool:
    """Whether there is such a process, be it a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
