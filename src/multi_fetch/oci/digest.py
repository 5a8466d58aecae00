"""Digests, as image-spec's descriptor.md ("Digests") defines them.

A Digest is text whose form was checked, so it stands wherever text does: in URLs, messages and
mappings. An algorithm that is not known here parses all the same (image-spec: implementations
should allow it); only verifying asks for a known one.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from multi_fetch.errors import InvalidDigestError, UnsupportedError
from multi_fetch.limits import MAX_DIGEST_CHARACTERS
from multi_fetch.oci.quote import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# image-spec, descriptor.md:
#   digest              ::= algorithm ":" encoded
#   algorithm           ::= algorithm-component (algorithm-separator algorithm-component)*
#   algorithm-component ::= [a-z0-9]+
#   algorithm-separator ::= [+._-]
#   encoded             ::= [a-zA-Z0-9=_-]+
DIGEST = re.compile(r"(?P<algorithm>[a-z0-9]+(?:[+._-][a-z0-9]+)*):(?P<encoded>[a-zA-Z0-9=_-]+)")

# The registered algorithms, with the form of their encoded part.
REGISTERED: Final[Mapping[str, re.Pattern[str]]] = {
    "sha256": re.compile(r"[a-f0-9]{64}"),
    "sha384": re.compile(r"[a-f0-9]{96}"),
    "sha512": re.compile(r"[a-f0-9]{128}"),
    "blake3": re.compile(r"[a-f0-9]{64}"),
}


# Content as it comes from a socket or a file: any of the built-in buffers.
Chunk: TypeAlias = bytes | bytearray | memoryview


class Hasher(Protocol):
    """What hashlib's objects do, and blake3's."""

    def update(self, data: Chunk, /) -> object:
        """Takes more content."""

    def hexdigest(self) -> str:
        """The digest of all content so far, in lower-case hex."""


class Digest(str):
    """A digest, ``<algorithm>:<encoded>``. Made by ``parse_digest`` and ``digest_of`` alone."""

    __slots__ = ()

    @property
    def algorithm(self) -> str:
        """The part before the colon: ``sha256``."""
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        """The part behind the colon: for the registered algorithms, lower-case hex."""
        return self.partition(":")[2]


# What stands for a digest where none can be: it has the form, and no algorithm that anybody knows.
NO_DIGEST: Final = Digest("none:unverified")


def parse_digest(text: str) -> Digest:
    """Reads ``<algorithm>:<encoded>``.

    Raises:
        InvalidDigestError: the form is wrong; for a registered algorithm also the length or case.
    """
    match = DIGEST.fullmatch(text) if len(text) <= MAX_DIGEST_CHARACTERS else None
    if match is None:
        raise InvalidDigestError(
            f"{quote(text)} is not a digest: write <algorithm>:<hex>, as in sha256:e3b0c442..."
        )
    algorithm, encoded = match["algorithm"], match["encoded"]
    registered = REGISTERED.get(algorithm)
    if registered is not None and not registered.fullmatch(encoded):
        digits = registered.pattern.partition("{")[2].rstrip("}")
        raise InvalidDigestError(
            f"{quote(text)} is not a digest: {algorithm} has {digits} lower-case hex digits,"
            f" here are {len(encoded)} characters: write it whole"
        )
    return Digest(text)


def new_hasher(algorithm: str) -> Hasher:
    """A fresh hasher for an algorithm's name.

    Raises:
        UnsupportedError: there is none for it here.
    """
    make = _HASHERS.get(algorithm)
    if make is None:
        raise UnsupportedError(
            f"content cannot be verified: digest algorithm {algorithm!r} is not supported"
            f" (supported: {', '.join(sorted(_HASHERS))}): use one of these, or, if"
            f" {algorithm!r} is a repository, its tag alone"
        )
    return make()


def digest_of(content: Chunk, algorithm: str = "sha256") -> Digest:
    """The digest of content that is there as a whole."""
    hasher = new_hasher(algorithm)
    hasher.update(content)
    return Digest(f"{algorithm}:{hasher.hexdigest()}")


def is_sha256_of(digest: Digest, content: Chunk) -> bool:
    """Whether content that is there as a whole has a digest, which is of that algorithm."""
    return digest == f"sha256:{hashlib.sha256(content).hexdigest()}"


def _new_blake3() -> Hasher:
    try:
        from blake3 import blake3  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise UnsupportedError(
            "content cannot be verified: install blake3 (pip install 'multi-fetch[blake3]')"
        ) from error
    hasher: Hasher = blake3()
    return hasher


_HASHERS: Final[Mapping[str, Callable[[], Hasher]]] = {
    "sha256": hashlib.sha256,
    "sha384": hashlib.sha384,
    "sha512": hashlib.sha512,
    "blake3": _new_blake3,
}
