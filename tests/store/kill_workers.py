"""Starts workers on one folder, four at a time, and kills each at a random instant.

``kill_workers.py <flag> <folder> <remote> <file of lines> <workers> <seed>``. The workers are
forked from a process that has imported all of them: what is to be killed is their work, not their
start. After each kill, while the others go on, content is removed from a store (``--store``), and a
layout (``--into``) is looked at. Prints how many were killed at work: the others had ended before.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from multi_fetch.cli import multi_fetch
from multi_fetch.oci.layout import blob_name, parse_layout_index
from multi_fetch.oci.manifest import is_manifest, parse_manifest
from multi_fetch.store import open_store  # noqa: F401 - so that no worker has to

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

AT_A_TIME = 4
# The longest life of one that is killed: some more than its work takes, within these bounds.
LEAST_SECONDS = 0.4
MOST_SECONDS = 2.5


def start(flag: str, folder: str, remote: str, lines: str) -> int:
    """Forks a worker; gives its process's id."""
    pid = os.fork()
    if pid:
        return pid
    os.dup2(os.open(lines, os.O_RDONLY), 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    flags = [flag, folder, "--jobs", "4", "--log-level", "error"]
    os._exit(multi_fetch.main([*flags, remote]))


def longest_life(flag: str, remote: str, lines: str) -> float:
    """In seconds: as long as a run alone takes here and now."""
    with TemporaryDirectory() as folder:
        began = time.monotonic()
        os.waitpid(start(flag, f"{folder}/d", remote, lines), 0)
        return min(max(LEAST_SECONDS, time.monotonic() - began), MOST_SECONDS)


def remove_some(store: str, chance: random.Random) -> None:
    """As whoever prunes, so that there is always something to fetch."""
    for path in Path(store, "blobs").glob("*/*"):
        if chance.random() < 0.1:
            path.unlink(missing_ok=True)


def count_whole(folder: Path) -> int:
    """How many names there are in index.json, all of whole images.

    Raises:
        FileNotFoundError: something that is named, or is below that, is not there.
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


AFTER_A_KILL: Final[Mapping[str, Callable[[str, random.Random], object]]] = {
    "--store": remove_some,
    "--into": lambda folder, _: count_whole(Path(folder)),
}


def main() -> None:
    """Kills."""
    flag, folder, remote, lines, workers, seed = sys.argv[1:]
    chance, longest = random.Random(seed), longest_life(flag, remote, lines)
    running: list[tuple[float, int]] = []
    killed = 0
    for _ in range(int(workers)):
        while len(running) < AT_A_TIME:
            until = time.monotonic() + chance.uniform(0, longest)
            running.append((until, start(flag, folder, remote, lines)))
        running.sort()
        until, pid = running.pop(0)
        time.sleep(max(0.0, until - time.monotonic()))
        os.kill(pid, signal.SIGKILL)
        killed += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        AFTER_A_KILL[flag](folder, chance)
    for _, pid in running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    sys.stdout.write(f"{killed}\n")


if __name__ == "__main__":
    main()
