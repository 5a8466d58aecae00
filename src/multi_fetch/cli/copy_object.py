"""One object from a remote to a writer: what fetch-object does, apart from the command line.

Content that fits one data frame of the worker is verified before any of it is written; of larger
content a part may have been written when it fails. A file that has no name yet is begun anew where
another host may have right what one had wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from multi_fetch.ceiling import DEFAULT_CEILING
from multi_fetch.cli.output import FileWriter
from multi_fetch.cli.visible import visible_json
from multi_fetch.errors import DigestMismatchError, SizeMismatchError, UnsupportedError
from multi_fetch.limits import MAX_INDEX_DEPTH, MAX_MANIFEST_BYTES
from multi_fetch.oci.reference import Reference
from multi_fetch.verify import Verifier, hold
from multi_fetch.worker.foreign import describe_target, open_target
from multi_fetch.worker.job import Target
from multi_fetch.worker.judge import (
    check_held,
    check_pin,
    check_told,
    check_verifiable,
    held_limit,
    judge_of,
)
from multi_fetch.worker.progress import Look, Running
from multi_fetch.worker.tree import branch, is_index

if TYPE_CHECKING:
    from multi_fetch.ceiling import Ceiling
    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.oci.digest import Chunk
    from multi_fetch.protocol.request import Request
    from multi_fetch.remotes import Remote
    from multi_fetch.worker.pipes import Writer


class Copy:
    """One run; ``look`` tells how far it has come.

    Args:
        request: what is asked for.
        locator: the repository that it is asked of.
        writer: what takes the content, or the descriptor as JSON.
        ceiling: for the content.
    """

    def __init__(
        self, request: Request, locator: str, writer: Writer, ceiling: Ceiling = DEFAULT_CEILING
    ) -> None:
        self._ceiling = ceiling
        self._request = request
        self._locator = locator
        self._writer = writer
        self._pinned: Request | None = request
        self._wanted_bytes: int | None = None
        self._written_bytes = 0
        self._is_over = False
        self._is_whole = False

    async def run(self, remote: Remote) -> None:
        """Fetches, verifies and writes the object.

        Raises:
            MultiFetchError: there is none, or it is not what it should be.
            OSError: the writer takes no more.
        """
        try:
            await self._run(remote)
            self._is_whole = True
        finally:
            self._is_over = True

    def look(self) -> Look:
        """For an ``Observer``."""
        wanted, written = self._wanted_bytes, self._written_bytes
        running = Running(1, self._request.object, wanted, written)
        return Look(
            requests=1,
            succeeded=int(self._is_whole),
            failed=int(self._is_over and not self._is_whole),
            bytes=written,
            running=() if self._is_over else (running,),
            remaining_bytes=None if wanted is None else max(0, wanted - written),
            is_input_over=True,
        )

    async def _run(self, remote: Remote) -> None:
        check_verifiable(self._request)
        target = Target.of(self._request, self._locator)
        step = self._copy_or_mend if self._request.is_content_wanted else self._describe
        for _ in range(MAX_INDEX_DEPTH + 1):
            further = await step(remote, target)
            if further is None:
                return
            target, self._pinned = further, None
        raise UnsupportedError(
            f"{self._request.object} is an index of indexes, more than {MAX_INDEX_DEPTH} deep:"
            " ask for an inner one by"
            " its digest"
        )

    async def _describe(self, remote: Remote, target: Target) -> Target | None:
        if target.embedded is not None:
            await self._write_descriptor(target.described)
            return None
        _, found = await describe_target(remote, target)
        descriptor = target.described or found
        if self._pinned is not None:
            check_pin(self._pinned, descriptor)
        if self._request.platform is None or not is_index(descriptor):
            await self._write_descriptor(descriptor)
            return None
        # By its digest: a tag may have moved since it was resolved.
        ref = Reference(target.ref.locator, f"@{descriptor.digest}")
        async with remote.open(
            ref, media_types=(descriptor.media_type,), size=descriptor.size
        ) as opened:
            verifier = Verifier(opened.descriptor.digest, opened.descriptor.size)
            content, is_whole = await hold(opened.chunks, verifier, limit=MAX_MANIFEST_BYTES)
            check_held(descriptor, is_whole=is_whole)
            if opened.keep is not None:
                await opened.keep()
        return branch(target, descriptor, content, self._request.platform)

    async def _copy_or_mend(self, remote: Remote, target: Target) -> Target | None:
        """A host's wrong bytes are another's to mend, where they are in a file without a name."""
        while True:
            try:
                return await self._copy(remote, target)
            except (DigestMismatchError, SizeMismatchError) as error:
                if not (error.has_alternative and isinstance(self._writer, FileWriter)):
                    raise
            await self._writer.begin_anew()
            self._written_bytes = 0

    async def _copy(self, remote: Remote, target: Target) -> Target | None:
        check_told(self._request, target, self._ceiling)
        if target.embedded is not None:
            await self._write(target.embedded)
            return None
        request = self._request
        async with open_target(remote, target, request.byte_range) as opened:
            descriptor = opened.descriptor
            if self._pinned is not None:
                check_pin(self._pinned, descriptor)
            judge = judge_of(request, descriptor, self._ceiling)
            limit = held_limit(descriptor, request.byte_range)
            held, is_whole = await hold(opened.chunks, judge, limit)
            if request.byte_range is None:
                check_held(descriptor, is_whole=is_whole)
            leads_on = is_whole and request.platform is not None and is_index(descriptor)
            if not leads_on:
                self._wanted_bytes = _wanted_bytes(request, descriptor)
                await self._write(held)
            if not is_whole:
                async for chunk in opened.chunks:
                    judge.update(chunk)
                    await self._write(chunk)
                judge.finish()
            if opened.keep is not None:
                await opened.keep()
        if leads_on and request.platform is not None:
            return branch(target, descriptor, held, request.platform)
        return None

    async def _write(self, content: Chunk) -> None:
        await self._writer.write([content])
        self._written_bytes += len(content)

    async def _write_descriptor(self, descriptor: Descriptor | None) -> None:
        await self._writer.write([visible_json(descriptor), b"\n"])


def _wanted_bytes(request: Request, descriptor: Descriptor) -> int | None:
    if request.byte_range is not None:
        return request.byte_range.most_bytes(descriptor.size)
    return descriptor.size
