"""Progress as lines, for programs and logs."""

from __future__ import annotations

import io
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from multi_fetch.cli.logs import StderrLog
from multi_fetch.cli.progress_lines import JsonLines, PlainLines, largest, parts, summary
from multi_fetch.cli.progress_pace import Pace
from multi_fetch.limits import MAX_TOLD_RUNNING
from tests.cli.looks import MIB, a_look, running

if TYPE_CHECKING:
    from multi_fetch.worker.progress import Look


def paced(look: Look) -> Pace:
    pace = Pace(0.0)
    pace.add(10.0, look)
    return pace


def test_a_json_line_has_numbers_for_programs() -> None:
    stream, look = io.StringIO(), a_look(flying=running(500))
    JsonLines(StderrLog(stream)).show(look, paced(look))
    told = json.loads(stream.getvalue())["progress"]
    assert stream.getvalue().startswith('{"progress":{')
    assert stream.getvalue().count("\n") == 1
    assert len(told.pop("largest")) == MAX_TOLD_RUNNING
    assert told == {
        "seconds": 10.0,
        "requests": 4000,
        "succeeded": 1200,
        "failed": 3,
        "bytes": 512 * MIB,
        "bytes_per_second": round(51.2 * MIB),
        "in_flight": 500,
        "remaining_bytes": 1024 * MIB,
        "eta_seconds": 20.0,
        "is_input_over": True,
        "is_done": False,
    }


def test_the_last_json_line_says_so() -> None:
    stream, look = io.StringIO(), a_look(remaining=None)
    JsonLines(StderrLog(stream)).finish(look, paced(look))
    told = json.loads(stream.getvalue())["progress"]
    assert (told["is_done"], told["eta_seconds"], told["remaining_bytes"]) == (True, 0.0, None)


def test_the_largest_are_those_with_most_left() -> None:
    look = a_look(flying=(*running(3), *running(2, size=None)))
    assert [(each.id, each.size is None) for each in largest(look)] == [
        (3, False), (2, False), (1, False), (1, True), (2, True),
    ]  # fmt: skip


def test_words_tell_what_matters_first() -> None:
    look = a_look(flying=running(16))
    assert parts(look, paced(look)) == [
        "1,203 of 4,000 done", "3 failed", "51.2 MiB/s", "16 in flight", "0:20 left", "512 MiB",
    ]  # fmt: skip


def test_while_more_may_be_asked_for_totals_are_not_final() -> None:
    look = a_look(is_input_over=False, failed=0)
    said = parts(look, paced(look))
    assert said[0] == "1,200 of 4,000+ done"
    assert "0:20+ left" in said


def test_the_sum_names_what_was_not_done() -> None:
    look = a_look()
    assert summary(look, paced(look)) == (
        "1,200 of 4,000 done, 3 failed, 2,797 not done, 512 MiB in 0:10 (51.2 MiB/s)"
    )
    look = a_look(requests=2, succeeded=2, failed=0)
    assert summary(look, paced(look)).startswith("2 of 2 done, 512 MiB")


def test_plain_lines_are_words() -> None:
    stream, look = io.StringIO(), a_look()
    view = PlainLines(StderrLog(stream))
    view.show(look, paced(look))
    view.finish(look, paced(look))
    first, last = stream.getvalue().splitlines()
    assert first.startswith("progress: 1,203 of 4,000 done, 3 failed, ")
    assert last.startswith("progress: 1,200 of 4,000 done, 3 failed, 2,797 not done")


@pytest.mark.parametrize("view", [JsonLines, PlainLines])
def test_a_reader_who_does_not_read_stops_nobody(view: type[JsonLines | PlainLines]) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    with os.fdopen(write_end, "w") as stream, os.fdopen(read_end, "rb"):
        with suppress(BlockingIOError):
            while True:
                os.write(write_end, bytes(65536))
        os.set_blocking(write_end, True)
        look = a_look()
        log = StderrLog(stream, patience_seconds=0)
        view(log).show(look, paced(look))  # would block for ever
        log.close()
