"""Makes the vectors of this folder, with msgpack and without a line of multi_fetch.

    python tests/vectors/make.py

README.md says what the files are.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgpack  # type: ignore[import-untyped]  # it ships no types

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE: Final = Path(__file__).parent

# What the bytes mean to a decoder: values as MessagePack has them, bytes as bytes.
Meaning: TypeAlias = list[object]

MAX_FRAME: Final = 589_824
MAX_DATA: Final = 524_288
LONGEST_INLINE_CONTENT: Final = 1_024

MALFORMED: Final = "malformed"
TOO_LONG: Final = "too-long"
CUT: Final = "cut"

# As a str.
NO_UTF8: Final = b"\xa2\xc3\x28"


class Vector(NamedTuple):
    """A stream: its bytes, the frames that they mean, and the error that ends it, if one does.

    ``breach``: why the last frame may not come, though it is a good frame by itself.
    """

    about: str
    stream: bytes
    frames: list[Meaning]
    error: str = ""
    breach: str = ""


def pack(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def framed(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


def plain(about: str, *frames: Sequence[object]) -> Vector:
    """Frames in the shortest form of each element."""
    return Vector(about, b"".join(framed(pack(frame)) for frame in frames), [*map(list, frames)])


def spelled(about: str, frame: Meaning, *elements: bytes, head: bytes = b"") -> Vector:
    """One frame whose elements are spelled out, for forms that msgpack does not choose itself."""
    payload = (head or bytes([0x90 | len(elements)])) + b"".join(elements)
    known: object = msgpack.unpackb(payload, raw=False, strict_map_key=False)
    assert isinstance(known, list)
    assert known[: len(frame)] == frame, f"{known} is not {frame}"
    return Vector(about, framed(payload), [frame])


def with_map(frame: Meaning, known: dict[str, object], entry: bytes) -> bytes:
    """A frame whose map has one more entry, of bytes that msgpack would not write."""
    packed = bytes([0x80 | (len(known) + 1)]) + pack(known)[1:] + entry
    elements = [packed if isinstance(element, dict) else pack(element) for element in frame]
    return bytes([0x90 | len(frame)]) + b"".join(elements)


def refused(about: str, payload: bytes, error: str = MALFORMED) -> Vector:
    """A good frame, then one that no decoder may take."""
    good: Meaning = ["end", 1, 0, None, 0]
    return Vector(about, framed(pack(good)) + framed(payload), [good], error)


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def pattern(size: int) -> bytes:
    return bytes(range(251)) * (size // 251) + bytes(range(size % 251))


HELLO: Final[Meaning] = [
    "hello",
    1,
    "registry.example/library/redis",
    1024,
    MAX_FRAME,
    ["hint:content", "hint:mediatype", "hint:size"],
    "multi-fetch 0.1.0",
]
CONTENT: Final = b'{"schemaVersion":2}'
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
BLOB_TYPE: Final = "application/octet-stream"
NAME: Final = "registry.example/library/redis"
LISTED: Final = {"mediaType": "text/plain", "digest": "none:unverified", "size": None}


def descriptor(content: bytes = CONTENT, media_type: str = MANIFEST_TYPE) -> dict[str, object]:
    return {"mediaType": media_type, "digest": sha256(content), "size": len(content)}


def begin(number: int, written: str, described: dict[str, object]) -> Meaning:
    separator = "@" if ":" in written else ":"
    return ["begin", number, written, described, f"{NAME}{separator}{written}", None]


def bye(requests: int, succeeded: int, sent: int) -> Meaning:
    return ["bye", requests, succeeded, requests - succeeded, sent, {}]


NOT_FOUND: Final[Meaning] = [
    "error",
    2,
    "not-found",
    "registry.example/library/redis:nope: not found (404, MANIFEST_UNKNOWN)",
    False,
    {"status": 404, "registry_code": "MANIFEST_UNKNOWN", "attempts": 1, "bytes_sent": 0},
]


def kinds() -> dict[str, Vector]:
    """Each kind, alone, and whole sessions."""
    unknown_size = {**descriptor(), "size": None}
    rich = {
        **descriptor(media_type=INDEX_TYPE),
        "urls": ["https://registry.example/a", "https://registry.example/b"],
        "annotations": {"org.opencontainers.image.title": "redis", "note": "größer 🐳"},
        "data": base64.b64encode(CONTENT).decode(),
        "artifactType": "application/vnd.example+type",
        "platform": {"architecture": "arm64", "os": "linux", "variant": "v8", "os.version": "1"},
    }
    later = {
        "status": 429,
        "registry_code": "TOOMANYREQUESTS",
        "retry_after": 2.5,
        "attempts": 5,
        "bytes_sent": 0,
    }
    sha512 = f"sha512:{hashlib.sha512(CONTENT).hexdigest()}"
    empty = descriptor(b"", BLOB_TYPE)
    large = pattern(MAX_DATA + 3)
    interleaved = (
        HELLO,
        begin(1, sha256(large), descriptor(large, BLOB_TYPE)),
        ["data", 1, 0, large[:MAX_DATA]],
        begin(4, "latest", descriptor()),
        ["data", 4, 0, CONTENT],
        ["end", 4, len(CONTENT), sha256(CONTENT), 0],
        ["data", 1, MAX_DATA, large[MAX_DATA:]],
        NOT_FOUND,
        ["end", 1, len(large), sha256(large), 0],
        bye(3, 2, len(large) + len(CONTENT)),
    )
    stopped = {**descriptor(b"abcdef", BLOB_TYPE), "size": 1_000_000}
    reset: Meaning = ["error", 1, "unavailable", "connection reset", True, {"bytes_sent": 6}]
    return {
        "stream-empty": Vector("no bytes at all: no frame, and no error of the decoder", b"", []),
        "kind-hello": plain("the first frame of a session", HELLO),
        "kind-hello-bare": plain(
            "no features, empty strings", ["hello", 1, "", 1, MAX_FRAME, [], ""]
        ),
        "kind-begin": plain("a tag that is resolved", begin(1, "latest", descriptor())),
        "kind-begin-size-nil": plain(
            "a size that is not known yet", begin(1, "latest", unknown_size)
        ),
        "kind-begin-listing": plain(
            "a listing: its digest has the form of one, and an algorithm that nobody knows",
            ["begin", 4, "!tags", LISTED, NAME, None],
        ),
        "kind-begin-rich": plain("every field of a descriptor", begin(1, "latest", rich)),
        "kind-begin-child": plain(
            "an object that the worker found by itself, in the content of request 7",
            ["begin", -1, sha256(CONTENT), descriptor(), f"{NAME}@{sha256(CONTENT)}", 7],
        ),
        "kind-data": plain("content", ["data", 1, 0, CONTENT]),
        "kind-data-empty": plain("content of no bytes", ["data", 1, 0, b""]),
        "kind-file": plain(
            "content that is in a file; and a path with blanks and letters beyond ASCII",
            ["file", 1, "/srv/store/blobs/sha256/2cf24dba5fb0a30e26e83b2ac5b9e29e", 2**40],
            ["file", -7, "/srv/caché de données/blobs/sha256/é", 0],
        ),
        "kind-end": plain(
            "content that was verified", ["end", 1, len(CONTENT), sha256(CONTENT), 0]
        ),
        "kind-end-sha512": plain("the same by sha512", ["end", 1, len(CONTENT), sha512, 0]),
        "kind-end-unverified": plain("nothing to verify", ["end", 1, 0, None, 0]),
        "kind-end-children": plain(
            "three objects were found in it", ["end", 7, len(CONTENT), sha256(CONTENT), 3]
        ),
        "kind-error": plain("a request failed", NOT_FOUND),
        "kind-error-rate-limited": plain(
            "a detail with a float",
            ["error", 9, "rate-limited", "slow down", True, later],
        ),
        "kind-error-worker": plain(
            "the worker itself failed: id 0",
            ["error", 0, "internal", "a fault of multi-fetch", False, {}],
        ),
        "kind-bye": plain("the last frame of a session", bye(3, 2, 25)),
        "kind-bye-detail": plain(
            "a map in the detail",
            ["bye", 1, 1, 0, 0, {"retries": 2, "ratelimit": {"limit": 100, "remaining": 76}}],
        ),
        "session-nothing": plain("a session without a request", HELLO, bye(0, 0, 0)),
        "session-interleaved": plain(
            "a small object and an error between the data frames of a large one; line 3 is empty",
            *interleaved,
        ),
        "session-empty-object": plain(
            "an object of no bytes has no data frame",
            HELLO,
            begin(1, sha256(b""), empty),
            ["end", 1, 0, sha256(b""), 0],
            bye(1, 1, 0),
        ),
        "session-file": plain(
            "content that is in a file, and an object that comes as data beside it",
            HELLO,
            begin(1, "latest", descriptor()),
            ["file", 1, f"/srv/store/blobs/sha256/{sha256(CONTENT)[7:]}", len(CONTENT)],
            ["end", 1, len(CONTENT), sha256(CONTENT), 0],
            begin(2, "part", descriptor(b"abcdef", BLOB_TYPE)),
            ["data", 2, 0, b"bcd"],
            ["end", 2, 3, None, 0],
            bye(2, 2, len(CONTENT) + 3),
        ),
        "session-error-after-content": plain(
            "an error after content: what came before it is worth nothing",
            HELLO,
            ["begin", 1, "v1", stopped, f"{NAME}:v1", None],
            ["data", 1, 0, b"abc"],
            ["data", 1, 3, b"def"],
            reset,
            bye(1, 0, 6),
        ),
        "session-tree": plain(
            "two objects were found in the content of another; one of them fails without a begin",
            HELLO,
            begin(1, "latest", descriptor()),
            announced(1, 2),
            failed(-2, parent=1, object=sha256(b"lost")),
            below(-1, 1, b"x"),
            announced(-1, 0),
            bye(3, 2, 0),
        ),
    }


def integers() -> dict[str, Vector]:
    """Every boundary between two forms of an integer, and forms wider than needed."""
    whole = (0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**53, 2**63 - 1)
    below = (-1, -32, -33, -128, -129, -32_768, -32_769, -(2**31), -(2**31) - 1, -(2**53), -(2**63))
    wide_forms = {
        "uint8": b"\xcc\x05",
        "uint16": b"\xcd\x00\x05",
        "uint32": b"\xce\x00\x00\x00\x05",
        "uint64": b"\xcf\x00\x00\x00\x00\x00\x00\x00\x05",
        "int8": b"\xd0\x05",
        "int16": b"\xd1\x00\x05",
        "int32": b"\xd2\x00\x00\x00\x05",
        "int64": b"\xd3\x00\x00\x00\x00\x00\x00\x00\x05",
    }
    wide = [
        spelled("", ["data", 5, 5, b"x"], pack("data"), form, form, pack(b"x"))
        for form in wide_forms.values()
    ]
    negative_forms = (b"\xd0\xff", b"\xd1\xff\xff", b"\xd2" + b"\xff" * 4, b"\xd3" + b"\xff" * 8)
    negative = [
        spelled("", ["end", -1, 0, None, 0], pack("end"), form, b"\x00", b"\xc0", b"\x00")
        for form in negative_forms
    ]
    return {
        "integers-offsets": plain(
            "offsets at each boundary of MessagePack's unsigned forms",
            *(["data", 1, offset, b"x"] for offset in whole),
        ),
        "integers-ids": plain(
            "ids at each boundary of the unsigned forms",
            *(["end", number, 0, None, 0] for number in whole[1:]),
        ),
        "integers-negative-ids": plain(
            "ids at each boundary of the signed forms",
            *(["end", number, 0, None, 0] for number in below),
        ),
        "integers-wider-than-needed": joined(
            f"the number 5 in {', '.join(wide_forms)}: the form of an integer means nothing", *wide
        ),
        "integers-negative-wider-than-needed": joined(
            "the number -1 in int8, int16, int32 and int64", *negative
        ),
    }


def joined(about: str, *vectors: Vector) -> Vector:
    frames = [frame for vector in vectors for frame in vector.frames]
    return Vector(about, b"".join(vector.stream for vector in vectors), frames)


def sizes() -> dict[str, Vector]:
    """Every boundary of strings, binaries, arrays and maps."""

    def error(message: str) -> Meaning:
        return ["error", 1, "internal", message, False, {}]

    def bins(*lengths: int) -> list[Meaning]:
        return [["data", 1, 0, pattern(size)] for size in lengths]

    numbers = {f"n{number}": number for number in range(16)}
    end: Meaning = ["end", 1, 0, None, 0]
    elements = (pack("end"), b"\x01", b"\x00", b"\xc0", b"\x00")
    data: Meaning = ["data", 1, 0, b"abc"]
    data_elements = (b"\x01", b"\x00")
    return {
        "str-sizes": plain(
            "messages at the boundaries of fixstr, str8 and str16",
            *(error("m" * size) for size in (0, 1, 31, 32, 255, 256, 65_535)),
        ),
        "str-32": plain("a message of 65,536 bytes, in str32", error("m" * 65_536)),
        "str-utf8": plain(
            "lengths are in bytes: 16 characters of two bytes need str8", error("ä" * 16)
        ),
        "str-wider-than-needed": joined(
            "short strings in str8, str16 and str32, the kind too",
            spelled("", end, b"\xd9\x03end", *elements[1:]),
            spelled("", end, b"\xda\x00\x03end", *elements[1:]),
            spelled("", end, b"\xdb\x00\x00\x00\x03end", *elements[1:]),
        ),
        "bin-sizes": plain("content at the boundaries of bin8 and bin16", *bins(0, 1, 255, 256)),
        "bin-16-32": plain("content at the boundary of bin16 and bin32", *bins(65_535, 65_536)),
        "bin-wider-than-needed": joined(
            "short content in bin16 and bin32",
            spelled("", data, pack("data"), *data_elements, b"\xc5\x00\x03abc"),
            spelled("", data, pack("data"), *data_elements, b"\xc6\x00\x00\x00\x03abc"),
        ),
        "array-16-elements": spelled(
            "eleven elements more than are known, in array16: they are ignored",
            end,
            *elements,
            *[b"\x01"] * 11,
            head=b"\xdc\x00\x10",
        ),
        "array-wider-than-needed": joined(
            "five elements in array16 and array32",
            spelled("", end, *elements, head=b"\xdc\x00\x05"),
            spelled("", end, *elements, head=b"\xdd\x00\x00\x00\x05"),
        ),
        "array-features": plain(
            "16 features, in array16",
            ["hello", 1, "r", 1, MAX_FRAME, [f"hint:h{n}" for n in range(16)], "s"],
        ),
        "map-sizes": plain(
            "details at the boundary of fixmap and map16",
            *(["bye", 0, 0, 0, 0, dict(list(numbers.items())[:size])] for size in (15, 16)),
        ),
        "map-wider-than-needed": joined(
            "an empty detail in map16 and map32",
            *(
                spelled("", ["bye", 0, 0, 0, 0, {}], pack("bye"), *[b"\x00"] * 4, form)
                for form in (b"\xde\x00\x00", b"\xdf\x00\x00\x00\x00")
            ),
        ),
        "float-forms": joined(
            "2.5 in float32 and float64",
            *(
                spelled(
                    "",
                    ["error", 1, "timeout", "", True, {"retry_after": 2.5}],
                    *(pack("error"), b"\x01", pack("timeout"), b"\xa0", b"\xc3"),
                    b"\x81" + pack("retry_after") + form,
                )
                for form in (struct.pack(">Bf", 0xCA, 2.5), struct.pack(">Bd", 0xCB, 2.5))
            ),
        ),
    }


def ignored() -> dict[str, Vector]:
    """What a decoder must not stumble over."""
    end: Meaning = ["end", 1, 0, None, 0]

    def around(about: str, payload: bytes, meaning: Sequence[Meaning] = ()) -> Vector:
        stream = framed(pack(end)) + framed(payload) + framed(pack(end))
        return Vector(about, stream, [end, *meaning, end])

    extra_of_each: list[tuple[Meaning, int]] = [
        (HELLO, 7),
        (begin(1, "latest", descriptor()), 6),
        (["data", 1, 0, b"x"], 4),
        (end, 5),
        (NOT_FOUND, 6),
        (bye(0, 0, 0), 6),
    ]
    extended = [[*frame, "more", {"a": [None, 1.5]}, b"\x00"] for frame, _ in extra_of_each]
    key = {**descriptor(), "org.example.new": {"deep": [1, None, True]}}
    wrong = {
        "urls": "https://registry.example/a",
        "annotations": ["a"],
        "data": 5,
        "artifactType": None,
        "platform": 5,
    }
    half = {"urls": ["https://registry.example/a", 5], "annotations": {"a": "a", "b": 5}}
    strange = {
        "ext": msgpack.ExtType(5, b"abc"),
        "nil": None,
        "bool": True,
        "bin": b"abc",
        "array": [1, ["a"]],
        "deep": {"a": {"b": 1}},
        "wide": 2**63,
    }
    details = [[*NOT_FOUND[:5], {**strange, "bytes_sent": 0}], ["bye", 0, 0, 0, 0, strange]]
    return {
        "unknown-kind": around("a kind of a later version", pack(["progress", 1, 0.5])),
        "unknown-kind-alone": around("nothing but a kind", pack(["ping"])),
        "unknown-kind-empty-name": around("the empty string is a kind too", pack([""])),
        "unknown-kind-any-types": around(
            "elements of every type, ext and timestamp among them",
            pack(["x", None, True, -1, 2.5, b"b", [[]], {"k": {}}, msgpack.ExtType(5, b"abc")]),
        ),
        "unknown-kind-utf8": around(
            "strings that are no UTF-8, and keys that are no strings",
            b"\x93" + pack("x") + NO_UTF8 + b"\x83" + NO_UTF8 * 2 + b"\x01\x02" + b"\xc0" * 2,
        ),
        "unknown-kind-case": around("kinds are case-sensitive", pack(["END", 1, 0, None, 0])),
        "unknown-kind-largest": around(
            "a frame of exactly max_frame bytes",
            pack(["x", bytes(MAX_FRAME - 8)]),
        ),
        "extra-elements": Vector(
            "three elements more than are known, in each kind",
            b"".join(framed(pack(frame)) for frame in extended),
            [frame for frame, _ in extra_of_each],
        ),
        "extra-descriptor-field": Vector(
            "a descriptor field that is not known",
            framed(pack(begin(1, "latest", key))),
            [begin(1, "latest", descriptor())],
        ),
        "extra-elements-any-types": around(
            "an ext and a string that is no UTF-8 behind the elements that are known",
            b"\x97" + pack(end)[1:] + pack(msgpack.ExtType(5, b"abc")) + NO_UTF8,
            [end],
        ),
        "extra-descriptor-field-any-types": Vector(
            "descriptor fields that are not known: an ext, and a string that is no UTF-8",
            framed(
                with_map(
                    begin(1, "latest", {}),
                    {**descriptor(), "new": msgpack.ExtType(5, b"abc")},
                    pack("newer") + NO_UTF8,
                )
            ),
            [begin(1, "latest", descriptor())],
        ),
        "wrong-descriptor-fields": Vector(
            "descriptor fields of other types than they should have: left out, as if not known",
            framed(pack(begin(1, "latest", {**descriptor(), **wrong}))),
            [begin(1, "latest", descriptor())],
        ),
        "wrong-descriptor-values": Vector(
            "a descriptor's array and map that hold something else than strings: left out",
            framed(pack(begin(1, "latest", {**descriptor(), **half}))),
            [begin(1, "latest", descriptor())],
        ),
        "extra-detail-keys": Vector(
            "details that are no int, float, str or map of these: left out",
            b"".join(framed(pack(frame)) for frame in details),
            [[*NOT_FOUND[:5], {"bytes_sent": 0}], bye(0, 0, 0)],
        ),
        "extra-detail-key-utf8": Vector(
            "a detail that is no UTF-8: left out",
            framed(with_map(NOT_FOUND, {"bytes_sent": 0}, pack("new") + NO_UTF8)),
            [[*NOT_FOUND[:5], {"bytes_sent": 0}]],
        ),
        "values-without-sense": plain(
            "a decoder judges types alone: that these values cannot be is for the parent to see",
            ["hello", 0, "", 0, MAX_FRAME, [], ""],
            ["data", 0, -1, b"x"],
            begin(0, "latest", {**descriptor(), "size": -1}),
            ["end", 0, -1, None, -1],
            ["bye", -1, -1, -1, -1, {}],
        ),
        "unknown-error-code": plain(
            "the decoder hands on any code; what it means is the parent's affair",
            ["error", 1, "teapot", "short and stout", False, {"bytes_sent": 0}],
        ),
    }


def refusals() -> dict[str, Vector]:
    """What a decoder must refuse, and with it the rest of the stream."""
    good: Meaning = ["end", 1, 0, None, 0]
    small: Meaning = ["hello", 1, "r", 1, 100, [], "s"]
    whole = framed(pack(good))
    bad_begin = {
        "mediatype-missing": {"digest": sha256(b""), "size": 0},
        "digest-missing": {"mediaType": BLOB_TYPE, "size": 0},
        "size-missing": {"mediaType": BLOB_TYPE, "digest": sha256(b"")},
        "size-text": {**descriptor(), "size": "19"},
        "size-wide": {**descriptor(), "size": 2**63},
    }
    found = {
        "refuse-length-cut": Vector("two bytes of a length", whole + b"\x00\x00", [good], CUT),
        "refuse-payload-missing": Vector(
            "a length, and nothing behind it", whole + whole[:4], [good], CUT
        ),
        "refuse-payload-cut": Vector("the last byte is missing", whole + whole[:-1], [good], CUT),
        "refuse-length-zero": refused("a frame of no bytes", b""),
        "refuse-length-too-long": Vector(
            "one byte more than max_frame: refused at the length, nothing is waited for",
            whole + struct.pack(">I", MAX_FRAME + 1),
            [good],
            TOO_LONG,
        ),
        "refuse-length-max-frame": Vector(
            "a frame of max_frame bytes, and one of a byte more, where hello says 100",
            framed(pack(small)) + framed(pack(["x", bytes(95)])) + struct.pack(">I", 101),
            [small],
            TOO_LONG,
        ),
        "refuse-length-text": Vector(
            "text, as when something else writes to stdout",
            whole + b"Traceback (most recent call last)\n",
            [good],
            TOO_LONG,
        ),
        "refuse-no-array-map": refused("a map", pack({"kind": "end"})),
        "refuse-no-array-int": refused("an integer", pack(7)),
        "refuse-no-array-str": refused("a string", pack("end")),
        "refuse-no-array-nil": refused("nil", pack(None)),
        "refuse-no-array-ext": refused(
            "an ext whose content is an array", pack(msgpack.ExtType(5, pack(good)))
        ),
        "refuse-array-empty": refused("no kind", pack([])),
        "refuse-kind-int": refused("a kind that is an integer", pack([3, 1, 0, None, 0])),
        "refuse-kind-nil": refused("a kind that is nil", pack([None, 1])),
        "refuse-kind-bin": refused("a kind that is binary", pack([b"end", 1, 0, None, 0])),
        "refuse-kind-utf8": refused("a kind that is no UTF-8", b"\x92\xa2\xc3\x28\x01"),
        "refuse-array-short": refused(
            "five elements announced, four there", b"\x95" + pack(good)[1:-1]
        ),
        "refuse-bin-short": refused(
            "three bytes of content announced, two there", b"\x94\xa4data\x01\x00\xc4\x03ab"
        ),
        "refuse-trailing-byte": refused("a byte behind the array", pack(good) + b"\x00"),
        "refuse-trailing-frame": refused("a second array behind the first", pack(good) * 2),
        "refuse-trailing-unknown": refused(
            "a byte behind the array of an unknown kind", pack(["progress", 1]) + b"\xc0"
        ),
        "refuse-reserved-byte": refused("0xc1 is never used in MessagePack", b"\x92\xa1x\xc1"),
        "refuse-message-utf8": refused(
            "a message that is no UTF-8",
            b"\x96\xa5error\x01" + pack("internal") + b"\xa2\xc3\x28\xc2\x80",
        ),
        "refuse-missing-hello": refused("hello without software", pack(HELLO[:-1])),
        "refuse-missing-begin": refused("begin without a name", pack(["begin", 1, "latest", {}])),
        "refuse-missing-begin-parent": refused(
            "begin without a parent", pack(begin(1, "latest", descriptor())[:-1])
        ),
        "refuse-missing-data": refused("data without content", pack(["data", 1, 0])),
        "refuse-missing-file": refused("file without a size", pack(["file", 1, "/a"])),
        "refuse-missing-end": refused("end without a digest", pack(["end", 1, 0])),
        "refuse-missing-end-children": refused("end without children", pack(good[:-1])),
        "refuse-missing-error": refused("error without detail", pack(NOT_FOUND[:-1])),
        "refuse-missing-bye": refused("bye without detail", pack(["bye", 0, 0, 0, 0])),
        "refuse-type-id-str": refused("an id that is a string", pack(["data", "1", 0, b""])),
        "refuse-type-id-float": refused("an id that is a float", pack(["data", 1.0, 0, b""])),
        "refuse-type-id-bool": refused("an id that is a boolean", pack(["data", True, 0, b""])),
        "refuse-type-id-wide": refused(
            "an id of 2^63: an int has 64 bits with a sign", pack(["end", 2**63, 0, None, 0])
        ),
        "refuse-type-offset-wide": refused(
            "an offset of 2^64-1", pack(["data", 1, 2**64 - 1, b"x"])
        ),
        "refuse-type-id-nil": refused("an id that is nil", pack(["end", None, 0, None, 0])),
        "refuse-type-offset-nil": refused("an offset that is nil", pack(["data", 1, None, b""])),
        "refuse-type-content-str": refused("content in a string", pack(["data", 1, 0, "abc"])),
        "refuse-type-path-bin": refused("a binary path", pack(["file", 1, b"/a", 0])),
        "refuse-type-path-utf8": refused(
            "a path that is no UTF-8", b"\x94\xa4file\x01" + NO_UTF8 + b"\x00"
        ),
        "refuse-type-digest-bin": refused("a binary digest", pack(["end", 1, 0, b"\x00" * 32, 0])),
        "refuse-type-retryable-int": refused("0 is not false", pack([*NOT_FOUND[:4], 0, {}])),
        "refuse-type-detail-array": refused("a list of details", pack([*NOT_FOUND[:5], []])),
        "refuse-type-features-str": refused("features in one string", pack([*HELLO[:5], "", ""])),
        "refuse-type-descriptor-array": refused("no map", pack(["begin", 1, "a", [], "a", None])),
    }
    found["refuse-descriptor-mediatype-utf8"] = refused(
        "a media type that is no UTF-8",
        with_map(
            begin(1, "latest", {}), {"digest": sha256(b""), "size": 0}, pack("mediaType") + NO_UTF8
        ),
    )
    for name, described in bad_begin.items():
        found[f"refuse-descriptor-{name}"] = refused(
            f"a descriptor: {name}", pack(["begin", 1, "a", described, "a", None])
        )
    return found


def below(number: int, parent: int | None, content: bytes = CONTENT) -> Meaning:
    """The begin of what was found in the content of ``parent``."""
    digest = sha256(content)
    return ["begin", number, digest, descriptor(content), f"{NAME}@{digest}", parent]


def failed(number: int, **detail: object) -> Meaning:
    return ["error", number, "not-found", "not found", False, {**detail, "bytes_sent": 0}]


def announced(number: int, children: int) -> Meaning:
    return ["end", number, 0, None, children]


def breach(why: str, *frames: Sequence[object]) -> Vector:
    """A session whose last frame may not come."""
    return plain(f"a breach: {why}", HELLO, *frames)._replace(breach=why)


def breaches() -> dict[str, Vector]:
    """The state table of protocol.md, section 4, a cell each; and what it says of bye and hello.

    Who runs them as a parent has asked for four objects with children:all, in lines 1 to 4.
    """
    one = begin(1, "latest", descriptor())
    content: Meaning = ["data", 1, 0, CONTENT]
    end: Meaning = ["end", 1, len(CONTENT), sha256(CONTENT), 0]
    file: Meaning = ["file", 1, "/srv/store/blobs/sha256/aa", len(CONTENT)]
    tree = (one, announced(1, 2))
    child = below(-1, 1)
    child_done = (*tree, child, announced(-1, 0))
    named = {"parent": 1, "object": sha256(CONTENT)}
    cases = {
        "asked-data": breach("data of an id that has not begun", content),
        "asked-end": breach("end of an id that has not begun", end),
        "found-data": breach(
            "data of an id that was announced, but has not begun", *tree, ["data", -1, 0, CONTENT]
        ),
        "asked-file": breach("file of an id that has not begun", file),
        "begun-data-file": breach("file behind data of the same id", one, content, file),
        "filed-begin": breach("a begin behind the file of the same id", one, file, one),
        "filed-data": breach("data behind the file of the same id", one, file, content),
        "filed-file": breach("a second file of an id", one, file, file),
        "filed-error": breach("an error behind the file of the same id", one, file, failed(1)),
        "filed-bye": breach("bye while an id is open that has a file", one, file, bye(1, 1, 19)),
        "closed-file": breach("file behind the end of the same id", one, file, end, file),
        "begun-begin": breach("a second begin of an open id", one, one),
        "begun-bye": breach("bye while an id is open", one, content, bye(1, 1, 19)),
        "closed-begin": breach("a begin behind the end of the same id", one, content, end, one),
        "closed-data": breach("data behind the end of the same id", one, content, end, content),
        "closed-end": breach("a second end of an id", one, content, end, end),
        "closed-error": breach(
            "an error behind the end of the same id", one, content, end, failed(1)
        ),
        "closed-error-error": breach("a second error of an id", failed(1), failed(1)),
        "closed-error-begin": breach("a begin behind the error of the same id", failed(1), one),
        "found-end": breach(
            "end of an id that was announced, but has not begun", *tree, announced(-1, 0)
        ),
        "found-bye": breach(
            "bye while an object that was announced has not come", *child_done, bye(2, 2, 0)
        ),
        "found-closed-begin": breach("a second begin of an id below 0", *child_done, child),
        "found-closed-error": breach(
            "an error behind the end of an id below 0", *child_done, failed(-1, **named)
        ),
        "found-begun-begin": breach("a second begin of an open id below 0", *tree, child, child),
        "found-begun-bye": breach("bye while an id below 0 is open", *tree, child, bye(2, 1, 0)),
        "unannounced-begin": breach(
            "an id below 0 whose parent has announced nothing", one, content, end, child
        ),
        "unannounced-early": breach("an id below 0 before the end of its parent", one, child),
        "unannounced-error": breach(
            "an error of an id below 0 that nobody announced",
            one,
            content,
            end,
            failed(-1, **named),
        ),
        "unannounced-one-more": breach(
            "one more object than its parent has announced",
            *(one, announced(1, 1), child, announced(-1, 0), below(-2, 1, b"x")),
        ),
        "unannounced-stranger": breach(
            "an id below 0 whose parent nobody knows", *tree, below(-1, 7)
        ),
        "unannounced-no-parent": breach(
            "an id below 0 that names no parent", *tree, below(-1, None)
        ),
        "unannounced-error-no-parent": breach(
            "an error of a new id below 0 without a parent", *tree, failed(-1)
        ),
        "asked-parent": breach("an id above 0 that names a parent", *tree, below(2, 1)),
        "zero-begin": breach("a begin of id 0", begin(0, "latest", descriptor())),
        "hello-hello": breach("a second hello", HELLO),
        "bye-bye": breach("a frame behind bye", bye(0, 0, 0), bye(0, 0, 0)),
    }
    first = Vector("a breach: the first frame is no hello", framed(pack(one)), [one])
    cases["no-hello"] = first._replace(breach="the first frame is no hello")
    return {f"breach-{name}": vector for name, vector in cases.items()}


def vectors() -> dict[str, Vector]:
    """All of them, by name."""
    return {**kinds(), **integers(), **sizes(), **ignored(), **refusals(), **breaches()}


def as_json(value: object) -> object:
    """A value as the .json files have it: bytes as an object with base64, or size and sha256."""
    if isinstance(value, bytes) and len(value) > LONGEST_INLINE_CONTENT:
        return {"size": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, list):
        return [as_json(element) for element in value]
    if isinstance(value, dict):
        return {name: as_json(element) for name, element in value.items()}
    return value


def document(vector: Vector) -> str:
    """The .json file of a vector: a frame a line."""
    frames = [json.dumps(as_json(frame), ensure_ascii=False) for frame in vector.frames]
    lines = "".join(f"\n    {frame}," for frame in frames).removesuffix(",")
    error = f',\n  "error": {json.dumps(vector.error)}' if vector.error else ""
    error += f',\n  "breach": {json.dumps(vector.breach)}' if vector.breach else ""
    about = json.dumps(vector.about, ensure_ascii=False)
    end = "\n  " if frames else ""
    return f'{{\n  "about": {about},\n  "frames": [{lines}{end}]{error}\n}}\n'


def files() -> dict[str, bytes]:
    """Every file by its name, with its bytes."""
    made: dict[str, bytes] = {}
    for name, vector in vectors().items():
        made[f"{name}.bin"] = vector.stream
        made[f"{name}.json"] = document(vector).encode()
    return made


if __name__ == "__main__":
    for old in [*HERE.glob("*.bin"), *HERE.glob("*.json")]:
        old.unlink()
    for file_name, content in files().items():
        (HERE / file_name).write_bytes(content)
