"""What is done before a command's imports: SIGINT, and when cycles are looked for."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from multi_fetch.cli import start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMANDS = pytest.mark.parametrize("command", [start.multi_fetch, start.fetch_object])


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "argv", ["command", "--version"])
    before, threshold = signal.getsignal(signal.SIGINT), gc.get_threshold()
    yield
    signal.signal(signal.SIGINT, before)
    gc.set_threshold(*threshold)
    gc.unfreeze()


@COMMANDS
def test_it_ends_the_command_as_sigterm_does(command: Callable[[], int]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(SystemExit):
        command()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


@COMMANDS
def test_it_stays_ignored_where_it_was(command: Callable[[], int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with pytest.raises(SystemExit):
        command()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@COMMANDS
def test_what_was_imported_is_not_looked_through_for_cycles(command: Callable[[], int]) -> None:
    with pytest.raises(SystemExit):
        command()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold()[0] == start.YOUNG_OBJECTS


@pytest.mark.parametrize("name", ["multi-fetch", "fetch-object"])
def test_what_stands_in_for_stderr_is_not_taken_for_stdout(name: str) -> None:
    """Both are closed: then nothing can be said, but the exit status says that nothing came."""
    words = ["oci:examples/layout", *(["latest"] if name == "fetch-object" else [])]
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&- 2>&-', "sh", Path(sys.executable).with_name(name), *words],
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
