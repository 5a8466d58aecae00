"""What a user says of a registry's hosts: containerd's ``hosts.toml``, or Docker's certificates.

containerd's docs/hosts.md describes both; what it leaves open is done as containerd does it, but
for a file that is wrong: containerd logs that and goes on without the file, which asks another
host than its user wants. Here that is an error. Unknown keys are somebody else's, and ignored.
"""

from __future__ import annotations

import os
import posixpath
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import msgspec
from msgspec.structs import replace

from multi_fetch.errors import HostsError, InvalidRequestError, RegistryError
from multi_fetch.limits import MAX_HOSTS_FILE_BYTES, MAX_HOSTS_LINE_DOTS
from multi_fetch.protocol.duration import parse_duration
from multi_fetch.registry.concealment import Discreet
from multi_fetch.registry.errcode import printable
from multi_fetch.registry.hosts import API_ROOT, Host, where_it_answers
from multi_fetch.registry.proxies import parse_proxy
from multi_fetch.registry.tls import DEFAULT_TLS, Tls
from multi_fetch.registry.url import parse_url, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FILE_NAME: Final = "hosts.toml"
DEFAULT_NAME: Final = "_default"

# push and referrers are not used here.
CAPABILITIES: Final = frozenset({"pull", "resolve", "push", "referrers"})

# RFC 9110, section 5.6.2: token; section 5.5: field-value, here in ASCII.
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[\t -~]*")

# In words about TOML, which may quote a key.
USER = re.compile(r"//\S*@")

# A request's frame, and what each request says for itself.
RESERVED_HEADERS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "host",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

Text: TypeAlias = str
Texts: TypeAlias = str | tuple[str, ...]
Pairs: TypeAlias = str | tuple[str | tuple[str, str], ...]


TableT = TypeVar("TableT")


class _Table(Discreet, msgspec.Struct, kw_only=True):
    """The keys that a host may have, and the file as a whole too."""

    capabilities: tuple[str, ...] = ()
    ca: Texts = ()
    client: Pairs = ()
    skip_verify: bool = False
    header: dict[str, Texts] = {}
    override_path: bool = False
    dial_timeout: Text = ""
    proxy: Text = ""


class _File(_Table, kw_only=True):
    server: Text = ""
    host: dict[str, dict[str, object]] = {}


def find_folder(
    hosts_dir: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], registry: str
) -> Path | None:
    """The folder that speaks of a registry, or of all; None where there is none.

    Raises:
        HostsError: that cannot be seen.
    """
    several = [hosts_dir] if isinstance(hosts_dir, str | os.PathLike) else hosts_dir
    roots = [Path(each) for each in several]
    for name in (*folder_names(registry), DEFAULT_NAME):
        for root in roots:
            path = root / name
            try:
                path.stat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, ValueError) as error:
                raise _unreadable(path, error) from error
            return path
    return None


def folder_names(registry: str) -> Iterator[str]:
    """What a registry's folder may be called, the best first."""
    host, colon, port = registry.rpartition(":")
    if colon and port.isdigit():
        yield f"{host}_{port}_"
    yield registry


def read_folder(folder: Path, registry: str, own: Host) -> list[Host]:
    """The hosts of a registry, as its folder describes them.

    Args:
        folder: with a ``hosts.toml``, or else with certificates.
        registry: that is asked for.
        own: the registry's own host, of which nothing was said yet.

    Raises:
        HostsError: a file cannot be read or understood.
    """
    path = folder / FILE_NAME
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_HOSTS_FILE_BYTES + 1)
    except FileNotFoundError:
        data = b""
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) > MAX_HOSTS_FILE_BYTES:
        raise HostsError(
            f"{path} has more than {MAX_HOSTS_FILE_BYTES} bytes: check that it is the right file",
            path=str(path),
        )
    if not data:
        tls = _certificates(folder)
        # Nobody puts certificates there for a registry on this machine that speaks plain http.
        is_over_tls = tls != DEFAULT_TLS and folder.name != DEFAULT_NAME
        return [replace(own, tls=tls, scheme="https" if is_over_tls else own.scheme)]
    return parse_hosts(data, str(path), registry, own)


def parse_hosts(data: bytes, path: str, registry: str, own: Host) -> list[Host]:
    """Reads a ``hosts.toml``.

    Args:
        data: its bytes.
        path: where it is: paths in it may be relative to its folder.
        registry: that is asked for.
        own: the registry's own host, which is last where the file names no other ``server``.

    Raises:
        HostsError: it cannot be understood; names the key.
    """
    if max(line.count(b".") for line in data.split(b"\n")) > MAX_HOSTS_LINE_DOTS:
        raise HostsError(
            f"{path} has a line with more than {MAX_HOSTS_LINE_DOTS} dots: mend it, or remove it",
            path=path,
        )
    try:
        document = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        words = USER.sub("//***@", printable(str(error)))
        raise HostsError(f"{path} is no TOML: {words}: mend it, or remove it", path=path) from None
    file = _convert(document, _File, path, "")
    reader = _Reader(path, registry, own)
    hosts = []
    for server, content in file.host.items():
        key = f"host.{shown(server)!r}"
        hosts.append(reader.host(server, _convert(content, _Table, path, f"{key}."), key))
    return [*hosts, reader.host(file.server, file, "server")]


class _Reader:
    """Tables of one file -> hosts."""

    def __init__(self, path: str, registry: str, own: Host) -> None:
        self._path = path
        self._registry = registry
        self._own = own

    def host(self, server: str, table: _Table, key: str) -> Host:
        """A table's host; without a server the registry's own."""
        host = self._place(server, key, is_root=table.override_path) if server else self._own
        within = "" if key == "server" else f"{key}."
        capabilities = {name.lower() for name in table.capabilities}
        if unknown := capabilities - CAPABILITIES:
            raise _wrong(
                self._path,
                f"{within}capabilities",
                f"write pull and resolve: {min(unknown)[:80]!r} is none",
            )
        return replace(
            host,
            may_pull=not capabilities or "pull" in capabilities,
            may_resolve=not capabilities or "resolve" in capabilities,
            headers=tuple(self._headers(table, f"{within}header")),
            tls=Tls(
                ca_files=tuple(map(self._file, _several(table.ca))),
                client_pairs=tuple(self._pairs(table.client)),
                is_verified=not table.skip_verify,
            ),
            connect_seconds=self._seconds(table.dial_timeout, f"{within}dial_timeout"),
            proxy=self._proxy(table.proxy, f"{within}proxy"),
        )

    def _place(self, server: str, key: str, *, is_root: bool) -> Host:
        text = server if "://" in server else f"https://{server}"
        try:
            origin = parse_url(text).origin
        except RegistryError as error:
            raise _wrong(self._path, key, error.message) from error
        if set(text) & set("?#@"):
            raise _wrong(self._path, key, "leave out user, query and fragment")
        path = parse_url(text).target
        root = posixpath.normpath("/" + path.lstrip("/")).rstrip("/")
        if not is_root and not root.endswith(API_ROOT):
            root += API_ROOT
        authority = where_it_answers(origin.authority)
        is_own = authority in {self._own.authority, parse_url(self._own.url).origin.authority}
        return Host(
            origin.scheme,
            authority,
            root=root,
            namespace="" if is_own else self._registry,
        )

    def _file(self, path: str) -> str:
        return os.path.join(os.path.dirname(self._path), path)  # noqa: PTH118, PTH120 - of texts

    def _pairs(self, client: Pairs) -> Iterator[tuple[str, str]]:
        for each in [client] if isinstance(client, str) else client:
            certificate, key = (each, "") if isinstance(each, str) else each
            yield self._file(certificate), self._file(key) if key else ""

    def _headers(self, table: _Table, key: str) -> Iterator[tuple[str, str]]:
        for name, values in table.header.items():
            value = ", ".join(_several(values))
            if not HEADER_NAME.fullmatch(name) or name.lower() in RESERVED_HEADERS:
                raise _wrong(self._path, key, f"leave out {name[:80]!r}, which may not be added")
            if not HEADER_VALUE.fullmatch(value):
                raise _wrong(self._path, f"{key}.{name}", "leave out what is no ASCII")
            # RFC 9110, section 5.5: blanks around it are none of it; h11 refuses, and quotes, them
            yield "-".join(part.capitalize() for part in name.split("-")), value.strip()

    def _seconds(self, text: str, key: str) -> float | None:
        if not text:
            return None
        try:
            return parse_duration(text) or None
        except InvalidRequestError as error:
            raise _wrong(self._path, key, error.message) from error

    def _proxy(self, text: str, key: str) -> str:
        if text:
            try:
                parse_proxy(text)
            except HostsError as error:
                raise _wrong(self._path, key, error.message) from error
        return text


def _convert(content: object, kind: type[TableT], path: str, within: str) -> TableT:
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        words, _, place = str(error).partition(" - at `$")
        key = printable(place.strip("`.").replace("[...]", ""), 200)
        raise _wrong(path, f"{within}{key}".rstrip("."), printable(words)) from error


def _several(texts: Texts) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else texts


def _certificates(folder: Path) -> Tls:
    """What Docker has for a registry: ``*.crt`` to trust, ``*.cert`` with ``*.key`` to show."""
    try:
        files = sorted(path for path in folder.iterdir() if not path.is_dir())
    except OSError as error:
        raise _unreadable(folder, error) from error
    there = set(files)
    pairs = []
    for path in files:
        if path.suffix == ".cert":
            key = path.with_suffix(".key")
            pairs.append((str(path), str(key) if key in there else ""))
    ca_files = tuple(str(path) for path in files if path.suffix == ".crt")
    return Tls(ca_files=ca_files, client_pairs=tuple(pairs))


def _unreadable(path: Path, error: Exception) -> HostsError:
    why = error.strerror if isinstance(error, OSError) else str(error)
    return HostsError(f"{path} cannot be read: {why}: check its permissions", path=str(path))


def _wrong(path: str, key: str, why: str) -> HostsError:
    return HostsError(f"{path}: {key or 'it'}: {why}", path=path, key=key or None)
