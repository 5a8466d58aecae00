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
from multi_fetch.verify import Counter, Judge, Verifier

if TYPE_CHECKING:
    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.protocol.request import ByteRange, Request


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


def judge_of(request: Request, descriptor: Descriptor) -> Judge:
    """Who judges the content."""
    if is_provable(request):
        return Verifier(descriptor.digest, descriptor.size)
    part = request.byte_range
    return Counter(None if part is None or part.last is None else part.last - part.first + 1)


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
