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
        (["--numbre", "4"], "--numbre; did you mean --number? ("),
        (["--num=4"], "--num; did you mean --number? ("),
        (["--plural"], "--plural ("),
        (["--number", "x", "--numbre", "4"], "--numbre; did you mean --number? ("),
        (["word"], "word ("),
        (["-", "-1", "- x"], "- -1 - x ("),
    ],
)
def test_a_slip_in_a_flag_is_told_with_what_is_nearest(
    words: list[str], advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command().parse_args(words)
    assert f"unrecognized arguments: {advice}" in capsys.readouterr().err


@PARSERS
@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["--password", "s3cret"], "--password"),
        (["--password=s3cret", "redis"], "--password"),
        (["redis", "latest", "--password", "s3cret"], "--password"),
        (["--creds=me:s3cret=", "-uX", "--password=s3cret"], "--creds"),
        (["-p", "S3cret", "redis"], "-p"),
        (["redis", "-ps3cret"], "-p"),
        (["redis", "--creds=me:a s3cret"], "--creds"),
        (["-pa s3cret", "redis"], "-p"),
        (["--log-level", "s3cret", "--password", "s3cret"], "--password"),
    ],
)
def test_nothing_is_told_of_what_stands_behind_a_flag_that_there_is_not(
    parser: CommandParser, words: list[str], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is another tool's, and may be a password, which argparse takes for a remote."""
    if words[0] == "--log-level" and "--log-level" not in parser.format_help():
        words = words[2:]
    with pytest.raises(SystemExit):
        parser.parse_args(words)
    told = capsys.readouterr().err
    assert f"error: unrecognized arguments: {flag} (" in told
    assert "s3cret" not in told.lower()


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
    assert err.endswith(": --xyz (it --help shows how it is used)\n")


def test_a_common_help_is_a_text_like_any_other_elsewhere() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--number", help=Shown("at length", brief="short"))
    assert "at length" in parser.format_help()
    assert Shown("short enough").brief == "short enough"


def test_the_software_has_its_version() -> None:
    assert software() == f"multi-fetch {__version__}"
