"""A remote over HTTP: the registries of distribution-spec. The only room that knows httpx.

From the outside in: ``open_registry`` makes a ``RegistryRemote`` (resolver.py), which asks
``Session`` for answers (session.py), which asks ``Authorizer`` what to send (authorizer.py).
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from multi_fetch.errors import InvalidReferenceError
from multi_fetch.limits import DEFAULT_JOBS
from multi_fetch.registry.credentials import Credential
from multi_fetch.registry.exchange import Exchange
from multi_fetch.registry.hosts import default_host
from multi_fetch.registry.resolver import RegistryRemote
from multi_fetch.registry.session import Session
from multi_fetch.registry.transport import new_client
from multi_fetch.remotes import DEFAULT_PATIENCE, Patience

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from multi_fetch.oci.reference import Reference
    from multi_fetch.registry.credentials import Keychain


@asynccontextmanager
async def open_registry(  # noqa: PLR0913 - as for open_remote
    ref: Reference,
    *,
    username: str = "",
    password: str = "",
    keychain: Keychain | None = None,
    jobs: int = DEFAULT_JOBS,
    patience: Patience = DEFAULT_PATIENCE,
) -> AsyncIterator[RegistryRemote]:
    """The remote of a reference's repository; arguments as for ``remotes.open_remote``.

    Raises:
        InvalidReferenceError: the reference names no repository.
    """
    if not ref.repository:
        raise InvalidReferenceError(f"{ref} names no repository: write <host>/<repository>")
    credential = None
    if username or password:
        credential = Credential(username=username, password=password)
    async with new_client(jobs, stall_seconds=patience.stall_seconds) as client:
        exchange = Exchange(client, jobs=jobs, patience=patience)
        host = default_host(ref.hostname)
        session = Session(exchange, host, credential, ref.repository, keychain=keychain)
        yield RegistryRemote(session, ref)
