"""The loopback registry in a process of its own: for tests and scripts that do not run on trio.

::

    with running_registry("examples/layout") as address:
        subprocess.run(["multi-fetch", f"{address}/demo/app"], ...)
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The one line that ``python -m multi_fetch.testing`` prints, in front of its address.
LISTENING: Final = "listening on "


@contextmanager
def running_registry(layout: Path | str, *, port: int = 0) -> Iterator[str]:
    """Serves a layout's folder until the block ends; gives the address, ``127.0.0.1:<port>``.

    Args:
        layout: the folder.
        port: to listen on; 0 for a free one.

    Raises:
        RuntimeError: it did not start; what it said stands on stderr.
    """
    command = [sys.executable, "-m", "multi_fetch.testing", str(layout), "--port", str(port)]
    with subprocess.Popen(  # noqa: S603 - our own module, and no shell
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line.startswith(LISTENING):
                raise RuntimeError(f"no registry could be started on {layout}: see stderr")
            yield line.removeprefix(LISTENING).strip()
        finally:
            process.terminate()
