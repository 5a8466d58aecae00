from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from msgspec.structs import replace

from multi_fetch.errors import (
    CutStreamError,
    InternalError,
    InvalidRequestError,
    MalformedFrameError,
    NotFoundError,
    RequestCancelledError,
    UnknownVersionError,
    WorkerDiedError,
)
from multi_fetch.limits import MAX_LINE_BYTES, MAX_TREE
from multi_fetch.protocol.frames import Bye
from multi_fetch.protocol.framing import frame
from tests.cli.unpack_streams import frames_of
from tests.client.sans_io import HELLO, Talk, begin, content_of, data, end, error
from tests.vectors import make

if TYPE_CHECKING:
    from multi_fetch.client.exchange import Exchange
    from multi_fetch.protocol.frames import Frame

BYE = Bye(0, 0, 0, 0, {})
BREACHES = sorted(name for name in make.vectors() if name.startswith("breach-"))


# --- lines and the window ---------------------------------------------------------------------


def test_nothing_is_written_before_hello() -> None:
    talk = Talk(hello=None)
    talk.ask("a")
    assert talk.written() == []
    talk.say(HELLO)
    assert talk.written() == ["a"]


def test_never_more_requests_are_open_than_the_window() -> None:
    talk = Talk()
    first, *_ = talk.ask("a", "b", "c", "d")
    assert talk.written() == ["a", "b"]
    assert talk.written() == []
    talk.say(begin(1), end(1))
    assert first.is_done
    assert talk.written() == ["c"]
    talk.say(error(2), error(3))
    assert talk.written() == ["d"]


def test_ids_are_line_numbers_and_a_cancel_is_a_line_too() -> None:
    talk = Talk()
    a, b, c = talk.ask("a", "b", "c")
    assert [each.id for each in (a, b, c)] == [0, 0, 0]
    talk.written()
    talk.session.cancel(a)
    assert talk.written() == ["!cancel 1"]
    talk.say(error(1, "cancelled"))
    assert talk.written() == ["c"]
    assert [each.id for each in (a, b, c)] == [1, 2, 4]
    talk.say(begin(4), end(4))
    assert c.is_done


def test_hello_and_the_rest_of_each_answer_are_owed_and_nothing_else() -> None:
    talk = Talk(hello=None)
    owed = [talk.session.is_owed]
    talk.say(HELLO)
    owed.append(talk.session.is_owed)
    talk.ask_trees("a")
    talk.written()
    owed.append(talk.session.is_owed)
    for each in (begin(1), end(1, children=1), begin(-1, parent=1)):
        talk.say(each)
        owed.append(talk.session.is_owed)
    talk.say(end(-1))
    assert owed == [True, False, True, True, True, True]
    assert not talk.session.is_owed


def test_lines_are_given_in_pieces_of_a_bounded_size() -> None:
    talk = Talk(hello=replace(HELLO, window=1_000_000))
    talk.ask(*["a" * 1000] * 1000)
    total = 0
    while size := len(talk.session.take_lines()):
        assert size < 2 * MAX_LINE_BYTES
        total += size
    assert total == 1000 * 1001


def test_a_window_of_nothing_still_lets_one_request_through() -> None:
    talk = Talk(hello=replace(HELLO, window=0))
    talk.ask("a", "b")
    assert talk.written() == ["a"]


# --- answers ----------------------------------------------------------------------------------

ANSWERS: list[Frame] = [
    begin(1),
    data(1, 0, b"one"),
    begin(2),
    data(1, 3, b"more"),
    end(1, 7),
    error(2),
    BYE,
]


@pytest.mark.parametrize("step", [1, 7, 64, 10_000])
def test_answers_are_the_same_however_the_bytes_are_cut(step: int) -> None:
    talk = Talk(hello=None)
    a, b = talk.ask("a", "b")
    talk.say(HELLO)
    talk.written()
    stream = b"".join(frame(each) for each in ANSWERS)
    for start in range(0, len(stream), step):
        talk.feed(stream[start : start + step])
    talk.session.receive_eof()
    assert content_of(a) == b"onemore"
    assert a.end is not None
    assert isinstance(b.failure, NotFoundError)
    assert talk.session.bye == BYE


@pytest.mark.parametrize(
    "frames",
    [
        [data(1, 0, b"x")],
        [end(1)],
        [begin(1), begin(1)],
        [begin(1), data(1, 1, b"x")],
        [begin(1), data(1, 0, b"x"), data(1, 0, b"x")],
        [begin(1), end(1, 5)],
        [begin(1), replace(end(1), digest="sha256:" + "1" * 64)],
        [HELLO],
    ],
)
def test_a_stream_that_breaks_a_rule_is_refused(frames: list[Frame]) -> None:
    talk = Talk()
    talk.ask("a")
    talk.written()
    with pytest.raises(MalformedFrameError):
        talk.say(*frames)


def test_a_stream_that_begins_with_anything_but_hello_is_refused() -> None:
    with pytest.raises(MalformedFrameError):
        Talk(hello=None).say(BYE)


def test_another_version_is_refused_before_anything_is_made_of_it() -> None:
    talk = Talk(hello=None)
    with pytest.raises(UnknownVersionError):
        talk.say(replace(HELLO, version=2), error(0, "internal"))
    assert talk.session.worker_error is None


def test_frames_are_not_longer_than_hello_says() -> None:
    talk = Talk(hello=replace(HELLO, max_frame=100))
    with pytest.raises(MalformedFrameError):
        talk.feed(b"\x00\x00\x00\x65")


def test_a_stream_may_not_end_within_a_frame() -> None:
    talk = Talk()
    talk.feed(b"\x00\x00")
    with pytest.raises(CutStreamError):
        talk.session.receive_eof()


@pytest.mark.parametrize("name", BREACHES)
def test_every_breach_of_the_life_of_an_id_is_refused_at_its_frame(name: str) -> None:
    *before, last = frames_of((make.HERE / f"{name}.bin").read_bytes())
    talk = Talk(hello=None)
    talk.ask_trees("a", "b", "c", "d")
    if name != "breach-no-hello":
        talk.say(before.pop(0))
        assert len(talk.written()) == 4
        talk.say(*before)
    with pytest.raises(MalformedFrameError):
        talk.say(last)


@pytest.mark.parametrize(
    "frames",
    [
        [begin(3)],
        [error(3)],
        [begin(1), end(1, children=1)],
        [begin(2), end(2, children=1), begin(-1, parent=2), end(-1, children=1), begin(-2)],
    ],
)
def test_what_nobody_asked_for_is_a_breach(frames: list[Frame]) -> None:
    talk = Talk(hello=replace(HELLO, window=9))
    talk.ask("a")
    talk.ask_trees("b")
    talk.written()
    talk.say(*frames[:-1])
    with pytest.raises(MalformedFrameError):
        talk.say(frames[-1])


def test_what_a_request_that_was_cancelled_has_announced_may_still_come() -> None:
    talk = Talk()
    (a,) = talk.ask_trees("a")
    talk.written()
    talk.session.cancel(a)
    talk.say(begin(1), end(1, children=2), begin(-1, parent=1), data(-1, 0, b"x"), end(-1, 1))
    talk.say(error(-2, "cancelled", parent=1), BYE)
    assert not a.children
    assert isinstance(a.failure, RequestCancelledError)


def test_a_tree_has_no_more_objects_than_any_may_have() -> None:
    talk = Talk()
    talk.ask_trees("a", "b")
    talk.written()
    talk.say(begin(1), end(1, children=4096))
    for number in range(1, MAX_TREE):
        talk.say(begin(-number, parent=-((number - 1) // 4096) or 1))
        talk.say(end(-number, children=4096 if number <= 15 else 0))
    talk.say(begin(2), end(2, children=1), begin(-MAX_TREE, parent=2), end(-MAX_TREE))
    # One of these is the root.
    with pytest.raises(MalformedFrameError, match="makes the tree of 1 larger"):
        talk.say(begin(-MAX_TREE - 1, parent=-15))


def test_what_the_worker_says_of_itself_is_remembered() -> None:
    talk = Talk()
    talk.say(error(0, "internal"))
    assert talk.session.worker_error == error(0, "internal")


def test_bad_requests_are_refused_and_take_no_number() -> None:
    talk = Talk()
    with pytest.raises(InvalidRequestError):
        talk.ask("a b")
    (good,) = talk.ask("a")
    assert talk.written() == ["a"]
    assert good.id == 1


# --- cancelling -------------------------------------------------------------------------------


def test_a_queued_request_is_cancelled_without_a_word_to_the_worker() -> None:
    talk = Talk()
    _, b, _ = talk.ask("a", "b", "c")
    talk.session.cancel(b)
    assert isinstance(b.failure, RequestCancelledError)
    assert talk.written() == ["a", "c"]


@pytest.mark.parametrize("late", [[error(1, "cancelled")], [data(1, 3, b"late"), end(1, 7)]])
def test_after_a_cancel_nothing_of_the_request_counts_and_its_place_is_free_at_its_end(
    late: list[Frame],
) -> None:
    talk = Talk()
    a, *_ = talk.ask("a", "b", "c")
    talk.written()
    talk.say(begin(1), data(1, 0, b"abc"))
    talk.session.cancel(a)
    talk.session.cancel(a)
    assert talk.written() == ["!cancel 1"]
    assert (len(a.content), talk.parking.used_bytes) == (0, 0)
    talk.say(*late)
    assert isinstance(a.failure, RequestCancelledError)
    assert len(a.content) == 0
    assert talk.written() == ["c"]


def test_what_is_done_cannot_be_cancelled() -> None:
    talk = Talk()
    (a,) = talk.ask("a")
    talk.written()
    talk.say(begin(1), end(1))
    talk.session.cancel(a)
    assert a.failure is None
    assert talk.written() == []


def test_a_worker_that_does_not_know_cancel_is_not_told() -> None:
    talk = Talk(hello=replace(HELLO, features=()))
    a, b = talk.ask("a", "b")
    talk.written()
    talk.session.cancel(a)
    talk.ask("c")
    assert isinstance(a.failure, RequestCancelledError)
    assert talk.written() == []
    talk.say(begin(1), end(1))
    assert talk.written() == ["c"]
    assert b.id == 2


def test_content_that_cannot_be_kept_fails_its_request_alone() -> None:
    talk = Talk()
    a, b = talk.ask("a", "b")
    talk.written()
    talk.say(begin(1))
    cause = OSError("no space left")
    talk.session.lose_content(a, cause)
    assert isinstance(a.failure, InternalError)
    assert a.failure.__cause__ is cause
    assert b.failure is None
    assert talk.written() == ["!cancel 1"]


# --- children ---------------------------------------------------------------------------------


def test_children_belong_to_the_request_in_whose_content_they_were_found() -> None:
    talk = Talk()
    (a,) = talk.ask_trees("a")
    talk.written()
    talk.say(begin(1), end(1, children=2), begin(-1, parent=1, name="config"), end(-1))
    assert not a.has_child(1)
    talk.say(begin(-2, parent=1), data(-2, 0, b"x"), end(-2, 1))
    assert [(each.id, each.parent_id) for each in a.children] == [(-1, 1), (-2, 1)]
    assert [a.has_child(index) for index in range(3)] == [True] * 3
    assert [a.child(index) for index in range(3)] == [*a.children, None]
    assert (a.children[0].object, content_of(a.children[1])) == ("config", b"x")


def test_a_child_that_fails_before_it_begins_is_one_too() -> None:
    talk = Talk()
    (a,) = talk.ask_trees("a")
    talk.written()
    talk.say(begin(1), end(1, children=1), error(-1, parent=1, object="sha256:x"))
    (child,) = a.children
    assert isinstance(child.failure, NotFoundError)
    assert child.object == "sha256:x"
    assert a.child(1) is None


def test_of_a_child_that_fails_no_object_is_kept_but_a_text() -> None:
    """A text is counted among the words of a tree; as one, a map would have 64 KiB uncounted."""
    talk = Talk()
    (a,) = talk.ask_trees("a")
    talk.written()
    failed = replace(error(-1, parent=1), detail={"parent": 1, "object": {"k": 1}})
    talk.say(begin(1), end(1, children=1), failed)
    (child,) = a.children
    assert child.object == ""


def test_children_may_have_children() -> None:
    talk = Talk()
    (a,) = talk.ask_trees("a")
    talk.written()
    talk.say(begin(1), end(1, children=1), begin(-1, parent=1))
    talk.say(end(-1, children=1), begin(-2, parent=-1), end(-2))
    assert [each.id for each in a.walk()] == [1, -1, -2]
    talk.die()
    assert talk.session.take_lost() == []


def test_children_do_not_fill_the_window() -> None:
    talk = Talk()
    talk.ask_trees("a", "b", "c")
    talk.written()
    talk.say(begin(1), end(1, children=3), *(begin(-n, parent=1) for n in (1, 2, 3)))
    assert talk.written() == ["c children:all"]


def test_cancelling_a_request_that_has_ended_cancels_what_is_open_below_it() -> None:
    talk = Talk()
    (a,) = talk.ask_trees("a")
    talk.written()
    talk.say(begin(1), end(1, children=3), begin(-1, parent=1), end(-1), begin(-2, parent=1))
    talk.session.cancel(a)
    assert talk.written() == ["!cancel 1"]
    assert a.failure is None
    assert a.children[0].failure is None
    assert isinstance(a.children[1].failure, RequestCancelledError)
    talk.say(error(-2, "cancelled"), error(-3, "cancelled", parent=1))
    assert isinstance(a.children[2].failure, RequestCancelledError)
    with pytest.raises(RequestCancelledError):
        a.child(3)
    talk.die()
    assert talk.session.take_lost() == []


# --- the end ----------------------------------------------------------------------------------


def test_the_end_of_a_worker_fails_each_open_request_with_an_error_of_its_own() -> None:
    talk = Talk()
    done, begun, asked, queued = talk.ask("a", "b", "c", "d")
    talk.written()
    talk.say(begin(1), data(1, 0, b"x"), end(1, 1), begin(2), data(2, 0, b"y"))
    talk.written()
    talk.die()
    assert (done.failure, content_of(done)) == (None, b"x")
    failures = [each.failure for each in (begun, asked, queued)]
    assert all(isinstance(each, WorkerDiedError) for each in failures)
    assert len({id(each) for each in failures}) == 3
    with pytest.raises(WorkerDiedError):
        talk.ask("e")
    assert talk.written() == []
    assert talk.session.take_lost() == [begun, asked, queued]
    assert talk.session.take_lost() == []


def test_a_request_is_lost_once_if_anything_below_it_is() -> None:
    talk = Talk(hello=replace(HELLO, window=9))
    a, b, c, d = talk.ask_trees("a", "b", "c", "d")
    talk.written()
    # Two open children; one that never came; a grandchild that never came; a whole tree.
    talk.say(begin(1), end(1, children=2), begin(-1, parent=1), begin(-2, parent=1))
    talk.say(begin(2), end(2, children=1))
    talk.say(begin(3), end(3, children=1), begin(-3, parent=3), end(-3, children=1))
    talk.say(begin(4), end(4, children=1), begin(-4, parent=4), end(-4))
    talk.die()
    assert talk.session.take_lost() == [a, b, c]
    assert d.child(1) is None
    with pytest.raises(WorkerDiedError):
        b.child(0)
    with pytest.raises(WorkerDiedError):
        c.children[0].child(0)


def test_what_was_cancelled_is_not_lost() -> None:
    talk = Talk()
    a, b, c = talk.ask("a", "b", "c")
    talk.written()
    talk.session.cancel(a)
    talk.session.cancel(c)
    talk.die()
    assert talk.session.take_lost() == [b]
    assert isinstance(a.failure, RequestCancelledError)


def test_hello_stands_after_the_end_and_without_one_the_end_is_told() -> None:
    talk = Talk()
    talk.die()
    assert talk.session.started() == HELLO
    early = Talk(hello=None)
    assert not early.session.is_started
    early.die()
    assert early.session.is_started
    with pytest.raises(WorkerDiedError):
        early.session.started()


def test_those_who_watch_are_told_once_of_each_change() -> None:
    talk = Talk(hello=None)
    told: list[str] = []
    talk.session.watch(lambda: told.append("hello"))
    (a,) = talk.ask("a")
    a.watch(lambda: told.append("begin"))
    a.when_done(lambda: told.append("done"))
    talk.say(HELLO)
    talk.written()
    talk.say(begin(1))
    talk.say(data(1, 0, b"x"))
    talk.say(end(1, 1))
    a.when_done(lambda: told.append("at once"))
    assert told == ["hello", "begin", "done", "at once"]


# --- anything at all --------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """A worker that answers in any order, with a caller that asks, cancels and reads in any."""

    @initialize(window=st.integers(1, 4))
    def start(self, window: int) -> None:
        self.talk = Talk(hello=replace(HELLO, window=window), memory_bytes=200)
        self.window = window
        self.lines = 0
        self.asked: list[Exchange] = []
        self.read: dict[Exchange, bytes] = {}
        # What the worker has open, with the bytes that it has sent; None before begin.
        self.open: dict[int, int | None] = {}

    @rule()
    def ask(self) -> None:
        self.asked += self.talk.ask(f"o{len(self.asked)}")

    @rule()
    def write(self) -> None:
        for line in self.talk.written():
            self.lines += 1
            if line.startswith("o"):
                self.open[self.lines] = None

    @precondition(lambda self: self.asked)
    @rule(drawn=st.data())
    def cancel(self, drawn: st.DataObject) -> None:
        self.talk.session.cancel(drawn.draw(st.sampled_from(self.asked)))

    @precondition(lambda self: self.asked)
    @rule(drawn=st.data())
    def take(self, drawn: st.DataObject) -> None:
        exchange = drawn.draw(st.sampled_from(self.asked))
        if exchange.failure is None:
            self.read[exchange] = self.read.get(exchange, b"") + content_of(exchange)

    @precondition(lambda self: self.open)
    @rule(drawn=st.data(), is_good=st.booleans())
    def go_on(self, drawn: st.DataObject, *, is_good: bool) -> None:
        request_id = drawn.draw(st.sampled_from(sorted(self.open)))
        sent = self.open[request_id]
        if not is_good:
            del self.open[request_id]
            self.talk.say(error(request_id))
        elif sent is None:
            self.open[request_id] = 0
            self.talk.say(begin(request_id))
        elif sent < 100:
            self.open[request_id] = sent + 50
            self.talk.say(data(request_id, sent, bytes([request_id % 256]) * 50))
        else:
            del self.open[request_id]
            self.talk.say(end(request_id, sent))

    @invariant()
    def holds(self) -> None:
        assert len(self.open) <= self.window
        assert self.talk.parking.used_bytes <= 200

    def teardown(self) -> None:
        self.talk.die()
        for exchange in self.asked:
            assert exchange.is_done
            if exchange.end is not None:
                whole = self.read.get(exchange, b"") + content_of(exchange)
                assert whole == bytes([exchange.id % 256]) * 100


# The window, the ids and the content are kept, whatever comes when.
TestAnyOrder = AnyOrder.TestCase
