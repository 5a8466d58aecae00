"""A local store before a remote: an OCI image layout in which content is kept by its digest.

From the outside in: ``open_store`` puts a ``StoredRemote`` (remote.py) before a remote. That reads
by way of ``Reading`` (reading.py) and ``Blobs`` (blobs.py); what it fetches, a ``Keeper``
(keeper.py) claims a file for (ingest.py), has it written while it flows (writing.py), and gives it
its name once whoever consumes it has verified it (``Opened.keep``). ``Names`` (names.py) has the
tags. All that blocks runs in threads.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeGuard

import msgspec
import trio

from multi_fetch.layout.loan import Threads
from multi_fetch.limits import STORE_LOCK_SECONDS
from multi_fetch.remotes import Foreign
from multi_fetch.store.blobs import Blobs
from multi_fetch.store.folder import StoreFolder
from multi_fetch.store.keeper import Keeper
from multi_fetch.store.names import Names
from multi_fetch.store.nobody import Nobody
from multi_fetch.store.reading import Reading
from multi_fetch.store.remote import ForeignToo, Parts, StoredForeignRemote, StoredRemote
from multi_fetch.store.troubles import Troubles
from multi_fetch.store.writing import WriteThread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from multi_fetch.remotes import Remote


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a store is used.

    Attributes:
        path: of its folder.
        is_required: whether a request fails if its content cannot be kept.
        is_checked: whether content is hashed as a whole before it is given.
        is_offline: whether nobody else is asked; for whoever chooses between ``open_store`` and
            ``open_offline``.
    """

    path: str
    is_required: bool = False
    is_checked: bool = False
    is_offline: bool = False


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
    """A store as a remote: nobody else is asked, and nothing is written."""
    parts = _parts(settings, None)
    yield StoredRemote(Nobody(f"the store {settings.path}", parts.names, parts.threads), parts)


def _parts(settings: StoreSettings, writes: WriteThread | None) -> Parts:
    """A store's parts; without a thread to write in, it is read alone."""
    folder, threads = StoreFolder(settings.path), Threads()
    troubles = Troubles(folder.name)
    keeper = None
    if writes is not None:
        keeper = Keeper(folder, threads, writes, troubles, is_required=settings.is_required)
    return Parts(
        reading=Reading(Blobs(folder, is_checked=settings.is_checked), threads, troubles),
        names=Names(folder),
        keeper=keeper,
        threads=threads,
        troubles=troubles,
    )


def _is_foreign(remote: Remote) -> TypeGuard[ForeignToo]:
    return isinstance(remote, Foreign)
