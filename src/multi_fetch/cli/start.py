"""The commands' first lines: what must be done before the imports, which take a while."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

STDERR: Final = 2

# Objects that are made before cycles are looked for: Python's 700 are a few dozen requests, and
# requests leave no cycles behind. Measured: beyond this nothing is won.
YOUNG_OBJECTS: Final = 10_000


def multi_fetch() -> int:
    """``multi-fetch``; returns its exit status."""
    _let_sigint_end_it()
    _have_stderr()
    match sys.argv[1:]:
        case ["completion", *words]:
            from multi_fetch.cli import completion

            return completion.main(words)
        case ["doctor", *words]:
            from multi_fetch.cli import doctor

            return doctor.main(words)
    with _collecting_nothing():
        from multi_fetch.cli.multi_fetch import main
    return main()


def fetch_object() -> int:
    """``fetch-object``; returns its exit status."""
    _let_sigint_end_it()
    _have_stderr()
    with _collecting_nothing():
        from multi_fetch.cli.fetch_object import main
    return main()


def multi_fetch_unpack() -> int:
    """``multi-fetch-unpack``; returns its exit status."""
    _let_sigint_end_it()
    _have_stderr()
    from multi_fetch.cli.unpack import main

    return main()


def multi_fetch_store() -> int:
    """``multi-fetch-store``; returns its exit status."""
    _let_sigint_end_it()
    _have_stderr()
    from multi_fetch.cli.store_command import main

    return main()


@contextmanager
def _collecting_nothing() -> Iterator[None]:
    """For imports: what they make stays to the end, and is never looked through for cycles.

    Measured: 20 ms of a start, and a twentieth of what thousands of small objects take.
    """
    gc.disable()
    yield
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    gc.enable()


def _have_stderr() -> None:
    """Where stderr is closed, Python has none, and not every argparse bears that.

    What stands in for it has its number: with stdout's, a closed stdout would not be found.
    """
    if sys.stderr is not None:
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    if nothing != STDERR:
        os.dup2(nothing, STDERR)
        os.close(nothing)
    sys.stderr = open(STDERR, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - kept


def _let_sigint_end_it() -> None:
    """Until the command listens for signals, SIGINT ends it like SIGTERM: with no traceback.

    Where whoever started it has SIGINT ignored, that stays.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
