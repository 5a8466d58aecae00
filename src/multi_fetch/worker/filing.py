"""Content into files: for a parent that is told where it is, in place of being sent it.

The remote keeps what it opens (``Opened.keep``), so what is left to do here is to verify. What the
remote had in a file before is not read: it was verified when that was written.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from multi_fetch.budget import Counted
from multi_fetch.errors import DigestMismatchError, SizeMismatchError, UnavailableError
from multi_fetch.oci.manifest import is_manifest
from multi_fetch.verify import hold
from multi_fetch.worker.foreign import open_target
from multi_fetch.worker.judge import check_held, held_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.remotes import Opened, Remote
    from multi_fetch.verify import Judge
    from multi_fetch.worker.hashing import HashThread
    from multi_fetch.worker.job import Job, Target


class Filed(msgspec.Struct, frozen=True):
    """Content that is in a file, and verified.

    Attributes:
        path: of the file.
        size: of the content, in bytes.
        held: all of it, if it is a manifest; otherwise, perhaps nothing.
    """

    path: str
    size: int
    held: bytes = b""


async def file_target(
    remote: Remote,
    target: Target,
    judge_of: Callable[[Descriptor], Judge],
    hashes: HashThread,
    jobs: Sequence[Job],
) -> tuple[Opened, Filed]:
    """Opens an object and sees to it that it is in a file; arguments as for ``into_file``.

    A host's wrong bytes are another's to mend, where there is one: nobody has been told of them.

    Raises:
        MultiFetchError: as for ``open_target`` and ``into_file``.
    """
    while True:
        try:
            async with open_target(remote, target) as opened:
                return opened, await _into_file(opened, judge_of(opened.descriptor), hashes, jobs)
        except (DigestMismatchError, SizeMismatchError) as error:
            if not error.has_alternative:
                raise


async def _into_file(
    opened: Opened, judge: Judge, hashes: HashThread, jobs: Sequence[Job]
) -> Filed:
    """Sees to it that what is opened is in a file.

    Args:
        opened: as the remote gives it.
        judge: of its content.
        hashes: hashes what is not held as a whole.
        jobs: whose progress this is.

    Raises:
        MultiFetchError: it could not be had, verified or kept.
    """
    descriptor = opened.descriptor
    is_read = is_manifest(descriptor.media_type)
    if opened.kept is not None and descriptor.size is not None and not is_read:
        return Filed(os.fspath(opened.kept), descriptor.size)
    held, is_whole = await hold(Counted(opened.chunks), judge, held_limit(descriptor))
    check_held(descriptor, is_whole=is_whole)
    if not is_whole:
        with hashes.follow(judge) as hashing:
            async for chunk in opened.chunks:
                await hashing.begin(chunk)
                for job in jobs:
                    job.content_bytes, job.filed_bytes = descriptor.size, judge.received
                await hashing.settle()
            await hashing.finish()
        judge.finish()
    path = None if opened.keep is None else await opened.keep()
    return Filed(named(path), judge.received, held)


def named(path: Path | None) -> str:
    """The name of a file that should be there.

    Raises:
        UnavailableError: it is not.
    """
    if path is None:
        raise UnavailableError(
            "the content is in no file: it could not be kept, or was removed; ask again"
        )
    return os.fspath(path)
