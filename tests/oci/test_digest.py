from __future__ import annotations

import hashlib
import importlib.util

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.errors import InvalidDigestError, UnsupportedError
from multi_fetch.limits import MAX_DIGEST_CHARACTERS
from multi_fetch.oci.digest import REGISTERED, Digest, digest_of, new_hasher, parse_digest

LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128, "blake3": 64}
HASHLIBS = ("sha256", "sha384", "sha512")


@pytest.mark.parametrize("algorithm", LENGTHS)
def test_a_registered_digest_parses_into_its_parts(algorithm: str) -> None:
    encoded = "0a" * (LENGTHS[algorithm] // 2)
    digest = parse_digest(f"{algorithm}:{encoded}")
    assert (digest.algorithm, digest.encoded) == (algorithm, encoded)
    assert digest == f"{algorithm}:{encoded}"
    assert isinstance(digest, Digest)


@pytest.mark.parametrize("algorithm", LENGTHS)
@pytest.mark.parametrize("change", ["a", "", "A", "g"])
def test_a_registered_digest_has_its_length_and_case(algorithm: str, change: str) -> None:
    encoded = "0" * (LENGTHS[algorithm] - 1) + change
    encoded += "0" if change == "a" else ""
    with pytest.raises(InvalidDigestError, match=f"{LENGTHS[algorithm]} lower-case hex digits"):
        parse_digest(f"{algorithm}:{encoded}")


@pytest.mark.parametrize(
    "text",
    [
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564",
        "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8",
        "a.b_c-d+e:0=_-Z",
    ],
)
def test_an_algorithm_that_is_not_registered_parses_all_the_same(text: str) -> None:
    assert parse_digest(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "sha256",
        "sha256:",
        ":abc",
        "SHA256:abc",
        "x256:ab c",
        "x256:abc\n",
        "\nx256:abc",
        "x256:abc:def",
        "x256:äbc",
        "x256:٣",
        "+x:abc",
        "x+:abc",
        "x++y:abc",
        "x256:a/b",
        "x256:" + "a" * MAX_DIGEST_CHARACTERS,
    ],
)
def test_what_is_not_of_the_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidDigestError) as caught:
        parse_digest(text)
    assert isinstance(caught.value, ValueError)
    assert len(caught.value.message) < 500


def test_the_longest_digest_parses() -> None:
    text = "x:" + "a" * (MAX_DIGEST_CHARACTERS - 2)
    assert parse_digest(text) == text


def test_a_refusal_never_repeats_a_password() -> None:
    with pytest.raises(InvalidDigestError) as caught:
        parse_digest("user:hunter2@host")
    assert "hunter2" not in str(caught.value)


@given(st.text())
def test_any_text_is_a_digest_or_an_invalid_one(text: str) -> None:
    try:
        digest = parse_digest(text)
    except InvalidDigestError:
        return
    assert digest == text
    assert f"{digest.algorithm}:{digest.encoded}" == text


@pytest.mark.parametrize("algorithm", HASHLIBS)
def test_a_digest_of_content_is_hashlibs(algorithm: str) -> None:
    content = bytes(range(256)) * 5
    wanted = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
    assert digest_of(content, algorithm) == wanted
    hasher = new_hasher(algorithm)
    hasher.update(memoryview(content)[:100])
    hasher.update(bytearray(content[100:]))
    assert f"{algorithm}:{hasher.hexdigest()}" == wanted


def test_sha256_is_the_usual_one() -> None:
    assert digest_of(b"") == f"sha256:{hashlib.sha256(b'').hexdigest()}"


def test_an_unknown_algorithm_cannot_be_computed() -> None:
    with pytest.raises(UnsupportedError, match="'md5' is not supported"):
        new_hasher("md5")


@pytest.mark.skipif(
    importlib.util.find_spec("blake3") is not None, reason="the blake3 extra is installed"
)
def test_without_its_extra_blake3_says_how_to_get_it() -> None:
    with pytest.raises(UnsupportedError, match=r"pip install 'multi-fetch\[blake3\]'"):
        new_hasher("blake3")


def test_the_registered_algorithms_are_those_with_a_length() -> None:
    assert set(REGISTERED) == set(LENGTHS)
