from __future__ import annotations

import threading

import pytest

from multi_fetch.client import Worker
from multi_fetch.errors import (
    DigestMismatchError,
    NotFoundError,
    RequestCancelledError,
    UnsupportedError,
    WorkerDiedError,
)
from tests.client.conftest import SMALL, Repository
from tests.client.fakes import ALTERED, fake


def test_what_streams_is_provisional_until_the_iteration_ends_without_an_error() -> None:
    with Worker("app", command=fake(ALTERED)) as worker:
        pieces = iter(worker.submit("latest"))
        assert next(pieces) == b"provisional"
        worker.submit("go-on")
        with pytest.raises(DigestMismatchError) as caught:
            next(pieces)
        assert (caught.value.want, caught.value.got) == ("sha256:a", "sha256:b")


def test_read_gives_nothing_of_what_was_not_verified() -> None:
    with Worker("app", command=fake(ALTERED)) as worker:
        answer = worker.submit("latest")
        assert answer.name == "r.example/app:latest"
        worker.submit("go-on")
        with pytest.raises(DigestMismatchError):
            answer.read()
        assert list(worker.as_completed([answer])) == [answer]
        with pytest.raises(DigestMismatchError):
            list(answer)


def test_content_is_taken_once() -> None:
    with Worker("app", command=fake("hello(); line(); whole(1, b'x'); until_closed()")) as worker:
        answer = worker.submit("latest")
        assert answer.read() == b"x"
        with pytest.raises(RuntimeError, match="taken already"):
            answer.read()
        assert list(answer) == []


def test_two_who_read_at_the_same_time_never_get_a_part_as_the_whole() -> None:
    script = """
hello(); line(); begin(1); line(); data(1, 0, b"some "); line(); data(1, 5, b"content"); end(1, 12)
until_closed()
"""
    with Worker("app", command=fake(script)) as worker:
        answer = worker.submit("latest")
        assert answer.name == "r.example/app:latest"
        read: list[bytes | None] = []

        def read_whole() -> None:
            try:
                read.append(answer.read())
            except RuntimeError:
                read.append(None)

        readers = [threading.Thread(target=read_whole) for _ in range(2)]
        for reader in readers:
            reader.start()
        for _ in range(2):
            worker.submit("go-on")
        for reader in readers:
            reader.join()
        assert None in read
        assert set(read) <= {None, b"some content"}


def test_a_range_can_be_iterated_over_and_is_never_said_to_be_verified(
    repository: Repository,
) -> None:
    with Worker(repository.remote) as worker:
        digest = repository.small.digest
        part, read = (worker.submit(digest, "range:2-5") for _ in range(2))
        assert b"".join(part) == SMALL[2:6]
        assert part.digest is None
        with pytest.raises(UnsupportedError, match="cannot be verified"):
            read.read()


def test_the_facts_of_an_answer_need_no_waiting() -> None:
    with Worker("app", command=fake("hello(); line(); error(1); until_closed()")) as worker:
        answer = worker.submit("latest", "size:1")
        assert (answer.object, answer.hints, answer.parent) == ("latest", ("size:1",), None)
        answer.wait()
        assert (answer.id, answer.is_done, answer.digest) == (1, True, None)
        assert isinstance(answer.error, NotFoundError)
        assert repr(answer) == "<Answer 1 'latest' not-found>"


def test_a_cancelled_answer_says_so_at_once_and_its_content_is_gone() -> None:
    script = "hello(); line(); begin(1); data(1, 0, b'x'); assert line() == '!cancel 1'; error(1)"
    with Worker("app", command=fake(script)) as worker:
        answer = worker.submit("latest")
        assert next(iter(answer)) == b"x"
        answer.cancel()
        with pytest.raises(RequestCancelledError):
            list(answer)
        answer.cancel()


CHILDREN = """
hello()
line()
begin(1); end(1, children=3)
begin(-1, "config", 1); data(-1, 0, b"c"); end(-1, 1)
begin(-2, "layer", 1)
"""


def test_children_are_given_as_they_begin_and_a_dead_worker_ends_them() -> None:
    with Worker("app", command=fake(CHILDREN + "line()")) as worker:
        parent = worker.submit("latest", "children:all")
        children = parent.children()
        config, layer = next(children), next(children)
        assert (config.object, config.read(), layer.is_done) == ("config", b"c", False)
        worker.submit("die")
        with pytest.raises(WorkerDiedError):
            next(children)
        with pytest.raises(WorkerDiedError):
            layer.read()
        assert parent.read() == b""
        (again, _) = worker.restart()
        assert (again.object, again.hints) == ("latest", ("children:all",))


def test_a_parent_that_is_cancelled_takes_its_children_along() -> None:
    with Worker("app", command=fake(CHILDREN + "until_closed()")) as worker:
        parent = worker.submit("latest", "children:all")
        children = parent.children()
        config, layer = next(children), next(children)
        parent.cancel()
        assert config.read() == b"c"
        assert isinstance(layer.error, RequestCancelledError)
        with pytest.raises(RequestCancelledError):
            next(children)


def test_answers_that_are_done_tell_at_once_and_others_later() -> None:
    script = "hello(); line(); whole(1, b'x'); line(); whole(2, b'y'); until_closed()"
    with Worker("app", command=fake(script)) as worker:
        told: list[str] = []
        first = worker.submit("first")
        first.wait()
        first.when_done(lambda: told.append("first"))
        assert told == ["first"]
        second = worker.submit("second")
        second.when_done(lambda: told.append("second"))
        second.wait()
        assert told == ["first", "second"]
