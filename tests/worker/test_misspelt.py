"""A slip in a hint is told; a hint of somebody's own is not."""

from __future__ import annotations

import pytest

from multi_fetch.protocol.request import Request
from multi_fetch.worker.misspelt import Misspelt


def told(caplog: pytest.LogCaptureFixture, *kinds: str) -> list[str]:
    caplog.clear()
    misspelt = Misspelt()
    for line, kind in enumerate(kinds, 1):
        misspelt.look_at(Request(object="latest", tag="latest", ignored=(kind,)), line)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("kind", "meant"),
    [
        ("plattform", "platform"),
        ("Platform", "platform"),
        ("childern", "children"),
        ("media-type", "mediatype"),
        ("mediaType", "mediatype"),
        ("ranges", "range"),
    ],
)
def test_a_slip_is_told_with_what_may_be_meant(
    caplog: pytest.LogCaptureFixture, kind: str, meant: str
) -> None:
    (message,) = told(caplog, kind)
    assert message == (
        f"the hint '{kind}:' is not known, and ignored: write {meant}: if that is meant"
    )


def test_a_slip_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    assert len(told(caplog, *["plattform"] * 100, "platfrom", "childern")) == 2


@pytest.mark.parametrize("kind", ["colour", "timeout", "x", "trace-id", "p" * 10_000])
def test_hints_of_somebodys_own_are_their_business(
    caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    assert told(caplog, kind) == []
