"""The direct lane: small blobs over connections that the fast lane has opened, without a task each.

Requests are sent as they are asked for, each on an idle connection; one task waits for all of the
answers at once, with an epoll object of its own. An answer that is as plain as can be (200, its
length known, not encoded, all of it here) is given as it is. Any other is left with its connection
to the fast lane, which finds it there when the same request is sent on the general path: so what
is unusual is decided in one place, and nothing is asked for twice.
"""

from __future__ import annotations

import select
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from multi_fetch.errors import RegistryError
from multi_fetch.limits import DIRECT_WAIT_SECONDS, MAX_DIRECT_BYTES, MAX_HEAD_BYTES
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCTET_STREAM
from multi_fetch.registry.api import ANY_TYPE, Endpoint, candidates_for_digest, content_type
from multi_fetch.registry.connection import HEAD_END
from multi_fetch.registry.fast_lane import Begun
from multi_fetch.registry.head import parse_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from multi_fetch.oci.digest import Digest
    from multi_fetch.registry.connection import Connection
    from multi_fetch.registry.fast_lane import FastLane
    from multi_fetch.registry.head import Head
    from multi_fetch.registry.session import Session

# Requests that take the general path at once after an answer that was not plain: a registry that
# redirects, or an image whose blobs are large, does so again and again.
CAUTION: Final = 16

# Stands in a request for the digest that is asked for.
_SOME_DIGEST: Final = digest_of(b"")


class SentRequest:
    """A request for a blob, on its connection; see ``remotes.Sent``."""

    __slots__ = ("connection", "content", "head", "media_type", "request", "sent_at", "size")

    def __init__(
        self, connection: Connection, request: bytes, media_type: str, size: int | None
    ) -> None:
        self.connection = connection
        self.request = request
        self.media_type = media_type
        self.size = size
        self.sent_at = trio.current_time()
        self.head: tuple[Head, int] | None = None
        self.content: bytes | None = None


class RegistryDirectLane:
    """Blobs of one repository; see ``remotes.DirectLane``.

    Args:
        session: says how a request is sent.
        repository: distribution-spec's ``<name>``.
        is_blob: whether an object of such media types is asked for among the blobs.
        epoll: of this lane alone.
    """

    def __init__(
        self,
        session: Session,
        repository: str,
        is_blob: Callable[[Sequence[str]], bool],
        epoll: select.epoll,
    ) -> None:
        self._session = session
        self._repository = repository
        self._is_blob = is_blob
        self._epoll = epoll
        # By file descriptor, in the order in which they were sent.
        self._sent: dict[int, SentRequest] = {}
        # Connections whose answer was taken, until the next wait.
        self._free: list[Connection] = []
        self._news = trio.Event()
        self._caution = 0
        self._lane: FastLane | None = None
        self._authorization: str | None = None
        self._parts = (b"", b"")

    def ask(
        self, digest: Digest, media_types: Sequence[str], size: int | None
    ) -> SentRequest | None:
        """Asks for a blob without a wait; see ``remotes.DirectLane``."""
        if self._caution:
            self._caution -= 1
            return None
        if (size or 0) > MAX_DIRECT_BYTES or not self._is_blob(media_types):
            return None
        authorization = self._session.present_authorization()
        lane = self._session.straight_lane()
        if lane is None or authorization is None:
            return None
        connection = self._free.pop() if self._free else None
        if connection is None:
            connection = lane.take_idle(self._session.origin)
            if connection is None:
                return None
            self._epoll.register(connection.fd, select.EPOLLIN)
            self._lane = lane
        if authorization != self._authorization:
            self._prepare(authorization)
        before, after = self._parts
        request = b"%b%b%b" % (before, digest.encode(), after)
        if not connection.start(request):
            connection.close()
            return None
        sent = SentRequest(connection, request, media_types[0] if media_types else "", size)
        self._sent[connection.fd] = sent
        self._news.set()
        return sent

    def _prepare(self, authorization: str) -> None:
        """A request in two parts, between which the digest belongs."""
        candidate, _ = candidates_for_digest(self._repository, _SOME_DIGEST, Endpoint.BLOBS)
        request = self._session.request_bytes(candidate.path, {"Accept": ANY_TYPE}, authorization)
        before, _, after = request.partition(_SOME_DIGEST.encode())
        self._parts, self._authorization = (before, after), authorization

    async def wait(self) -> list[SentRequest]:
        """Waits until blobs have come; see ``remotes.DirectLane``.

        What has not come for so long is left too: deadlines are the general path's.
        """
        self._put_back()
        while True:
            while not self._sent:
                self._news = trio.Event()
                await self._news.wait()
            with trio.move_on_at(self._oldest().sent_at + DIRECT_WAIT_SECONDS):
                await trio.lowlevel.wait_readable(self._epoll)
            ready = self._epoll.poll(0)
            arrived = [
                sent
                for descriptor, _ in ready
                if (sent := self._sent.get(descriptor)) is not None and self._has_come(sent)
            ]
            if arrived:
                return arrived
            if self._sent and not ready:
                late = trio.current_time() - DIRECT_WAIT_SECONDS
                arrived = [sent for sent in self._sent.values() if sent.sent_at <= late]
                if arrived:
                    return arrived

    def take(self, sent: SentRequest) -> None:
        """Says that the content was used; see ``remotes.DirectLane``."""
        del self._sent[sent.connection.fd]
        assert sent.head is not None, "what has content has a head"
        head, size = sent.head
        assert head.length is not None, "what has content has a length"
        sent.connection.finish(head, size + head.length)
        if sent.connection.may_persist:
            self._free.append(sent.connection)
        else:
            sent.connection.close()

    def leave(self, sent: SentRequest) -> None:
        """Leaves a blob to ``open``; see ``remotes.DirectLane``."""
        del self._sent[sent.connection.fd]
        self._epoll.unregister(sent.connection.fd)
        self._caution = CAUTION
        assert self._lane is not None, "the connection came from there"
        self._lane.leave(Begun(self._session.origin, sent.request, sent.sent_at, sent.connection))

    def drop(self, sent: SentRequest) -> None:
        """Gives a blob up; see ``remotes.DirectLane``."""
        del self._sent[sent.connection.fd]
        sent.connection.close()

    def close(self) -> None:
        """Closes the connections that are in use."""
        self._put_back()
        for sent in list(self._sent.values()):
            self.drop(sent)

    def _oldest(self) -> SentRequest:
        return next(iter(self._sent.values()))

    def _put_back(self) -> None:
        """Gives connections back for which there was no other request."""
        for connection in self._free:
            self._epoll.unregister(connection.fd)
            assert self._lane is not None, "the connection came from there"
            self._lane.release(self._session.origin, connection)
        self._free.clear()

    def _has_come(self, sent: SentRequest) -> bool:
        """Whether a blob is here, or is not to be had this way."""
        data = sent.connection.arrived()
        if data is None:
            return True
        if sent.head is None:
            found = HEAD_END.search(data)
            if found is None:
                return len(data) > MAX_HEAD_BYTES
            try:
                head = parse_head(data[: found.end()], "")
            except RegistryError:  # the general path reads it again, and says what is wrong
                return True
            if not _is_plain(head, sent.size):
                return True
            sent.head = head, found.end()
        head, start = sent.head
        assert head.length is not None, "a plain answer's length is known"
        end = start + head.length
        if len(data) < end:
            return False
        sent.content = bytes(data[start:end])
        sent.media_type = sent.media_type or content_type(head.headers) or OCTET_STREAM
        return True


def _is_plain(head: Head, size: int | None) -> bool:
    length = head.length
    return (
        head.status == 200
        and length is not None
        and length <= MAX_DIRECT_BYTES
        and size in {None, length}
        and not head.has_ratelimit
        and "content-encoding" not in head.headers
    )


@contextmanager
def open_direct_lane(
    session: Session, repository: str, is_blob: Callable[[Sequence[str]], bool]
) -> Iterator[RegistryDirectLane | None]:
    """A direct lane; None where the system has no epoll. Arguments as for the lane."""
    if not hasattr(select, "epoll"):
        yield None
        return
    with select.epoll() as epoll:
        lane = RegistryDirectLane(session, repository, is_blob, epoll)
        try:
            yield lane
        finally:
            lane.close()
