"""Where the command lines take credentials from: the environment, --authfile, users' own files."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Final, TypedDict

from multi_fetch.cli.help import Shown

if TYPE_CHECKING:
    from multi_fetch.registry.credentials import Keychain

AUTH_FILE_VARIABLE: Final = "REGISTRY_AUTH_FILE"
USERNAME_VARIABLE: Final = "MULTI_FETCH_USERNAME"
PASSWORD_VARIABLE: Final = "MULTI_FETCH_PASSWORD"  # noqa: S105 - a variable's name

CREDENTIALS_HELP: Final = f"""\
  {USERNAME_VARIABLE}, {PASSWORD_VARIABLE}
                            credentials for the registry; without them those
                            that Docker's and podman's files hold for it, and
                            without those access is anonymous
  {AUTH_FILE_VARIABLE}        the default of --authfile
  XDG_RUNTIME_DIR, XDG_CONFIG_HOME, DOCKER_CONFIG
                            where podman's auth.json and Docker's config.json
                            are
"""


class Credentials(TypedDict):
    """As ``open_remote`` takes them."""

    username: str
    password: str
    keychain: Keychain


def add_authfile_flag(flags: argparse._ActionsContainer) -> None:
    """--authfile."""
    flags.add_argument(
        "--authfile",
        type=auth_file,
        # argparse reads a default that is text as if it had been given.
        default=os.environ.get(AUTH_FILE_VARIABLE) or None,
        metavar="PATH",
        help=Shown(
            "the only file to look for credentials in, of the form of Docker's config.json"
            f" (default: ${AUTH_FILE_VARIABLE}, or podman's and Docker's own)",
            brief="credentials: not from podman's and Docker's own files",
        ),
    )


def credentials(authfile: str | None) -> Credentials:
    """What proves who asks. No file is read before a registry wants to know.

    Both leave the environment, so that no credential helper inherits them: some services have the
    secret in the user's name.
    """
    from multi_fetch.registry.credential_places import places
    from multi_fetch.registry.credentials import Keychain

    return {
        "username": os.environ.pop(USERNAME_VARIABLE, ""),
        "password": os.environ.pop(PASSWORD_VARIABLE, ""),
        "keychain": Keychain([authfile] if authfile else places(os.environ)),
    }


def auth_file(text: str) -> str:
    """A type of flag: a file that is there. It may be a pipe, as a shell's ``<(...)`` is."""
    if not os.path.exists(text):  # noqa: PTH110 - it takes any text, and raises nothing
        raise argparse.ArgumentTypeError(f"there is no file {text[:300]!r}")
    if os.path.isdir(text):  # noqa: PTH112 - the same
        raise argparse.ArgumentTypeError(f"{text[:300]!r} is a directory")
    return text
