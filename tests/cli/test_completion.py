"""What a shell is told of the commands, from their parsers."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from multi_fetch.cli import completion
from multi_fetch.cli.commands import COMMANDS, parser_of
from multi_fetch.cli.completion import SHELLS, Value, describe, main


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_of_a_command_is_described(name: str) -> None:
    told = {flag for slot in describe(name).flags for flag in slot.names}
    assert told == {flag for action in parser_of(name).flags() for flag in action.option_strings}


@pytest.mark.parametrize(
    ("command", "flag", "value", "choices"),
    [
        ("multi-fetch", "--format", Value.CHOICE, ("msgpack", "jsonl")),
        ("multi-fetch", "--ordered", Value.NONE, ()),
        ("multi-fetch", "--authfile", Value.FILE, ()),
        ("multi-fetch", "--hosts-dir", Value.FOLDER, ()),
        ("multi-fetch", "--jobs", Value.TEXT, ()),
        ("multi-fetch-unpack", "--into", Value.FOLDER, ()),
    ],
)
def test_a_value_is_what_the_parser_says(
    command: str, flag: str, value: Value, choices: tuple[str, ...]
) -> None:
    (slot,) = (slot for slot in describe(command).flags if flag in slot.names)
    assert (slot.value, slot.choices) == (value, choices)


def test_words_are_one_line_with_its_default() -> None:
    slots = [slot for name in COMMANDS for slot in describe(name).slots]
    assert all("\n" not in slot.words and "%(" not in slot.words for slot in slots)
    (jobs,) = (each for each in describe("multi-fetch").flags if "--format" in each.names)
    assert jobs.words == "msgpack, or jsonl: a JSON object a line (msgpack)"


def test_the_remote_is_a_place_and_not_a_word() -> None:
    assert [slot.value for slot in describe("multi-fetch").positionals] == [Value.REMOTE]
    assert "completion" in describe("multi-fetch").inner


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_its_own_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([shell]) == 0
    told = capsys.readouterr().out
    own = {"bash": "complete -F", "zsh": "#compdef", "fish": "complete -c"}
    assert own.pop(shell) in told
    assert not any(mark in told for mark in own.values())


def test_another_shell_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["tcsh"])
    assert caught.value.code == 2
    assert "'tcsh'" in capsys.readouterr().err


def test_the_word_behind_the_worker_is_the_command() -> None:
    command = [str(Path(sys.executable).with_name("multi-fetch")), "completion", "bash"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "complete -F _multi_fetch multi-fetch\n" in told


def test_a_slot_is_made_of_any_action() -> None:
    action = argparse.ArgumentParser().add_argument("--x", metavar="N", help="a%% (default: 1)")
    assert completion._slot(action).words == "a%%"
