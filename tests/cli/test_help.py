"""One mechanism for the help of every command: one screen, and everything."""

from __future__ import annotations

import argparse

import pytest

from multi_fetch import __version__
from multi_fetch.cli.commands import COMMANDS, parser_of
from multi_fetch.cli.help import (
    SCREEN_COLUMNS,
    SCREEN_LINES,
    CommandParser,
    Shown,
    Texts,
    software,
)

PARSERS = pytest.mark.parametrize("parser", [parser_of(name) for name in COMMANDS], ids=COMMANDS)


def command() -> CommandParser:
    texts = Texts("it [flags]", "About.\n", "All about.\n", "The end.\n", "example:\n  it\n")
    parser = CommandParser("it", texts)
    group = parser.add_argument_group("numbers")
    words = Shown("how many, at length (default: %(default)s)", brief="how many (%(default)s)")
    group.add_argument("--number", default=7, metavar="N", help=words)
    group.add_argument("--plain", action="store_true", help=Shown("a flag without a value"))
    group.add_argument("--rare", help="what few ask for")
    return parser


def printed(
    parser: CommandParser, flag: str, capsys: pytest.CaptureFixture[str]
) -> tuple[int | str | None, str]:
    with pytest.raises(SystemExit) as caught:
        parser.parse_args([flag])
    return caught.value.code, capsys.readouterr().out


@PARSERS
def test_help_of_every_command_fits_one_screen(parser: CommandParser) -> None:
    """Where it does not, a flag has to be less common: its help is no Shown then."""
    lines = parser.format_brief().splitlines()
    assert len(lines) < SCREEN_LINES  # the prompt behind it has a line too
    assert [line for line in lines if len(line) > SCREEN_COLUMNS] == []


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["--numbre", "4"], "--numbre 4; did you mean --number? ("),
        (["--num=4"], "--num=4; did you mean --number? ("),
        (["--plural"], "--plural ("),
        (["--creds=me:s3cret=", "-uX", "--password=s3cret"], "--creds=... -uX --password=... ("),
        (["word"], "word ("),
    ],
)
def test_a_slip_in_a_flag_is_told_with_what_is_nearest(
    words: list[str], advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command().parse_args(words)
    assert f"unrecognized arguments: {advice}" in capsys.readouterr().err


@PARSERS
def test_every_flag_of_every_command_has_words_and_a_group(
    parser: CommandParser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(SCREEN_COLUMNS))
    told = parser.format_help()
    for flag in parser.flags():
        assert flag.help
        assert flag.option_strings[-1] in told
    assert [line for line in told.splitlines() if len(line) > SCREEN_COLUMNS] == []


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_has_the_common_flags_a_line_each(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, told = printed(command(), flag, capsys)
    assert status == 0
    assert told == (
        "usage: it [flags]\n\nAbout.\n\n"
        "  --number N            how many (7)\n"
        "  --plain               a flag without a value\n"
        "  --help-all            all there is: flags, hints, variables, exit statuses\n"
        "\nexample:\n  it\n"
    )


def test_all_help_has_every_flag_at_length_by_groups(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(SCREEN_COLUMNS))
    status, told = printed(command(), "--help-all", capsys)
    assert status == 0
    places = [
        told.index(part)
        for part in ("All about.", "--version", "numbers:", "at length (default: 7)", "--rare")
    ]
    assert places == sorted(places)
    assert told.endswith("The end.\n\nexample:\n  it\n")
    assert "About.\n\n  --number" not in told


def test_wrong_usage_is_told_with_the_way_to_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command().parse_args(["--xyz", "8"])
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("usage: it [flags]\n")
    assert err.endswith("--xyz 8 (it --help shows how it is used)\n")


def test_a_common_help_is_a_text_like_any_other_elsewhere() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--number", help=Shown("at length", brief="short"))
    assert "at length" in parser.format_help()
    assert Shown("short enough").brief == "short enough"


def test_the_software_has_its_version() -> None:
    assert software() == f"multi-fetch {__version__}"
