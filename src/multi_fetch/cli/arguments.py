"""What both command lines have in common: flags, their types, the environment behind them."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Final

from multi_fetch.advice import about_file
from multi_fetch.cli.credentials import CREDENTIALS_HELP, add_authfile_flag
from multi_fetch.cli.help import Shown
from multi_fetch.cli.hosts import PROXIES_HELP, add_host_flags
from multi_fetch.cli.logs import FORMATS, LEVELS
from multi_fetch.errors import InvalidReferenceError, InvalidRequestError
from multi_fetch.oci.reference import parse_remote
from multi_fetch.protocol.duration import parse_duration
from multi_fetch.worker.pipes import STDIN_NAME, STDOUT_NAME

if TYPE_CHECKING:
    from multi_fetch.oci.reference import Reference

SUCCESS: Final = 0
FAILURE: Final = 1
USAGE: Final = 2
UNUSABLE: Final = 3

TIMEOUT_VARIABLE: Final = "CONTAINERD_FETCH_TIMEOUT"

ENVIRONMENT_HELP: Final = f"""\
environment:
  {TIMEOUT_VARIABLE}  the default of --timeout
{CREDENTIALS_HELP}{PROXIES_HELP}"""


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """--timeout, those of hosts with --authfile, and the log flags."""
    parser.add_argument(
        "--timeout",
        type=duration,
        # argparse reads a default that is text as if it had been given.
        default=os.environ.get(TIMEOUT_VARIABLE) or None,
        metavar="DURATION",
        help=Shown(
            f"give up after this long, as in 1m30s (default: ${TIMEOUT_VARIABLE}, or never)",
            brief="give up after this long, as in 1m30s",
        ),
    )
    registry = parser.add_argument_group("how the registry is reached")
    add_authfile_flag(registry)
    add_host_flags(registry)
    logs = parser.add_argument_group("logs, on stderr")
    logs.add_argument(
        "--log-level",
        choices=LEVELS,
        default="warning",
        metavar="LEVEL",
        help=Shown(
            f"{', '.join(LEVELS)} (default: %(default)s: failures, and what may become one)",
            brief="debug, info (each retry), warning or error (%(default)s)",
        ),
    )
    logs.add_argument(
        "--log-format",
        choices=FORMATS,
        default="text",
        metavar="FORMAT",
        help=f"{' or '.join(FORMATS)} (default: %(default)s)",
    )


def complain(program: str, problem: str) -> None:
    """Tells on stderr why a program ends; nobody, where stderr is closed."""
    if sys.stderr is not None:
        sys.stderr.write(f"{program}: {problem}\n")


def closed_stream(*streams: tuple[int, str]) -> str:
    """What to complain of, if one of these descriptors (and their names) is closed.

    To be asked before anything is opened, which would get the number of the one that is missing.
    """
    for fd, name in streams:
        try:
            os.fstat(fd)
        except OSError:
            return f"{name} is closed: give it a pipe, a file or /dev/null"
    return ""


def stream_failure(
    group: BaseExceptionGroup[OSError], *files: str, source: str = STDIN_NAME
) -> str:
    """What to complain of, if a standard stream failed, or one of these files.

    Args:
        group: what failed.
        files: that are written.
        source: what is read, stdin or a file in its place.

    Raises:
        BaseExceptionGroup: it was something else that failed.
    """
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, OSError) or error.filename not in {source, STDOUT_NAME, *files}:
        raise group
    verb = "read" if error.filename == source else "write to"
    return f"cannot {verb} {error.filename}: {error.strerror}{about_file(error)}"


def duration(text: str) -> float | None:
    """A Go duration in seconds; None for zero, which means no limit."""
    try:
        return parse_duration(text) or None
    except InvalidRequestError as error:
        raise argparse.ArgumentTypeError(error.message) from error


def reference(text: str) -> Reference:
    """A reference as Docker writes them, or a layout; with or without an object."""
    try:
        return parse_remote(text)
    except InvalidReferenceError as error:
        # ./x, ../x and /x: no registry is called so.
        # What has an "@" may be a URL with a password.
        is_path = text.startswith((".", "/")) and "@" not in text
        advice = f"; a layout in a folder is oci:{text}" if is_path else ""
        raise argparse.ArgumentTypeError(f"{error.message}{advice}") from error
