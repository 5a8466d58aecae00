"""Hints whose type is not known are ignored, as protocol.md has it.

One that looks like a slip of the pen is told in the log, once a run, for whoever wonders why it
has no effect.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from multi_fetch.oci.quote import quote
from multi_fetch.protocol.frames import FEATURES

if TYPE_CHECKING:
    from multi_fetch.protocol.request import Request

log = logging.getLogger(__name__)

FEATURE: Final = "hint:"
# Of difflib's ratio: plattform, childern and media-type are above it, colour and timeout are not.
LIKENESS: Final = 0.75


class Misspelt:
    """The known hints that were taken amiss in one run: each is told of once."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def look_at(self, request: Request, line: int = 0) -> None:
        """Warns of types that are nearly those of a hint.

        Args:
            request: what was asked for.
            line: the number of its line; 0 where it was none.
        """
        for kind in request.ignored:
            meant = _meant(kind[:40].lower())
            if meant and meant not in self._told:
                self._told.add(meant)
                log.warning(
                    "the hint %s is not known, and ignored: write %s if that is meant",
                    quote(f"{kind}:"),
                    f"{meant}:",
                    extra={**({"id": line} if line else {}), "ref": request.object},
                )


@lru_cache(maxsize=64)
def _meant(kind: str) -> str:
    from difflib import get_close_matches  # late: few runs need it

    known = [name.removeprefix(FEATURE) for name in FEATURES if name.startswith(FEATURE)]
    return next(iter(get_close_matches(kind, known, 1, LIKENESS)), "")
