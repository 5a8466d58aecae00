"""The manual pages are those of the commands, and those who format them find no fault."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from docs.make_man import FOLDER, file_of, page
from multi_fetch.cli.commands import COMMANDS, parser_of

ROOT = Path(__file__).parent.parent
PAGES = pytest.mark.parametrize("path", sorted(FOLDER.glob("*.1")), ids=lambda path: path.name)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_page_is_current(command: str) -> None:
    """If not, run ``make man``, and commit what it writes."""
    assert (FOLDER / file_of(command)).read_text("utf-8") == page(command)


def test_every_command_has_a_page_and_no_other_is_there() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {file_of(name) for name in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_page_has_every_flag(command: str) -> None:
    text = page(command).replace("\\-", "-")
    for flag in parser_of(command).flags():
        assert f"\\fB{flag.option_strings[-1]}\\fR" in text


def test_pages_are_installed_where_man_looks() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    assert wheel["targets"]["wheel"]["shared-data"] == {"docs/man": "share/man/man1"}


FORMATTERS = [
    ("groff", "-ww", "-man", "-Tutf8"),
    ("mandoc", "-T", "lint", "-W", "style"),
]


@PAGES
@pytest.mark.parametrize("command", FORMATTERS, ids=lambda command: command[0])
def test_who_formats_a_page_finds_no_fault(command: tuple[str, ...], path: Path) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
    told = done.stderr + (done.stdout if command[0] == "mandoc" else "")
    # A page is of a version and has no date, so that building it twice gives the same.
    assert [line for line in told.splitlines() if "missing date" not in line] == []


@PAGES
def test_a_page_has_the_sections_that_man_pages_have(path: Path) -> None:
    headings = [line[4:] for line in path.read_text("utf-8").splitlines() if line[:4] == ".SH "]
    wanted = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"]
    assert [each for each in headings if each != "ENVIRONMENT"] == wanted
