"""A registry on a loopback port, over a layout: for tests that run on trio.

::

    layout = read_layout("examples/layout")
    async with serve_layout(layout) as registry:
        answer = await client.get(f"http://{registry.address}/v2/demo/app/manifests/latest")
    assert [each.path for each in registry.requests] == ["/v2/demo/app/manifests/latest"]
"""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from multi_fetch.testing.connection import serve_connection
from multi_fetch.testing.faults import FaultChain
from multi_fetch.testing.messages import BEFORE_HEAD, Headers
from multi_fetch.testing.pull_api import PullApi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from multi_fetch.testing.faults import Fault
    from multi_fetch.testing.layout import Layout
    from multi_fetch.testing.messages import Answer, Request

# The plain http that clients allow is for this machine alone; so is this server.
HOST: Final = "127.0.0.1"

# Requests that are remembered; the oldest are forgotten. A test that asks for more counts itself.
MAX_LOGGED_REQUESTS: Final = 100_000


class LoggedRequest(msgspec.Struct, frozen=True):
    """A request that the registry got.

    Attributes:
        method: in upper case.
        path: without the query, percent-decoded.
        query: what stands behind ``?``.
        headers: names in lower case.
        status: what it was answered; None if it got no answer on purpose.
    """

    method: str
    path: str
    query: str
    headers: Headers
    status: int | None


class LoopbackRegistry:
    """A registry that runs.

    Attributes:
        address: ``127.0.0.1:<port>``, as it stands in a reference.
        requests: those that came so far, in order, each logged before its answer is sent.
        connections: how many were accepted so far.
    """

    def __init__(self, address: str, chain: FaultChain) -> None:
        self.address = address
        self.requests: deque[LoggedRequest] = deque(maxlen=MAX_LOGGED_REQUESTS)
        self.connections = 0
        self._chain = chain

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answers one connection's requests."""
        self.connections += 1
        await serve_connection(stream, self._respond)

    def _respond(self, request: Request) -> Answer:
        answer = self._chain.answer(request)
        is_answered = answer.delivery.stop_at != BEFORE_HEAD
        self.requests.append(
            LoggedRequest(
                request.method,
                request.path,
                request.query,
                request.headers,
                answer.status if is_answered else None,
            )
        )
        return answer


@asynccontextmanager
async def serve_layout(
    layouts: Layout | Mapping[str, Layout], *, faults: Sequence[Fault] = (), port: int = 0
) -> AsyncIterator[LoopbackRegistry]:
    """Serves the pull API until the block ends; then all connections end too.

    As with any nursery, an exception that leaves the block comes in an ExceptionGroup.

    Args:
        layouts: one layout, which every repository's name then stands for; or those that there
            are, by repository name.
        faults: what goes wrong, the first one outermost.
        port: to listen on; 0 for a free one.

    Raises:
        OSError: the port is taken.
    """
    chain = FaultChain(faults, PullApi(layouts).answer)
    (listener,) = await trio.open_tcp_listeners(port, host=HOST)
    registry = LoopbackRegistry(f"{HOST}:{listener.socket.getsockname()[1]}", chain)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, registry.serve, [listener]))
        yield registry
        nursery.cancel_scope.cancel()
