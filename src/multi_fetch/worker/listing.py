"""Listings as content: what there is in a repository, a line each, as the pages come.

Nothing of it can be verified, so its descriptor has a digest that stands for none, and its size is
not known. Tags that are none cannot be asked for, and might break a line: they are left out.
"""

from __future__ import annotations

import logging
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from multi_fetch.oci.descriptor import Descriptor, encode_hook
from multi_fetch.oci.digest import NO_DIGEST
from multi_fetch.oci.reference import TAG
from multi_fetch.protocol.request import Listing
from multi_fetch.remotes import Opened

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from multi_fetch.remotes import Remote
    from multi_fetch.worker.job import Target

log = logging.getLogger(__name__)

# RFC 2046, section 4.1.3; and what ndjson.org suggests.
TAGS_TYPE: Final = "text/plain"
REFERRERS_TYPE: Final = "application/x-ndjson"

# A page may have megabytes: its lines are made as they are sent.
LINES_AT_ONCE: Final = 256

_encoder = msgspec.json.Encoder(enc_hook=encode_hook)


@asynccontextmanager
async def open_listing(remote: Remote, target: Target) -> AsyncIterator[Opened]:
    """A listing, as ``Remote.open`` gives an object.

    Raises:
        MultiFetchError: the remote's, while iterating.
    """
    is_of_tags = target.listing is Listing.TAGS
    media_type = TAGS_TYPE if is_of_tags else REFERRERS_TYPE
    descriptor = Descriptor(media_type=media_type, digest=NO_DIGEST, size=None)
    lines = _tag_lines(remote, target) if is_of_tags else _referrer_lines(remote, target)
    async with aclosing(lines):
        yield Opened(str(target.ref), descriptor, lines)


async def _tag_lines(remote: Remote, target: Target) -> AsyncGenerator[bytes, None]:
    left_out = 0
    async with aclosing(remote.tags(target.ref)) as pages:
        async for page in pages:
            tags = [name for name in page if TAG.fullmatch(name)]
            left_out += len(page) - len(tags)
            for start in range(0, len(tags), LINES_AT_ONCE):
                some = tags[start : start + LINES_AT_ONCE]
                yield "".join(f"{tag}\n" for tag in some).encode("ascii")
    if left_out:
        facts = {"ref": str(target.ref), "count": left_out}
        log.warning("names that are no tags were left out of a listing", extra=facts)


async def _referrer_lines(remote: Remote, target: Target) -> AsyncGenerator[bytes, None]:
    async with aclosing(remote.referrers(target.ref, target.artifact_type)) as pages:
        async for page in pages:
            for start in range(0, len(page), LINES_AT_ONCE):
                yield _encoder.encode_lines(page[start : start + LINES_AT_ONCE])
