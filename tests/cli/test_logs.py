"""Log lines: one a record, with its fields, as text or JSON."""

from __future__ import annotations

import json
import logging
import os
import re
import select
import sys
import unicodedata
from typing import TYPE_CHECKING

import pytest

from multi_fetch.cli.logs import (
    FIELDS,
    JsonFormatter,
    StderrLog,
    TextFormatter,
    set_up_logging,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger("multi_fetch.test")


def a_record(fields: Mapping[str, object], message: str = "request failed") -> logging.LogRecord:
    return log.makeRecord(log.name, logging.ERROR, "", 0, message, (), None, extra=fields)


def without_time(line: str) -> str:
    time, _, rest = line.partition(" ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
    return rest


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, ""),
        ({"id": 3, "code": "not-found"}, " id=3 code=not-found"),
        ({"code": "x", "id": 3}, " id=3 code=x"),
        ({"error": "two words"}, ' error="two words"'),
        ({"error": 'a "quote"'}, ' error="a \\"quote\\""'),
        ({"error": "line\nbreak\x1b[31m"}, ' error="line\\nbreak\\u001b[31m"'),
        ({"error": "\x7f\x9b31m\u202e"}, ' error="\\u007f\\u009b31m\\u202e"'),
        ({"error": "caf\xe9"}, ' error="caf\xe9"'),
        ({"url": "http://h/?a=b"}, ' url="http://h/?a=b"'),
        ({"status": None, "digest": ""}, ""),
        ({"password": "secret"}, ""),
    ],
)
def test_a_text_line_has_time_level_message_and_its_known_fields(
    fields: Mapping[str, object], text: str
) -> None:
    line = TextFormatter().format(a_record(fields))
    assert without_time(line) == f"ERROR request failed{text}"
    assert "\n" not in line


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_no_line_controls_a_terminal_whatever_it_is_made_of(formatter: logging.Formatter) -> None:
    evil = "\x9b31m\x7f\u2028\u202e\x1b[2J\n2026-01-31T12:00:00.123Z ERROR forged"
    line = formatter.format(a_record({"error": evil, "digest": evil}, f"again: {evil}"))
    assert not any(unicodedata.category(each) in {"Cc", "Cf", "Zl"} for each in line)


def test_a_json_line_is_one_object_with_the_fields_behind_the_message() -> None:
    line = JsonFormatter().format(
        a_record({"id": 3, "status": 404, "password": "secret"}, "two\nlines")
    )
    document = json.loads(line)
    document.pop("time")
    assert document == {
        "level": "error",
        "logger": "multi_fetch.test",
        "message": "two\nlines",
        "id": 3,
        "status": 404,
    }
    assert "\n" not in line


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_a_traceback_is_kept(formatter: logging.Formatter) -> None:
    record = a_record({})
    error = ZeroDivisionError("on purpose")
    record.exc_info = (type(error), error, None)
    assert "ZeroDivisionError: on purpose" in formatter.format(record)


@pytest.mark.parametrize("form", ["text", "json"])
def test_only_what_is_asked_for_goes_to_stderr(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging("warning", form)
    log.info("not this")
    log.warning("this", extra={"id": 1})
    logging.getLogger("another").warning("nor this")
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "this" in err


def test_a_stderr_that_is_closed_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    set_up_logging("error", "text")
    log.error("to nobody")


def test_fields_do_not_collide_with_those_of_logging() -> None:
    assert not set(FIELDS) & vars(log.makeRecord("", 0, "", 0, "", (), None)).keys()


def test_a_stderr_that_nobody_reads_loses_lines_and_tells_how_many() -> None:
    """A process that waited there would hear no signal."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", 0) as unread, os.fdopen(writer, "w") as stderr:
        handler = StderrLog(stderr, patience_seconds=0.01)
        handler.setFormatter(TextFormatter())
        for _ in range(2_000):
            handler.handle(a_record({"error": "x" * 100}))
        written = b""
        while select.select([unread], [], [], 0)[0]:
            written += unread.read(65_536)
        count = written.count(b"\n")
        handler.handle(a_record({"id": 7}))
        told, last = unread.read(65_536).decode().splitlines()
        handler.close()
    assert 0 < count < 2_000
    assert without_time(told) == f"ERROR {2_000 - count} lines were lost: nobody read stderr"
    assert without_time(last) == "ERROR request failed id=7"


def test_a_record_that_is_longer_than_a_pipe_is_cut_and_counted() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", 0) as slow, os.fdopen(writer, "w") as stderr:
        handler = StderrLog(stderr, patience_seconds=0.0)
        handler.setFormatter(TextFormatter())
        handler.handle(a_record({"error": "x" * 1_000_000}))
        handler.handle(a_record({"id": 6}))
        cut = slow.read(1_000_000)
        handler.handle(a_record({"id": 7}))
        begun, told, last = slow.read(65_536).decode().split("\n", 2)
        handler.close()
    assert 0 < len(cut) < 1_000_000
    assert begun == ""
    assert without_time(told) == "ERROR 2 lines were lost: nobody read stderr"
    assert without_time(last) == "ERROR request failed id=7\n"
