"""Pages of listings: what is asked for, and what came, without I/O.

distribution-spec, "Listing Tags" and "Listing Referrers": a Link header of RFC 8288 with the
relation ``next`` leads to the next page. Whoever overlooked one would take a part for the whole,
so a Link that cannot be read is an error, and one of no relation is taken for the next page.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

import msgspec

from multi_fetch.advice import TELL_OPERATOR
from multi_fetch.errors import RegistryError, TooLargeError
from multi_fetch.limits import MAX_PAGE_NAMES
from multi_fetch.oci.manifest import parse_manifest
from multi_fetch.oci.media_types import OCI_INDEX
from multi_fetch.registry.errcode import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.oci.digest import Digest

# RFC 9110, section 5.6: OWS, token (WORD) and quoted-string.
OWS = r"[ \t]*"
WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
QUOTED = r'"(?:[^"\\]|\\.)*"'
# RFC 8288, section 3:
#   link-value = "<" URI-Reference ">" *( OWS ";" OWS [ link-param ] )
#   link-param = token BWS [ "=" BWS ( token / quoted-string ) ]
# Unquoted, a value may be more than a token: some write rel=next/ or title=a b.
TARGET = re.compile(rf"{OWS}<([^<>]*)>", re.DOTALL)
PARAMETER = re.compile(rf"{OWS};{OWS}(?:({WORD}){OWS}(?:={OWS}({QUOTED}|[^\s;,\"]*))?)?", re.DOTALL)
COMMA = re.compile(rf"{OWS}(?:,{OWS})+")

# distribution-spec, "Referrers Tag Schema": how much of a digest's parts a tag has.
FALLBACK_ALGORITHM_CHARACTERS: Final = 32
FALLBACK_ENCODED_CHARACTERS: Final = 64
NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9._-]")

FILTER: Final = "artifactType"


class _Tags(msgspec.Struct):
    tags: list[str] | None = None


def tags_path(repository: str, *, count: int | None = None, last: str = "") -> str:
    """Where a repository's tags are listed.

    Args:
        repository: distribution-spec's ``<name>``.
        count: how many a page should have; None for as many as the registry likes.
        last: the tag behind which the page begins.
    """
    asked = {"n": str(count)} if count else {}
    if last:
        asked["last"] = last
    query = f"?{urlencode(asked)}" if asked else ""
    return f"/v2/{quote(repository, safe='/')}/tags/list{query}"


def referrers_path(repository: str, digest: Digest, artifact_type: str) -> str:
    """Where what refers to a digest is listed."""
    query = f"?{urlencode({FILTER: artifact_type})}" if artifact_type else ""
    return f"/v2/{quote(repository, safe='/')}/referrers/{digest}{query}"


def fallback_tag(digest: Digest) -> str:
    """The tag of the index that stands in for the referrers API where there is none."""
    algorithm = digest.algorithm[:FALLBACK_ALGORITHM_CHARACTERS]
    return NOT_IN_TAGS.sub("-", f"{algorithm}-{digest.encoded[:FALLBACK_ENCODED_CHARACTERS]}")


def next_link(header: str) -> str | None:
    """The next page's URL, as a Link header (or several, joined by commas) has it; None at the end.

    Raises:
        RegistryError: the header cannot be read.
    """
    header = header.strip(" \t")
    position = _end_of(COMMA, header, 0)
    while position < len(header):
        target = TARGET.match(header, position)
        if target is None:
            raise _unreadable(header)
        relations, end = _relations(header, target.end())
        position = _end_of(COMMA, header, end)
        if position == end < len(header):
            raise _unreadable(header)
        if relations is None or "next" in relations.lower().split():
            return target[1].strip()
    return None


def names_of_page(body: bytes) -> list[str]:
    """The names on a page of tags; ``{"tags": null}`` has none.

    Raises:
        RegistryError: it is no such page.
        TooLargeError: it has more than MAX_PAGE_NAMES.
    """
    if body.count(b",") > MAX_PAGE_NAMES:
        raise TooLargeError(f"a page of tags has more than {MAX_PAGE_NAMES}{TELL_OPERATOR}")
    try:
        return msgspec.json.decode(body, type=_Tags).tags or []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RegistryError(
            f"the registry's list of tags cannot be read: {error}{TELL_OPERATOR}"
        ) from error


def referrers_of_page(body: bytes, artifact_type: str) -> list[Descriptor]:
    """The descriptors on a page of referrers, those of the artifact type if one is given.

    Raises:
        RegistryError: it is no index.
        TooLargeError: it names more than MAX_CHILDREN, or says too much of them.
    """
    named = parse_manifest(body, OCI_INDEX).manifests or ()
    return [each for each in named if artifact_type in {"", each.artifact_type}]


def is_filtered(headers: Mapping[str, str]) -> bool:
    """Whether the registry has left out what is of another artifact type."""
    applied = headers.get("oci-filters-applied", "").split(",")
    return FILTER.lower() in {each.strip().lower() for each in applied}


def _relations(header: str, position: int) -> tuple[str | None, int]:
    """What a link is to the page, where its parameters begin; None where it does not say."""
    relations: str | None = None
    while (parameter := PARAMETER.match(header, position)) is not None:
        position = parameter.end()
        if relations is None and (parameter[1] or "").lower() == "rel":
            relations = _unquoted(parameter[2] or "")
    return relations, position


def _end_of(pattern: re.Pattern[str], text: str, start: int) -> int:
    match = pattern.match(text, start)
    return start if match is None else match.end()


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL) if value[:1] == '"' else value


def _unreadable(header: str) -> RegistryError:
    shown = printable(header.partition("?")[0], 200)
    return RegistryError(f"the registry's Link header cannot be read: {shown!r}{TELL_OPERATOR}")
