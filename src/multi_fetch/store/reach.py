"""What index.json reaches, by way of the manifests that are there. All here blocks.

The most recently used entry is looked at first, so what an entry is the first to reach here would
be reached by nothing once that entry has gone, and all that were less recently used. Each manifest
is read once, and what is still to be read waits in the catalogue: so depth, cycles and indexes that
thousands of others share cost neither memory nor time again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeAlias

from multi_fetch.errors import MultiFetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.oci.digest import Digest
    from multi_fetch.store.catalogue import Catalogue

    Children: TypeAlias = Callable[[Digest], Sequence[Descriptor]]

log = logging.getLogger(__name__)


def note_reached(catalogue: Catalogue, order: Sequence[int], children_of: Children) -> None:
    """Notes of all content which entry is the last to reach it.

    An entry that leads to a manifest which cannot be looked into, for whatever reason, counts as
    one that reaches all.

    Args:
        catalogue: of the store.
        order: numbers of its entries; the last of them is looked at first.
        children_of: what a manifest of that digest names; ``survey.children_in``.
    """
    for rank in reversed(range(len(order))):
        catalogue.reach(rank, [catalogue.entry(order[rank])])
        while (digest := catalogue.next_unread()) is not None:
            try:
                found = children_of(digest)
            except (MultiFetchError, OSError) as error:
                log.warning(
                    "a manifest cannot be looked into: nothing goes that it may name, until its"
                    " tag has gone, or 'verify --remove' has removed it if it is damaged",
                    extra={"digest": digest, "error": str(error)},
                )
                catalogue.reach_all(rank, digest)
                return
            catalogue.reach(rank, found)
