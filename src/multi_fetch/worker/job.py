"""What the engine keeps of a request, a fetch and a run: state, without behaviour of its own."""

from __future__ import annotations

from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec
import trio

from multi_fetch.errors import MultiFetchError
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import Digest
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.request import Listing, Request

if TYPE_CHECKING:
    from collections.abc import Iterator

Key: TypeAlias = tuple[object, ...]

# What says that the remote itself could not be used, whatever was asked of it.
REMOTE_CODES = frozenset({"unavailable", "unauthorized", "denied"})


class Tree(msgspec.Struct, eq=False, kw_only=True):
    """What is below one root.

    Attributes:
        is_content_wanted: as the root's request says; a node that is only passed through has none.
        seen: the digests that were found, each of which is fetched once.
        embedded_bytes: of content that was found within manifests, so far.
    """

    is_content_wanted: bool
    seen: set[Digest]
    embedded_bytes: int = 0


class Job(msgspec.Struct, eq=False, kw_only=True):
    """One request, from its line to its terminal frame.

    Attributes:
        id: the request's line number; negative for what the worker found by itself.
        request: what is asked for; None where the line could not be read.
        parent: the job in whose content it was found.
        described: how that content describes it.
        embedded: its content, verified, where that was found there too.
        key: what it shares a fetch by, once it is open; None for never.
        is_large: whether its content is known to be beyond one data frame, once it is open.
        is_plain: whether a direct lane may have it, once it is open.
        tree: what it has in common with all that is found below the same root.
        failure: why it will end without an answer: the line was bad, or it was stopped.
        party: whose tasks it counts among while it waits, where lines name their registry.
        flight: the fetch that it takes part in, once it runs.
        content_bytes: of content that will be put out, once a stream of it has begun.
        sent_bytes: content put out so far.
        filed_bytes: content that has come so far and will be in a file.
        is_streaming: whether its content takes the outlet's slow lane, as all that follows must.
        is_closed: whether its terminal frame was put out.
        deadline: on trio's clock, while one runs.
        turn: set once it may send; None where nobody waits for turns.
        memory: what it takes, about, if it was found.
    """

    id: int
    request: Request | None
    parent: Job | None = None
    described: Descriptor | None = None
    embedded: bytes | None = None
    key: Key | None = None
    is_large: bool = False
    is_plain: bool = False
    tree: Tree | None = None
    failure: MultiFetchError | None = None
    party: Party | None = None
    flight: Flight | None = None
    content_bytes: int | None = None
    sent_bytes: int = 0
    filed_bytes: int = 0
    is_streaming: bool = False
    is_closed: bool = False
    deadline: float | None = None
    turn: trio.Event | None = None
    memory: int = 0

    @property
    def urls(self) -> tuple[str, ...]:
        """Where else its object may be."""
        return () if self.described is None else self.described.urls

    def is_below(self, root_id: int) -> bool:
        """Whether it is the request of that id, or was found below it."""
        job: Job | None = self
        while job is not None:
            if job.id == root_id:
                return True
            job = job.parent
        return False

    def above(self) -> Iterator[Job]:
        """The jobs in whose content it was found, the nearest first."""
        job = self.parent
        while job is not None:
            yield job
            job = job.parent

    def wanted_bytes(self) -> int | None:
        """How much content will be put out for it; None where nobody knows yet."""
        request = self.request
        if self.content_bytes is not None:
            return self.content_bytes
        if request is None or not request.is_content_wanted:
            return 0
        part = request.byte_range
        return request.size if part is None else part.most_bytes(request.size)

    def share_key(self) -> Key | None:
        """What two jobs must have in common to be answered by one fetch; None for never."""
        request = self.request
        if request is None or not request.is_content_wanted or request.byte_range is not None:
            return None
        if self.is_plain and not request.tag:  # what is short is hashed fast
            return request.digest, request.media_types, request.size
        return (
            request.locator,
            request.listing,
            request.artifact_type,
            request.tag,
            request.digest,
            request.media_types,
            request.size,
            request.platform,
            request.pin,
            self.urls,
        )


class Found:
    """What is open and was found.

    Attributes:
        memory: what it takes, about.
    """

    def __init__(self) -> None:
        self.memory = 0
        # How many are below an id, its own closed or not; only of those that have some.
        self._below: dict[int, int] = {}
        # Ids of which ``has_more_below`` was asked, and below which nothing was found since.
        self._looked_at: set[int] = set()

    def add(self, job: Job) -> None:
        """Counts a job that is opened."""
        self.memory += job.memory
        for above in job.above():
            self._below[above.id] = self._below.get(above.id, 0) + 1
            self._looked_at.discard(above.id)

    def remove(self, job: Job) -> None:
        """Counts it no more."""
        self.memory -= job.memory
        for above in job.above():
            self._below[above.id] -= 1
            if not self._below[above.id]:
                del self._below[above.id]
                self._looked_at.discard(above.id)

    def has_more_below(self, request_id: int) -> bool:
        """Whether some of it is below that id, and was not when this was asked before."""
        is_more = request_id in self._below and request_id not in self._looked_at
        if is_more:
            self._looked_at.add(request_id)
        return is_more


class Alike:
    """Jobs that wait, by what they ask for; most wait alone, and take no room for others."""

    def __init__(self) -> None:
        self._alone: dict[Key, Job] = {}
        self._several: dict[Key, dict[Job, None]] = {}  # in their order

    def add(self, key: Key, job: Job) -> None:
        """Lets a job wait."""
        if key in self._several:
            self._several[key][job] = None
        elif (other := self._alone.setdefault(key, job)) is not job:
            del self._alone[key]
            self._several[key] = {other: None, job: None}

    def take(self, key: Key, job: Job, most: int) -> list[Job]:
        """The job, and as many of those that wait for the same as may be; they wait no more."""
        waiting = self._several.get(key)
        if waiting is None:
            return [self._alone.pop(key)]
        del waiting[job]
        others = list(islice(waiting, most))
        for each in others:
            del waiting[each]
        if not waiting:
            del self._several[key]
        return [job, *others]


class Standing(Enum):
    """What is known of a party."""

    ANSWERS = "answers"
    NEW = "new"
    SILENT = "silent"


class Party(msgspec.Struct, eq=False):
    """All requests to one registry, or to one layout.

    Attributes:
        standing: by what was last heard of it.
        running: its flights.
        flowing: those of them whose content has begun to come.
        waiting: its jobs that have no flight.
    """

    standing: Standing = Standing.NEW
    running: int = 0
    flowing: int = 0
    waiting: int = 0


class Running(Protocol):
    """What runs a flight: a scope of trio's, or a place on the direct lane."""

    def cancel(self) -> None:
        """Ends it; nobody waits for the content any more."""


class Flight(msgspec.Struct, eq=False, kw_only=True):
    """One fetch, and the jobs that its content is for.

    Attributes:
        members: those that have had no terminal frame; one may leave, the others go on.
        key: what lets more jobs join, until content is passed on; None when they may not.
        is_large: whether it counts among the large objects that may run at the same time.
        scope: ends the fetch when it is cancelled; None while it does not run.
        was_left: whether the direct lane has had it, and has left it to a task of its own.
        party: whose tasks it counts among, as its jobs do.
        is_flowing: whether its content has begun to come, where it has a party.
        is_in_vain: whether it was given up before, or failed in a way that may pass.
    """

    members: list[Job]
    key: Key | None = None
    is_large: bool = False
    scope: Running | None = None
    was_left: bool = False
    party: Party | None = None
    is_flowing: bool = False
    is_in_vain: bool = False

    def note_failure(self, error: MultiFetchError) -> None:
        """Takes note of why it failed. Who says at once that it is busy has answered."""
        is_told_at_once = error.status is not None and error.attempts in {None, 1}
        self.is_in_vain = error.retryable and not is_told_at_once

    def has_turn(self) -> bool:
        """Whether it is the one whose turn it is, where there are turns."""
        return any(job.turn is not None and job.turn.is_set() for job in self.members)


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of the remote: a request's object, or what an index led to from there.

    Attributes:
        described: how the index describes it.
        urls: where else it may be.
        listing: what is listed in its place.
        artifact_type: of the referrers that are listed.
        embedded: its content, verified, where that was found within the index.
    """

    ref: Reference
    listing: Listing | None = None
    artifact_type: str = ""
    media_types: tuple[str, ...] = ()
    size: int | None = None
    described: Descriptor | None = None
    urls: tuple[str, ...] = ()
    embedded: bytes | None = None

    @classmethod
    def of(cls, request: Request, locator: str, urls: tuple[str, ...] = ()) -> Target:
        """A request's own object."""
        return cls(
            ref=request.reference(locator),
            listing=request.listing,
            artifact_type=request.artifact_type,
            media_types=request.media_types,
            size=request.size,
            urls=urls,
        )


class Tally(msgspec.Struct):
    """What became of the requests so far."""

    requests: int = 0
    succeeded: int = 0
    failed: int = 0
    bytes: int = 0
    is_remote_usable: bool = False

    @property
    def exit_status(self) -> int:
        """As protocol.md says: 0 all succeeded, 1 some failed, 3 the remote was of no use."""
        if not self.failed:
            return 0
        return 1 if self.is_remote_usable else 3

    def count(self, job: Job, error: MultiFetchError | None) -> None:
        """Takes note of a job's end."""
        self.bytes += job.sent_bytes
        if error is None:
            self.succeeded += 1
        else:
            self.failed += 1
        if error is None or error.code not in REMOTE_CODES:
            self.is_remote_usable = True
