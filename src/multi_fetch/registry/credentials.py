"""What proves to a registry who asks."""

from __future__ import annotations

import msgspec


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """What Docker's config.json can hold for one registry; an empty text stands for nothing.

    Attributes:
        username: for Basic authentication, and for the token service.
        password: the same.
        identity_token: an OAuth 2 refresh token, which the token service takes in place of both.
        registry_token: a Bearer token for the registry itself.
    """

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    @property
    def has_login(self) -> bool:
        """Whether there is something for Basic authentication."""
        return bool(self.username or self.password)

    def __repr__(self) -> str:
        held = (name for name in self.__struct_fields__ if getattr(self, name))
        return f"Credential({', '.join(f'{name}=***' for name in held)})"
