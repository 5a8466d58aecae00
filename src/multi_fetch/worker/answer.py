"""A flight to the frames of its jobs.

Content that fits one data frame, and every manifest, is verified before any of it is put out;
larger content streams, and counts only once its ``end`` has come. A failure of a request is its
``error`` frame; any other exception is a bug and ends the process.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio
from msgspec.structs import replace

from multi_fetch.budget import Counted, let_go
from multi_fetch.ceiling import DEFAULT_CEILING
from multi_fetch.errors import MultiFetchError, UnsupportedError
from multi_fetch.keeping import Keeping
from multi_fetch.limits import MAX_INDEX_DEPTH, MAX_MANIFEST_BYTES
from multi_fetch.oci.manifest import is_manifest
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.frames import Begin, File
from multi_fetch.protocol.request import Children
from multi_fetch.remotes import Opened
from multi_fetch.verify import Verifier, hold
from multi_fetch.worker.direct import DirectAnswerer
from multi_fetch.worker.filing import Filed, file_target, named
from multi_fetch.worker.foreign import describe_target, open_target
from multi_fetch.worker.job import Target
from multi_fetch.worker.judge import (
    check_held,
    check_pin,
    check_told,
    check_verifiable,
    check_whole,
    first_judge_of,
    held_limit,
    is_provable,
    judge_of,
)
from multi_fetch.worker.tree import Trees, branch, is_index

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from multi_fetch.ceiling import Ceiling
    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.oci.digest import Chunk, Digest
    from multi_fetch.protocol.request import Request
    from multi_fetch.remotes import Remote
    from multi_fetch.verify import Judge
    from multi_fetch.worker.hashing import HashThread
    from multi_fetch.worker.job import Flight, Job
    from multi_fetch.worker.speaker import Speaker
    from multi_fetch.worker.window import Window


class Answerer:
    """Runs flights against one remote, each job to exactly one terminal frame.

    Args:
        remote: what is fetched from.
        locator: its repository, ``docker.io/library/redis``.
        speaker: puts frames out for jobs.
        window: where flights come from, and where a job is closed with its terminal frame.
        hashes: hashes what streams.
        is_content_in_files: whether frames name the files that have content, and carry none.
        may_send: whether what can be in no file may be asked for.
        ceiling: for the content of each object.

    Attributes:
        direct: takes what is small and plain.
    """

    def __init__(  # noqa: PLR0913 - what it needs are parts of one worker
        self,
        remote: Remote,
        locator: str,
        speaker: Speaker,
        window: Window,
        hashes: HashThread,
        *,
        is_content_in_files: bool = False,
        may_send: bool = True,
        ceiling: Ceiling = DEFAULT_CEILING,
    ) -> None:
        self._hashes = hashes
        self._ceiling = ceiling
        self.direct = DirectAnswerer(locator, speaker, window, ceiling)
        self._remote = remote
        self._locator = locator
        self._speaker = speaker
        self._window = window
        self._keeping = remote if isinstance(remote, Keeping) else None
        self._trees = Trees(window, self._keeping)
        self._is_content_in_files = is_content_in_files
        self._may_send = may_send

    async def run(self) -> None:
        """Takes flights until the last; as many tasks may do this as flights may run at once."""
        while not await self._run_until_cancelled():
            pass

    async def _run_until_cancelled(self) -> bool:
        """Runs flights in one scope, as long as none is cancelled: a scope for each costs time.

        Returns:
            Whether that was the last.
        """
        failure: MultiFetchError | None = None
        flight: Flight | None = None
        share = self._window.budget.share(lambda: flight is not None and flight.has_turn())
        with trio.CancelScope() as scope, share as held:
            while (flight := await self._window.take()) is not None:
                if self.direct.start(flight):
                    continue
                failure, flight.scope = None, scope
                failure = await self._try_to_answer(flight)
                if scope.cancel_called:
                    break
                held.let_go()
                await self._finish(flight, failure)
            else:
                return True
        assert flight is not None, "only a flight knows the scope"
        await self._finish(flight, failure)
        return False

    async def _try_to_answer(self, flight: Flight) -> MultiFetchError | None:
        try:
            await self._answer(flight)
        except MultiFetchError as error:
            flight.note_failure(error)
            return error.alone()
        return None

    async def _finish(self, flight: Flight, failure: MultiFetchError | None) -> None:
        """Answers those that are left, after a failure or a stop."""
        flight.scope = None
        self._window.land(flight)
        for job in list(flight.members):
            reason = job.failure or failure
            assert reason is not None, "a flight ends by an answer, a failure or a stop"
            await self._speaker.fail(job, reason)

    async def _answer(self, flight: Flight) -> None:
        job = flight.members[0]
        if job.failure is not None:
            raise job.failure
        request = job.request
        assert request is not None
        check_verifiable(request)
        if not self._may_send:
            check_whole(request)
        target = Target.of(request, self._locator, job.urls)
        check_told(request, target, self._ceiling)
        if job.embedded is not None:
            await self._send_embedded(flight, request, target, job.embedded)
            return
        for depth in range(MAX_INDEX_DEPTH + 1):
            step = self._send if request.is_content_wanted else self._describe
            if step == self._send and self._is_content_in_files and is_provable(request):
                step = self._send_file
            further = await step(flight, request, target, is_first=depth == 0)
            if further is None:
                return
            # Who waits for another task must hold nothing: that one may be waiting for room.
            let_go()
            check_told(request, further, self._ceiling)
            if further.embedded is not None:
                await self._send_embedded(flight, request, further, further.embedded)
                return
            target = further
        raise UnsupportedError(
            f"{request.object} is an index of indexes, more than {MAX_INDEX_DEPTH} deep: ask for"
            " an inner one by its digest"
        )

    async def _describe(
        self, flight: Flight, request: Request, target: Target, *, is_first: bool
    ) -> Target | None:
        """Answers with the descriptor alone; content is fetched only to look into it."""
        name, descriptor = await describe_target(self._remote, target)
        if is_first:
            check_pin(request, descriptor)
        content = b""
        leads_on = request.platform is not None and is_index(descriptor)
        has_children = request.children is not Children.NONE and is_manifest(descriptor.media_type)
        if leads_on or has_children:
            content = await self._read(target, descriptor)
            descriptor = replace(descriptor, size=len(content))
        if request.platform is not None and leads_on:
            return branch(target, descriptor, content, request.platform)
        await self._announce(flight, target, Opened(name, descriptor, _nothing()), content)
        return None

    async def _announce(
        self, flight: Flight, target: Target, opened: Opened, content: bytes
    ) -> None:
        """Answers with the descriptor, and with what the content names."""
        for job in list(flight.members):
            begin = self._begin(job, target, opened.descriptor, opened.name)
            find = partial(self._trees.below, job, opened.descriptor, content)
            await self._speaker.answer(job, begin, b"", None, find)

    async def _read(self, target: Target, descriptor: Descriptor) -> bytes:
        exact = Target(
            # By its digest: a tag may have moved since it was resolved.
            ref=Reference(target.ref.locator, f"@{descriptor.digest}"),
            media_types=(descriptor.media_type,),
            size=target.size,  # and not what a HEAD told, which may be wrong
            urls=target.urls,
        )
        async with open_target(self._remote, exact) as opened:
            verifier = Verifier(opened.descriptor.digest, opened.descriptor.size)
            content, is_whole = await hold(Counted(opened.chunks), verifier, MAX_MANIFEST_BYTES)
            check_held(descriptor, is_whole=is_whole)
            if opened.keep is not None:
                await opened.keep()
        return content

    async def _send(
        self, flight: Flight, request: Request, target: Target, *, is_first: bool
    ) -> Target | None:
        """Answers with content; returns where an index leads on to, where that is wanted."""
        async with open_target(self._remote, target, request.byte_range) as opened:
            descriptor = opened.descriptor
            if is_first:
                check_pin(request, descriptor)
            judge = judge_of(request, descriptor, self._ceiling)
            held, is_whole = opened.whole or b"", opened.whole is not None
            if is_whole:
                judge.update(held)
                judge.finish()
            else:
                limit = held_limit(descriptor, request.byte_range)
                if limit:
                    held, is_whole = await hold(Counted(opened.chunks), judge, limit)
            if request.byte_range is None:
                check_held(descriptor, is_whole=is_whole)
            if not is_whole:
                await self._stream(flight, target, opened, held, judge)
                judge.finish()
            if opened.keep is not None:
                await opened.keep()
        proved = descriptor.digest if is_provable(request) else None
        if not is_whole:
            for job in list(flight.members):
                self._speaker.end(job, proved)
            return None
        if request.platform is not None and is_index(descriptor):
            return branch(target, descriptor, held, request.platform)
        self._window.seal(flight)
        await self._send_whole(flight, target, opened, held, proved)
        return None

    async def _send_file(
        self, flight: Flight, request: Request, target: Target, *, is_first: bool
    ) -> Target | None:
        """Answers with the name of a file; returns where an index leads on to, as ``_send``."""
        judge = partial(first_judge_of if is_first else judge_of, request, ceiling=self._ceiling)
        opened, filed = await file_target(self._remote, target, judge, self._hashes, flight.members)
        if request.platform is not None and is_index(opened.descriptor):
            return branch(target, opened.descriptor, filed.held, request.platform)
        self._window.seal(flight)
        await self._name_file(flight, target, opened, filed)
        return None

    async def _name_file(
        self, flight: Flight, target: Target, opened: Opened, filed: Filed
    ) -> None:
        descriptor = opened.descriptor
        for job in list(flight.members):
            begin = self._begin(job, target, descriptor, opened.name)
            file = File(job.id, filed.path, filed.size)
            find = partial(self._trees.below, job, descriptor, filed.held)
            try:
                await self._speaker.name_file(job, begin, file, descriptor.digest, find)
            except MultiFetchError as error:
                await self._speaker.fail(job, error.alone())

    async def _send_embedded(
        self, flight: Flight, request: Request, target: Target, content: bytes
    ) -> None:
        """Answers with what was found within a manifest; the remote is not asked."""
        described = target.described or flight.members[0].described
        assert described is not None, "what is embedded is described"
        await trio.lowlevel.checkpoint()
        digest, path = described.digest, None
        # Bare: others of the flight may be described otherwise, or by nobody.
        opened = Opened(str(target.ref), described.bare(), _nothing(), content)
        if self._keeping is not None and request.is_content_wanted:
            path = await self._keeping.keep(digest, content)
        self._window.seal(flight)
        if not request.is_content_wanted:
            await self._announce(flight, target, opened, content)
        elif self._is_content_in_files:
            await self._name_file(flight, target, opened, Filed(named(path), len(content), content))
        else:
            await self._send_whole(flight, target, opened, content, digest)

    async def _send_whole(
        self, flight: Flight, target: Target, opened: Opened, held: bytes, proved: Digest | None
    ) -> None:
        for job in list(flight.members):
            begin = self._begin(job, target, opened.descriptor, opened.name)
            find = partial(self._trees.below, job, opened.descriptor, held)
            try:
                await self._speaker.answer(job, begin, held, proved, find)
            except MultiFetchError as error:
                # The others may not have asked for what is below.
                await self._speaker.fail(job, error.alone())

    async def _stream(
        self, flight: Flight, target: Target, opened: Opened, held: bytes, judge: Judge
    ) -> None:
        # Before the begin, as that is not sent for what cannot be had at all.
        chunk: Chunk | None = b"" if held else await anext(opened.chunks, b"")
        self._window.seal(flight)
        # All may have left in the very moment in which content came.
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._speaker.wait_turn(flight.members[0])
        for job in flight.members:
            job.content_bytes = opened.descriptor.size
            if job.request is not None and job.request.byte_range is not None:
                job.content_bytes = job.request.byte_range.most_bytes(opened.descriptor.size)
            self._speaker.begin(job, self._begin(job, target, opened.descriptor, opened.name))
        await self._speaker.content(flight, held)
        with self._hashes.follow(judge) as hashing:
            while chunk is not None:
                await hashing.begin(chunk)
                await self._speaker.content(flight, chunk)
                await hashing.settle()
                chunk = await anext(opened.chunks, None)
            await hashing.finish()

    def _begin(self, job: Job, target: Target, descriptor: Descriptor, name: str) -> Begin:
        assert job.request is not None
        parent = None if job.parent is None else job.parent.id
        described = target.described or job.described or descriptor
        return Begin(job.id, job.request.object, described, name, parent)


async def _nothing() -> AsyncGenerator[Chunk, None]:
    """For content that is there as a whole."""
    nothing: tuple[Chunk, ...] = ()
    for chunk in nothing:
        yield chunk
