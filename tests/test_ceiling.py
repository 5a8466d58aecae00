"""What a ceiling says before content comes; over real sockets it is in registry/test_endless."""

from __future__ import annotations

import pytest

from multi_fetch.ceiling import DEFAULT_CEILING, NO_CEILING, Ceiling
from multi_fetch.errors import MaxSizeError
from multi_fetch.limits import MAX_UNTOLD_BYTES
from multi_fetch.protocol.request import ByteRange

HUGE = 1 << 62


def test_by_default_only_what_nobody_told_has_an_end() -> None:
    DEFAULT_CEILING.check(HUGE)
    assert DEFAULT_CEILING.most(HUGE) is None
    assert DEFAULT_CEILING.most(None) == MAX_UNTOLD_BYTES


def test_no_ceiling_is_none_at_all() -> None:
    for size in (HUGE, None):
        NO_CEILING.check(size)
        NO_CEILING.check(size, ByteRange(HUGE - 1))
        assert NO_CEILING.most(size) is None


@pytest.mark.parametrize(
    ("size", "byte_range", "is_refused"),
    [
        (10, None, False),
        (11, None, True),
        (0, None, False),
        (None, None, False),
        (11, ByteRange(1), False),
        (12, ByteRange(1), True),
        (HUGE, ByteRange(5, 14), False),
        (HUGE, ByteRange(5, 15), True),
        (12, ByteRange(4, HUGE), False),
        (None, ByteRange(10), False),
        (None, ByteRange(11), True),
        (None, ByteRange(0, HUGE), False),
    ],
)
def test_what_is_wanted_of_an_object_counts(
    size: int | None, byte_range: ByteRange | None, is_refused: bool
) -> None:
    ceiling = Ceiling(told=10, untold=10)
    if not is_refused:
        ceiling.check(size, byte_range)
        return
    with pytest.raises(MaxSizeError, match="raise --max-size") as caught:
        ceiling.check(size, byte_range)
    assert caught.value.limit == 10
    assert (caught.value.size is None) == (size is None)
    assert ("size" in caught.value.detail()) == (size is not None)
