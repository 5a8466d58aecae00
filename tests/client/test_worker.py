from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from multi_fetch.client import Answer, Worker
from multi_fetch.errors import (
    InvalidRequestError,
    MultiFetchError,
    NotFoundError,
    RequestCancelledError,
    UnauthorizedError,
    UnavailableError,
    UnknownVersionError,
    WorkerDiedError,
)
from multi_fetch.oci.digest import digest_of
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.faults import Fault, require_basic
from tests.client.conftest import LARGE, SMALL, Repository, Shop, is_alive
from tests.client.fakes import DEATHS, DYING, fake
from tests.loopback import loopback

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def test_what_there_is_is_listed(shop: Shop) -> None:
    with Worker(shop.remote, jobs=2) as worker:
        assert list(worker.tags()) == shop.tags
        digest = str(shop.image.digest)
        found = {each.artifact_type: each for each in worker.referrers(digest)}
        assert found.keys() == {"a/sbom", "a/sig"}
        (sbom,) = worker.referrers(digest, "a/sbom")
        assert sbom == found["a/sbom"]
        answer = worker.submit(sbom.digest, f"mediatype:{sbom.media_type}", f"size:{sbom.size}")
        assert digest_of(answer.read()) == sbom.digest
        assert list(worker.referrers(str(digest_of(b"nothing")))) == []
        with pytest.raises(InvalidRequestError):
            next(worker.referrers("latest"))
        for words in ("a b", "", "a\nb"):
            with pytest.raises(InvalidRequestError):
                worker.referrers(words)


def test_all_repositories_are_listed_each_by_its_name(shop: Shop) -> None:
    with Worker("-") as worker:
        assert worker.hello().remote == "-"
        assert list(worker.tags(shop.remote)) == shop.tags
        about = f"{shop.remote}@{shop.image.digest}"
        assert len(list(worker.referrers(about))) == 2
        assert worker.submit(f"{shop.remote}:v1").descriptor.digest == shop.image.digest
        with pytest.raises(InvalidRequestError):
            next(worker.tags())


def test_a_listing_that_is_left_is_cancelled_and_one_that_fails_says_so(shop: Shop) -> None:
    with Worker(f"{shop.remote}x") as worker:
        tags = worker.tags()
        with pytest.raises(UnavailableError):
            next(tags)
    with Worker(shop.remote) as worker:
        tags = worker.tags()
        assert next(tags) == shop.tags[0]
        del tags
        assert list(worker.tags()) == shop.tags
        tags = worker.tags()
    with pytest.raises(RequestCancelledError):
        next(tags)
    with pytest.raises(RequestCancelledError):
        worker.tags()


def test_a_listing_is_not_asked_for_again() -> None:
    dying = fake("hello(); line(); line(); sys.exit(1)")
    with Worker("x", command=dying) as worker:
        tags = worker.tags()
        kept = worker.submit("latest")
        kept.wait()
        with pytest.raises(WorkerDiedError):
            next(tags)
        assert [each.object for each in worker.restart()] == ["latest"]


# --- against the worker -----------------------------------------------------------------------


def test_requests_are_submitted_while_answers_stream(repository: Repository) -> None:
    with Worker(repository.remote, jobs=2) as worker:
        large = worker.submit(repository.large.digest)
        pieces = iter(large)
        first = next(pieces)
        manifest = worker.submit("latest")
        assert manifest.descriptor.digest == repository.image.digest
        assert manifest.name == f"{repository.remote}:latest"
        assert digest_of(manifest.read()) == repository.image.digest
        assert first + b"".join(pieces) == LARGE
        assert large.digest == repository.large.digest


def test_hints_go_along_and_errors_come_back_as_their_class(repository: Repository) -> None:
    with Worker(repository.remote) as worker:
        bare = worker.submit("latest", "content:none")
        missing = worker.submit("nope")
        bad = worker.submit("latest", "size:x")
        assert (bare.read(), bare.digest) == (b"", None)
        assert bare.descriptor.size == repository.image.size
        with pytest.raises(NotFoundError) as caught:
            missing.read()
        assert (caught.value.status, caught.value.registry_code) == (404, "MANIFEST_UNKNOWN")
        with pytest.raises(InvalidRequestError):
            _ = bad.descriptor


def test_children_come_as_answers_of_their_own(repository: Repository) -> None:
    with Worker(repository.remote) as worker:
        image = worker.submit("latest", "children:all")
        children = list(image.children())
        assert [child.parent for child in children] == [image.id] * 3
        assert sorted(child.id for child in children) == [-3, -2, -1]
        contents = {child.descriptor.digest: child.read() for child in children}
        assert contents[repository.small.digest] == SMALL
        assert contents[repository.large.digest] == LARGE
        assert list(children[0].children()) == []
        assert list(image.children()) == children


def test_a_cancelled_request_leaves_the_others_alone(repository: Repository) -> None:
    with Worker(repository.remote, jobs=1, window=2) as worker:
        answers = [worker.submit(repository.large.digest) for _ in range(6)]
        assert answers[0].name
        for answer in answers[:5]:
            answer.cancel()
        assert answers[5].read() == LARGE
        for answer in answers[:5]:
            with suppress(RequestCancelledError):
                assert answer.read() == LARGE


def test_answers_come_in_the_order_in_which_they_are_done(repository: Repository) -> None:
    with Worker(repository.remote, ordered=True) as worker:
        answers = [worker.submit(each) for each in ("latest", "nope", repository.large.digest)]
        assert list(worker.as_completed(reversed(answers))) == answers
        assert list(worker.as_completed([answers[2], answers[0]])) == [answers[2], answers[0]]
        assert list(worker.as_completed([])) == []


def test_what_is_done_can_be_read_after_the_worker_has_gone(repository: Repository) -> None:
    with Worker(repository.remote, memory_bytes=0) as worker:
        answer = worker.submit(repository.large.digest)
        answer.wait()
    assert answer.read() == LARGE


def test_credentials_are_given_by_the_environment_alone(tmp_path: Path) -> None:
    builder = LayoutBuilder(tmp_path)
    builder.tag("latest", builder.add_image(builder.add_empty(), []))
    with loopback(builder.finish(), Fault(require_basic("me", "secret"))) as registry:
        remote = f"{registry.address}/demo/app"
        env = {name: value for name, value in os.environ.items() if "MULTI_FETCH" not in name}
        with Worker(remote, env=env) as worker, pytest.raises(UnauthorizedError):
            worker.submit("latest").read()
        env |= {"MULTI_FETCH_USERNAME": "me", "MULTI_FETCH_PASSWORD": "secret"}
        with Worker(remote, env=env) as worker:
            assert worker.submit("latest").read()


def test_a_dead_worker_whose_pipes_somebody_holds_is_noticed_and_what_it_left_is_read() -> None:
    script = """
import time
hello(); line(); line()
if not os.fork():
    # It holds stdin, stdout and stderr.
    time.sleep(60)
    os._exit(0)
whole(1, b"left in the pipe" * 10_000)
sys.stderr.write("its last words")
sys.stderr.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""
    with Worker("app", command=fake(script)) as worker:
        answers = [worker.submit(each) for each in "abc"]
        begun_at = time.monotonic()
        assert answers[0].read() == b"left in the pipe" * 10_000
        for answer in answers[1:]:
            with pytest.raises(WorkerDiedError, match="SIGKILL") as caught:
                answer.read()
            assert caught.value.stderr_lines == ("its last words",)
        assert time.monotonic() - begun_at < 30


def test_wrong_usage_is_told_with_the_workers_own_words() -> None:
    with Worker("not a remote") as worker, pytest.raises(WorkerDiedError) as caught:
        worker.hello()
    assert caught.value.exit_status == 2
    assert any("not a remote" in line for line in caught.value.stderr_lines)


# --- no deadlock ------------------------------------------------------------------------------

ANSWERING = """
hello(window=64)
number = 0
while asked := line():
    number += 1
    whole(number, asked.encode())
"""


@pytest.mark.timeout(600)  # so many, on any machine
def test_100_000_requests_may_be_submitted_before_anything_is_read() -> None:
    with Worker("app", command=fake(ANSWERING), memory_bytes=100_000) as worker:
        answers = [worker.submit(f"o{number}") for number in range(100_000)]
        assert answers[-1].read() == b"o99999"
        assert all(
            answer.read() == f"o{number}".encode() for number, answer in enumerate(answers[:-1])
        )


def test_20_000_bad_requests_to_a_real_worker_do_not_stop_it(repository: Repository) -> None:
    with Worker(repository.remote) as worker:
        answers = [worker.submit("not/an/object") for _ in range(20_000)]
        with pytest.raises(InvalidRequestError):
            answers[-1].read()
        assert all(answer.is_done for answer in answers[:-1_100])


def test_an_object_that_is_never_read_does_not_stop_the_others(repository: Repository) -> None:
    """It is far larger than all pipes and buffers and the memory that it may have."""
    bound = 1024 * 1024
    with Worker(repository.remote, jobs=2, memory_bytes=bound) as worker:
        unread = [worker.submit(repository.large.digest) for _ in range(10)]
        for _ in range(20):
            assert worker.submit(repository.small.digest).read() == SMALL
            assert worker.submit(repository.large.digest).read() == LARGE
        for answer in unread:
            answer.wait()
        assert unread[3].read() == LARGE


def test_a_worker_that_reads_nothing_does_not_stop_its_parent_from_reading() -> None:
    script = """
hello(window=1_000_000)
line()
begin(1)
data(1, 0, b"x")
signal.pause()
"""
    with Worker("app", command=fake(script)) as worker:
        first = worker.submit("latest")
        for _ in range(1000):
            worker.submit("a" * 1000)
        assert next(iter(first)) == b"x"


def test_a_worker_that_floods_stderr_is_read_all_the_same() -> None:
    script = """
hello()
for _ in range(10_000):
    sys.stderr.write("noise " * 20 + "\\n")
line()
whole(1, b"done")
until_closed()
"""
    with Worker("app", command=fake(script)) as worker:
        assert worker.submit("latest").read() == b"done"


def test_threads_may_share_a_worker(repository: Repository) -> None:
    with Worker(repository.remote, window=3) as worker:
        contents: list[bytes] = []

        def fetch() -> None:
            contents.extend(worker.submit(repository.small.digest).read() for _ in range(20))

        threads = [threading.Thread(target=fetch) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert contents == [SMALL] * 100


# --- the end ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of a process with threads
def test_a_fork_is_told_that_the_worker_is_not_its_own_and_does_the_worker_no_harm(
    repository: Repository,
) -> None:
    with Worker(repository.remote) as worker:
        answer = worker.submit(repository.small.digest)
        pid = os.fork()
        if not pid:
            refusals = 0
            for use in (answer.read, worker.hello, lambda: worker.submit("latest")):
                try:
                    use()
                except RuntimeError:
                    refusals += 1
            answer.cancel()
            worker.__exit__(None, None, None)
            os._exit(refusals)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
        assert answer.read() == SMALL
        assert worker.submit("latest").descriptor.media_type


def test_leaving_cancels_what_is_open_and_reaps_the_process() -> None:
    with Worker("app", command=fake("hello(); line(); begin(1); signal.pause()")) as worker:
        pid = int(worker.hello().software)
        answers = [worker.submit("latest") for _ in range(10)]
    assert not is_alive(pid)
    for answer in answers:
        with pytest.raises(RequestCancelledError):
            answer.read()
    with pytest.raises(RequestCancelledError):
        worker.submit("latest")


def test_leaving_by_an_error_ends_the_process_too_and_lets_the_error_through() -> None:
    pids = []

    def fail() -> None:
        with Worker("app", command=fake("hello(); signal.pause()")) as worker:
            pids.append(int(worker.hello().software))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not is_alive(pids[0])


def test_a_worker_that_ignores_sigterm_is_killed_after_the_grace() -> None:
    script = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
hello()
while True:
    signal.pause()
"""
    with Worker("app", command=fake(script), grace_seconds=0.1) as worker:
        pid = int(worker.hello().software)
    assert not is_alive(pid)


def test_a_worker_that_says_bye_and_stays_is_over_all_the_same() -> None:
    script = "hello(); line(); bye(); signal.pause()"
    with Worker("app", command=fake(script), grace_seconds=0.1) as worker:
        answer = worker.submit("latest")
        with pytest.raises(WorkerDiedError):
            answer.read()


def test_leaving_wakes_a_thread_that_waits_for_an_answer() -> None:
    failures: list[MultiFetchError] = []

    def read(answer: Answer) -> None:
        try:
            answer.read()
        except MultiFetchError as error:
            failures.append(error)

    with Worker("app", command=fake("hello(); signal.pause()")) as worker:
        thread = threading.Thread(target=read, args=[worker.submit("latest")])
        thread.start()
    thread.join()
    assert isinstance(failures[0], RequestCancelledError)


@pytest.mark.parametrize(("death", "status"), DEATHS)
def test_a_worker_that_dies_leaves_one_clear_error_for_each_open_request(
    death: str, status: int
) -> None:
    with Worker("app", command=fake(DYING + death)) as worker:
        answers = [worker.submit(f"o{number}") for number in range(8)]
        assert answers[0].read() == b"whole"
        errors = []
        for answer in answers[1:]:
            with pytest.raises(WorkerDiedError) as caught:
                answer.read()
            errors.append(caught.value)
        assert len(set(map(id, errors))) == len(errors)
        assert {error.exit_status for error in errors} == {status}
        assert {error.stderr_lines for error in errors} == {("its last words",)}
        assert "its last words" in str(errors[0])
        with pytest.raises(WorkerDiedError):
            worker.submit("latest")


def test_what_came_of_an_answer_is_given_before_its_worker_dies_and_then_the_error() -> None:
    with Worker("app", command=fake(DYING)) as worker:
        worker.submit("o1")
        pieces = iter(worker.submit("o2"))
        assert next(pieces) == b"a part"
        worker.submit("o3")
        with pytest.raises(WorkerDiedError):
            next(pieces)


@pytest.mark.parametrize(
    "lie",
    [
        "data(1, 0, b'x')",
        "begin(1); data(1, 5, b'x')",
        "begin(1); data(1, 0, b'x'); end(1, 7)",
        "begin(1); data(1, 0, b'x'); end(1, 1, 'sha256:' + '1' * 64)",
        "begin(1); begin(1)",
        "begin(-5, parent=77)",
        "error(98)",
        "begin(1); end(1, children=1)",
        "raw(packed('bye', 0, 0, 0, 0, {}) + packed('end', 1, 0, None, 0))",  # in one piece
        "raw(b'Traceback (most recent call last)')",
        "raw(struct.pack('>I', 3) + b'xyz')",
    ],
)
def test_a_worker_that_breaks_the_protocol_is_ended_and_nothing_of_it_counts(lie: str) -> None:
    with Worker("app", command=fake(f"hello(); line(); {lie}; signal.pause()")) as worker:
        pid = int(worker.hello().software)
        with pytest.raises(WorkerDiedError, match="broke the protocol"):
            worker.submit("latest").read()
        with pytest.raises(WorkerDiedError):
            worker.submit("latest").read()
    assert not is_alive(pid)


def test_a_worker_of_another_version_is_a_clear_error() -> None:
    with Worker("app", command=fake("hello(version=2); signal.pause()")) as worker:
        with pytest.raises(UnknownVersionError, match="version 2"):
            worker.hello()
        with pytest.raises(UnknownVersionError):
            worker.submit("latest")


def test_what_a_worker_says_of_itself_and_in_later_words_does_no_harm() -> None:
    script = """
hello()
line()
error(0, "internal")
send("made-up-later", 1, 2, 3)
whole(1, b"good")
until_closed()
"""
    with Worker("app", command=fake(script)) as worker:
        assert worker.submit("latest").read() == b"good"


# --- again ------------------------------------------------------------------------------------


def counting(folder: Path, first: str, then: str) -> list[str]:
    """A worker that is another one the second time."""
    marker = str(folder / "marker")
    choice = f"second = os.path.exists({marker!r}); open({marker!r}, 'w').close()\n"
    return fake(f"{choice}exec({then!r} if second else {first!r})")


def test_a_dead_worker_is_restarted_with_what_is_unanswered(tmp_path: Path) -> None:
    command = counting(tmp_path, DYING, ANSWERING)
    with Worker("app", command=command) as worker:
        answers = [worker.submit(f"o{number}", "a:b") for number in range(8)]
        for answer in answers:
            answer.wait()
        again = worker.restart()
        assert [answer.read() for answer in again] == [b"o%d a:b" % n for n in range(1, 8)]
        assert [answer.hints for answer in again] == [("a:b",)] * 7
        assert isinstance(answers[3].error, WorkerDiedError)
        assert worker.restart() == []
        assert worker.submit("more").read() == b"more"


def test_a_worker_that_runs_is_ended_by_a_restart() -> None:
    with Worker("app", command=fake("hello(); signal.pause()")) as worker:
        pid = int(worker.hello().software)
        old = worker.submit("latest")
        (new,) = worker.restart()
        assert not is_alive(pid)
        assert isinstance(old.error, RequestCancelledError)
        assert not new.is_done
        assert is_alive(int(worker.hello().software))


# --- use --------------------------------------------------------------------------------------


def test_a_command_that_is_not_there_fails_on_entering() -> None:
    with pytest.raises(FileNotFoundError), Worker("app", command=["./not-there"]):
        pass


def test_a_worker_is_entered_once_and_before_its_use() -> None:
    worker = Worker("app", command=fake("hello(); signal.pause()"))
    with pytest.raises(RuntimeError, match="enter the worker first"):
        worker.submit("latest")
    with worker, pytest.raises(RuntimeError, match="entered already"):
        worker.__enter__()


def test_content_that_cannot_be_kept_fails_its_own_request(tmp_path: Path) -> None:
    script = "hello(); line(); whole(1, b'x'); line(); begin(2); end(2); until_closed()"
    folder = str(tmp_path / "missing")
    with Worker("app", command=fake(script), memory_bytes=0, spool_folder=folder) as worker:
        failed, good = worker.submit("latest"), worker.submit("latest")
        with pytest.raises(MultiFetchError, match="could not be kept"):
            failed.read()
        assert good.read() == b""
