"""The reference vectors: our decoder agrees with an independent one on every stream."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from multi_fetch.errors import CutStreamError, MalformedFrameError
from multi_fetch.oci.descriptor import encode_hook
from multi_fetch.protocol.frames import KINDS, Frame
from multi_fetch.protocol.framing import END_OF_STREAM, NEED_DATA, FrameDecoder
from tests.vectors import make

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = Path(make.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.bin"))


def decode_all(pieces: Iterable[bytes]) -> tuple[list[Frame], MalformedFrameError | None]:
    decoder = FrameDecoder()
    frames: list[Frame] = []
    try:
        for piece in pieces:
            decoder.feed(piece)
            while (found := decoder.next_frame()) is not NEED_DATA:
                assert found is not END_OF_STREAM
                frames.append(found)
        decoder.feed_eof()
        assert decoder.next_frame() is END_OF_STREAM
    except MalformedFrameError as error:
        return frames, error
    return frames, None


def as_json(value: object) -> object:
    if isinstance(value, bytes) and len(value) > 1_024:
        return {"size": len(value), "sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple)):
        return [as_json(element) for element in value]
    if isinstance(value, dict):
        return {name: as_json(element) for name, element in value.items()}
    return value


def meaning(frame: Frame) -> object:
    plain = msgspec.to_builtins(frame, enc_hook=encode_hook, builtin_types=(bytes,))
    return as_json(plain)


@pytest.mark.parametrize("name", NAMES)
def test_a_vector_means_what_its_json_says_in_one_piece(name: str) -> None:
    stream = (FOLDER / f"{name}.bin").read_bytes()
    wanted = json.loads((FOLDER / f"{name}.json").read_bytes())
    frames, error = decode_all([stream])
    assert [meaning(frame) for frame in frames] == wanted["frames"]
    assert (error is not None) is ("error" in wanted), error
    assert isinstance(error, CutStreamError) is (wanted.get("error") == "cut")


@pytest.mark.parametrize("name", NAMES)
def test_a_vector_means_the_same_byte_by_byte(name: str) -> None:
    stream = (FOLDER / f"{name}.bin").read_bytes()
    frames, error = decode_all([stream])
    again, error_again = decode_all(bytes((byte,)) for byte in stream)
    assert again == frames
    assert str(error_again) == str(error)


def test_a_length_beyond_the_limit_is_refused_before_anything_behind_it_has_come() -> None:
    decoder = FrameDecoder()
    decoder.feed((FOLDER / "refuse-length-too-long.bin").read_bytes())
    assert decoder.next_frame() is not NEED_DATA
    with pytest.raises(MalformedFrameError, match="longer than 589824"):
        decoder.next_frame()


def test_make_reproduces_the_committed_files() -> None:
    committed = {path.name for path in FOLDER.iterdir() if path.suffix in {".bin", ".json"}}
    made = make.files()
    assert set(made) == committed
    changed = [name for name, content in made.items() if (FOLDER / name).read_bytes() != content]
    assert changed == []


def test_there_are_vectors_of_each_kind_and_of_each_refusal() -> None:
    vectors = make.vectors()
    assert len(vectors) >= 30
    kinds = {frame[0] for vector in vectors.values() for frame in vector.frames}
    assert kinds == KINDS
    assert {vector.error for vector in vectors.values()} == {"", "malformed", "too-long", "cut"}
