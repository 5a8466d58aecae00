"""The commands' first lines: what must be done before the imports, which take a while.

What is imported here comes before the first line: so it is what no other import needs. typing and
contextlib are 3 ms, in which SIGINT would leave a traceback.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from errno import EAGAIN, EMFILE, ENFILE

TYPE_CHECKING = False  # typing's own, which a type checker knows by its name
if TYPE_CHECKING:
    from collections.abc import Callable

STDERR = 2

# Objects that are made before cycles are looked for: Python's 700 are a few dozen requests, and
# requests leave no cycles behind. Measured: beyond this nothing is won.
YOUNG_OBJECTS = 10_000

FAILURE = 1

# As errands.py has it, which cannot be imported where no file can be opened.
NO_THREAD = "can't start new thread"


def multi_fetch() -> int:
    """``multi-fetch``; returns its exit status."""
    return _run("multi-fetch", _multi_fetch)


def fetch_object() -> int:
    """``fetch-object``; returns its exit status."""
    return _run("fetch-object", _fetch_object)


def multi_fetch_unpack() -> int:
    """``multi-fetch-unpack``; returns its exit status."""
    return _run("multi-fetch-unpack", _multi_fetch_unpack)


def multi_fetch_store() -> int:
    """``multi-fetch-store``; returns its exit status."""
    return _run("multi-fetch-store", _multi_fetch_store)


def _run(program: str, command: Callable[[], int]) -> int:
    """A command; what it cannot do without, threads and descriptors, is told in one line."""
    _let_sigint_end_it()
    _have_stderr()
    try:
        return command()
    except (OSError, RuntimeError, BaseExceptionGroup) as error:
        words = _shortage(error)
        if not words:
            raise
        sys.stderr.write(f"{program}: {words}\n")
        return FAILURE


def _shortage(error: BaseException) -> str:
    """What the system has run out of, and what to do; empty where it is something else."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, OSError) and error.errno in {EMFILE, ENFILE}:
        return f"{error.strerror}: raise the limit, as 'ulimit -n 256' does, and run it again"
    if isinstance(error, RuntimeError) and str(error) == NO_THREAD:
        return (
            f"the system gives no more threads ({os.strerror(EAGAIN)}): raise the limit of"
            " processes (ulimit -u, or the container's pids limit) or of memory (ulimit -v), or"
            " run less beside it"
        )
    return ""


def _multi_fetch() -> int:
    match sys.argv[1:]:
        case ["completion", *words]:
            from multi_fetch.cli import completion

            return completion.main(words)
        case ["doctor", *words]:
            from multi_fetch.cli import doctor

            return doctor.main(words)
    gc.disable()
    from multi_fetch.cli.multi_fetch import main

    _collect_again()
    return main()


def _fetch_object() -> int:
    gc.disable()
    from multi_fetch.cli.fetch_object import main

    _collect_again()
    return main()


def _multi_fetch_unpack() -> int:
    from multi_fetch.cli.unpack import main

    return main()


def _multi_fetch_store() -> int:
    from multi_fetch.cli.store_command import main

    return main()


def _collect_again() -> None:
    """After imports: what they made stays to the end, and is never looked through for cycles.

    Measured: 20 ms of a start, and a twentieth of what thousands of small objects take.
    """
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

    Where whoever started it has SIGINT ignored, that stays. Before this, Python has a handler that
    raises, and what it raises is lost where Python heeds no errors: in the callback that ends each
    import, and while it looks what kind of file it was started by. SIGTERM has no such window.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
