"""The list of commands is the package's own."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from multi_fetch.cli.commands import COMMANDS, parser_of, words_behind

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_every_installed_command_is_listed_and_no_other() -> None:
    scripts = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]["scripts"]
    assert {name for name in COMMANDS if " " not in name} == set(scripts)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_parser_of_a_command_has_its_name(command: str) -> None:
    assert parser_of(command).prog == command


def test_words_behind_a_command_are_commands_too() -> None:
    assert "completion" in words_behind("multi-fetch")
    assert words_behind("multi-fetch-unpack") == []
