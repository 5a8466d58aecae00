"""The C library's heap, where many threads read much."""

from __future__ import annotations

import sys
from typing import Final

# As mallopt(3) has it.
M_ARENA_MAX: Final = -8


def share_one_heap() -> bool:
    """Has all threads use one heap, where the C library can; tells whether it does.

    glibc gives each thread a heap of its own. What one of them has freed is then of no use to the
    others: sixteen that read an index of 12 MiB in turn would keep 25 MiB each.
    """
    if sys.platform != "linux":
        return False
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and needs none
    return mallopt is not None and bool(mallopt(M_ARENA_MAX, 1))
