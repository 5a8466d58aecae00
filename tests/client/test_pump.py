from __future__ import annotations

import gc
import signal
import sys
import threading
from itertools import count
from typing import TYPE_CHECKING

import pytest

from multi_fetch.client.launch import plan_launch
from multi_fetch.client.pump import Pump
from multi_fetch.errors import RequestCancelledError, WorkerDiedError
from tests.client.conftest import open_files
from tests.client.fakes import SILENT, fake

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from _typeshed import TraceFunction


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


def interrupting(moment: int, interrupt: Callable[[], None]) -> TraceFunction:
    """Calls ``interrupt`` at the n-th step of this thread, as a signal may."""
    steps = iter(range(moment))

    def trace(frame: FrameType, event: str, argument: object) -> TraceFunction | None:
        if next(steps, None) is None:
            sys.settrace(None)
            interrupt()
            return None
        return trace

    return trace


def waits_though_interrupted(pump: Pump, moment: int) -> bool:
    """Waits for an answer; whether that took so many steps that it was cancelled within."""
    with pump.lock:
        exchange = pump.session.submit("latest")
    interrupted = threading.Event()

    def interrupt() -> None:
        interrupted.set()
        pump.cancel(exchange)

    def wait() -> None:
        sys.settrace(interrupting(moment, interrupt))
        pump.wait(lambda: exchange.is_done, exchange.watch)
        sys.settrace(None)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    is_within = interrupted.wait(0.2)
    if not is_within:
        pump.cancel(exchange)
    elif pump.lock.acquire(timeout=1):  # or it takes until the thread's next look
        pump.wake()
        pump.lock.release()
    waiting.join(10)
    assert not waiting.is_alive(), f"at step {moment}"
    return is_within


def test_a_cancel_may_interrupt_who_waits_at_any_step() -> None:
    pump = start("hello(); until_closed()")
    wait_started(pump)
    steps = next(moment for moment in count() if not waits_though_interrupted(pump, moment))
    assert steps > 10
    pump.close()


def test_cancels_that_interrupt_each_other_do_not_pile_up() -> None:
    pump = start("hello(); until_closed()")
    wait_started(pump)
    with pump.lock:
        exchanges = [pump.session.submit("latest") for _ in range(2)]
    before = signal.signal(signal.SIGALRM, lambda *_: pump.cancel(exchanges[1]))
    try:
        with pump.lock:
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            for _ in range(20):
                pump.cancel(exchanges[0])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    pump.wait(lambda: all(each.is_done for each in exchanges), exchanges[0].watch)
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


@pytest.mark.parametrize(("script", "seconds"), SILENT)
def test_a_worker_that_stands_still_and_owes_something_is_killed_after_the_idle_timeout(
    script: str, seconds: float
) -> None:
    pump = Pump(plan_launch("app", {"command": fake(script), "idle_timeout": seconds}))
    with pump.lock:
        exchange = pump.session.submit("latest")
        pump.wake()
    pump.wait(lambda: exchange.is_done, exchange.watch)
    assert isinstance(exchange.failure, WorkerDiedError)
    assert (exchange.begin is not None) is ("begin" in script)
    assert exchange.failure.exit_status == -signal.SIGKILL
    assert f"said nothing for {seconds} s (idle_timeout)" in exchange.failure.message
    assert "so it was ended by SIGKILL" in exchange.failure.message
    pump.close()
