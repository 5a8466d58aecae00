"""How much trouble is borne, from flags."""

from __future__ import annotations

import argparse
import math
from typing import Final

from multi_fetch.cli.ceiling import ceiling
from multi_fetch.durations import DEFAULT_RETRY_WAIT_SECONDS, READ_TIMEOUT_SECONDS
from multi_fetch.errors import InvalidRequestError
from multi_fetch.limits import DEFAULT_RETRIES, LEAST_PROGRESS_BYTES, MAX_RETRIES
from multi_fetch.protocol.duration import parse_duration
from multi_fetch.remotes import Patience

MAX_DIGITS: Final = 9


def add_patience_flags(parser: argparse.ArgumentParser) -> None:
    """--retries, --retry-max-wait and --stall-timeout."""
    flags = parser.add_argument_group("trouble that may pass")
    flags.add_argument(
        "--retries",
        type=_retries,
        default=DEFAULT_RETRIES,
        metavar="N",
        help="how often a request is sent again in a row after trouble that may pass; with 0 the"
        " first failure is told at once (default: %(default)s)",
    )
    flags.add_argument(
        "--retry-max-wait",
        type=_seconds,
        default=DEFAULT_RETRY_WAIT_SECONDS,
        metavar="DURATION",
        help="the longest wait before that; a registry that asks for more fails the request, and"
        f" 0 is no limit (default: {DEFAULT_RETRY_WAIT_SECONDS:g}s)",
    )
    flags.add_argument(
        "--stall-timeout",
        type=_seconds,
        default=READ_TIMEOUT_SECONDS,
        metavar="DURATION",
        help=f"a connection that gives less than {LEAST_PROGRESS_BYTES} bytes while it is waited"
        " for so long counts as broken, and 0 is no limit"
        f" (default: {READ_TIMEOUT_SECONDS:g}s)",
    )


def patience(arguments: argparse.Namespace) -> Patience:
    """What the flags say."""
    return Patience(
        retries=arguments.retries,
        max_wait_seconds=arguments.retry_max_wait,
        stall_seconds=arguments.stall_timeout,
        ceiling=ceiling(arguments),
    )


def _retries(text: str) -> int:
    is_number = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
    if not is_number or int(text) > MAX_RETRIES:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number from 0 to {MAX_RETRIES}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        return parse_duration(text) or math.inf
    except InvalidRequestError as error:
        raise argparse.ArgumentTypeError(error.message) from error
