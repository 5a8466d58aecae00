from __future__ import annotations

import pytest

from multi_fetch.errors import NotFoundError, UnsupportedError
from multi_fetch.protocol.frames import End
from tests.client.sans_io import Talk, begin, data, end, error


def test_content_is_read_whole_or_in_pieces_but_not_first_in_pieces() -> None:
    talk = Talk()
    (a,) = talk.ask("a")
    talk.written()
    talk.say(begin(1), data(1, 0, b"x"), data(1, 1, b"y"), end(1, 2))
    a.require_whole()
    assert a.take() == b"x"
    with pytest.raises(RuntimeError, match="taken already"):
        a.require_whole()
    assert [a.take(), a.take()] == [b"y", None]


def test_content_without_a_digest_is_not_given_out_as_verified() -> None:
    talk = Talk()
    a, b = talk.ask("a", "b")
    talk.written()
    talk.say(begin(1), data(1, 0, b"part"), End(1, 4, None, 0), begin(2), End(2, 0, None, 0))
    with pytest.raises(UnsupportedError, match="cannot be verified"):
        a.require_verified(4)
    b.require_verified(0)


def test_content_of_which_another_reader_has_a_part_is_not_given_out_as_verified() -> None:
    talk = Talk()
    (a,) = talk.ask("a")
    talk.written()
    talk.say(begin(1), data(1, 0, b"x"), data(1, 1, b"y"), end(1, 2))
    a.require_verified(2)
    for taken_bytes in (0, 1):
        with pytest.raises(RuntimeError, match="another reader"):
            a.require_verified(taken_bytes)


def test_a_failure_takes_the_content_with_it_and_comes_before_any_piece() -> None:
    talk = Talk()
    (a,) = talk.ask("a")
    talk.written()
    talk.say(begin(1), data(1, 0, b"altered"))
    assert (a.has_begun, a.has_piece, a.is_done) == (True, True, False)
    talk.say(error(1))
    assert len(a.content) == 0
    for ask in (a.take, a.started, a.require_whole, lambda: a.child(0)):
        with pytest.raises(NotFoundError):
            ask()


def test_the_first_failure_stays() -> None:
    talk = Talk()
    (a,) = talk.ask("a")
    first = NotFoundError("first")
    a.fail(first)
    a.fail(NotFoundError("second"))
    assert a.failure is first
