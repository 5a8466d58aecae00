"""Texts that a command prints and ends with: help, a shell's script."""

from __future__ import annotations

import os
import sys
from typing import Final

from multi_fetch.advice import about_file

SUCCESS: Final = 0
FAILURE: Final = 1
STDOUT_CLOSED: Final = 128 + 13


def print_text(program: str, text: str) -> int:
    """Prints to stdout, as far as somebody reads it and there is room; returns the exit status."""
    if sys.stdout is None:
        sys.stderr.write(f"{program}: stdout is closed: give it a pipe, a file or /dev/null\n")
        return FAILURE
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What waits in the buffer is tried again when Python ends, and would be complained of.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - kept open
        if isinstance(error, BrokenPipeError):
            return STDOUT_CLOSED
        sys.stderr.write(
            f"{program}: cannot write to stdout: {error.strerror}{about_file(error)}\n"
        )
        return FAILURE
    return SUCCESS
