"""Whose certificates are trusted, and which are shown.

The system's roots are those that OpenSSL finds by itself, SSL_CERT_FILE and SSL_CERT_DIR included.
A Python that brought its own OpenSSL may look where no system has them: then where systems do, and
last certifi's. macOS and Windows have a store that OpenSSL does not read: there truststore asks it.
A host's own come in addition.
"""

from __future__ import annotations

import ssl
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import msgspec
from msgspec.structs import replace

from multi_fetch.errors import HostsError
from multi_fetch.limits import MAX_ALL_CERTIFICATES_BYTES, MAX_CERTIFICATES_BYTES

if TYPE_CHECKING:
    from multi_fetch.registry.url import Origin

# Where systems keep all roots in one file: Debian, Fedora and RHEL, SUSE, Alpine and the BSDs.
SYSTEMS_FILES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


# Of the hosts of a list each is read in a thread, and takes 22 MiB until it is forgotten.
_CHECKING: Final = threading.Lock()

# Systems whose store no file has.
STORES: Final = frozenset({"darwin", "win32"})


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """What TLS with one host needs beside the system's roots.

    Attributes:
        ca_files: roots that are trusted too; each may hold several.
        client_pairs: certificates to show, each with its key's file; an empty text for a key that
            is in the certificate's file. They are shown to the host alone: not to where it leads,
            and not for what others would have us ask there.
        is_verified: False takes whoever answers for the host, and for where it leads.
    """

    ca_files: tuple[str, ...] = ()
    client_pairs: tuple[tuple[str, str], ...] = ()
    is_verified: bool = True

    def check(self) -> None:
        """Reads the files, and forgets them.

        Raises:
            HostsError: one of them cannot be used.
        """
        if self.ca_files or self.client_pairs:
            with _CHECKING:
                _load_own(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), self, is_own=True)


DEFAULT_TLS: Final = Tls()


class Contexts:
    """Contexts that several hosts share, for as long as one of these has them.

    The system's roots take 20 to 40 ms to read and a MiB to keep, for each context of its own.
    """

    def __init__(self) -> None:
        self._made: WeakValueDictionary[tuple[Tls, bool], ssl.SSLContext] = WeakValueDictionary()

    def get(self, tls: Tls, *, is_own: bool = False) -> ssl.SSLContext:
        """The context for what is particular; see ``new_context``.

        Raises:
            HostsError: a file of certificates cannot be used.
        """
        context = self._made.get((tls, is_own))
        if context is None:
            self._check_room(tls)
            context = self._made[tls, is_own] = new_context(tls, is_own=is_own)
        return context

    def _check_room(self, tls: Tls) -> None:
        size = sum(map(_own_bytes, {tls, *(made for made, _ in self._made)}))
        if tls.ca_files and size > MAX_ALL_CERTIFICATES_BYTES:
            raise HostsError(
                f"{tls.ca_files[-1]} cannot be used: with it the files of certificates of all hosts"
                f" have {size} bytes, more than {MAX_ALL_CERTIFICATES_BYTES}; leave in them what"
                " these hosts need",
                path=tls.ca_files[-1],
            )


class Trust:
    """The contexts for a host and for where it leads, made when the first https is asked for.

    Args:
        tls: what is particular.
        own: the host; None where there are no certificates to show.
        shared: with other hosts; None for contexts of its own.
    """

    def __init__(
        self, tls: Tls = DEFAULT_TLS, own: Origin | None = None, shared: Contexts | None = None
    ) -> None:
        self._tls = tls
        self._own = own if tls.client_pairs else None
        self._shared = shared or Contexts()
        self._contexts: dict[bool, ssl.SSLContext] = {}

    def is_own(self, origin: Origin) -> bool:
        """Whether certificates are shown there."""
        return origin == self._own

    def proxy_context(self) -> ssl.SSLContext:
        """The context for a proxy that is reached by https.

        It is another than the host, so it is verified whatever is said of that: it gets a login,
        and what goes through it.

        Raises:
            HostsError: a file of certificates cannot be used.
        """
        return self._shared.get(replace(self._tls, is_verified=True))

    def context(self, origin: Origin) -> ssl.SSLContext:
        """The context for an origin.

        Raises:
            HostsError: a file of certificates cannot be used.
        """
        is_own = self.is_own(origin)
        if is_own not in self._contexts:
            self._contexts[is_own] = self._shared.get(self._tls, is_own=is_own)
        return self._contexts[is_own]


def new_context(tls: Tls = DEFAULT_TLS, *, is_own: bool = False) -> ssl.SSLContext:
    """A context for clients; TLS 1.2 at least.

    Args:
        tls: what is particular.
        is_own: whether it is for the host itself, and shows its certificates.

    Raises:
        HostsError: a file of certificates cannot be used.
    """
    context = _bare_context(tls)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # As in Go: TLS 1.3 has none, and in the middle of one a write may wait for what is to be read.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Some Pythons set it: then a connection that is cut looks like a body that has ended.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    if not tls.is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif sys.platform not in STORES:
        _load_roots(context)
    _load_own(context, tls, is_own=is_own)
    return context


def _bare_context(tls: Tls) -> ssl.SSLContext:
    """One that trusts nobody yet, or whom the system's store does."""
    if sys.platform not in STORES or not tls.is_verified:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    import truststore

    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def roots() -> str:
    """Where the roots are that everybody is verified by: a file, a folder, or the system's."""
    if sys.platform in STORES:
        return "the system's store"
    return _roots_of_openssl() or _roots_elsewhere()


def _load_roots(context: ssl.SSLContext) -> None:
    context.load_default_certs()
    if not _roots_of_openssl():
        context.load_verify_locations(_roots_elsewhere())


def _roots_of_openssl() -> str:
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or ""


def _roots_elsewhere() -> str:
    found = next((file for file in SYSTEMS_FILES if Path(file).exists()), None)
    if found is None:
        import certifi

        found = certifi.where()
    return found


def _load_own(context: ssl.SSLContext, tls: Tls, *, is_own: bool) -> None:
    for path in tls.ca_files:
        try:
            _check_size(path)
            context.load_verify_locations(path)
        except (OSError, ValueError) as error:
            raise _unusable(path, "certificates in PEM", error) from error
    for certificate, key in tls.client_pairs if is_own else ():
        try:
            for path in filter(None, (certificate, key)):
                _check_size(path)
            # without a password OpenSSL asks for one, on the terminal
            context.load_cert_chain(certificate, key or None, password="")
        except (OSError, ValueError) as error:
            wanted = "a certificate with its key, in PEM and without a password"
            both = f"{certificate} with {key}" if key else certificate
            raise _unusable(both, wanted, error) from error


def _own_bytes(tls: Tls) -> int:
    return sum(Path(path).stat().st_size for path in tls.ca_files if Path(path).is_file())


def _check_size(path: str) -> None:
    size = Path(path).stat().st_size
    if size > MAX_CERTIFICATES_BYTES:
        raise ValueError(f"it has {size} bytes, more than {MAX_CERTIFICATES_BYTES}")


def _unusable(path: str, wanted: str, error: Exception) -> HostsError:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return HostsError(
        f"{path} cannot be used: {wanted} should be there: {why}; check the file", path=path
    )
