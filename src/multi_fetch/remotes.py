"""The contracts between the engine and what it fetches from.

After containerd's remotes package: a Resolver turns a reference into a canonical name, a
descriptor and a Fetcher; a Fetcher turns a descriptor into its raw bytes. Whoever consumes the
bytes verifies them (``multi_fetch.verify``); nobody else is trusted with that.

A Remote adds ``open``, resolve and fetch in one, because registries answer both with one GET.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import msgspec

from multi_fetch.ceiling import DEFAULT_CEILING, Ceiling
from multi_fetch.durations import (
    DEFAULT_RETRY_WAIT_SECONDS,
    FIRST_RETRY_WAIT_SECONDS,
    READ_TIMEOUT_SECONDS,
)
from multi_fetch.limits import DEFAULT_JOBS, DEFAULT_RANGES, DEFAULT_RETRIES
from multi_fetch.oci.descriptor import Descriptor
from multi_fetch.oci.digest import Chunk

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from multi_fetch.oci.reference import Reference
    from multi_fetch.protocol.request import ByteRange
    from multi_fetch.registry.credentials import Keychain
    from multi_fetch.registry.hosts import Host
    from multi_fetch.registry.proxies import Proxies
    from multi_fetch.registry.shared import Shared


class Fetcher(Protocol):
    """Descriptor to bytes."""

    def fetch(
        self, descriptor: Descriptor, *, offset: int = 0
    ) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        """The content's raw bytes from ``offset`` on, unverified, in chunks of any size.

        A chunk is the consumer's until it asks for the next.

        Raises:
            MultiFetchError: on entering or while iterating.
        """


class Resolved(msgspec.Struct, frozen=True):
    """What a reference stands for.

    Attributes:
        name: the reference in its canonical form: ``docker.io/library/redis:latest``.
        descriptor: with a size that is known.
        fetcher: for the object and what it refers to.
    """

    name: str
    descriptor: Descriptor
    fetcher: Fetcher


class Resolver(Protocol):
    """Reference to descriptor."""

    async def resolve(
        self, ref: Reference, *, media_types: Sequence[str] = (), size: int | None = None
    ) -> Resolved:
        """Finds out what the reference stands for, without its content wherever that is possible.

        Args:
            ref: with an object; where it has a tag and a digest, the digest decides.
            media_types: what the object is expected to be; the first chooses where to ask.
            size: the bytes that it is expected to have.

        Raises:
            MultiFetchError: there is no such object, it is of another size, or the remote failed.
        """


class Listing(Protocol):
    """What there is in a repository."""

    def tags(self, ref: Reference) -> AsyncGenerator[Sequence[str], None]:
        """The names of the repository's tags, page by page, in the remote's own order.

        A name may be one that nobody could ask for.

        Args:
            ref: the repository; its object is of no matter.

        Raises:
            MultiFetchError: while iterating.
        """

    def referrers(
        self, ref: Reference, artifact_type: str = ""
    ) -> AsyncGenerator[Sequence[Descriptor], None]:
        """The manifests whose subject is a digest, page by page; none is no error.

        Args:
            ref: with the digest, which need not be there.
            artifact_type: that they are to have; empty for all.

        Raises:
            MultiFetchError: while iterating.
        """


class Opened(msgspec.Struct, frozen=True):
    """An object whose content has begun to come.

    Attributes:
        name: the reference in its canonical form.
        descriptor: the size may be None, if the remote has not told it.
        chunks: raw and unverified; a chunk is the consumer's until it asks for the next.
        whole: all of the content, where it has come already; ``chunks`` gives the same.
        keep: where not None, to be called once by whoever has verified all of the content, and
            by nobody else, while the object is open: then the content is kept. Gives the file
            that has it, or None where it could not be kept.
        kept: the file that has the content already, verified, by whoever opened this too.
    """

    name: str
    descriptor: Descriptor
    chunks: AsyncIterator[Chunk]
    whole: bytes | None = None
    keep: Callable[[], Awaitable[Path | None]] | None = None
    kept: Path | None = None


class Report(msgspec.Struct, frozen=True):
    """What a remote has to say about a run.

    Attributes:
        retries: requests that were sent again, for any reason.
        ratelimit: what the registry last said of its limits, by the names it uses, in lower case:
            ``ratelimit-limit``, ``ratelimit-remaining``, ``docker-ratelimit-source``.
    """

    retries: int = 0
    ratelimit: dict[str, str] = {}


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How much trouble a remote bears before a request fails.

    Attributes:
        retries: how often a request is sent again in a row, while nothing comes; with 0 the first
            trouble is the caller's.
        max_wait_seconds: before one of them; where a registry asks for a longer wait
            (Retry-After), the request fails at once and its ``retry_after`` tells the wait.
        stall_seconds: of waiting that bring hardly a byte; then the connection counts as broken.
        first_wait_seconds: the bound of the first wait, which doubles with each further one.
        ceiling: for content that is read to learn its size; what is opened, its consumer judges.
    """

    retries: int = DEFAULT_RETRIES
    max_wait_seconds: float = DEFAULT_RETRY_WAIT_SECONDS
    stall_seconds: float = READ_TIMEOUT_SECONDS
    first_wait_seconds: float = FIRST_RETRY_WAIT_SECONDS
    ceiling: Ceiling = DEFAULT_CEILING


DEFAULT_PATIENCE: Final = Patience()


class Remote(Resolver, Listing, Protocol):
    """A repository, or a layout in a folder, that objects are fetched from."""

    def open(
        self,
        ref: Reference,
        *,
        media_types: Sequence[str] = (),
        size: int | None = None,
        byte_range: ByteRange | None = None,
    ) -> AbstractAsyncContextManager[Opened]:
        """Resolves and fetches at once; arguments and errors as for ``resolve``.

        With a ``byte_range`` the chunks are exactly those bytes, or as many of them as there are,
        also where the registry does not know ranges; the descriptor is the whole object's.

        Raises:
            InvalidRequestError: the range begins at or beyond the object's end.
        """

    def report(self) -> Report:
        """What there is to say so far."""


@runtime_checkable
class Foreign(Protocol):
    """What a Remote may be besides: one that also fetches what it does not have itself."""

    def open_foreign(
        self,
        ref: Reference,
        urls: Sequence[str],
        *,
        media_types: Sequence[str] = (),
        size: int | None = None,
    ) -> AbstractAsyncContextManager[Opened]:
        """Opens an object at the first of these URLs that has it.

        Args:
            ref: with a digest.
            urls: as a descriptor names them (image-spec, descriptor.md).
            media_types: what the descriptor says that it is.
            size: the same.

        Raises:
            MultiFetchError: the last URL's, on entering or while iterating.
        """


@runtime_checkable
class Warmable(Protocol):
    """What a Remote may be besides: one that can be made ready before an object is wanted."""

    async def warm_up(self) -> None:
        """Does what the first request would have to do, and costs the remote one that is small.

        Nothing is raised where that fails: it fails once more when it matters.
        """


# Where a remote's scheme is served, module and function. The layers below do not import those
# above, so these are names that are looked up when a remote is opened; what has no scheme is a
# registry's repository.
_LAYOUT: Final = ("multi_fetch.layout", "open_layout")
_ROOMS: Final[Mapping[str, tuple[str, str]]] = {
    "": ("multi_fetch.registry", "open_registry"),
    "oci": _LAYOUT,
    "oci-archive": _LAYOUT,
}
_FOREIGN: Final = ("multi_fetch.registry.foreign", "open_beside")


@asynccontextmanager
async def open_remote(  # noqa: PLR0913 - each can be left out
    ref: Reference,
    *,
    username: str = "",
    password: str = "",
    keychain: Keychain | None = None,
    jobs: int = DEFAULT_JOBS,
    patience: Patience = DEFAULT_PATIENCE,
    hosts: Sequence[Host] = (),
    proxies: Proxies | None = None,
    foreign_urls: bool = False,
    ranges: int = DEFAULT_RANGES,
    shared: Shared | None = None,
) -> AsyncIterator[Remote]:
    """The remote of a reference: it is asked for nothing before an object is wanted.

    Args:
        ref: the repository, or a layout, for which credentials are of no matter; as is its object.
        username: for Basic authentication, and for the token service.
        password: the same.
        keychain: where others are looked for once the registry wants some; None for nowhere.
        jobs: how many objects will be open at the same time, at most.
        patience: with a remote in trouble.
        hosts: in the order of asking, as ``registry.hosts.load_hosts`` finds them; or the registry.
            A layout has none; the certificates of the first are trusted where foreign URLs lead.
        proxies: through which hosts are reached; None for none.
        foreign_urls: whether the remote is a ``Foreign`` too.
        ranges: how many connections a large blob comes over, at most.
        shared: what repositories share with each other; None for one that is alone.
    """
    login = {"username": username, "password": password, "keychain": keychain}
    way = {"hosts": hosts, "jobs": jobs, "patience": patience, "proxies": proxies}
    open_room = _found(*_ROOMS[ref.scheme])
    chosen = {"foreign_urls": foreign_urls, "ranges": ranges, "shared": shared}
    async with open_room(ref, **chosen, **login, **way) as remote:
        if not foreign_urls or not ref.scheme:
            yield remote
            return
        async with _found(*_FOREIGN)(remote, **way) as both:
            yield both


def _found(module: str, function: str) -> Callable[..., AbstractAsyncContextManager[Remote]]:
    found: Callable[..., AbstractAsyncContextManager[Remote]]
    found = getattr(importlib.import_module(module), function)
    return found
