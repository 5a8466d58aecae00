"""SIGINT before a command listens for it."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

from multi_fetch.cli import start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMANDS = pytest.mark.parametrize("command", [start.multi_fetch, start.fetch_object])


@pytest.fixture(autouse=True)
def _sigint_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "argv", ["command", "--version"])
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


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
