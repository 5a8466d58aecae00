"""What anyone does with a remote: open an object, take its chunks, verify them.

All objects are small, and QUICK's waits are too: what counts is what was asked, in which order.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from multi_fetch.errors import MultiFetchError
from multi_fetch.oci.digest import digest_of, parse_digest
from multi_fetch.oci.media_types import OCI_MANIFEST, OCTET_STREAM
from multi_fetch.oci.reference import Reference
from multi_fetch.protocol.request import ByteRange
from multi_fetch.registry import open_registry
from multi_fetch.registry.answer import Asked
from multi_fetch.registry.place import Place
from multi_fetch.registry.resolver import RegistryRemote
from multi_fetch.registry.url import Url
from multi_fetch.remotes import Patience
from multi_fetch.verify import Verifier

if TYPE_CHECKING:
    from multi_fetch.remotes import Remote

# A busy machine is no silent server: only where one is silent on purpose is it left soon.
QUICK: Final = Patience(
    retries=3, first_wait_seconds=0.001, max_wait_seconds=5.0, stall_seconds=30.0
)
HASTY: Final = replace(QUICK, stall_seconds=0.25)

BLOB: Final = bytes(range(256)) * 16
BLOB_DIGEST: Final = digest_of(BLOB)
BLOB_SHA512: Final = digest_of(BLOB, "sha512")
EMPTY_DIGEST: Final = digest_of(b"")
MANIFEST: Final = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCTET_STREAM, "digest": EMPTY_DIGEST, "size": 0},
        "layers": [{"mediaType": OCTET_STREAM, "digest": BLOB_DIGEST, "size": len(BLOB)}],
    }
).encode()
MANIFEST_DIGEST: Final = digest_of(MANIFEST)


class Ask(NamedTuple):
    """What is asked of a remote, and what it has to give.

    Attributes:
        text: the object.
        content: what it is; None where only the descriptor is asked for.
        media_types: the hints.
        size: the hint.
        byte_range: the hint.
    """

    text: str
    content: bytes | None
    media_types: tuple[str, ...] = ()
    size: int | None = None
    byte_range: ByteRange | None = None


TAG: Final = Ask("v1", MANIFEST)
BLOB_AS_BLOB: Final = Ask(BLOB_DIGEST, BLOB, (OCTET_STREAM,))
BLOB_OF_SIZE: Final = BLOB_AS_BLOB._replace(size=len(BLOB))
BLOB_BARE: Final = Ask(BLOB_DIGEST, BLOB)
BLOB_512: Final = Ask(BLOB_SHA512, BLOB, (OCTET_STREAM,))
EMPTY: Final = Ask(EMPTY_DIGEST, b"", (OCTET_STREAM,))
PART: Final = BLOB_AS_BLOB._replace(content=BLOB[100:300], byte_range=ByteRange(100, 299))
REST: Final = BLOB_AS_BLOB._replace(content=BLOB[4000:], byte_range=ByteRange(4000))
BEYOND: Final = BLOB_AS_BLOB._replace(byte_range=ByteRange(4096, 4100))
RESOLVE_TAG: Final = Ask("v1", None)
RESOLVE_BLOB: Final = Ask(BLOB_DIGEST, None, (OCTET_STREAM,))
RESOLVE_EMPTY: Final = Ask(EMPTY_DIGEST, None, (OCTET_STREAM,))


class Verdict(NamedTuple):
    """What became of it.

    Attributes:
        error: None where the content came whole and, but for a part, verified.
        content: what came, also before an error.
        size: of the descriptor.
        retries: that the remote reports.
    """

    error: MultiFetchError | None
    content: bytes
    size: int | None
    retries: int


async def consume(ask: Ask, address: str, patience: Patience = QUICK) -> Verdict:
    """Asks the registry at an address for an object of the repository ``a``."""
    async with open_registry(Reference(f"{address}/a"), patience=patience) as remote:
        return await consume_from(remote, ask, address)


async def consume_from(remote: Remote, ask: Ask, address: str) -> Verdict:
    """The same, of a remote that is open."""
    content, size, error = bytearray(), None, None
    object_text = f"@{ask.text}" if ":" in ask.text else ask.text
    ref = Reference(f"{address}/a", object_text)
    hints = {"media_types": ask.media_types, "size": ask.size}
    try:
        if ask.content is None:
            size = (await remote.resolve(ref, **hints)).descriptor.size  # type: ignore[arg-type]
        else:
            opened_here = remote.open(ref, **hints, byte_range=ask.byte_range)  # type: ignore[arg-type]
            async with opened_here as opened:
                size = opened.descriptor.size
                verifier = Verifier(opened.descriptor.digest, size)
                async for chunk in opened.chunks:
                    content += chunk
                    if ask.byte_range is None:
                        verifier.update(chunk)
                if ask.byte_range is None:
                    verifier.finish()
    except MultiFetchError as caught:
        error = caught
    return Verdict(error, bytes(content), size, remote.report().retries)


async def consume_directly(ask: Ask, address: str, patience: Patience = QUICK) -> Verdict:
    """As ``consume``, over the direct lane first: a connection is open already."""
    async with open_registry(Reference(f"{address}/a"), patience=patience) as remote:
        assert isinstance(remote, RegistryRemote)
        await open_idle(remote)
        with remote.direct_lane() as lane:
            assert lane is not None
            digest = parse_digest(ask.text)
            asker = lane.asker()
            assert asker is not None
            sent = asker.ask(digest, ask.media_types, ask.size)
            if sent is not None:
                assert await lane.wait() == [sent]
                content = sent.content
                if content is not None and digest_of(content) == digest:
                    lane.take(sent)
                    return Verdict(None, content, len(content), remote.report().retries)
                lane.leave(sent)
            return await consume_from(remote, ask, address)


async def open_idle(remote: RegistryRemote) -> None:
    """Opens a connection ahead of need."""
    session = remote._session
    lane = session.straight_lane()
    assert lane is not None
    asked = Asked("GET", Url(session.origin, "/v2/"))
    connection = await lane._connect(session.origin, asked, Place.ANYWHERE)
    connection.may_persist = True
    lane.release(session.origin, connection)
