from __future__ import annotations

from itertools import count

from multi_fetch.client.leftover import MAX_LOOKS, Leftover
from multi_fetch.limits import PIPE_BYTES


def test_a_pipe_is_read_when_nothing_came_between_two_looks() -> None:
    leftover = Leftover(100)
    assert not leftover.is_read(200)
    assert leftover.is_read(200)
    assert Leftover(100).is_read(100)


def test_more_than_a_pipe_holds_does_not_come_from_the_dead() -> None:
    leftover = Leftover(100)
    assert not leftover.is_read(100 + PIPE_BYTES)
    assert leftover.is_read(101 + PIPE_BYTES)


def test_a_little_at_a_time_is_not_waited_for_without_end() -> None:
    leftover = Leftover(0)
    looks = next(look for look in count(1) if leftover.is_read(look))
    assert looks == MAX_LOOKS
