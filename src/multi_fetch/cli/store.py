"""The local store's flags, and the remote that they lead to."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from multi_fetch.cli.help import Shown
from multi_fetch.errors import InvalidRequestError

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from multi_fetch.oci.reference import Reference
    from multi_fetch.remotes import Remote
    from multi_fetch.store import StoreSettings

STORE_VARIABLE: Final = "MULTI_FETCH_STORE"

# How content is answered.
DATA: Final = "data"
PATHS: Final = "paths"
ANSWERS: Final = (DATA, PATHS)

STORE_HELP: Final = f"""\
  {STORE_VARIABLE}        the default of --store, for registries
"""


def add_store_flags(parser: argparse.ArgumentParser) -> None:
    """--store, --store-only, --verify-store and --offline."""
    flags = parser.add_argument_group("a local store")
    flags.add_argument(
        "--store",
        metavar="DIR",
        help=Shown(
            "serve what is in this OCI image layout from there, and keep there what is fetched"
            f" (default: ${STORE_VARIABLE}, or none)",
            brief="keep content here, and serve it from here",
        ),
    )
    flags.add_argument(
        "--store-only",
        action="store_true",
        help="let a request fail if its content cannot be kept in the store",
    )
    flags.add_argument(
        "--verify-store",
        action="store_true",
        help="hash content of the store before it is served, also what is known to be unchanged,"
        " and fetch anew what is damaged",
    )
    flags.add_argument(
        "--offline", action="store_true", help="serve from the store alone: no network at all"
    )


def add_answers_flag(parser: argparse._ActionsContainer) -> None:
    """--answers, which goes with a store."""
    parser.add_argument(
        "--answers",
        choices=ANSWERS,
        default=DATA,
        metavar="HOW",
        help=f"{DATA}: with content; {PATHS}: with the name of the file in the store that has it,"
        " which is hashed first unless it is unchanged since it was verified; implies --store-only"
        " (default: %(default)s)",
    )


def store_settings(
    arguments: argparse.Namespace, ref: Reference, into: StoreSettings | None = None
) -> StoreSettings | None:
    """What the flags say; None where there is no store.

    Args:
        arguments: with these flags.
        ref: the remote.
        into: the layout that everything goes into, which is a store too.

    Raises:
        InvalidRequestError: they do not go together, or the folder is no store.
    """
    # What is in a folder already is kept a second time only if one says so.
    path: str = arguments.store or ("" if ref.scheme else os.environ.get(STORE_VARIABLE, ""))
    if not path:
        for flag in ("store_only",) if into else ("store_only", "verify_store", "offline"):
            if getattr(arguments, flag):
                name = flag.replace("_", "-")
                raise InvalidRequestError(f"--{name} needs a store: add --store <folder>")
        return replace(into, is_offline=True) if into and arguments.offline else None
    if arguments.offline and arguments.store_only:
        raise InvalidRequestError(
            "--offline fetches nothing, and so does not go with --store-only: leave out one"
        )
    if into and os.path.realpath(path) == os.path.realpath(into.path):
        raise InvalidRequestError(
            f"--store and --into are the same folder, {path}: leave out --store, or name another"
        )
    from multi_fetch.store import StoreSettings
    from multi_fetch.store.blobs import Check
    from multi_fetch.store.folder import StoreFolder

    StoreFolder(path).check(may_be_new=not arguments.offline)
    return StoreSettings(
        path=path,
        is_required=arguments.store_only,
        check=Check.ALWAYS if arguments.verify_store else Check.BY_READER,
        is_offline=arguments.offline,
    )


def with_files(store: StoreSettings | None) -> StoreSettings:
    """A store whose files are named: what is not in one is not answered.

    Raises:
        InvalidRequestError: there is none, or its path is no text for a frame.
    """
    if store is None:
        raise InvalidRequestError("--answers paths needs a store: add --store <folder>")
    try:
        os.path.abspath(store.path).encode("utf-8")  # noqa: PTH100 - a Path would say the same
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            "--answers paths needs a store whose path is UTF-8: name another folder"
        ) from error
    from multi_fetch.store.blobs import Check

    check = Check.ONCE if store.check is Check.BY_READER else store.check
    return replace(store, is_required=True, check=check)


@asynccontextmanager
async def with_store(
    opening: AbstractAsyncContextManager[Remote], store: StoreSettings | None
) -> AsyncIterator[Remote]:
    """A remote as it is opened, behind a store, or a store alone."""
    if store is None:
        async with opening as remote:
            yield remote
        return
    from multi_fetch.store import open_offline, open_store

    if store.is_offline:
        async with open_offline(store) as stored:
            yield stored
    else:
        async with opening as remote, open_store(remote, store) as stored:
            yield stored
