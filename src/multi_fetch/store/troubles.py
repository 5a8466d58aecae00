"""What goes wrong with a store, told once for each cause: a full disk concerns every object."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


class Troubles:
    """Warns of trouble with one store.

    Args:
        store_name: for messages.
    """

    def __init__(self, store_name: str) -> None:
        self._store_name = store_name
        self._told: set[object] = set()

    def tell(self, error: BaseException) -> None:
        """Warns, if there was no warning of that cause.

        Args:
            error: the system's, or one that was raised from such a one.
        """
        origin = error.__cause__ if isinstance(error.__cause__, OSError) else error
        cause = origin.errno if isinstance(origin, OSError) else type(origin)
        if cause in self._told:
            return
        self._told.add(cause)
        log.warning(
            "the store cannot be used: what is wanted is fetched, and not kept",
            extra={"error": f"{self._store_name}: {error}"},
        )
