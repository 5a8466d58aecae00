"""Docker's config.json and podman's auth.json as values: what is held for whom. No I/O.

::

    {"auths": {"<key>": {"auth": "<base64 of user:password>", "identitytoken": ...}},
     "credHelpers": {"<host>": "<name>"}, "credsStore": "<name>"}

A key is a host, or a URL whose host counts, or (podman) a host with the beginning of a repository's
name. The older ``.dockercfg`` is what stands behind ``auths`` here.

A file is read whole: what is wrong anywhere in it is said, with the entry's key and none of its
values. Sources: docker/cli's configfile, containers-auth.json(5).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec

from multi_fetch.errors import CredentialsError
from multi_fetch.registry.concealment import Discreet
from multi_fetch.registry.credentials import Credential
from multi_fetch.registry.errcode import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a header can carry behind "Bearer".
HEADER_TEXT = re.compile(r"[!-~]+", re.ASCII)

# The one key under which Docker keeps the credential for its Hub, and the names that mean it.
HUB_KEY: Final = "https://index.docker.io/v1/"
_HUB: Final = "docker.io"
_HUB_NAMES: Final = frozenset({_HUB, "index.docker.io", "registry-1.docker.io"})

_API_PATHS: Final = frozenset({"v1", "v2"})
_OWN_PORTS: Final[Mapping[str, str]] = {"": ":443", "https": ":443", "http": ":80"}

MAX_SHOWN_CHARACTERS: Final = 200


class CredentialFile(msgspec.Struct, frozen=True):
    """What a file holds; all keys as they are written there.

    Attributes:
        auths: credentials, empty ones too.
        helpers: ``credHelpers``: the name of a credential helper; empty for none.
        store: ``credsStore``: the name of the helper for all others, or empty.
    """

    auths: dict[str, Credential]
    helpers: dict[str, str] = {}
    store: str = ""


class Program(msgspec.Struct, frozen=True):
    """A credential helper to ask.

    Attributes:
        name: what stands behind ``docker-credential-``.
        server: what it knows the registry by.
    """

    name: str
    server: str


class _File(msgspec.Struct):
    auths: dict[str, msgspec.Raw] | None = None
    credHelpers: dict[str, msgspec.Raw] | None = None  # noqa: N815 - the file's own name
    credsStore: str | None = None  # noqa: N815 - the same


class _Auth(Discreet, msgspec.Struct):
    auth: str | None = None
    username: str | None = None
    password: str | None = None
    identitytoken: str | None = None
    registrytoken: str | None = None


def parse_credential_file(data: bytes, *, path: str, is_legacy: bool) -> CredentialFile:
    """Reads a file; an empty one holds nothing.

    Args:
        data: the file's content.
        path: its name, for messages.
        is_legacy: whether it is a ``.dockercfg``.

    Raises:
        CredentialsError: it is malformed; ``key`` says where.
    """
    if not data.strip():
        return CredentialFile({})
    try:
        if is_legacy:
            file = _File(auths=msgspec.json.decode(data, type=dict[str, msgspec.Raw]))
        else:
            file = msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise CredentialsError(
            f"{path} is not of the form of Docker's config.json: {_reason(error)}: mend it, or"
            " log in again",
            path=path,
        ) from None
    auths = {key: _credential(raw, path, key) for key, raw in (file.auths or {}).items()}
    helpers = {key: _name(raw, path, key) for key, raw in (file.credHelpers or {}).items()}
    return CredentialFile(auths, helpers, file.credsStore or "")


def _credential(raw: msgspec.Raw, path: str, key: str) -> Credential:
    try:
        entry = msgspec.json.decode(raw, type=_Auth | None) or _Auth()
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        _refuse(path, f"auths.{key}", _reason(error))
    username, password = entry.username or "", entry.password or ""
    if auth := (entry.auth or "").strip():
        username, password = _login(auth, path, key)
    registry_token = entry.registrytoken or ""
    if registry_token and not HEADER_TEXT.fullmatch(registry_token):
        _refuse(path, f"auths.{key}", "its registrytoken is nothing that a header can carry")
    return Credential(
        username=username,
        password=password,
        identity_token=entry.identitytoken or "",
        registry_token=registry_token,
    )


def _login(auth: str, path: str, key: str) -> tuple[str, str]:
    """User name and password; some tools leave the padding out, Docker's older ones end in NUL."""
    try:
        pair = base64.b64decode(auth + "=" * (-len(auth) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        _refuse(path, f"auths.{key}", "its auth is not the base64 of a text")
    username, colon, password = pair.partition(":")
    if not colon:
        _refuse(path, f"auths.{key}", "its auth is not the base64 of user:password")
    return username, password.strip("\0")


def _name(raw: msgspec.Raw, path: str, key: str) -> str:
    try:
        return msgspec.json.decode(raw, type=str | None) or ""
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        _refuse(path, f"credHelpers.{key}", _reason(error))


def _reason(error: Exception) -> str:
    # msgspec names types and places alone; a UnicodeError would quote the text.
    return "it is not UTF-8" if isinstance(error, UnicodeError) else printable(str(error))


def _refuse(path: str, key: str, reason: str) -> NoReturn:
    shown = _shown(key)
    raise CredentialsError(
        f"{path} is malformed at {shown!r}: {reason}: mend it, or log in again",
        path=path,
        key=shown,
    ) from None


def _shown(key: str) -> str:
    """A key for messages: whoever wrote a URL with a password as key does not find it in a log."""
    before, at, after = key.rpartition("@")
    section, _, _ = before.partition(".")
    text = f"{section}.***@{after}" if at else key
    return printable(text.encode("utf-8", "replace").decode(), MAX_SHOWN_CHARACTERS)


def entry_for(
    file: CredentialFile, registry: str, repository: str
) -> tuple[str, Credential] | None:
    """The entry of ``auths`` with the longest part of the name; one spelt alike before others.

    Returns:
        Its name, ``auths.<key>``, fit for messages, and what it holds.
    """
    host, _ = place_of(registry)
    best: tuple[str, Credential] | None = None
    best_rank = (-1, False)
    for key, credential in file.auths.items():
        key_host, parent = place_of(key)
        if credential.is_empty or key_host != host or not _is_within(repository, parent):
            continue
        rank = (len(parent), key == registry)
        if rank > best_rank:
            best, best_rank = (_shown(f"auths.{key}"), credential), rank
    return best


def program_for(file: CredentialFile, registry: str) -> Program | None:
    """The credential helper for a registry, or None."""
    place = place_of(registry)
    for key in sorted(file.helpers, key=lambda key: key != registry):
        if place_of(key) == place:
            # as the user spelt it, so did the tool that stored it
            return Program(file.helpers[key], key) if file.helpers[key] else None
    if not file.store:
        return None
    # Docker leaves an empty entry in ``auths`` for what it has put into its store
    keys = (key for key in file.auths if place_of(key) == place)
    default = HUB_KEY if place[0] == _HUB else place[0]
    return Program(file.store, next(keys, default))


def place_of(key: str) -> tuple[str, str]:
    """A key's host, in lower case, without its scheme's own port, and the part of a name.

    All of Docker Hub's names are one. A URL's path is an API's, and stands for the whole host.
    """
    scheme, colon, rest = key.partition("://")
    if not colon:
        scheme, rest = "", key
    authority, _, path = rest.partition("/")
    host = authority.rpartition("@")[2].lower()
    host = host.removesuffix(_OWN_PORTS.get(scheme.lower(), ""))
    path = path.strip("/")
    if scheme or path in _API_PATHS:
        path = ""
    return _HUB if host in _HUB_NAMES else host, path


def _is_within(repository: str, parent: str) -> bool:
    return not parent or f"{repository}/".startswith(f"{parent}/")
