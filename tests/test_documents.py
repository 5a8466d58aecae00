"""The pages of docs are true: each section can be typed in by itself, and prints what it shows."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from multi_fetch.protocol.request import parse_line
from tests.documents import (
    COMMANDS,
    LANGUAGES,
    ROOT,
    Reader,
    blocks,
    commands,
    parser_of,
    sections,
)

PAGES = [
    f"docs/{name}.md"
    for name in (
        *("cookbook", "coming-from", "reference", "registries", "stores", "library"),
        "peers",
    )
]
README = (ROOT / "README.md").read_text("utf-8")
SECTIONS = {
    f"{page}: {heading}": found
    for page in PAGES
    for heading, found in sections((ROOT / page).read_text("utf-8")).items()
    if "text" in {block.language for block in found}
}
# What is written in tables: beside another tool's command, ours.
SPANS = re.findall(r"`([^`\n]*)`", (ROOT / "docs" / "coming-from.md").read_text("utf-8"))
OURS = sorted({span.replace("\\|", "|") for span in SPANS if re.search("fetch(-object)? ", span)})


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_runs_and_prints_what_is_shown(section: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        shown, left_out = Reader(tmp_path, stack).read(SECTIONS[section])
    if left_out:
        pytest.skip("; ".join(left_out))
    assert shown >= 1


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_every_block_has_a_language_that_says_how_it_is_tested(page: str) -> None:
    assert {block.language for block in blocks((ROOT / page).read_text("utf-8"))} <= LANGUAGES


@pytest.mark.parametrize("line", [line for line in OURS if not line.startswith(("oras", "ctr"))])
def test_a_command_that_is_shown_beside_another_tools_would_be_understood(line: str) -> None:
    for name, *words in commands(line):
        if name in COMMANDS and "doctor" not in words:
            assert vars(parser_of(name).parse_args(words))
    for asked in re.findall(r"^echo '(.*?)'", line):
        assert parse_line(asked.encode()) is not None


@pytest.mark.parametrize("page", PAGES)
def test_readme_leads_to_every_page(page: str) -> None:
    assert f"]({page})" in README


@pytest.mark.parametrize("page", PAGES)
def test_the_links_within_a_page_lead_to_its_sections(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
    assert set(re.findall(r"\]\(#(.*?)\)", text)) <= anchors


COMMAND = "/usr/local/bin/multi-fetch"


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units of the cookbook, with the multi-fetch of these tests."""
    found = []
    for block in SECTIONS["docs/cookbook.md: A service of systemd"]:
        if block.language == "ini":
            path = tmp_path / block.text.partition("\n")[0].removeprefix("# ")
            path.write_text(
                block.text.replace(COMMAND, str(Path(sys.executable).with_name("multi-fetch")))
            )
            found.append(path)
    return found


def test_the_units_hang_together(units: list[Path]) -> None:
    """A socket that accepts starts one instance of the template of its name for each connection."""
    socket, service = units
    assert service.name == f"{socket.stem}@.service"
    parsed = {}
    for unit in units:
        parsed[unit] = configparser.ConfigParser(interpolation=None)
        parsed[unit].optionxform = str  # type: ignore[assignment,method-assign]  # as documented
        parsed[unit].read_string(unit.read_text())
    assert parsed[socket]["Socket"]["Accept"] == "yes"
    settings = parsed[service]["Service"]
    assert {settings["StandardInput"], settings["StandardOutput"]} == {"socket"}
    assert settings["StandardError"] == "journal"


def test_systemd_understands_the_units(units: list[Path]) -> None:
    command = shutil.which("systemd-analyze")
    if command is None:
        pytest.skip("systemd-analyze is not installed")
    for unit in units:
        verify = [command, "verify", "--man=no", str(unit)]
        done = subprocess.run(verify, capture_output=True, text=True, check=False)
        assert (done.returncode, "multi-fetch" in done.stderr) == (0, False), done.stderr
