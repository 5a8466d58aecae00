"""A thread that writes chunks while they are sent, one behind the other for all objects.

A chunk's memory is its task's until it is written. A task that is cancelled does not wait for
that: then the last chunk counts as not written.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from multi_fetch.durations import SHUTDOWN_GRACE_SECONDS
from multi_fetch.errands import Errand, ErrandThread

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from multi_fetch.oci.digest import Chunk
    from multi_fetch.store.ingest import Ingest

log = logging.getLogger(__name__)


class WriteThread:
    """Writes for as long as it is entered; the thread starts with the first chunk."""

    def __init__(self) -> None:
        # Of each task it has one chunk, or one end.
        self._thread = ErrandThread("store")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # No longer: a disk that hangs holds up no end.
        self._thread.end(SHUTDOWN_GRACE_SECONDS)

    def begin(self, ingest: Ingest, chunk: Chunk) -> Errand:
        """Begins to write a chunk; those of one ingest are to be waited for in turn.

        Whether that failed, the ingest says.
        """
        writing = Errand(partial(ingest.write, chunk))
        self._thread.give(writing.run)
        return writing

    def end(self, ingest: Ingest, *, is_wrong: bool) -> None:
        """Lets go of an ingest that will not be committed, once its last chunk is written.

        Args:
            ingest: what was begun.
            is_wrong: whether its content is known to be wrong, or too large.
        """
        # What is written by now: from here on, the memory of the last chunk may change.
        length = ingest.length

        def leave() -> None:
            try:
                if is_wrong:
                    ingest.discard()
                else:
                    ingest.leave(length)
            except OSError as error:
                log.debug("a rest stays in the store", extra={"error": str(error)})

        self._thread.give(leave)
