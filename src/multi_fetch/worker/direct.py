"""Small objects over the remote's direct lane: one task answers many, and none has one of its own.

Only what is plain goes this way: a blob by its digest, whole, with nothing below it, for one job.
What does not come as it should is left to a task, which asks the remote in the general way.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from multi_fetch.ceiling import DEFAULT_CEILING
from multi_fetch.lanes import Direct, Sent
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import is_sha256_of
from multi_fetch.protocol.frames import Begin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from multi_fetch.ceiling import Ceiling
    from multi_fetch.lanes import Asker, DirectLane
    from multi_fetch.oci.digest import Digest
    from multi_fetch.protocol.request import Request
    from multi_fetch.remotes import Remote
    from multi_fetch.worker.job import Flight, Job
    from multi_fetch.worker.speaker import Speaker
    from multi_fetch.worker.window import Window


class _Place(msgspec.Struct, eq=False):
    """A flight's place on the lane; see ``job.Running``."""

    answerer: DirectAnswerer
    sent: Sent

    def cancel(self) -> None:
        self.answerer.give_up(self.sent)


class DirectAnswerer:
    """Runs plain flights.

    Args:
        locator: the repository, as frames name it.
        speaker: puts frames out for jobs.
        window: where flights come from.
        ceiling: what is beyond is left to a task, too, which says so.
    """

    def __init__(
        self, locator: str, speaker: Speaker, window: Window, ceiling: Ceiling = DEFAULT_CEILING
    ) -> None:
        self._most = math.inf if ceiling.told is None else ceiling.told
        self._locator = locator
        self._speaker = speaker
        self._window = window
        self._lane: DirectLane | None = None
        self._flights: dict[Sent, Flight] = {}

    @contextmanager
    def over(self, remote: Remote) -> Iterator[None]:
        """Uses the remote's lane, if it has one, while it is entered."""
        if not isinstance(remote, Direct):
            yield
            return
        with remote.direct_lane() as self._lane:
            yield

    def start(self, flight: Flight) -> bool:
        """Asks for a flight's object, if it is plain and can be asked for now.

        What then does not come is given back to the window.
        """
        asker = None if self._lane is None or flight.was_left else self._lane.asker()
        return asker is not None and self._ask(asker, flight)

    def _ask(self, asker: Asker, flight: Flight) -> bool:
        plain = _plain(flight)
        if plain is None:
            return False
        _, request, digest = plain
        if request.size is not None and request.size > self._most:
            return False
        sent = asker.ask(digest, request.media_types, request.size)
        if sent is None:
            return False
        self._flights[sent] = flight
        flight.scope = _Place(self, sent)
        return True

    async def run(self) -> None:
        """Answers what has come, and asks for more in its place, until cancelled."""
        if self._lane is None:
            return
        while True:
            arrived = await self._lane.wait()
            await self._speaker.wait_room()
            for sent in arrived:
                flight = self._flights.pop(sent, None)
                # None: it was given up while there was no room.
                if flight is not None and not self._answer(self._lane, sent, flight):
                    self._lane.leave(sent)
                    flight.was_left, flight.scope = True, None
                    self._window.leave(flight)
            asker = self._lane.asker()
            while (flight := self._window.take_now()) is not None:
                if asker is None or not self._ask(asker, flight):
                    self._window.leave(flight)

    def _answer(self, lane: DirectLane, sent: Sent, flight: Flight) -> bool:
        """Answers with what has come, if it is what was asked for."""
        content = sent.content
        plain = None if content is None else _plain(flight)  # another job may have joined
        if content is None or plain is None:
            return False
        job, request, digest = plain
        if len(content) > self._most or not is_sha256_of(digest, content):
            return False
        lane.take(sent)
        found = Descriptor(media_type=sent.media_type, digest=digest, size=len(content))
        name = f"{self._locator}@{digest}"
        if request.tag:
            name = str(request.reference(self._locator))
        parent = None if job.parent is None else job.parent.id
        begin = Begin(job.id, request.object, job.described or found, name, parent)
        self._speaker.answer_now(job, begin, content, digest)
        self._window.land(flight)
        return True

    def give_up(self, sent: Sent) -> None:
        """Ends a flight that nobody waits for any more."""
        assert self._lane is not None, "it was sent there"
        self._lane.drop(sent)
        self._window.land(self._flights.pop(sent))
        self._window.wake()


def _plain(flight: Flight) -> tuple[Job, Request, Digest] | None:
    """The only job of a flight, what it asks for, and by which digest, if that is plain."""
    if len(flight.members) != 1 or flight.is_large:
        return None
    job = flight.members[0]
    request = job.request
    if not job.is_plain or job.failure is not None or request is None or request.digest is None:
        return None
    return job, request, request.digest
