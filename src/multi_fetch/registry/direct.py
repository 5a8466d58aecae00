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

import httptools
import msgspec
import trio

from multi_fetch.durations import DIRECT_WAIT_SECONDS
from multi_fetch.errors import RegistryError
from multi_fetch.limits import MAX_DIRECT_BYTES, MAX_HEAD_BYTES
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.media_types import OCTET_STREAM
from multi_fetch.registry.api import ANY_TYPE, Endpoint, candidates_for_digest, content_type
from multi_fetch.registry.concealment import Discreet, conceal, long_secrets_of
from multi_fetch.registry.fast_lane import Begun
from multi_fetch.registry.head import HEAD_END, parse_head, says_octets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from multi_fetch.oci.digest import Digest
    from multi_fetch.registry.connection import Connection
    from multi_fetch.registry.fast_lane import FastLane
    from multi_fetch.registry.session import Session

# Requests that take the general path at once after an answer that was not plain: a registry that
# redirects, or an image whose blobs are large, does so again and again.
CAUTION: Final = 16

# Stands in a request for the digest that is asked for.
_SOME_DIGEST: Final = digest_of(b"")


class Track:
    """A connection on the lane, with the parser that reads what comes on it.

    Attributes:
        body: of the answer, as far as it has come.
        is_complete: whether that is all of it.
    """

    __slots__ = ("body", "connection", "is_complete", "parser")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.parser = httptools.HttpResponseParser(self)
        self.body = b""
        self.is_complete = False

    def on_body(self, body: bytes) -> None:
        """Called by the parser for content."""
        self.body += body

    def on_message_complete(self) -> None:
        """Called by the parser at an answer's end."""
        self.is_complete = True


class SentRequest(Discreet, msgspec.Struct, eq=False):
    """A request for a blob, on its way; see ``lanes.Sent``.

    Attributes:
        track: that it was sent on.
        request: its bytes.
        media_type: as it was asked for, or empty until the answer says it.
        size: that the blob must have; None for any.
        sent_at: on trio's clock.
        content: the whole blob, once it has come.
        received: bytes of the answer that the parser has had.
        is_awaited: whether it has begun to come, and may be plain.
    """

    track: Track
    request: bytes
    media_type: str
    size: int | None
    sent_at: float
    content: bytes | None = None
    received: int = 0
    is_awaited: bool = False

    def __repr__(self) -> str:  # the request has a header with a secret
        return f"SentRequest(media_type={self.media_type!r}, sent_at={self.sent_at})"


class RegistryDirectLane:
    """Blobs of one repository; see ``lanes.DirectLane``.

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
        # Those whose answer was taken, until the next wait.
        self._free: list[Track] = []
        self._news = trio.Event()
        # After an answer that was not plain some requests are not tried, then one alone.
        self._is_doubtful = False
        self._caution = 0
        self._fast: FastLane | None = None
        self._authorization: str | None = None
        self._parts = (b"", b"")
        self._secrets: list[str] = []

    def asker(self) -> BlobAsker | None:
        """Who asks as things are now; see ``lanes.DirectLane``."""
        authorization = self._session.present_authorization()
        fast = self._session.straight_lane()
        if fast is None or authorization is None:
            return None
        if authorization != self._authorization:
            try:
                self._prepare(authorization)
            except RegistryError:  # the general path says so, for each request
                return None
        self._fast = fast
        return BlobAsker(self, *self._parts)

    def _prepare(self, authorization: str) -> None:
        """A request in two parts, between which the digest belongs."""
        candidate, _ = candidates_for_digest(self._repository, _SOME_DIGEST, Endpoint.BLOBS)
        request = self._session.request_bytes(candidate.path, {"Accept": ANY_TYPE}, authorization)
        before, _, after = request.partition(_SOME_DIGEST.encode())
        self._parts, self._authorization = (before, after), authorization
        lines = (line.partition(": ") for line in after.decode("ascii").split("\r\n")[2:])
        self._secrets = long_secrets_of({name: text for name, _, text in lines})

    def may_ask(self, media_types: Sequence[str], size: int | None) -> bool:
        """Whether an object is worth trying: a blob that is not known to be large."""
        if self._is_doubtful and (self._caution or self._sent):
            self._caution = max(0, self._caution - 1)
            return False
        return (size is None or size <= MAX_DIRECT_BYTES) and self._is_blob(media_types)

    def take_track(self) -> Track | None:
        """One that is free, or on an idle connection; None where there is none."""
        if self._free:
            return self._free.pop()
        assert self._fast is not None, "who asks has set it"
        connection = self._fast.take_idle(self._session.origin)
        if connection is None:
            return None
        self._epoll.register(connection.fd, select.EPOLLIN)
        return Track(connection)

    def note(self, sent: SentRequest) -> None:
        """Takes note of what was sent."""
        self._sent[sent.track.connection.fd] = sent
        self._news.set()

    async def wait(self) -> list[SentRequest]:
        """Waits until blobs have come; see ``lanes.DirectLane``.

        What has not come for so long is left too: deadlines are the general path's.
        """
        self._put_back()
        while True:
            while not self._sent:
                self._news = trio.Event()
                await self._news.wait()
            assert self._fast is not None, "what was sent went over it"
            longest = min(DIRECT_WAIT_SECONDS, self._fast.stall_seconds)
            with trio.move_on_at(self._oldest().sent_at + longest):
                await trio.lowlevel.wait_readable(self._epoll)
            ready = self._epoll.poll(0)
            arrived = [
                sent
                for descriptor, _ in ready
                if (sent := self._sent.get(descriptor)) is not None and self._has_come(sent)
            ]
            # However much else comes meanwhile.
            late = trio.current_time() - longest
            if self._sent and self._oldest().sent_at <= late:
                arrived += [sent for sent in self._sent.values() if sent.sent_at <= late]
                arrived = list(dict.fromkeys(arrived))
            if arrived:
                return arrived

    def take(self, sent: SentRequest) -> None:
        """Says that the content was used; see ``lanes.DirectLane``."""
        track = sent.track
        del self._sent[track.connection.fd]
        track.connection.finish()
        track.body, track.is_complete = b"", False
        self._is_doubtful = False
        self._free.append(track)

    def leave(self, sent: SentRequest) -> None:
        """Leaves a blob to ``open``; see ``lanes.DirectLane``."""
        connection = sent.track.connection
        del self._sent[connection.fd]
        self._epoll.unregister(connection.fd)
        self._is_doubtful, self._caution = True, CAUTION
        assert self._fast is not None, "the connection came from there"
        self._fast.leave(Begun(self._session.origin, sent.request, sent.sent_at, connection))

    def drop(self, sent: SentRequest) -> None:
        """Gives a blob up; see ``lanes.DirectLane``."""
        del self._sent[sent.track.connection.fd]
        sent.track.connection.close()

    def close(self) -> None:
        """Closes the connections that are in use."""
        self._put_back()
        for sent in list(self._sent.values()):
            self.drop(sent)

    def _oldest(self) -> SentRequest:
        return next(iter(self._sent.values()))

    def _put_back(self) -> None:
        """Gives connections back for which there was no other request."""
        for track in self._free:
            self._epoll.unregister(track.connection.fd)
            assert self._fast is not None, "the connection came from there"
            self._fast.release(self._session.origin, track.connection)
        self._free.clear()

    def _has_come(self, sent: SentRequest) -> bool:
        """Whether a blob is here, or is not to be had this way."""
        track = sent.track
        data = track.connection.arrived()
        if data is None:
            return True
        try:
            track.parser.feed_data(data[sent.received :] if sent.received else data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return True  # the general path reads it again, and says what is wrong
        sent.received = len(data)
        if not track.is_complete:
            sent.is_awaited = sent.is_awaited or _may_become_plain(data)
            return not sent.is_awaited
        body = track.body
        head = bytes(data[: len(data) - len(body)])
        if _is_plain(head) and len(body) <= MAX_DIRECT_BYTES and sent.size in {None, len(body)}:
            sent.content = body
            sent.media_type = sent.media_type or self._type_in(head)
        return True

    def _type_in(self, head: bytes) -> str:
        if says_octets(head.lower()):
            return OCTET_STREAM
        headers = parse_head(memoryview(head), "").headers
        told = conceal(headers.get("content-type", ""), self._secrets)
        return content_type({"content-type": told}) or OCTET_STREAM


class BlobAsker:
    """Asks for blobs; see ``lanes.Asker``.

    Args:
        lane: where answers are awaited.
        before: of a request, what stands before its digest.
        after: what stands behind it.
    """

    def __init__(self, lane: RegistryDirectLane, before: bytes, after: bytes) -> None:
        self._lane = lane
        self._before = before
        self._after = after
        self._now = trio.current_time()

    def ask(
        self, digest: Digest, media_types: Sequence[str], size: int | None
    ) -> SentRequest | None:
        """Asks for a blob without a wait; see ``lanes.Asker``."""
        if not self._lane.may_ask(media_types, size):
            return None
        track = self._lane.take_track()
        if track is None:
            return None
        request = b"%b%b%b" % (self._before, digest.encode(), self._after)
        if not track.connection.start(request):
            track.connection.close()
            return None
        media_type = media_types[0] if media_types else ""
        sent = SentRequest(track, request, media_type, size, self._now)
        self._lane.note(sent)
        return sent


def _may_become_plain(data: memoryview) -> bool:
    """Whether to wait for the rest of an answer."""
    found = HEAD_END.search(data)
    if found is None:
        return len(data) <= MAX_HEAD_BYTES
    try:
        head = parse_head(data[: found.end()], "")
    except RegistryError:
        return False
    return head.status == 200 and head.length is not None and head.length <= MAX_DIRECT_BYTES


def _is_plain(head: bytes) -> bool:
    """Whether what stood before a body is one head, in which there is nothing to be heeded.

    The parser has judged its form. Where chunks came, or more than belongs to the answer, what is
    left beside the content does not end as a head does.
    """
    if not head.startswith(b"HTTP/1.1 200") or not head.endswith(b"\r\n\r\n"):
        return False
    text = head.lower()
    if b"-encoding:" in text or b"ratelimit" in text:
        return False
    return b"\r\nconnection:" not in text or b"\r\nconnection: keep-alive\r\n" in text


@contextmanager
def open_direct_lane(
    session: Session, repository: str, is_blob: Callable[[Sequence[str]], bool]
) -> Iterator[RegistryDirectLane | None]:
    """A direct lane; None where the system has no epoll. Arguments as for the lane."""
    try:
        epoll = select.epoll()
    except (AttributeError, OSError):  # no such system, or no more open files
        yield None
        return
    with epoll:
        lane = RegistryDirectLane(session, repository, is_blob, epoll)
        try:
            yield lane
        finally:
            lane.close()
