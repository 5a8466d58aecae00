"""How long a pipe is read when the process behind it has exited and others still hold it."""

from __future__ import annotations

from typing import Final

from multi_fetch.limits import PIPE_BYTES

# Looks in all, for those who go on writing, a little at a time.
MAX_LOOKS: Final = 5


class Leftover:
    """Judges once in a while whether what the process left has been read.

    Args:
        received_bytes: what had come from the pipe when the exit was noticed.
    """

    def __init__(self, received_bytes: int) -> None:
        self._at_exit = received_bytes
        self._latest = received_bytes
        self._looks = 0

    def is_read(self, received_bytes: int) -> bool:
        """Whether nothing came since the last look, or more than the process can have left."""
        self._looks += 1
        is_silent = received_bytes == self._latest
        self._latest = received_bytes
        is_strange = received_bytes > self._at_exit + PIPE_BYTES
        return is_silent or is_strange or self._looks >= MAX_LOOKS
