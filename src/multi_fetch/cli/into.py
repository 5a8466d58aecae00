"""``--into``: a layout that everything goes into, as a store that comes before the remote."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from multi_fetch.cli.help import Shown
from multi_fetch.cli.store import PATHS
from multi_fetch.errors import InvalidRequestError, MultiFetchError
from multi_fetch.protocol.names import ANYWHERE

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from multi_fetch.oci.reference import Reference
    from multi_fetch.remotes import Remote
    from multi_fetch.store import StoreSettings


def add_into_flag(parser: argparse.ArgumentParser) -> None:
    """--into."""
    flags = parser.add_argument_group("a layout in place of frames")
    flags.add_argument(
        "--into",
        metavar="DIR",
        help=Shown(
            "put everything into this OCI image layout, tags included, and write a line of JSON"
            " for each request to stdout",
            brief="an OCI image layout for it all; a JSON line a request",
        ),
    )


def into_settings(arguments: argparse.Namespace, ref: Reference) -> StoreSettings | None:
    """What the flags say; None without --into.

    Raises:
        InvalidRequestError: they do not go together, or the folder is no layout.
    """
    if arguments.into is None:
        return None
    _refuse_others(arguments)
    from multi_fetch.store import Naming, StoreSettings
    from multi_fetch.store.blobs import Check
    from multi_fetch.store.folder import StoreFolder
    from multi_fetch.store.names import Names

    folder = StoreFolder(arguments.into, "layout")
    folder.check(may_be_new=True)
    try:
        Names(folder).find("")
    except (MultiFetchError, OSError) as error:  # before anything is fetched in vain
        raise InvalidRequestError(
            f"{folder.name}: {error}; mend that, or name another folder"
        ) from error
    return StoreSettings(
        path=arguments.into,
        naming=Naming.LAYOUT_OF_MANY if ref.locator == ANYWHERE else Naming.LAYOUT,
        is_required=True,
        check=Check.ALWAYS if arguments.verify_store else Check.ONCE,
    )


def _refuse_others(arguments: argparse.Namespace) -> None:
    if not arguments.into:
        raise InvalidRequestError("--into needs the name of a folder")
    given = {
        f"--format {arguments.format}": arguments.format != "msgpack",
        f"--answers {PATHS}": arguments.answers == PATHS,
        "--ordered": arguments.ordered,
    }
    for flag, is_given in given.items():
        if is_given:
            raise InvalidRequestError(
                f"--into writes a line of JSON for each request as it is done, in place of frames:"
                f" leave out {flag}, or --into"
            )


@asynccontextmanager
async def with_into(
    opening: AbstractAsyncContextManager[Remote], settings: StoreSettings | None
) -> AsyncIterator[Remote]:
    """A remote as it is opened, or one that puts everything into a layout."""
    if settings is None:
        async with opening as remote:
            yield remote
        return
    from multi_fetch.store import open_store

    async with opening as remote, open_store(remote, settings) as gathering:
        yield gathering
