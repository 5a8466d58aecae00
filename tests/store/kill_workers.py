"""Starts workers on one store, four at a time, and kills each at a random instant.

``kill_workers.py <remote> <store> <file of lines> <kills> <seed>``. The workers are forked from a
process that has imported all of them: what is to be killed is their work, not their start.
Prints how many had ended by themselves before.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from multi_fetch.cli import multi_fetch
from multi_fetch.store import open_store  # noqa: F401 - so that no worker has to

AT_A_TIME = 4
LONGEST_SECONDS = 0.4


def start(remote: str, store: str, lines: str) -> int:
    """Forks a worker; gives its process's id."""
    pid = os.fork()
    if pid:
        return pid
    os.dup2(os.open(lines, os.O_RDONLY), 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    flags = ["--store", store, "--jobs", "4", "--log-level", "error"]
    os._exit(multi_fetch.main([*flags, remote]))


def remove_some(store: str, chance: random.Random) -> None:
    """As whoever prunes, so that there is always something to fetch."""
    for path in Path(store, "blobs").glob("*/*"):
        if chance.random() < 0.1:
            path.unlink(missing_ok=True)


def main() -> None:
    """Kills."""
    remote, store, lines, kills, seed = sys.argv[1:]
    chance = random.Random(seed)
    running: list[tuple[float, int]] = []
    ended = 0
    for _ in range(int(kills)):
        while len(running) < AT_A_TIME:
            running.append(
                (time.monotonic() + chance.uniform(0, LONGEST_SECONDS), start(remote, store, lines))
            )
        running.sort()
        until, pid = running.pop(0)
        time.sleep(max(0.0, until - time.monotonic()))
        os.kill(pid, signal.SIGKILL)
        ended += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != -signal.SIGKILL
        remove_some(store, chance)
    for _, pid in running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    sys.stdout.write(f"{ended}\n")


if __name__ == "__main__":
    main()
