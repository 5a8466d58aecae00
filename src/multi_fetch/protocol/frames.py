"""Frames as values: what each kind carries, and its MessagePack, without the length prefix.

A frame is an array whose first element is its kind (protocol.md, "Answers"). Elements beyond
those known here are ignored; so is a frame of another kind, for which ``decode`` returns None.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from multi_fetch.errors import MalformedFrameError
from multi_fetch.oci.descriptor import Descriptor, decode_hook, encode_hook
from multi_fetch.oci.digest import Chunk, Digest

PROTOCOL_VERSION: Final = 1

# What hello announces: controls and hint types that mean something here (protocol.md, "Features").
FEATURES: Final = (
    "cancel",
    "hint:children",
    "hint:content",
    "hint:deadline",
    "hint:digest",
    "hint:mediatype",
    "hint:platform",
    "hint:range",
    "hint:size",
)

Detail: TypeAlias = dict[str, int | float | str | dict[str, int | float | str]]


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """Always first.

    Attributes:
        version: of the protocol that the worker speaks.
        remote: the repository, as it was understood.
        window: requests that may be open at once.
        max_frame: the largest length prefix that will come, in bytes.
        features: names of what this worker can do.
        software: name and version of the worker, for people.
    """

    version: int
    remote: str
    window: int
    max_frame: int
    features: tuple[str, ...]
    software: str


class Begin(msgspec.Struct, frozen=True, array_like=True, tag="begin"):
    """An object is resolved. ``parent`` is the id in whose content it was found, or None."""

    id: int
    object: str
    descriptor: Descriptor
    name: str
    parent: int | None = None


class Data(msgspec.Struct, frozen=True, array_like=True, tag="data"):
    """Content, in order; ``offset`` in bytes from the content's (or the range's) first."""

    id: int
    offset: int
    content: bytes


class End(msgspec.Struct, frozen=True, array_like=True, tag="end"):
    """All ``size`` bytes were sent; ``digest`` is what they were verified to have, or None."""

    id: int
    size: int
    digest: Digest | None
    children: int = 0


class Error(msgspec.Struct, frozen=True, array_like=True, tag="error"):
    """A request failed; id 0 is the worker itself."""

    id: int
    code: str
    message: str
    retryable: bool
    detail: Detail


class Bye(msgspec.Struct, frozen=True, array_like=True, tag="bye"):
    """Always last: counts over the whole run, ``bytes`` of content sent."""

    requests: int
    succeeded: int
    failed: int
    bytes: int
    detail: Detail


Frame: TypeAlias = Hello | Begin | Data | End | Error | Bye

KINDS: Final = frozenset({"hello", "begin", "data", "end", "error", "bye"})

_encoder = msgspec.msgpack.Encoder(enc_hook=encode_hook)
_decoder = msgspec.msgpack.Decoder(Frame, dec_hook=decode_hook)
_any_array = msgspec.msgpack.Decoder(list[msgspec.Raw])
_kind = msgspec.msgpack.Decoder(str)


def encode(frame: Frame) -> bytes:
    """A frame's MessagePack array."""
    return _encoder.encode(frame)


def decode(payload: Chunk) -> Frame | None:
    """Reads one frame's MessagePack array; None for a kind that is not known.

    Raises:
        MalformedFrameError: no MessagePack array, no kind in it, or an element of a known kind
            is missing or of the wrong type.
    """
    try:
        found: Frame = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if _kind_of(payload) not in KINDS:
            return None
        raise MalformedFrameError(f"a frame cannot be read: {error}") from error
    return found


def _kind_of(payload: Chunk) -> str:
    try:
        elements = _any_array.decode(payload)
        return _kind.decode(elements[0])
    except (msgspec.DecodeError, UnicodeDecodeError, IndexError, RecursionError) as error:
        raise MalformedFrameError("a frame is no MessagePack array with a kind in front") from error
