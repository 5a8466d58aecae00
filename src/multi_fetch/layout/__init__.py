"""A remote in a folder or an archive: the OCI image layouts of image-spec. No network, no httpx.

From the outside in: ``open_layout`` makes a ``LayoutRemote`` (remote.py), which asks ``Contents``
what its objects are (contents.py), who opens files of a ``Folder`` or an ``Archive``. All that
blocks runs in threads, by way of a ``Loan`` (loan.py).
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from multi_fetch.errors import InvalidReferenceError
from multi_fetch.layout.archive import Archive
from multi_fetch.layout.folder import Folder
from multi_fetch.layout.remote import LayoutRemote
from multi_fetch.oci.reference import ARCHIVE
from multi_fetch.shelf import Shelves

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from multi_fetch.oci.reference import Reference


class Sharing(Protocol):
    """What several remotes share."""

    shelves: Shelves


@asynccontextmanager
async def open_layout(
    ref: Reference, *, shared: Sharing | None = None, **unused: object
) -> AsyncIterator[LayoutRemote]:
    """The remote of a layout; it is looked at only when an object is asked for.

    Args:
        ref: with the scheme ``oci`` or ``oci-archive``.
        shared: has the shelves for its indexes, beside those of others; None for its own.
        unused: all else that ``remotes.open_remote`` takes, which is for registries.

    Raises:
        InvalidReferenceError: the reference has another scheme.
    """
    shelves = Shelves() if shared is None else shared.shelves
    if ref.scheme == "oci":
        yield LayoutRemote(Folder(ref.locator, ref.path), shelves.indexes)
    elif ref.scheme == ARCHIVE:
        archive = Archive(ref.locator, ref.path, shelves.archives)
        yield LayoutRemote(archive, shelves.indexes)
    else:
        raise InvalidReferenceError(f"{ref} is no layout: write oci:<folder>")
