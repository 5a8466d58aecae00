"""multi-fetch with its fast lane closed: what is unusual goes this way, over httpx.

The lane is closed as a mock in somebody's tests would close it.
"""

from __future__ import annotations

import sys

from multi_fetch.cli.multi_fetch import main
from multi_fetch.registry.fast_lane import FastLane

if __name__ == "__main__":
    setattr(FastLane, "is_open", lambda _: False)  # noqa: B010 - mypy forbids it otherwise
    sys.exit(main())
