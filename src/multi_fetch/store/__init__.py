"""A local store before a remote: an OCI image layout in which content is kept by its digest.

From the outside in: ``open_store`` puts a ``StoredRemote`` (remote.py) before a remote. That reads
by way of ``Reading`` (reading.py) and ``Blobs`` (blobs.py); what it fetches, a ``Keeper``
(keeper.py) claims a file for (ingest.py), has it written while it flows (writing.py), and gives it
its name once whoever consumes it has verified it (``Opened.keep``). ``Names`` (names.py) has the
tags. All that blocks runs in threads.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, TypeGuard

import msgspec
import trio

from multi_fetch.durations import STORE_LOCK_SECONDS
from multi_fetch.layout.loan import Threads
from multi_fetch.remotes import Foreign
from multi_fetch.store.blobs import Blobs, Check
from multi_fetch.store.folder import StoreFolder
from multi_fetch.store.keeper import Keeper
from multi_fetch.store.names import Names, bare_tag, tag_with_locator, whole_name
from multi_fetch.store.nobody import Nobody
from multi_fetch.store.reading import Reading
from multi_fetch.store.remote import ForeignToo, Parts, StoredForeignRemote, StoredRemote
from multi_fetch.store.troubles import Troubles
from multi_fetch.store.writing import WriteThread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from multi_fetch.remotes import Remote


class Naming(Enum):
    """What index.json calls what was asked for by a tag, and when.

    Attributes:
        STORE: by its whole reference, once it is kept: many repositories share a store.
        LAYOUT: by its bare tag, once all is there that is wanted of it: as other tools do.
        LAYOUT_OF_MANY: by its whole reference, at the same time.
    """

    STORE = auto()
    LAYOUT = auto()
    LAYOUT_OF_MANY = auto()


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a store is used.

    Attributes:
        path: of its folder.
        naming: what its index.json calls what is in it.
        is_required: whether a request fails if its content cannot be kept.
        check: when content is hashed before it is given.
        is_offline: whether nobody else is asked; for whoever chooses between ``open_store`` and
            ``open_offline``.
    """

    path: str
    naming: Naming = Naming.STORE
    is_required: bool = False
    check: Check = Check.BY_READER
    is_offline: bool = False


STORE_REMEDY: Final = (
    "mend that, name another folder, or leave out --store-only (and --answers paths)"
)
LAYOUT_REMEDY: Final = "mend that and run the same again, or name another folder"

NAMES: Final = {
    Naming.STORE: whole_name,
    Naming.LAYOUT: bare_tag,
    Naming.LAYOUT_OF_MANY: tag_with_locator,
}


@asynccontextmanager
async def open_store(remote: Remote, settings: StoreSettings) -> AsyncIterator[StoredRemote]:
    """A remote with a store before it, which is ``remotes.Foreign`` if the remote is.

    Args:
        remote: what is asked for what the store does not have; open for as long as this is.
        settings: which store, and how.
    """
    with WriteThread() as writes:
        parts = _parts(settings, writes)
        stored = (
            StoredForeignRemote(remote, parts)
            if _is_foreign(remote)
            else StoredRemote(remote, parts)
        )
        try:
            yield stored
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STORE_LOCK_SECONDS):
                await stored.flush()


@asynccontextmanager
async def open_offline(settings: StoreSettings) -> AsyncIterator[StoredRemote]:
    """A store as a remote: nobody else is asked, and no content is written."""
    parts = _parts(settings, None)
    name = _folder(settings).name
    yield StoredRemote(Nobody(name, parts.names, parts.name_of, parts.threads), parts)


def _folder(settings: StoreSettings) -> StoreFolder:
    noun = "store" if settings.naming is Naming.STORE else "layout"
    return StoreFolder(settings.path, noun)


def _parts(settings: StoreSettings, writes: WriteThread | None) -> Parts:
    """A store's parts; without a thread to write in, it is read alone."""
    folder, threads = _folder(settings), Threads()
    troubles = Troubles(folder.name)
    keeper = None
    if writes is not None:
        is_store = settings.naming is Naming.STORE
        keeper = Keeper(
            folder,
            threads,
            writes,
            troubles,
            is_required=settings.is_required,
            remedy=STORE_REMEDY if is_store else LAYOUT_REMEDY,
        )
    return Parts(
        reading=Reading(Blobs(folder, settings.check), threads, troubles, is_last=writes is None),
        names=Names(folder),
        name_of=NAMES[settings.naming],
        is_gathering=settings.naming is not Naming.STORE,
        keeper=keeper,
        threads=threads,
        troubles=troubles,
    )


def _is_foreign(remote: Remote) -> TypeGuard[ForeignToo]:
    return isinstance(remote, Foreign)
