"""Content that a descriptor has within itself: image-spec, descriptor.md, ``data``.

It saves a request, and is verified like all else. What is not right, or too large to be kept until
its turn comes, is asked of the remote, as if it were not there.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from multi_fetch.errors import DigestMismatchError, SizeMismatchError, UnsupportedError
from multi_fetch.limits import MAX_EMBEDDED_BYTES
from multi_fetch.verify import Verifier

if TYPE_CHECKING:
    from multi_fetch.oci.descriptor import Descriptor


def embedded_content(descriptor: Descriptor) -> bytes | None:
    """The verified content, or None where it has to be fetched."""
    size = descriptor.size
    if not descriptor.data or size is None or size > MAX_EMBEDDED_BYTES:
        return None
    if len(descriptor.data) > 2 * MAX_EMBEDDED_BYTES:
        return None
    try:
        content = base64.b64decode(descriptor.data, validate=True)
        verifier = Verifier(descriptor.digest, size)
        verifier.update(content)
        verifier.finish()
    except (ValueError, DigestMismatchError, SizeMismatchError, UnsupportedError):
        return None
    return content
