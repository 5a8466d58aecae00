"""The credential for one registry: looked for when it is first wanted, and again once refused.

However many requests want it, one of them looks, and the others take what it found. A refused one
is looked for again, since a credential helper may have a newer; but not at each refusal.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import trio

from multi_fetch.durations import CREDENTIALS_RETRY_SECONDS
from multi_fetch.errors import CredentialsError
from multi_fetch.registry.credentials import Held

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from multi_fetch.registry.credentials import Credential


class Login:
    """What there is to prove who asks.

    Args:
        find: looks for the credential; None where there is none.
        places: where that looks.

    Attributes:
        places: the same.
        held: the credential that is known, and where it was found; None for none.
    """

    def __init__(
        self,
        find: Callable[[], Awaitable[Held | None]] | None = None,
        places: Sequence[Path] = (),
    ) -> None:
        self.places = places
        self.held: Held | None = None
        self._find = find
        self._lock = trio.Lock()
        self._is_known = find is None
        self._failure: CredentialsError | None = None
        self._rests_until = 0.0

    @classmethod
    def of(cls, credential: Credential | None) -> Login:
        """A login that is known, and of which there is no other."""
        login = cls()
        login.held = None if credential is None else Held("", "", credential)
        return login

    @property
    def _credential(self) -> Credential | None:
        return None if self.held is None else self.held.credential

    async def credential(self) -> Credential | None:
        """The credential, or None where there is none.

        Raises:
            CredentialsError: it cannot be read; that is not tried again for a while.
        """
        async with self._lock:
            if not self._is_known:
                await self._look()
            return self._credential

    async def after_refusal(self, refused: Credential) -> Credential | None:
        """Another credential than the one that was refused, or None.

        Raises:
            CredentialsError: as for ``credential``.
        """
        async with self._lock:
            if self._credential == refused and self._find is not None and not self._rests():
                await self._look()
                if self._credential == refused:
                    self._rests_until = trio.current_time() + CREDENTIALS_RETRY_SECONDS
            return None if self._credential == refused else self._credential

    def _rests(self) -> bool:
        return trio.current_time() < self._rests_until

    async def _look(self) -> None:
        assert self._find is not None, "what was given is known"
        if self._failure is not None and self._rests():
            raise copy.copy(self._failure) from self._failure
        try:
            self.held = await self._find()
        except CredentialsError as error:
            self._failure = error
            self._rests_until = trio.current_time() + CREDENTIALS_RETRY_SECONDS
            raise
        self._failure, self._is_known = None, True
