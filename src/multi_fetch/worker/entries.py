"""Enters what was asked for in the remote's index: all that waits at once, behind one another.

So an index of many names is written once for many, and nobody who fetches waits for that.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from multi_fetch.errors import MultiFetchError
from multi_fetch.protocol.frames import Error
from multi_fetch.worker.lines import error_line, line_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multi_fetch.keeping import Gathering
    from multi_fetch.worker.lines import Line, Root
    from multi_fetch.worker.outlet import Outlet

log = logging.getLogger(__name__)


class Entries:
    """Takes roots; writes the line of each once it is entered.

    Args:
        remote: whose index it is.
        outlet: where the lines go; what waits here is bounded by its room.

    Attributes:
        failures: how many could not be entered.
    """

    def __init__(self, remote: Gathering, outlet: Outlet) -> None:
        self.failures = 0
        self._remote = remote
        self._outlet = outlet
        self._waiting: list[tuple[Root, bytes]] = []
        self._news = trio.Event()
        self._is_closed = False
        self._done = trio.Event()

    def put(self, root: Root) -> None:
        """Has a root entered."""
        line = line_bytes(root.line)
        self._outlet.expect(len(line))
        self._waiting.append((root, line))
        self._news.set()

    async def finish(self) -> None:
        """Returns once all is entered, and nothing more will be."""
        self._is_closed = True
        self._news.set()
        await self._done.wait()

    async def run(self) -> None:
        """Enters what is put, until ``finish`` is called."""
        while True:
            if not self._waiting:
                if self._is_closed:
                    self._done.set()
                    return
                self._news = trio.Event()
                await self._news.wait()
            await self._enter_some()

    async def _enter_some(self) -> None:
        some, self._waiting = self._waiting, []
        try:
            await self._remote.enter([(root.ref, root.descriptor) for root, _ in some])
        except MultiFetchError as error:
            self._fail([root.line for root, _ in some], error)
            lines = [line_bytes(_failed(root.line, error)) for root, _ in some]
        else:
            lines = [line for _, line in some]
        self._outlet.put_expected(sum(len(line) for _, line in some), *lines)

    def _fail(self, lines: Sequence[Line], error: MultiFetchError) -> None:
        self.failures += len(lines)
        facts = {"code": error.code, "error": error.message}
        for line in lines:
            log.error("request failed", extra={"id": line.id, "ref": line.object, **facts})


def _failed(line: Line, error: MultiFetchError) -> Line:
    message = f"it is there, but not entered in the index: {error.message}"
    return error_line(line, Error(line.id, error.code, message, error.retryable, {}))
