"""What proves to a registry who asks, and where users keep it.

Nothing is read and no program is started before a registry asks for credentials: a Keychain knows
the paths alone. The first file with something for the registry decides, and in it Docker's order
holds: the program of ``credHelpers``, else that of ``credsStore``, then ``auths``.
"""

from __future__ import annotations

import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import trio

from multi_fetch.durations import CREDENTIALS_FILE_SECONDS
from multi_fetch.errors import CredentialsError
from multi_fetch.limits import MAX_CREDENTIALS_FILE_BYTES
from multi_fetch.registry.concealment import Discreet

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from typing import Self

    from multi_fetch.registry.credential_file import CredentialFile

# By which a changed file is known: device, inode, size, time in nanoseconds.
Signature: TypeAlias = tuple[int, int, int, int]


class Credential(Discreet, msgspec.Struct, frozen=True, kw_only=True):
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

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held: Docker writes such entries for what is in its store."""
        return not (self.has_login or self.identity_token or self.registry_token)

    def __repr__(self) -> str:
        held = (name for name in self.__struct_fields__ if getattr(self, name))
        return f"Credential({', '.join(f'{name}=***' for name in held)})"


class Held(msgspec.Struct, frozen=True):
    """A credential, and where it was found.

    Attributes:
        path: of the file; empty for one that was given.
        entry: in it: ``auths.ghcr.io``, or the credential helper that it names.
        credential: what it holds.
    """

    path: str
    entry: str
    credential: Credential


class Keychain:
    """Credentials by registry and repository, from Docker's and podman's files.

    Args:
        paths: of the files, the first that knows a registry decides; a file that is not there is
            passed over. One whose name is ``.dockercfg`` is of Docker's older form.

    Attributes:
        paths: the same.
    """

    def __init__(self, paths: Iterable[str | os.PathLike[str]]) -> None:
        self.paths = tuple(Path(path) for path in paths)
        self._files: dict[Path, tuple[Signature, CredentialFile]] = {}
        # Its own, which names that nobody resolves do not fill.
        self._threads = trio.CapacityLimiter(1)

    @classmethod
    def load(cls, paths: Iterable[str | os.PathLike[str]] | None = None) -> Self:
        """A keychain whose files have been read.

        Args:
            paths: None for the places where Docker and podman look: ``credential_places``.

        Raises:
            CredentialsError: a file cannot be read.
        """
        if paths is None:
            from multi_fetch.registry.credential_places import own_places

            paths = own_places()
        keychain = cls(paths)
        for path in keychain.paths:
            keychain._read(path)
        return keychain

    def lookup(self, registry: str, repository: str = "") -> Credential | None:
        """As ``find``, for who is not on trio: it blocks for as long as a helper takes."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as elsewhere:  # the caller's thread may run trio
            return elsewhere.submit(trio.run, partial(self.find, registry, repository)).result()

    async def find(self, registry: str, repository: str = "") -> Credential | None:
        """The credential for a repository, or None.

        Args:
            registry: host and port, as in references; any of Docker Hub's names.
            repository: its name there. Podman's files may hold one for it or its parents alone.

        Raises:
            CredentialsError: a file cannot be read, or a credential helper failed.
        """
        held = await self.locate(registry, repository)
        return None if held is None else held.credential

    async def locate(self, registry: str, repository: str = "") -> Held | None:
        """As ``find``, with where it was found.

        Raises:
            CredentialsError: the same.
        """
        from multi_fetch.registry.credential_file import entry_for, program_for
        from multi_fetch.registry.credential_program import ask

        for path in self.paths:
            file = await self._read_in_time(path)
            if file is None:
                continue
            program = program_for(file, registry)
            credential = None if program is None else await ask(program.name, program.server)
            if program is not None and credential is not None:
                return Held(str(path), f"docker-credential-{program.name}", credential)
            if (found := entry_for(file, registry, repository)) is not None:
                return Held(str(path), *found)
        return None

    async def _read_in_time(self, path: Path) -> CredentialFile | None:
        """As ``_read``, in a thread: a pipe may have no writer, and a home be on a dead server."""
        with trio.move_on_after(CREDENTIALS_FILE_SECONDS):
            return await trio.to_thread.run_sync(
                self._read, path, abandon_on_cancel=True, limiter=self._threads
            )
        raise CredentialsError(
            f"{path} could not be read in {CREDENTIALS_FILE_SECONDS:g} s: check what it is, or name"
            " another file with --authfile",
            path=str(path),
        )

    def _read(self, path: Path) -> CredentialFile | None:
        """The file's content, read again if it has changed; None where there is no file."""
        from multi_fetch.registry.credential_file import parse_credential_file

        try:
            signature = _signature(path.stat())
            known = self._files.get(path)
            if known is not None and known[0] == signature:
                return known[1]
            with path.open("rb") as stream:
                data = stream.read(MAX_CREDENTIALS_FILE_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise CredentialsError(
                f"{path} cannot be read: {error.strerror}: check its permissions, or name another"
                " file with --authfile",
                path=str(path),
            ) from error
        if len(data) > MAX_CREDENTIALS_FILE_BYTES:
            raise CredentialsError(
                f"{path} has more than {MAX_CREDENTIALS_FILE_BYTES} bytes: check that it is the"
                " right file",
                path=str(path),
            )
        file = parse_credential_file(data, path=str(path), is_legacy=path.name == ".dockercfg")
        self._files[path] = signature, file
        return file


def _signature(status: os.stat_result) -> Signature:
    if not stat.S_ISREG(status.st_mode):  # a pipe can be read only once
        return status.st_dev, status.st_ino, 0, 0
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
