from __future__ import annotations

from multi_fetch.client.answer_facts import AnswerFacts
from multi_fetch.errors import NotFoundError
from tests.client.sans_io import DIGEST, Talk, begin, end


def test_an_answer_tells_where_it_stands() -> None:
    talk = Talk()
    a, b = talk.ask("a", "b")
    facts = AnswerFacts(a)
    assert (facts.id, facts.is_done, facts.error, facts.digest) == (0, False, None, None)
    assert repr(facts) == "<AnswerFacts 0 'a' open>"
    talk.written()
    talk.say(begin(1), end(1))
    assert (facts.id, facts.is_done, facts.error, facts.digest) == (1, True, None, DIGEST)
    assert repr(facts) == "<AnswerFacts 1 'a' done>"
    b.fail(NotFoundError("m"))
    assert repr(AnswerFacts(b)) == "<AnswerFacts 2 'b' not-found>"


def test_two_views_of_one_request_are_equal_and_of_two_are_not() -> None:
    a, b = Talk().ask("a", "a")
    assert AnswerFacts(a) == AnswerFacts(a)
    assert len({AnswerFacts(a), AnswerFacts(a), AnswerFacts(b)}) == 2
    assert AnswerFacts(a) != "a"
