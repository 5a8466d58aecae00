from __future__ import annotations

import json

import msgpack  # type: ignore[import-untyped]  # it ships no types
import msgspec
import pytest

from multi_fetch.oci.descriptor import Descriptor, Platform, decode_hook, encode_hook
from multi_fetch.oci.digest import Digest, parse_digest

DIGEST = parse_digest("sha256:" + "0" * 64)
PLAIN = Descriptor(media_type="application/octet-stream", digest=DIGEST, size=7)
FULL = Descriptor(
    media_type="application/vnd.oci.image.manifest.v1+json",
    digest=DIGEST,
    size=7,
    urls=("https://a.example/x",),
    annotations={"title": "größer"},
    data="aGVsbG8=",
    artifact_type="application/vnd.example",
    platform=Platform(
        architecture="arm64", os="linux", os_version="1", os_features=("f",), variant="v8"
    ),
)
# image-spec, descriptor.md and image-index.md: the names in a document.
FULL_DOCUMENT = {
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "digest": "sha256:" + "0" * 64,
    "size": 7,
    "urls": ["https://a.example/x"],
    "annotations": {"title": "größer"},
    "data": "aGVsbG8=",
    "artifactType": "application/vnd.example",
    "platform": {
        "architecture": "arm64",
        "os": "linux",
        "os.version": "1",
        "os.features": ["f"],
        "variant": "v8",
    },
}


def from_json(document: object) -> Descriptor:
    return msgspec.json.decode(json.dumps(document), type=Descriptor, dec_hook=decode_hook)


def test_the_names_outside_are_the_specs_in_json_and_in_messagepack() -> None:
    assert json.loads(msgspec.json.encode(FULL, enc_hook=encode_hook)) == FULL_DOCUMENT
    packed = msgspec.msgpack.encode(FULL, enc_hook=encode_hook)
    assert msgpack.unpackb(packed) == FULL_DOCUMENT


def test_what_is_not_there_is_not_written() -> None:
    assert json.loads(msgspec.json.encode(PLAIN, enc_hook=encode_hook)) == {
        "mediaType": "application/octet-stream",
        "digest": str(DIGEST),
        "size": 7,
    }


def test_an_unknown_size_is_written_as_null() -> None:
    unknown = msgspec.structs.replace(PLAIN, size=None)
    assert json.loads(msgspec.json.encode(unknown, enc_hook=encode_hook))["size"] is None


@pytest.mark.parametrize("descriptor", [PLAIN, FULL])
def test_a_descriptor_survives_the_way_out_and_back(descriptor: Descriptor) -> None:
    document = json.loads(msgspec.json.encode(descriptor, enc_hook=encode_hook))
    assert from_json(document) == descriptor
    assert isinstance(from_json(document).digest, Digest)


def test_unknown_fields_are_ignored() -> None:
    assert from_json({**FULL_DOCUMENT, "new": {"deep": [1]}}) == FULL


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": "abc"},
        {"digest": "sha256:abc"},
        {"digest": 7},
        {"digest": None},
        {"digest": ["sha256:abc"]},
        {"size": "7"},
        {"size": 7.5},
        {"mediaType": None},
        {"annotations": {"a": 1}},
        {"platform": {"os": "linux"}},
    ],
)
def test_a_field_of_the_wrong_form_is_a_validation_error(changes: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        from_json({**FULL_DOCUMENT, **changes})


@pytest.mark.parametrize("missing", ["mediaType", "digest", "size"])
def test_the_three_required_fields_are_required(missing: str) -> None:
    document = {name: value for name, value in FULL_DOCUMENT.items() if name != missing}
    with pytest.raises(msgspec.ValidationError, match=missing):
        from_json(document)


def test_a_platform_reads_as_people_write_it() -> None:
    assert str(Platform(os="linux", architecture="arm64", variant="v8")) == "linux/arm64/v8"
    assert str(Platform(os="linux", architecture="amd64")) == "linux/amd64"


def test_other_types_have_no_place_in_a_frame() -> None:
    with pytest.raises(NotImplementedError, match="set has no place"):
        encode_hook({1})
    with pytest.raises(NotImplementedError, match="set has no place"):
        decode_hook(set, "a")
