"""What jobs have in common, and what is below a job."""

from __future__ import annotations

import pytest

from multi_fetch.protocol.request import parse_request
from multi_fetch.worker.job import Alike, Job

DIGEST = f"sha256:{'0' * 64}"


def a_job(number: int, *words: str, parent: Job | None = None) -> Job:
    return Job(id=number, request=parse_request(words[0], list(words[1:])), parent=parent)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["latest"], ["latest", "colour:blue"]),
        ([DIGEST, "size:3"], [f"@{DIGEST}", "size:3"]),
        (["latest", "deadline:1s"], ["latest", "deadline:2s"]),
    ],
)
def test_jobs_that_differ_in_words_alone_can_share_a_fetch(
    one: list[str], other: list[str]
) -> None:
    assert a_job(1, *one).share_key() == a_job(2, *other).share_key()


@pytest.mark.parametrize("hint", ["size:3", "mediatype:a/b", f"digest:{DIGEST}"])
def test_jobs_that_ask_for_something_else_share_none(hint: str) -> None:
    assert a_job(1, "latest").share_key() != a_job(2, "latest", hint).share_key()


@pytest.mark.parametrize("hint", ["content:none", "range:0-1"])
def test_what_has_no_whole_content_is_never_shared(hint: str) -> None:
    assert a_job(1, DIGEST, hint).share_key() is None


def test_a_line_that_could_not_be_read_is_never_shared() -> None:
    assert Job(id=1, request=None).share_key() is None


def test_those_that_wait_for_the_same_leave_in_their_order_and_no_trace() -> None:
    alike, jobs = Alike(), [a_job(number, "latest") for number in range(6)]
    one, other = ("one",), ("other",)
    for job in jobs[:4]:
        alike.add(one, job)
    alike.add(other, jobs[4])
    assert alike.take(one, jobs[1], most=0) == [jobs[1]]
    assert alike.take(one, jobs[2], most=1) == [jobs[2], jobs[0]]
    alike.add(one, jobs[5])
    assert alike.take(one, jobs[3], most=9) == [jobs[3], jobs[5]]
    assert alike.take(other, jobs[4], most=9) == [jobs[4]]
    assert not alike._alone
    assert not alike._several


def test_a_job_is_below_itself_and_all_above_it() -> None:
    root = a_job(5, "latest")
    child = a_job(-1, DIGEST, parent=root)
    leaf = a_job(-2, DIGEST, parent=child)
    assert [leaf.is_below(number) for number in (5, -1, -2, 4)] == [True, True, True, False]
    assert not root.is_below(-1)
