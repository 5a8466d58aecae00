"""Findings of ``multi-fetch doctor``: one for each step, as it is taken; and what they come to.

A step that cannot be taken has no finding: what stands in its way has one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
import trio

from multi_fetch.cli.checkup_advice import advice_for
from multi_fetch.errors import DeadlineExceededError, MultiFetchError
from multi_fetch.registry.errcode import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

# For one step: who waits longer for a name or an answer is not well served.
STEP_SECONDS: Final = 10.0

STEP_COLUMNS: Final = 12
MAX_SAID_CHARACTERS: Final = 1_000


class Verdict(StrEnum):
    """What became of a step."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a step found.

    Attributes:
        step: a word for it; docs/reference.md tells of them.
        verdict: what became of it.
        said: what was found, on one line.
        advice: what to do next; empty where nothing needs to be done.
        host: that was asked, as a URL; empty for what is no host's.
        code: of the failure, as in protocol.md, "Error codes"; empty where it did not fail.
    """

    step: str
    verdict: Verdict
    said: str
    advice: str = ""
    host: str = ""
    code: str = ""

    def lines(self) -> str:
        """For people."""
        text = f"{self.verdict:<4}  {self.step:<{STEP_COLUMNS}}{self.said}\n"
        if self.advice:
            text += f"{'':6}{'':{STEP_COLUMNS}}-> {self.advice}\n"
        return text


class Checkup:
    """The steps at one host, or at none.

    Args:
        report: is told of each finding.
        host: its URL, or empty.
    """

    def __init__(self, report: Callable[[Finding], None], host: str = "") -> None:
        self._report = report
        self._host = host

    def ok(self, step: str, said: str) -> None:
        """All is well."""
        self._find(step, Verdict.OK, said, "")

    def warn(self, step: str, said: str, advice: str) -> None:
        """It works, and might be better."""
        self._find(step, Verdict.WARN, said, advice)

    def fail(self, step: str, said: str, advice: str, code: str) -> None:
        """It does not work."""
        self._find(step, Verdict.FAIL, said, advice, code)

    def fail_by(self, step: str, error: MultiFetchError) -> None:
        """It does not work, for this reason."""
        advice = advice_for(error, self._host)
        # Where the message ends with the same advice, that is said once.
        said = error.message.removesuffix(f"; {advice}").removesuffix(f": {advice}")
        self.fail(step, said, advice, error.code)

    async def take(self, step: str, work: Callable[[], Awaitable[T]]) -> T | None:
        """Takes a step, within its time; what it raises is its finding, and None the result."""
        try:
            with trio.fail_after(STEP_SECONDS):
                return await work()
        except trio.TooSlowError:
            self.fail_by(step, DeadlineExceededError(f"nothing came of it in {STEP_SECONDS:g} s"))
        except MultiFetchError as error:
            self.fail_by(step, error)
        return None

    def _find(self, step: str, verdict: Verdict, said: str, advice: str, code: str = "") -> None:
        self._report(
            Finding(
                step=step,
                verdict=verdict,
                said=printable(said, MAX_SAID_CHARACTERS),
                advice=advice,
                host=self._host,
                code=code,
            )
        )
