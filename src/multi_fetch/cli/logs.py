"""Structured logs on stderr: one line a record, its fields behind its message, or all as JSON.

A module logs a short constant message and puts the facts into ``extra``; the names of FIELDS are
those that come out.
"""

from __future__ import annotations

import logging
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol, TextIO

import msgspec

from multi_fetch.cli.stderr import Stderr
from multi_fetch.cli.visible import visible
from multi_fetch.durations import STDERR_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("text", "json")
FIELDS: Final = (
    "id",
    "ref",
    "url",
    "method",
    "status",
    "digest",
    "size",
    "code",
    "registry_code",
    "retry_after",
    "attempts",
    "realm",
    "scope",
    "seconds",
    "error",
)


class Screen(Protocol):
    """What stands below the log on a terminal, and is in the way of its next line."""

    def above(self, text: str) -> str:
        """What to write so that these lines stand above it."""


def set_up_logging(level: str, form: str) -> StderrLog:
    """Sends the project's records of a level and above to stderr; gives what writes them.

    Args:
        level: one of LEVELS.
        form: one of FORMATS.
    """
    handler = StderrLog(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logger = logging.getLogger("multi_fetch")
    for old in logger.handlers:
        old.close()
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
    # A stderr that is closed is nobody's to be told of.
    logging.raiseExceptions = False
    return handler


class StderrLog(logging.Handler):
    """Writes to a stream that its reader may leave full: then records are lost, not the process.

    For a reader that is slow there is some patience, for all records together. How many were lost
    is told once there is room; one that was cut counts as lost.

    Args:
        stream: stderr, or what stands in its place.
        patience_seconds: in all.

    Attributes:
        stream: the same.
        screen: what stands below; None for nothing.
    """

    def __init__(self, stream: TextIO, *, patience_seconds: float = STDERR_SECONDS) -> None:
        super().__init__()
        self.stream = stream
        self.screen: Screen | None = None
        self._stderr: Stderr | None = None
        with suppress(AttributeError, OSError, ValueError):  # it is closed, or no file
            self._stderr = Stderr(stream.fileno(), patience_seconds=patience_seconds)
        self._lost = 0
        self._is_cut = False

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record, if that does not block."""
        try:
            if self._lost:
                facts = {"msg": f"{self._lost} lines were lost: nobody read stderr", "args": ()}
                told = logging.makeLogRecord({**vars(record), **dict.fromkeys(FIELDS), **facts})
                if not self._has_written(told):
                    self._lost += 1
                    return
            self._lost = 0 if self._has_written(record) else 1
        except (AttributeError, OSError, ValueError):
            self.handleError(record)

    def close(self) -> None:
        """Leaves the stream as it was."""
        if self._stderr is not None:
            self._stderr.close()
        super().close()

    @contextmanager
    def held(self) -> Iterator[None]:
        """While nobody else writes, as logging has it: records may come from threads."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def put(self, text: str) -> bool:
        """Writes something else, as far as there is room, and tells whether there was.

        Raises:
            OSError: nobody reads any more.
            ValueError: stderr is closed.
        """
        text = "\n" * self._is_cut + text
        if self._stderr is None:
            self.stream.write(text)
            self.stream.flush()
            return True
        data = text.encode("utf-8", "backslashreplace")
        count = self._stderr.write(data)
        if count:
            self._is_cut = count < len(data)
        return count == len(data)

    def _has_written(self, record: logging.LogRecord) -> bool:
        text = self.format(record) + "\n"
        return self.put(text if self.screen is None else self.screen.above(text))


class TextFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.123Z ERROR request failed id=3 code=not-found error="..."``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        fields = (f"{name}={_quoted(value)}" for name, value in _fields(record).items())
        message = visible(record.getMessage())
        line = " ".join([_time(record), record.levelname, message, *fields])
        return (
            line if record.exc_info is None else f"{line}\n{self.formatException(record.exc_info)}"
        )


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        document = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info is not None:
            document["traceback"] = self.formatException(record.exc_info)
        return visible(msgspec.json.encode(document, enc_hook=str).decode())


def _fields(record: logging.LogRecord) -> dict[str, object]:
    given = vars(record)
    return {name: given[name] for name in FIELDS if given.get(name) not in {None, ""}}


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _quoted(value: object) -> str:
    text = str(value)
    if text and text.isascii() and text.isprintable() and not set(text) & set(' "=\\'):
        return text
    return visible(msgspec.json.encode(text).decode())
