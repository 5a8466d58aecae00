"""Objects that may be elsewhere: image-spec, descriptor.md, ``urls``.

The remote is asked first. What it does not have is asked of the URLs, if the remote is one that
does so (``remotes.Foreign``); if not, the error says that there are URLs, and what allows them.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from multi_fetch.errors import NotFoundError
from multi_fetch.remotes import Foreign
from multi_fetch.worker.listing import open_listing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.protocol.request import ByteRange
    from multi_fetch.remotes import Opened, Remote
    from multi_fetch.worker.job import Target


def open_target(
    remote: Remote, target: Target, byte_range: ByteRange | None = None
) -> AbstractAsyncContextManager[Opened]:
    """Opens an object where it is; as ``Remote.open``.

    Raises:
        MultiFetchError: the remote's, or the last URL's where the remote does not have it.
    """
    if target.listing is not None:
        return open_listing(remote, target)
    if target.urls:  # then something described it, and nobody asked for a part
        return _open_somewhere(remote, target)
    return remote.open(
        target.ref, media_types=target.media_types, size=target.size, byte_range=byte_range
    )


async def describe_target(remote: Remote, target: Target) -> tuple[str, Descriptor]:
    """Finds out an object's name and descriptor where it is; as ``Remote.resolve``.

    Raises:
        MultiFetchError: as for ``open_target``.
    """
    try:
        resolved = await remote.resolve(
            target.ref, media_types=target.media_types, size=target.size
        )
    except NotFoundError as missing:
        if not target.urls:
            raise
        async with _open_foreign(remote, target, missing) as opened:
            return opened.name, opened.descriptor
    return resolved.name, resolved.descriptor


@asynccontextmanager
async def _open_somewhere(remote: Remote, target: Target) -> AsyncIterator[Opened]:
    here = remote.open(target.ref, media_types=target.media_types, size=target.size)
    async with AsyncExitStack() as stack:
        try:
            opened = await stack.enter_async_context(here)
        except NotFoundError as missing:
            elsewhere = _open_foreign(remote, target, missing)
            opened = await stack.enter_async_context(elsewhere)
        yield opened


def _open_foreign(
    remote: Remote, target: Target, missing: NotFoundError
) -> AbstractAsyncContextManager[Opened]:
    if not isinstance(remote, Foreign):
        raise NotFoundError(
            f"{missing.message}; its descriptor names foreign URLs, which --foreign-urls allows"
            " for what a remote does not have",
            status=missing.status,
            registry_code=missing.registry_code,
            attempts=missing.attempts,
        ) from missing
    return remote.open_foreign(
        target.ref, target.urls, media_types=target.media_types, size=target.size
    )
