"""What refers to a digest in a layout: found by looking into each manifest that index.json reaches.

All here blocks: it is for threads.
"""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING

from multi_fetch.advice import COPY_AGAIN
from multi_fetch.errors import MultiFetchError, RegistryError
from multi_fetch.layout.part import translated
from multi_fetch.limits import MAX_MANIFEST_BYTES
from multi_fetch.oci.digest import digest_of
from multi_fetch.oci.referrer import parse_referrer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multi_fetch.layout.contents import Contents
    from multi_fetch.oci.descriptor import Descriptor
    from multi_fetch.oci.digest import Digest
    from multi_fetch.oci.referrer import Referrer

log = logging.getLogger(__name__)


def referrers_among(
    contents: Contents, manifests: Sequence[Descriptor], digest: Digest
) -> list[Descriptor]:
    """Those of these manifests whose subject is the digest; damaged ones are passed over."""
    found: list[Descriptor] = []
    for each in manifests:
        try:
            referrer = _read(contents, each)
        except MultiFetchError as error:
            log.warning("a manifest was passed over", extra={"error": error.message})
            continue
        if referrer.refers_to(digest):
            found.append(referrer.describe(each))
    return found


def _read(contents: Contents, manifest: Descriptor) -> Referrer:
    with closing(contents.open(manifest).part) as part, translated(manifest.digest):
        content = part.read(MAX_MANIFEST_BYTES)
    if digest_of(content, manifest.digest.algorithm) != manifest.digest:
        raise RegistryError(f"{manifest.digest} is damaged, or too large{COPY_AGAIN}")
    return parse_referrer(content)
