"""Locks: one holder, none that is stale, and a way on where there are none."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from multi_fetch.store.beneath import folder_beneath
from multi_fetch.store.lock import Lock, is_at, locked, try_lock

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import sys
from pathlib import Path
from multi_fetch.store.lock import locked
with locked(Path(sys.argv[1]), 1):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(TimeoutError, match="locked by another process"), locked(path, 0.05):
        pytest.fail("two hold it")
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with locked(path, 0.05):
        assert path.exists()
    holder.stdin.close()
    holder.stdout.close()


def test_two_openings_exclude_each_other_in_one_process_too(tmp_path: Path) -> None:
    first, second = (os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    assert (try_lock(first), try_lock(second)) == (Lock.HELD, Lock.TAKEN)
    os.close(first)
    assert try_lock(second) is Lock.HELD
    os.close(second)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM])
def test_a_file_system_without_locks_says_so_and_the_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (tmp_path / "lock").open("wb") as file:
        assert try_lock(file.fileno()) is Lock.UNKNOWN
    with locked(tmp_path / "lock", 0):
        pass


def test_other_errors_are_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output"), locked(tmp_path / "lock", 1):
        pass


def test_a_file_that_was_moved_or_replaced_is_not_at_its_name(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with folder_beneath(tmp_path) as folder, path.open("wb") as file:
        assert is_at(file.fileno(), "file", folder)
        path.rename(tmp_path / "moved")
        assert not is_at(file.fileno(), "file", folder)
        path.write_bytes(b"")
        assert not is_at(file.fileno(), "file", folder)


def test_a_lock_is_not_made_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "ingest").symlink_to(tmp_path / "outside")
    with pytest.raises(NotADirectoryError), locked(tmp_path / "ingest" / "lock", 1):
        pass
    assert list((tmp_path / "outside").iterdir()) == []
