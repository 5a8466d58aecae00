"""Frames as values: what each kind carries, and its MessagePack, without the length prefix.

A frame is an array whose first element is its kind (protocol.md, "Answers"). Elements beyond
those known here are ignored; so is a frame of another kind, for which ``decode`` returns None, and
so are fields of a descriptor and keys of a detail whose values are not of their types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from multi_fetch.errors import MalformedFrameError
from multi_fetch.oci.descriptor import Descriptor, Int64, decode_hook, encode_hook
from multi_fetch.oci.digest import Chunk, Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROTOCOL_VERSION: Final = 1

# What hello announces: controls and hint types that mean something here (protocol.md, "Features").
FEATURES: Final = (
    "answers:paths",
    "cancel",
    "hint:artifacttype",
    "hint:children",
    "hint:content",
    "hint:deadline",
    "hint:digest",
    "hint:mediatype",
    "hint:platform",
    "hint:range",
    "hint:size",
    "referrers",
    "tags",
)

Fact: TypeAlias = Int64 | float | str | dict[str, Int64 | float | str]
Detail: TypeAlias = dict[str, Fact]


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

    version: Int64
    remote: str
    window: Int64
    max_frame: Int64
    features: tuple[str, ...]
    software: str


class Begin(msgspec.Struct, frozen=True, array_like=True, tag="begin"):
    """An object is resolved. ``parent`` is the id in whose content it was found, or None."""

    id: Int64
    object: str
    descriptor: Descriptor
    name: str
    parent: Int64 | None


class Data(msgspec.Struct, frozen=True, array_like=True, tag="data"):
    """Content, in order; ``offset`` in bytes from the content's (or the range's) first."""

    id: Int64
    offset: Int64
    content: bytes


class File(msgspec.Struct, frozen=True, array_like=True, tag="file"):
    """In place of all data: the file at ``path`` has the content, ``size`` bytes, verified."""

    id: Int64
    path: str
    size: Int64


class End(msgspec.Struct, frozen=True, array_like=True, tag="end"):
    """All ``size`` bytes were sent, or are in the file that was named.

    ``digest`` is what they were verified to have, or None.
    """

    id: Int64
    size: Int64
    digest: Digest | None
    children: Int64


class Error(msgspec.Struct, frozen=True, array_like=True, tag="error"):
    """A request failed; id 0 is the worker itself."""

    id: Int64
    code: str
    message: str
    retryable: bool
    detail: Detail


class Bye(msgspec.Struct, frozen=True, array_like=True, tag="bye"):
    """Always last: counts over the whole run, ``bytes`` of content sent."""

    requests: Int64
    succeeded: Int64
    failed: Int64
    bytes: Int64
    detail: Detail


Frame: TypeAlias = Hello | Begin | Data | File | End | Error | Bye

KINDS: Final = frozenset({"hello", "begin", "data", "file", "end", "error", "bye"})

_encoder = msgspec.msgpack.Encoder(enc_hook=encode_hook)
_decoder: Final[msgspec.msgpack.Decoder[Frame]] = msgspec.msgpack.Decoder(
    Frame, dec_hook=decode_hook
)
_any_array = msgspec.msgpack.Decoder(list[msgspec.Raw])
_any_map = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
_kind = msgspec.msgpack.Decoder(str)
_fact: msgspec.msgpack.Decoder[object] = msgspec.msgpack.Decoder(Fact)
# What a descriptor may do without.
_fields: Final[Mapping[str, msgspec.msgpack.Decoder[object]]] = {
    field.encode_name: msgspec.msgpack.Decoder(field.type)
    for field in msgspec.structs.fields(Descriptor)
    if not field.required
}
_MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, IndexError, RecursionError)


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
        return _decoder.decode(payload)
    except _MALFORMED:
        return _decode_with_strangers(payload)


def _decode_with_strangers(payload: Chunk) -> Frame | None:
    """Reads a frame of an unknown kind, or with fields or details to be left out."""
    try:
        elements = _any_array.decode(payload)
        kind = _kind.decode(elements[0])
    except _MALFORMED as error:
        raise MalformedFrameError("a frame is no MessagePack array with a kind in front") from error
    if kind not in KINDS:
        return None
    try:
        if kind == "begin":
            elements[3] = _known(elements[3], _fields.get)
        elif kind in {"error", "bye"}:
            elements[5] = _known(elements[5], lambda _: _fact)
        return _decoder.decode(_encoder.encode(elements))
    except _MALFORMED as error:
        raise MalformedFrameError(f"a frame cannot be read: {error}") from error


def _known(
    packed: msgspec.Raw, type_of: Callable[[str], msgspec.msgpack.Decoder[object] | None]
) -> msgspec.Raw:
    """A map without the values that are not of their types."""
    found = _any_map.decode(packed)
    kept = {key: value for key, value in found.items() if _is_right(value, type_of(key))}
    return msgspec.Raw(_encoder.encode(kept))


def _is_right(packed: msgspec.Raw, wanted: msgspec.msgpack.Decoder[object] | None) -> bool:
    try:
        if wanted is not None:
            wanted.decode(packed)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True
