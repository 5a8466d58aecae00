"""The remote ``-``: any repository, reached as flags and files say for its registry."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from multi_fetch.anywhere import open_anywhere
from multi_fetch.cli.credentials import PASSWORD_VARIABLE, USERNAME_VARIABLE
from multi_fetch.cli.heap import share_one_heap
from multi_fetch.cli.hosts import reach
from multi_fetch.errors import InvalidRequestError
from multi_fetch.limits import MAX_READ_THREADS
from multi_fetch.registry.shared import Shared
from multi_fetch.remotes import open_remote

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from multi_fetch.cli.credentials import Credentials
    from multi_fetch.oci.reference import Reference
    from multi_fetch.remotes import Patience, Remote

# By name in a namespace; each would have a secret shown to whoever a line names, or to who listens.
OF_ONE_REGISTRY: Final = {
    "cert_file": "--cert-file",
    "key_file": "--key-file",
    "insecure": "--insecure",
    "plain_http": "--plain-http",
}


def everywhere_problem(arguments: argparse.Namespace, held: Credentials) -> str:
    """What to complain of, where lines choose the registry."""
    for name, flag in OF_ONE_REGISTRY.items():
        if getattr(arguments, name):
            return (
                f"{flag} is for one registry, and with the remote - any line may name another:"
                " write a hosts.toml for --hosts-dir"
            )
    if not (held["username"] or held["password"]):
        return ""
    return (
        f"{USERNAME_VARIABLE} and {PASSWORD_VARIABLE} are for one registry, and with the remote -"
        " any line may name another: unset them, and write a file for --authfile"
    )


def open_everywhere(
    arguments: argparse.Namespace, borne: Patience, held: Credentials
) -> AbstractAsyncContextManager[Remote]:
    """The remote of all repositories; those of one registry share its connections.

    Raises:
        InvalidRequestError: a flag or the environment means one registry.
    """
    if problem := everywhere_problem(arguments, held):
        raise InvalidRequestError(problem)
    return _open(arguments, borne, held)


@asynccontextmanager
async def _open(
    arguments: argparse.Namespace, borne: Patience, held: Credentials
) -> AsyncIterator[Remote]:
    share_one_heap()  # any number of layouts may be read
    shared, threads = Shared(), trio.CapacityLimiter(MAX_READ_THREADS)

    @asynccontextmanager
    async def open_one(ref: Reference) -> AsyncIterator[Remote]:
        # It reads files, and one of those may hang.
        reached = await trio.to_thread.run_sync(
            reach, arguments, ref, abandon_on_cancel=True, limiter=threads
        )
        async with open_remote(
            ref, jobs=arguments.jobs, patience=borne, shared=shared, **held, **reached
        ) as remote:
            yield remote

    async with (
        shared.exchanges,
        open_anywhere(open_one, foreign_urls=arguments.foreign_urls) as remote,
    ):
        yield remote
