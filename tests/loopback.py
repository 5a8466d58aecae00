"""The loopback registry in a thread, for tests that wait for real processes."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING

import trio

from multi_fetch.testing.registry import LoopbackRegistry, serve_layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from multi_fetch.testing.faults import Fault
    from multi_fetch.testing.layout import Layout


@contextmanager
def loopback(layout: Layout, *faults: Fault) -> Iterator[LoopbackRegistry]:
    """Serves a layout, with these faults, until the block ends."""
    started: SimpleQueue[tuple[LoopbackRegistry, trio.lowlevel.TrioToken, trio.CancelScope]] = (
        SimpleQueue()
    )

    async def serve() -> None:
        with trio.CancelScope() as scope:
            async with serve_layout(layout, faults=list(faults)) as registry:
                started.put((registry, trio.lowlevel.current_trio_token(), scope))
                await trio.sleep_forever()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    registry, token, scope = started.get(timeout=10)
    try:
        yield registry
    finally:
        token.run_sync_soon(scope.cancel)
        thread.join()
