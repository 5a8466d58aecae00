"""Starts workers on one layout, four at a time, kills each at a random instant, and looks at it.

``kill_into.py <remote> <folder> <file of lines> <kills> <seed>``. The workers are forked from a
process that has imported all of them: what is to be killed is their work, not their start. After
each kill, while the others go on, all that index.json names must be there, with all below it.
Writes how many had ended by themselves before.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from multi_fetch.cli import multi_fetch
from multi_fetch.oci.layout import blob_name, parse_layout_index
from multi_fetch.oci.manifest import is_manifest, parse_manifest
from multi_fetch.store import remote as imported

AT_A_TIME = 4
LONGEST_SECONDS = 0.4
# So that no worker has to do it.
IMPORTED = (imported,)


def start(remote: str, folder: str, lines: str) -> int:
    """Forks a worker; gives its process's id."""
    pid = os.fork()
    if pid:
        return pid
    os.dup2(os.open(lines, os.O_RDONLY), 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    flags = ["--into", folder, "--jobs", "4", "--log-level", "error"]
    os._exit(multi_fetch.main([*flags, remote]))


def check_index(folder: Path) -> int:
    """How many names there are, all of whole images.

    Raises:
        FileNotFoundError: something that is named is not there.
        RegistryError: index.json, or a manifest, cannot be read.
    """
    try:
        content = (folder / "index.json").read_bytes()
    except FileNotFoundError:
        return 0
    index = parse_layout_index(content)
    left = list(index.manifests)
    while left:
        found = left.pop()
        path = folder / blob_name(found.digest)
        assert path.stat().st_size == found.size, path
        if is_manifest(found.media_type):
            left += parse_manifest(path.read_bytes(), found.media_type).children()
    return len(index.tags)


def main() -> None:
    """Kills."""
    remote, folder, lines, kills, seed = sys.argv[1:]
    chance = random.Random(seed)
    running: list[tuple[float, int]] = []
    ended = 0
    for _ in range(int(kills)):
        while len(running) < AT_A_TIME:
            until = time.monotonic() + chance.uniform(0, LONGEST_SECONDS)
            running.append((until, start(remote, folder, lines)))
        running.sort()
        until, pid = running.pop(0)
        time.sleep(max(0.0, until - time.monotonic()))
        os.kill(pid, signal.SIGKILL)
        ended += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != -signal.SIGKILL
        check_index(Path(folder))
    for _, pid in running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    check_index(Path(folder))
    sys.stdout.write(f"{ended}\n")


if __name__ == "__main__":
    main()
