"""README.md is true: what it shows is run, in its order, in one folder (documents.py)."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.documents import COMMANDS, ROOT, Reader, blocks, commands, parser_of

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = (ROOT / "README.md").read_text("utf-8")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with ExitStack() as stack:
        yield Reader(tmp_path, stack)


def contended_seconds() -> float:
    """For how long somebody has waited for a CPU, where the system tells (PSI of Linux)."""
    with suppress(OSError):
        some, *_ = Path("/proc/pressure/cpu").read_text().splitlines()
        return int(some.rpartition("total=")[2]) / 1_000_000
    return 0.0


def test_every_block_that_is_shown_runs_and_prints_what_is_shown(reader: Reader) -> None:
    started, contended = time.monotonic(), contended_seconds()
    shown, left_out = reader.read(blocks(TEXT))
    assert shown >= 5
    assert left_out == []
    others = contended_seconds() - contended  # are at work here too, and nobody's first use
    assert time.monotonic() - started - others < 30, "a first use takes 30 seconds"


def console_lines() -> list[str]:
    text = "".join(block.text for block in blocks(TEXT) if block.language == "console")
    return [line.removeprefix("$ ") for line in text.splitlines()]


@pytest.mark.parametrize("line", console_lines())
def test_a_command_that_is_not_run_here_would_be_understood(line: str) -> None:
    for name, *words in commands(line):
        if name in COMMANDS:
            assert vars(parser_of(name).parse_args(words))
        elif name == "make":
            (target,) = words
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        elif name == ".":
            assert words == [".venv/bin/activate"]
        else:
            assert name == "printf"


def test_few_blocks_are_not_run() -> None:
    assert sum(block.language == "console" for block in blocks(TEXT)) <= 2


def test_the_protocol_has_ten_lines() -> None:
    _, _, rest = TEXT.partition("## The protocol in ten lines\n")
    section = rest.partition("\n## ")[0]
    assert re.findall(r"^(\d+)\. ", section, re.MULTILINE) == [str(n) for n in range(1, 11)]
