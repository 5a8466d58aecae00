"""What lines name, in a run for one repository and in one for all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.errors import InvalidRequestError
from multi_fetch.oci.digest import Digest
from multi_fetch.protocol.names import (
    ANYWHERE,
    EVERYWHERE,
    IN_REPOSITORY,
    Name,
    names_of,
)

DIGEST = Digest("sha256:" + "1" * 64)


def test_the_remote_decides_how_lines_name_things() -> None:
    assert names_of(ANYWHERE) is EVERYWHERE
    assert names_of("docker.io/library/redis") is IN_REPOSITORY


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("redis:7", Name("docker.io/library/redis", "7")),
        ("localhost:5000/a/b:x", Name("localhost:5000/a/b", "x")),
        (f"ghcr.io/o/r@{DIGEST}", Name("ghcr.io/o/r", "", DIGEST)),
        (f"ghcr.io/o/r:v@{DIGEST}", Name("ghcr.io/o/r", "v", DIGEST)),
        ("oci:/srv/mirror:7", Name("oci:/srv/mirror", "7")),
    ],
)
def test_everywhere_a_line_has_a_whole_reference(text: str, name: Name) -> None:
    assert EVERYWHERE.object(text) == name


@pytest.mark.parametrize("text", ["redis", "Redis:7", "a@b:c/d", "http://h/r:1", "-", "latest@x:1"])
def test_everywhere_a_line_without_an_object_or_a_repository_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        EVERYWHERE.object(text)


def test_everywhere_the_repository_to_list_is_the_first_word() -> None:
    assert EVERYWHERE.repository(["localhost:5000/a", "x:y"]) == ("localhost:5000/a", ["x:y"])
    for words in ([], ["redis:7"], [f"redis@{DIGEST}"], ["Redis"]):
        with pytest.raises(InvalidRequestError):
            EVERYWHERE.repository(words)


def test_in_a_repository_no_word_says_which() -> None:
    assert IN_REPOSITORY.repository(["deadline:1s"]) == ("", ["deadline:1s"])
    assert IN_REPOSITORY.object(f"v1@{DIGEST}") == Name("", "v1", DIGEST)
    with pytest.raises(InvalidRequestError):
        IN_REPOSITORY.object("redis:7@")


@given(st.text())
def test_any_text_is_a_name_or_an_invalid_request(text: str) -> None:
    for names in (EVERYWHERE, IN_REPOSITORY):
        try:
            found = names.object(text)
        except InvalidRequestError:
            continue
        assert found.tag or found.digest or not text
