"""What of a store may go, least recently used first. All here blocks, but ``plan``, which is pure.

What index.json reaches stays. If names may go too, the least recently used name goes first, and
with it what no other name reaches: so an image is there as a whole, or its name is not.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.durations import STORE_LOCK_SECONDS
from multi_fetch.store.beneath import folder_beneath, regular_file
from multi_fetch.store.folder import INDEX_LOCK, INGEST_FOLDER, machine
from multi_fetch.store.lock import Lock, is_at, locked, try_lock
from multi_fetch.store.records import Records
from multi_fetch.store.survey import Kept, Root, kept_in, roots_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from multi_fetch.oci.digest import Digest
    from multi_fetch.store.folder import StoreFolder
    from multi_fetch.store.names import Names

# What was used in this time is not pruned, unless an age says so: a parent may just have been told
# of it. Twice the step in which uses are noted.
USE_SECONDS: Final = 2 * 3600.0

# Unfinished files that were not written for so long are pruned: a day, as containerd's leases.
REST_SECONDS: Final = 24 * 3600.0

NEVER: Final = float("-inf")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is to go.

    Attributes:
        unused_seconds: what was not used for so long.
        most_bytes: as much more as it takes to come down to this. Where neither is given, all
            goes that may.
        may_names_go: whether names of index.json go too, with what they reach.
    """

    unused_seconds: float | None = None
    most_bytes: int | None = None
    may_names_go: bool = False


class Plan(msgspec.Struct, frozen=True):
    """What goes, in this order.

    Attributes:
        content: from the store.
        roots: from index.json, with their names.
    """

    content: tuple[Kept, ...]
    roots: tuple[Root, ...]


class Pruned(msgspec.Struct, frozen=True):
    """What went, or would go.

    Attributes:
        plan: of content and names.
        rests: unfinished files that nobody writes.
    """

    plan: Plan
    rests: tuple[str, ...]


def plan(kept: Iterable[Kept], roots: Sequence[Root], wanted: Wanted, now: float) -> Plan:
    """Chooses what goes.

    Args:
        kept: all content.
        roots: all entries of index.json.
        wanted: how much.
        now: in seconds since 1970. What was used a moment ago stays, unless the age says otherwise.
    """
    there = {each.digest: each for each in kept}
    total = sum(each.size for each in there.values())
    uses = Counter(digest for root in roots for digest in root.reached)
    content: list[Kept] = []
    gone_roots: list[Root] = []

    def drop(each: Kept) -> None:
        nonlocal total
        content.append(each)
        total -= each.size

    for each in sorted((each for each in there.values() if not uses[each.digest]), key=_by_use):
        if _goes(each.used, total, wanted, now):
            drop(each)
    for root in sorted(roots, key=lambda root: _use_of(root, there)) if wanted.may_names_go else ():
        if not _goes(_use_of(root, there), total, wanted, now):
            continue
        gone_roots.append(root)
        uses.subtract(root.reached)
        orphans = (there[each] for each in root.reached if not uses[each] and each in there)
        for each in sorted(orphans, key=_by_use):
            drop(each)
    return Plan(tuple(content), tuple(gone_roots))


def _goes(used: float, total: int, wanted: Wanted, now: float) -> bool:
    """Whether what was last used then goes, while there is so much in all."""
    unused_seconds = now - used
    if wanted.unused_seconds is not None and unused_seconds >= wanted.unused_seconds:
        return True
    if wanted.most_bytes is not None:
        return total > wanted.most_bytes and unused_seconds >= USE_SECONDS
    return wanted.unused_seconds is None and unused_seconds >= USE_SECONDS


def prune(folder: StoreFolder, names: Names, wanted: Wanted, *, is_dry: bool) -> Pruned:
    """Removes what may go, beside whoever uses the store.

    Args:
        folder: the store's.
        names: of it.
        wanted: how much.
        is_dry: whether it is only said what would go.

    Raises:
        TimeoutError: index.json is locked all the time.
        MultiFetchError: it cannot be read.
        OSError: the system cannot remove something.
    """
    with folder_beneath(folder.path, INGEST_FOLDER) as ingests:
        with locked(folder.index_lock, STORE_LOCK_SECONDS):
            found = plan(kept_in(folder), roots_in(folder), wanted, time.time())
            if not is_dry:
                names.forget({root.descriptor.digest for root in found.roots})
                for each in found.content:
                    folder.remove(each.digest)
                Records(folder).tidy()
        rests = [name for name in _rests(ingests, wanted) if is_dry or _remove_rest(ingests, name)]
    return Pruned(found, tuple(rests))


def _rests(ingests: int, wanted: Wanted) -> Iterable[str]:
    """Unfinished files, in an open folder, that were not written for long."""
    age = REST_SECONDS if wanted.unused_seconds is None else wanted.unused_seconds
    for name in sorted(os.listdir(ingests)):
        status = regular_file(ingests, name)
        if name == INDEX_LOCK or status is None:
            continue
        is_ours = f".{machine()}" in name
        # Who writes on another machine holds no lock that is seen here.
        least = age if is_ours else max(age, REST_SECONDS)
        if time.time() - status.st_mtime >= least:
            yield name


def _remove_rest(ingests: int, name: str) -> bool:
    """Removes an unfinished file, unless somebody writes it."""
    try:
        fd = os.open(name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=ingests)
    except FileNotFoundError:
        return False
    try:
        if try_lock(fd) is Lock.TAKEN or not is_at(fd, name, ingests):
            return False
        with suppress(FileNotFoundError):  # somebody was faster
            os.unlink(name, dir_fd=ingests)
        return True
    finally:
        os.close(fd)


def _by_use(kept: Kept) -> tuple[float, Digest]:
    return kept.used, kept.digest


def _use_of(root: Root, there: dict[Digest, Kept]) -> float:
    found = there.get(root.descriptor.digest)
    return NEVER if found is None else found.used
