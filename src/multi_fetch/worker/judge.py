"""What must be true of an object, and how much of it is held before any is passed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multi_fetch.advice import PUSH_AGAIN
from multi_fetch.errors import (
    DigestMismatchError,
    InvalidRequestError,
    TooLargeError,
    UnsupportedError,
)
from multi_fetch.limits import MAX_DATA_BYTES, MAX_MANIFEST_BYTES
from multi_fetch.oci.digest import new_hasher
from multi_fetch.oci.manifest import is_manifest
from multi_fetch.oci.media_types import INDEX_TYPES, OCI_INDEX
from multi_fetch.verify import Counter, Judge, Verifier

if TYPE_CHECKING:
    from multi_fetch.ceiling import Ceiling
    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.protocol.request import ByteRange, Request
    from multi_fetch.worker.job import Target


def check_verifiable(request: Request) -> None:
    """Refuses content that could not be verified, before it is asked for.

    Raises:
        UnsupportedError: its digest is of an algorithm that cannot be computed here.
    """
    is_judged = request.is_content_wanted and is_provable(request)
    if request.digest is not None and is_judged:
        new_hasher(request.digest.algorithm)


def check_whole(request: Request) -> None:
    """Refuses what is no whole object, where nothing but such is of use.

    Raises:
        InvalidRequestError: it is a range, or a listing.
    """
    if request.byte_range is not None and request.is_content_wanted:
        raise InvalidRequestError("a range cannot be kept in a layout: leave out range:, or --into")
    if request.listing is not None:
        raise InvalidRequestError(
            f"a listing cannot be kept in a layout: ask for {request.object} without --into"
        )


def check_pin(request: Request, descriptor: Descriptor) -> None:
    """Holds what was found against a ``digest:`` hint.

    Raises:
        DigestMismatchError: it is another object.
        UnsupportedError: the two digests are of different algorithms.
    """
    pin = request.pin
    if pin is None or pin == descriptor.digest:
        return
    if pin.algorithm != descriptor.digest.algorithm:
        raise UnsupportedError(
            f"the pin is a {pin.algorithm} digest, but the registry names the object by"
            f" {descriptor.digest.algorithm}: pin that"
        )
    raise DigestMismatchError(
        want=pin, got=descriptor.digest, why=f"{request.object} has moved from what it is pinned to"
    )


def is_provable(request: Request) -> bool:
    """Whether the content has a digest to be held against: a range and a listing have none."""
    return request.byte_range is None and request.listing is None


def check_told(request: Request, target: Target, ceiling: Ceiling) -> None:
    """Refuses content that is known to be too large, before it is asked for.

    Raises:
        MaxSizeError: it is too large.
    """
    if target.size is None or not request.is_content_wanted:
        return
    # Of what nobody knows, a platform is asked for where it may be an index.
    media_type = target.media_types[0] if target.media_types else OCI_INDEX
    if not _leads_on(request, media_type):
        ceiling.check(target.size, request.byte_range)


def judge_of(request: Request, descriptor: Descriptor, ceiling: Ceiling) -> Judge:
    """Who judges the content.

    Raises:
        MaxSizeError: there is too much of it, by what is known now.
    """
    part, limit = request.byte_range, None
    if not _leads_on(request, descriptor.media_type):
        ceiling.check(descriptor.size, part)
        limit = ceiling.most(descriptor.size)
    if is_provable(request):
        return Verifier(descriptor.digest, descriptor.size, limit)
    if part is None:
        return Counter(None, limit=limit)
    most = None if part.last is None else part.last - part.first + 1
    return Counter(most, part.first, limit)


def first_judge_of(request: Request, descriptor: Descriptor, ceiling: Ceiling) -> Judge:
    """The same for what the request itself names, which may be pinned.

    Raises:
        MultiFetchError: as for ``check_pin`` and ``judge_of``.
    """
    check_pin(request, descriptor)
    return judge_of(request, descriptor, ceiling)


def _leads_on(request: Request, media_type: str) -> bool:
    """Whether an object of this type is held to find another one in it, and is no answer itself."""
    return request.platform is not None and media_type in INDEX_TYPES


def held_limit(descriptor: Descriptor, byte_range: ByteRange | None = None) -> int:
    """How much of the content is held before any is passed on."""
    if is_manifest(descriptor.media_type):
        return MAX_MANIFEST_BYTES
    size = descriptor.size if byte_range is None else byte_range.most_bytes(descriptor.size)
    return MAX_DATA_BYTES if size is None or size <= MAX_DATA_BYTES else 0


def check_held(descriptor: Descriptor, *, is_whole: bool) -> None:
    """Refuses a manifest that cannot be held: nobody could look into it, and say what it names.

    A registry that has it among its blobs may send such a one.

    Raises:
        TooLargeError: it is a manifest, and there is more of it.
    """
    if not is_whole and is_manifest(descriptor.media_type):
        raise TooLargeError(
            f"the manifest has more than {MAX_MANIFEST_BYTES} bytes, which is the limit{PUSH_AGAIN}"
        )
