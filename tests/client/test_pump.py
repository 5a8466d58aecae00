from __future__ import annotations

import gc
import signal
import threading

import pytest

from multi_fetch.client.launch import plan_launch
from multi_fetch.client.pump import Pump
from multi_fetch.errors import RequestCancelledError, WorkerDiedError
from tests.client.conftest import open_files
from tests.client.fakes import fake


def start(script: str) -> Pump:
    return Pump(plan_launch("app", {"command": fake(script)}))


def wait_started(pump: Pump) -> None:
    pump.wait(lambda: pump.session.is_started, pump.session.watch)


def test_a_worker_that_died_leaves_no_thread_or_file_even_before_it_is_closed() -> None:
    gc.collect()
    before = open_files()
    pump = start("sys.exit(3)")
    wait_started(pump)
    with pytest.raises(WorkerDiedError):
        pump.session.started()
    pump._thread.join()
    assert pump._thread not in threading.enumerate()
    assert open_files() == before
    pump.close()


def test_it_may_be_closed_often_and_woken_afterwards() -> None:
    pump = start("hello(); signal.pause()")
    wait_started(pump)
    pump.close()
    pump.close()
    with pump.lock:
        pump.wake()
        with pytest.raises(RequestCancelledError):
            pump.session.submit("latest")


def test_a_cancel_that_interrupts_who_holds_the_lock_is_done_once_that_is_free() -> None:
    # The garbage collector closes a listing that was left, in any thread, at any time.
    pump = start("hello(); line(); begin(1); until_closed()")
    with pump.lock:
        exchange = pump.session.submit("latest")
        pump.wake()
    pump.wait(lambda: exchange.has_begun, exchange.watch)
    with pump.lock:
        pump.cancel(exchange)
        assert not exchange.is_done
    pump.wait(lambda: exchange.is_done, exchange.watch)
    assert isinstance(exchange.failure, RequestCancelledError)
    pump.close()


def test_it_may_be_closed_before_the_worker_has_said_anything() -> None:
    pump = start("signal.pause()")
    pump.close()
    with pytest.raises(RequestCancelledError):
        pump.session.started()


def test_a_worker_that_closes_stdin_is_heard_to_its_end() -> None:
    script = """
hello(window=1000)
line()
os.close(0)
begin(1)
data(1, 0, b"heard")
end(1, 5)
"""
    pump = start(script)
    with pump.lock:
        first = pump.session.submit("latest")
        # More than a pipe holds, so that writing goes on when the worker has closed its end.
        others = [pump.session.submit("a" * 60_000) for _ in range(100)]
        pump.wake()
    pump.wait(lambda: others[-1].is_done, others[-1].watch)
    with pump.lock:
        assert first.take() == b"heard"
        assert {type(other.failure) for other in others} == {WorkerDiedError}
    pump.close()


def test_a_worker_that_closes_stdout_alone_keeps_its_exit_status() -> None:
    pump = start("hello(); os.close(1); until_closed(); sys.stdout = None; os._exit(9)")
    with pump.lock:
        exchange = pump.session.submit("latest")
        pump.wake()
    pump.wait(lambda: exchange.is_done, exchange.watch)
    assert isinstance(exchange.failure, WorkerDiedError)
    assert exchange.failure.exit_status == 9
    pump.close()


def test_what_a_worker_leaves_behind_cannot_keep_it_open_by_writing_to_stderr() -> None:
    script = """
if not os.fork():
    os.close(0), os.close(1)
    try:
        while True:
            os.write(2, b"x" * 65_536)
    except OSError:
        os._exit(0)
hello()
os._exit(3)
"""
    pump = start(script)
    wait_started(pump)
    pump.close()
    assert not pump._thread.is_alive()


STOPPED = "os.kill(os.getpid(), signal.SIGSTOP)"


@pytest.mark.parametrize("script", [STOPPED, f"hello(); line(); begin(1); {STOPPED}"])
def test_a_worker_that_stands_still_and_owes_something_is_killed_after_the_idle_timeout(
    script: str,
) -> None:
    pump = Pump(plan_launch("app", {"command": fake(script), "idle_timeout": 0.25}))
    with pump.lock:
        exchange = pump.session.submit("latest")
        pump.wake()
    pump.wait(lambda: exchange.is_done, exchange.watch)
    assert isinstance(exchange.failure, WorkerDiedError)
    assert exchange.failure.exit_status == -signal.SIGKILL
    assert "said nothing for 0.25 s (idle_timeout)" in exchange.failure.message
    assert "so it was ended by SIGKILL" in exchange.failure.message
    pump.close()
