"""``python -m multi_fetch.testing <layout> [--port N]``: serves a layout until SIGINT or SIGTERM.

Prints one line, ``listening on 127.0.0.1:<port>``, once it can be connected to. Exit status: 0
after a signal, 1 or 141 if that line cannot be written, 2 if the layout cannot be read or the port
is taken.
"""

from __future__ import annotations

import argparse
import signal
import sys
from typing import TYPE_CHECKING, Final

import trio

from multi_fetch.printing import SUCCESS, print_text
from multi_fetch.testing.layout import Layout, read_layout
from multi_fetch.testing.process import LISTENING
from multi_fetch.testing.registry import serve_layout

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_PORT: Final = 65_535


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the registry; gives the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m multi_fetch.testing",
        description="Serve an OCI image layout as a registry on 127.0.0.1, for tests.",
    )
    parser.add_argument("layout", help="the layout's folder, with index.json in it")
    parser.add_argument("--port", type=_port, default=0, help="default: a free one")
    options = parser.parse_args(arguments)
    try:
        return trio.run(_serve, parser.prog, read_layout(options.layout), options.port)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 2


def _port(text: str) -> int:
    # The resolver would take 65536 for 0.
    if not text.isdecimal() or int(text) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: write 0 to {MAX_PORT}")
    return int(text)


async def _serve(program: str, layout: Layout, port: int) -> int:
    """Gives the exit status."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with serve_layout(layout, port=port) as registry:
            status = print_text(program, f"{LISTENING}{registry.address}\n")
            if status == SUCCESS:
                await anext(signals)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
