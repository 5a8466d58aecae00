"""Starts one client and tells what it took: ``launch.py <fd> <command> [<argument> ...]``.

A process of its own, and a small one: a child begins with the peak memory of the process that
started it, and the bench's would hide that of a lean client. Run it with ``python -I -S``. To the
file descriptor it writes a line: the client's start (time.monotonic), its exit status, its CPU
seconds, its peak memory as getrusage(2) gives it.
"""

import os
import sys
import time


def main(report: int, argv: list[str]) -> None:
    os.set_inheritable(report, False)
    started = time.monotonic()
    pid = os.posix_spawnp(argv[0], argv, os.environ)
    # Only the client holds its ends now: who reads from it sees its end.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    _, status, usage = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    line = f"{started} {code} {usage.ru_utime + usage.ru_stime} {usage.ru_maxrss}\n"
    os.write(report, line.encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
