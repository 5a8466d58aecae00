"""What a line names, and in which repository: as a run for one repository reads it, and for all.

Where the remote is one repository, a line names a tag or a digest in it. Where the remote is
``-``, each line names the repository too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from multi_fetch.errors import InvalidReferenceError, InvalidRequestError, ObjectRequiredError
from multi_fetch.oci.digest import Digest, parse_digest
from multi_fetch.oci.quote import quote
from multi_fetch.oci.reference import TAG, parse_remote

if TYPE_CHECKING:
    from collections.abc import Sequence

# The remote that stands for all: each line says which.
ANYWHERE: Final = "-"


class Name(msgspec.Struct, frozen=True):
    """An object that a line names.

    Attributes:
        locator: its repository; empty for the run's own.
        tag: or empty.
        digest: or None; with a tag and a digest, the digest decides.
    """

    locator: str
    tag: str = ""
    digest: Digest | None = None


class Names(Protocol):
    """How lines name things."""

    def object(self, text: str) -> Name:
        """The first word of a request.

        Raises:
            InvalidRequestError: it names no object.
        """

    def repository(self, words: Sequence[str]) -> tuple[str, Sequence[str]]:
        """The repository that ``!tags`` is about, and the words behind it.

        Raises:
            InvalidRequestError: it is not there, or none.
        """


class InRepository:
    """The run has one repository."""

    def object(self, text: str) -> Name:
        """A tag, a digest, ``@<digest>`` or ``<tag>@<digest>``."""
        tag, at, digest = text.partition("@")
        if not at and ":" in text:
            tag, digest = "", text
        if tag and not TAG.fullmatch(tag):
            raise InvalidRequestError(
                f"{quote(text)} is not an object: write a tag, a digest, @<digest> or"
                " <tag>@<digest>"
            )
        return Name("", tag, parse_digest(digest) if at or digest else None)

    def repository(self, words: Sequence[str]) -> tuple[str, Sequence[str]]:
        """The run's own; no word says it."""
        return "", words


class Everywhere:
    """The remote is ``-``: a line has references as the command line does."""

    def object(self, text: str) -> Name:
        """A whole reference: ``docker.io/library/redis:7``, ``redis:7``, ``oci:<folder>:<tag>``."""
        ref = parse_remote(text)
        if not ref.object:
            raise ObjectRequiredError(f"{quote(text)} names no object: append :<tag> or @<digest>")
        return Name(ref.locator, ref.tag, parse_digest(ref.digest) if ref.digest else None)

    def repository(self, words: Sequence[str]) -> tuple[str, Sequence[str]]:
        """The first word."""
        if not words:
            raise InvalidRequestError("!tags takes a repository here: the remote is -")
        ref = parse_remote(words[0])
        if ref.object:
            raise InvalidReferenceError(f"{quote(words[0])} names an object: write {ref.locator}")
        return ref.locator, words[1:]


IN_REPOSITORY: Final = InRepository()
EVERYWHERE: Final = Everywhere()


def names_of(remote: str) -> Names:
    """How the lines of a run name things, by its remote."""
    return EVERYWHERE if remote == ANYWHERE else IN_REPOSITORY
