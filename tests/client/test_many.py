from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from multi_fetch.client import fetch_many
from multi_fetch.errors import InvalidRequestError, NotFoundError, WorkerDiedError
from multi_fetch.limits import FETCH_MANY_AHEAD
from tests.client.conftest import LARGE, SMALL, Repository, is_alive
from tests.client.fakes import fake

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("nothing_is_left")

ANSWERING = """
hello(window=64)
number = 0
while asked := line():
    number += 1
    whole(number, asked.encode())
"""


def test_each_request_gets_its_answer_with_content_or_an_error(repository: Repository) -> None:
    small, large = repository.small.digest, repository.large.digest
    requests = ["latest", small, ("nope",), (large, f"size:{len(LARGE)}"), ("latest", "size:1")]
    answers = {(each.object, *each.hints): each for each in fetch_many(repository.remote, requests)}
    assert len(answers) == len(requests)
    assert answers["latest",].digest == repository.image.digest
    assert answers[small,].read() == SMALL
    assert b"".join(answers[large, f"size:{len(LARGE)}"]) == LARGE
    assert isinstance(answers["nope",].error, NotFoundError)
    assert answers["latest", "size:1"].error is not None


def test_a_list_of_all_answers_can_be_read_afterwards(repository: Repository) -> None:
    answers = list(fetch_many(repository.remote, [repository.large.digest] * 3, memory_bytes=0))
    assert [answer.read() for answer in answers] == [LARGE] * 3


def test_requests_may_be_endless_and_are_not_taken_far_ahead() -> None:
    taken = []

    def requests() -> Iterator[str]:
        for number in count():
            taken.append(number)
            yield f"o{number}"

    answers = fetch_many("app", requests(), command=fake(ANSWERING))
    for number in range(200):
        assert next(answers).read() == f"o{number}".encode()
        assert len(taken) <= number + FETCH_MANY_AHEAD
    del answers


def test_nothing_is_asked_of_a_worker_for_nothing() -> None:
    assert list(fetch_many("app", [], command=fake("hello(); until_closed()"))) == []


def test_a_batch_that_is_left_early_ends_its_worker() -> None:
    script = """
hello(window=64)
line()
begin(1); data(1, 0, str(os.getpid()).encode()); end(1, len(str(os.getpid())))
signal.pause()
"""
    answers = fetch_many("app", ["a", "b"], command=fake(script))
    pid = int(next(answers).read())
    assert is_alive(pid)
    del answers
    assert not is_alive(pid)


def test_a_dead_worker_fails_all_that_was_asked_for_and_then_the_batch() -> None:
    script = "hello(window=64); line(); whole(1, b'x'); sys.exit(1)"
    answers = fetch_many("app", (f"o{n}" for n in count()), command=fake(script))
    seen = [next(answers)]
    with pytest.raises(WorkerDiedError):
        seen.extend(answers)
    assert seen[0].read() == b"x"
    assert {type(each.error) for each in seen[1:]} <= {WorkerDiedError}


def test_a_bad_request_ends_the_batch() -> None:
    with pytest.raises(InvalidRequestError):
        list(fetch_many("app", ["a b"], command=fake("hello(); until_closed()")))


def test_one_text_in_place_of_a_list_is_told_and_not_taken_letter_by_letter() -> None:
    with pytest.raises(TypeError, match=r"write \['latest'\]"):
        next(fetch_many("app", "latest", command=["./not-there"]))
