"""References: ``<locator>:<object>``, as containerd's reference package and as Docker write them.

A locator says where (``docker.io/library/redis``), an object says what (``latest``,
``@sha256:...``, ``latest@sha256:...``). What the two mean is left to the resolver; here is only
the form. ``parse_reference`` is containerd's grammar of 2017, where the host is always written
out. ``parse_familiar`` is Docker's, where ``redis`` is short for ``docker.io/library/redis``.
``parse_remote`` is what the command lines take: Docker's, because every reference with a
registry's real host name reads the same in both, and skopeo's ``oci:`` and ``oci-archive:``.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from multi_fetch.errors import (
    HostnameRequiredError,
    InvalidDigestError,
    InvalidReferenceError,
    ObjectRequiredError,
)
from multi_fetch.limits import (
    MAX_HOST_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_PATH_CHARACTERS,
    MAX_TAG_CHARACTERS,
)
from multi_fetch.oci.digest import REGISTERED, parse_digest
from multi_fetch.oci.quote import quote

# distribution-spec, "Pulling manifests": a tag is [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}
TAG = re.compile(rf"[a-zA-Z0-9_][a-zA-Z0-9._-]{{0,{MAX_TAG_CHARACTERS - 1}}}")

# What to write instead.
FORM: Final = "write <host>/<repository>[:<tag>][@<digest>]"
TAG_FORM: Final = "write letters, digits, and _ . - behind the first"

# distribution-spec, "Pulling manifests": <name>
NAME = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
)

# RFC 3986, section 3.2: host [":" port], a host being a name, an IPv4 or a bracketed IPv6 address.
HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
)

# containerd, reference.go: the path ends at the first of these.
OBJECT_START = re.compile(r"[:@]")

# distribution/reference, anchoredIdentifierRegexp: an image's id, which is no name.
IDENTIFIER = re.compile(r"[a-f0-9]{64}")

# distribution/reference, DigestRegexp: so user:password@host:443 has no digest.
MIN_ENCODED_CHARACTERS: Final = 32

# A digest has no slash, so what stands here before the @ is somebody's secret: never repeated.
USER_INFO = re.compile(r"@.*/", re.DOTALL)

# skopeo, containers-transports(5): a layout in a folder, and in an uncompressed tar file.
ARCHIVE: Final = "oci-archive"
SCHEMES: Final = ("oci", ARCHIVE)

DEFAULT_HOST: Final = "docker.io"
LEGACY_HOSTS: Final = frozenset(
    {"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}
)
OFFICIAL: Final = "library/"


class Reference(msgspec.Struct, frozen=True):
    """A locator and, where one is named, an object in it.

    Attributes:
        locator: host and repository: ``docker.io/library/redis``; or a layout's scheme and path:
            ``oci:/srv/mirror``.
        object: ``latest``, ``@sha256:...`` or ``latest@sha256:...``; empty for a whole repository.
    """

    locator: str
    object: str = ""

    @property
    def scheme(self) -> str:
        """One of SCHEMES; empty for what is in a registry."""
        scheme, colon, _ = self.locator.partition(":")
        return scheme if colon and scheme in SCHEMES else ""

    @property
    def path(self) -> str:
        """The folder or file of a layout; empty for what is in a registry."""
        return self.locator.partition(":")[2] if self.scheme else ""

    @property
    def hostname(self) -> str:
        """The registry's host, with its port where one is written."""
        return self.locator.partition("/")[0]

    @property
    def repository(self) -> str:
        """The locator without its host: distribution-spec's ``<name>``."""
        return self.locator.partition("/")[2]

    @property
    def tag(self) -> str:
        """The object's tag, or an empty text."""
        return self.object.partition("@")[0]

    @property
    def digest(self) -> str:
        """The object's digest as written, or an empty text: short ones parse, but never resolve."""
        return self.object.partition("@")[2]

    def __str__(self) -> str:
        if not self.object or self.object.startswith("@"):
            return self.locator + self.object
        return f"{self.locator}:{self.object}"


def parse_reference(text: str) -> Reference:
    """Reads ``<host>/<path>[:<tag>][@<digest>]``, one of tag and digest at least.

    Follows containerd's reference package as of commit 831f68fd71; a query is dropped, as there.

    Raises:
        HostnameRequiredError: no host stands before the first slash.
        ObjectRequiredError: neither tag nor digest is named.
        InvalidReferenceError: the text is no reference.
    """
    _refuse_strange_characters(text)
    text = re.split(r"[?#]", text, maxsplit=1)[0]
    host, slash, rest = text.partition("/")
    if not host:
        raise HostnameRequiredError(
            f"{quote(text)} names no registry: write <host>/<repository>:<tag>"
        )
    _check_host(host, text)
    start = OBJECT_START.search(rest)
    if not slash or start is None:
        raise ObjectRequiredError(f"{quote(text)} names no object: append :<tag> or @<digest>")
    path, found = rest[: start.start()], rest[start.start() :].removeprefix(":")
    segments = [segment for segment in path.split("/") if segment]
    if "." in segments or ".." in segments:
        raise InvalidReferenceError(
            f"{quote(text)} is not a reference: its path has a dot segment; {FORM}"
        )
    if not segments:
        raise InvalidReferenceError(f"{quote(text)} names no repository behind its host; {FORM}")
    if not found:
        raise ObjectRequiredError(f"{quote(text)} names no object behind its ':'; {FORM}")
    return Reference("/".join([host, *segments]), found)


def parse_familiar(text: str) -> Reference:
    """Reads a reference as Docker's command line does: ``redis``, ``redis:7``, ``ghcr.io/o/r@...``.

    A first component with neither dot nor colon that is not ``localhost`` is no host, but part of
    a name on docker.io; a single name there is one of ``library``. The object may be missing.

    Raises:
        InvalidReferenceError: the text is no reference; for an upper-case name, a bad tag and a
            bad digest the message says which part.
    """
    _refuse_strange_characters(text)
    if IDENTIFIER.fullmatch(text):
        raise InvalidReferenceError(f"{text!r} is an image's id, not a reference: write its name")
    name, at, digest = text.partition("@")
    host, name = _split_host(name)
    name, colon, tag = name.partition(":")
    if host in LEGACY_HOSTS:
        host = DEFAULT_HOST
    if host == DEFAULT_HOST and "/" not in name:
        name = OFFICIAL + name
    _check_host(host, text)
    _check_name(name, text)
    if colon and not TAG.fullmatch(tag):
        raise InvalidReferenceError(
            f"{quote(text)} is not a reference: {quote(tag, text)} is not a tag: {TAG_FORM}"
        )
    if at:
        _check_digest(digest, text)
    return Reference(f"{host}/{name}", f"{tag}{at}{digest}")


def parse_remote(text: str) -> Reference:
    """Reads what a command line may name: ``oci:<folder>``, ``oci-archive:<file>``, or a reference.

    Both may have an object: ``oci:<folder>:<tag>``, ``oci:<folder>@<digest>``, or both. All else
    is as ``parse_familiar`` has it. An image whose name is a scheme is written with its host.

    Raises:
        InvalidReferenceError: the text is neither; the message says what to write.
    """
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in SCHEMES:
        return parse_familiar(text)
    if rest.startswith("//"):
        raise InvalidReferenceError(
            f"{quote(text)} is neither a folder nor a repository: write {scheme}:/path for the"
            " one, and <host>/<repository> for the other"
        )
    if len(rest) > MAX_PATH_CHARACTERS or not rest.isprintable():
        raise InvalidReferenceError(
            f"{quote(text)} is not a layout: its path is longer than {MAX_PATH_CHARACTERS}"
            " characters, no UTF-8, or has control characters: choose another"
        )
    return _parse_layout(scheme, rest, text)


def _parse_layout(scheme: str, rest: str, text: str) -> Reference:
    # As in skopeo, a path has no colon, so that a tag can be told; the first may be a digest's.
    path, colon, found = rest.partition(":")
    before, at, algorithm = path.rpartition("@")
    if at and _may_be_digest(algorithm, found):
        path, tag, digest = before, "", f"{algorithm}:{found}"
    else:
        tag, at, digest = found.partition("@")
    if colon and (tag or not digest) and not TAG.fullmatch(tag):
        raise InvalidReferenceError(
            f"{quote(text)} is not a layout: {quote(tag, text)} is not a tag, and a path has no"
            f" colon: write {scheme}:<path>[:<tag>][@<digest>]"
        )
    if not path:
        raise InvalidReferenceError(
            f"{quote(text)} names no layout: write {scheme}:<path>[:<tag>][@<digest>]"
        )
    if at:
        _check_digest(digest, text)
    return Reference(f"{scheme}:{path.rstrip('/') or '/'}", f"{tag}{at}{digest}")


def _may_be_digest(algorithm: str, encoded: str) -> bool:
    return algorithm in REGISTERED or (
        "/" not in algorithm and len(encoded) >= MIN_ENCODED_CHARACTERS
    )


def _refuse_strange_characters(text: str) -> None:
    if USER_INFO.search(text):
        raise InvalidReferenceError(
            "a reference has no user name or password: they belong in the environment"
        )
    if "://" in text:
        raise InvalidReferenceError(
            f"{quote(text)} is not a reference: leave out the scheme, write <host>/<repository>"
        )
    if not text or not all("!" <= character <= "~" for character in text):
        raise InvalidReferenceError(
            f"{quote(text)} is not a reference: empty, or with blanks or non-ASCII characters;"
            f" {FORM}"
        )


def _split_host(name: str) -> tuple[str, str]:
    # distribution/reference, splitDockerDomain
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first or first.lower() != first):
        return first, rest
    return DEFAULT_HOST, name


def _check_host(host: str, text: str) -> None:
    if len(host) > MAX_HOST_CHARACTERS or not HOST.fullmatch(host):
        raise InvalidReferenceError(
            f"{quote(text)} is not a reference: {quote(host, text)} is not a host; {FORM}"
        )


def _check_digest(digest: str, text: str) -> None:
    try:
        encoded = parse_digest(digest).encoded
    except InvalidDigestError as error:
        raise InvalidReferenceError(f"{quote(text)} is not a reference: {error}; {FORM}") from error
    if len(encoded) < MIN_ENCODED_CHARACTERS:
        raise InvalidReferenceError(
            f"{quote(text)} is not a reference: the digest behind its @ is too short: write it"
            " whole"
        )


def _check_name(name: str, text: str) -> None:
    if not NAME.fullmatch(name):
        hint = " (names are in lower case)" if NAME.fullmatch(name.lower()) else ""
        raise InvalidReferenceError(
            f"{quote(text)} is not a reference: {quote(name, text)} is not a repository's name"
            f"{hint}"
        )
    if len(name) > MAX_NAME_CHARACTERS:
        raise InvalidReferenceError(
            f"{quote(text)} is not a reference: its name has more than {MAX_NAME_CHARACTERS}"
            " characters"
        )
