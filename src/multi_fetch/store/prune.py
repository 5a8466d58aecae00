"""What of a store may go, least recently used first. All here blocks, but ``plan``, which is pure.

What index.json reaches stays. If names may go too, the least recently used name goes first, and
with it what no other name reaches: so an image is there as a whole, or its name is not.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.durations import STORE_LOCK_SECONDS
from multi_fetch.store.beneath import folder_beneath, regular_file
from multi_fetch.store.catalogue import Catalogue
from multi_fetch.store.folder import INDEX_LOCK, INGEST_FOLDER, machine
from multi_fetch.store.lock import Lock, is_at, locked, try_lock
from multi_fetch.store.reach import note_reached
from multi_fetch.store.records import Records
from multi_fetch.store.survey import children_in, is_used_since, kept_in, roots_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from multi_fetch.store.folder import StoreFolder
    from multi_fetch.store.names import Names
    from multi_fetch.store.reach import Children
    from multi_fetch.store.survey import Kept

# What was used in this time is not pruned, unless an age says so: a parent may just have been told
# of it. Twice the step in which uses are noted.
USE_SECONDS: Final = 2 * 3600.0

# Unfinished files that were not written for so long are pruned: a day, as containerd's leases.
REST_SECONDS: Final = 24 * 3600.0


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


def plan(catalogue: Catalogue, children_of: Children, wanted: Wanted, now: float) -> None:
    """Chooses what goes, and notes it in the catalogue.

    Args:
        catalogue: of the store.
        children_of: as for ``note_reached``.
        wanted: how much.
        now: in seconds since 1970. What was used a moment ago stays, unless the age says otherwise.
    """
    order = catalogue.order()
    note_reached(catalogue, order, children_of)
    catalogue.index_ranks()
    total = catalogue.total_bytes()
    for each in catalogue.last_reached_by(None):
        if not _goes(each.used, total, wanted, now):
            break  # those that follow were used later
        catalogue.drop(each)
        total -= each.size
    for rank, number in enumerate(order if wanted.may_names_go else ()):
        if not _goes(catalogue.entry(number).used, total, wanted, now):
            break
        catalogue.strike(number)
        for each in catalogue.last_reached_by(rank):
            catalogue.drop(each)
            total -= each.size


def _goes(used: float, total: int, wanted: Wanted, now: float) -> bool:
    """Whether what was last used then goes, while there is so much in all."""
    unused_seconds = now - used
    if wanted.unused_seconds is not None and unused_seconds >= wanted.unused_seconds:
        return True
    if wanted.most_bytes is not None:
        return total > wanted.most_bytes and unused_seconds >= USE_SECONDS
    return wanted.unused_seconds is None and unused_seconds >= USE_SECONDS


@contextmanager
def prune(
    folder: StoreFolder, names: Names, wanted: Wanted, *, is_dry: bool
) -> Iterator[Catalogue]:
    """Removes what may go, beside whoever uses the store.

    Args:
        folder: the store's.
        names: of it.
        wanted: how much.
        is_dry: whether it is only said what would go: then nothing is written, and no lock held.

    Yields:
        The catalogue, which has noted what went.

    Raises:
        TimeoutError: index.json is locked all the time.
        MultiFetchError: it cannot be read.
        OSError: the system cannot remove something.
    """
    with ExitStack() as stack:
        with nullcontext() if is_dry else locked(folder.index_lock, STORE_LOCK_SECONDS):
            catalogue = stack.enter_context(Catalogue(roots_in(folder), kept_in(folder)))
            plan(catalogue, partial(children_in, folder), wanted, time.time())
            if is_dry:
                for each in catalogue.dropped():
                    if not folder.may_remove(each.digest):
                        catalogue.refuse(each)
            else:
                names.forget({each.digest for each in catalogue.struck()})
                for each in catalogue.dropped():
                    _remove(folder, catalogue, each)
                Records(folder).tidy()
        for ingests, name in _rests(folder, wanted):
            if is_dry or _remove_rest(ingests, name):
                catalogue.leave_rest(name)
        yield catalogue


def _remove(folder: StoreFolder, catalogue: Catalogue, kept: Kept) -> None:
    """Removes content, unless somebody has used it since it was listed.

    Who uses content holds no lock, so this is the last look at it.
    """
    with suppress(FileNotFoundError):  # somebody was faster
        if is_used_since(folder, kept):
            catalogue.spare(kept)
            return
    if not folder.try_remove(kept.digest):
        catalogue.refuse(kept)


def _rests(folder: StoreFolder, wanted: Wanted) -> Iterator[tuple[int, str]]:
    """Unfinished files that were not written for long: their folder, open, and their names."""
    age = REST_SECONDS if wanted.unused_seconds is None else wanted.unused_seconds
    with ExitStack() as stack:
        try:
            ingests = stack.enter_context(folder_beneath(folder.path, INGEST_FOLDER))
        except FileNotFoundError:
            return  # a layout that others made, and that is only looked at
        for entry in stack.enter_context(os.scandir(ingests)):
            status = regular_file(ingests, entry.name)
            if entry.name == INDEX_LOCK or status is None:
                continue
            is_ours = f".{machine()}" in entry.name
            # Who writes on another machine holds no lock that is seen here.
            least = age if is_ours else max(age, REST_SECONDS)
            if time.time() - status.st_mtime >= least:
                yield ingests, entry.name


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
