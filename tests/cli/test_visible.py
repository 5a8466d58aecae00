"""What a terminal is shown."""

from __future__ import annotations

import json
import unicodedata

import pytest

from multi_fetch.cli.visible import visible_json

TEXTS = ["plain", "é 漢", "\x1b[31m", "\x9b31m", "a\u202eb\u2028", "\\u202e"]


@pytest.mark.parametrize("text", TEXTS)
def test_json_that_a_terminal_shows_says_the_same_and_controls_nothing(text: str) -> None:
    line = visible_json({text: [text]})
    assert json.loads(line) == {text: [text]}
    assert not any(unicodedata.category(letter) in {"Cc", "Cf", "Zl"} for letter in line.decode())
