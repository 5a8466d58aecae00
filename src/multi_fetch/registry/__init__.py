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
from multi_fetch.registry.fast_lane import FastLane
from multi_fetch.registry.general_lane import GeneralLane
from multi_fetch.registry.hosts import default_host
from multi_fetch.registry.resolver import RegistryRemote
from multi_fetch.registry.session import Session
from multi_fetch.registry.tls import new_context
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
    host = default_host(ref.hostname)
    general = GeneralLane(jobs=jobs, stall_seconds=patience.stall_seconds)
    fast = FastLane(new_context, jobs=jobs, stall_seconds=patience.stall_seconds)
    exchange = Exchange(general, jobs=jobs, patience=patience, fast=fast)
    session = Session(exchange, host, credential, ref.repository, keychain=keychain)
    try:
        yield RegistryRemote(session, ref)
    finally:
        fast.close()
        await general.aclose()
