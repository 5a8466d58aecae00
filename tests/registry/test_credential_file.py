"""Docker's and podman's files: who is found for whom, and what is said of files that are broken."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multi_fetch.errors import CredentialsError
from multi_fetch.registry.auth import basic
from multi_fetch.registry.credential_file import (
    HUB_KEY,
    CredentialFile,
    Program,
    entry_for,
    parse_credential_file,
    place_of,
    program_for,
)
from multi_fetch.registry.credentials import Credential

if TYPE_CHECKING:
    from collections.abc import Mapping

ALICE = Credential(username="alice", password="s3cret")
PATH = "/home-of-alice/config.json"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def parse(document: object, *, is_legacy: bool = False) -> CredentialFile:
    return parse_credential_file(json.dumps(document).encode(), path=PATH, is_legacy=is_legacy)


def of(*keys: str) -> CredentialFile:
    """A file whose passwords are their keys."""
    return parse({"auths": {key: {"auth": b64(f"alice:{key}")} for key in keys}})


def password(file: CredentialFile, registry: str, repository: str = "") -> str:
    _, credential = entry_for(file, registry, repository) or ("", None)
    return "" if credential is None else credential.password


@pytest.mark.parametrize(
    ("entry", "credential"),
    [
        ({}, Credential()),
        (None, Credential()),
        ({"auth": None, "username": None, "email": "a@b.example"}, Credential()),
        ({"auth": ""}, Credential()),
        ({"auth": b64("alice:s3cret")}, ALICE),
        ({"auth": b64("alice:s3cret\0\0")}, ALICE),
        ({"auth": f" {b64('alice:s3cret')}\n"}, ALICE),
        ({"auth": b64("alice:s3cret").rstrip("=")}, ALICE),
        ({"auth": b64("alice:a:b")}, Credential(username="alice", password="a:b")),
        ({"auth": b64("älice:s3crét")}, Credential(username="älice", password="s3crét")),
        ({"username": "alice", "password": "s3cret"}, ALICE),
        ({"auth": b64("alice:s3cret"), "username": "bob", "password": "x"}, ALICE),
        (
            {"auth": b64("alice:"), "identitytoken": "idt"},
            Credential(username="alice", identity_token="idt"),
        ),
        ({"identitytoken": "idt"}, Credential(identity_token="idt")),
        ({"registrytoken": "rt"}, Credential(registry_token="rt")),
    ],
)
def test_an_entry_is_read_in_each_of_dockers_forms(
    entry: Mapping[str, object] | None, credential: Credential
) -> None:
    assert parse({"auths": {"r.example": entry}}).auths == {"r.example": credential}


@pytest.mark.parametrize("data", [b"", b" \n", b"{}", b'{"auths": null, "credHelpers": null}'])
def test_a_file_may_hold_nothing(data: bytes) -> None:
    file = parse_credential_file(data, path=PATH, is_legacy=False)
    assert entry_for(file, "docker.io", "a") is None
    assert program_for(file, "docker.io") is None


def test_what_else_docker_keeps_there_is_of_no_matter() -> None:
    assert parse({"HttpHeaders": {"User-Agent": 1}, "detachKeys": [], "auths": {}}).auths == {}


def test_the_older_form_is_what_stands_behind_auths() -> None:
    file = parse({HUB_KEY: {"auth": b64("alice:s3cret"), "email": ""}}, is_legacy=True)
    assert (entry_for(file, "docker.io", "library/redis") or ())[1:] == (ALICE,)


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ([], None),
        ("auths", None),
        ({"auths": []}, None),
        ({"auths": {"r.example": []}}, "auths.r.example"),
        ({"auths": {"r.example": {"auth": 5}}}, "auths.r.example"),
        ({"auths": {"r.example": {"auth": "s3cret!"}}}, "auths.r.example"),
        ({"auths": {"r.example": {"auth": "s3cre"}}}, "auths.r.example"),
        ({"auths": {"r.example": {"auth": b64("s3cret")}}}, "auths.r.example"),
        ({"auths": {"r.example": {"auth": "//79"}}}, "auths.r.example"),
        (
            {"auths": {"r.example": {"username": "alice", "password": ["s3cret"]}}},
            "auths.r.example",
        ),
        ({"auths": {"r.example": {"password": "s3cret\ud800"}}}, None),
        ({"auths": {"r.example": {"identitytoken": {"s3cret": 1}}}}, "auths.r.example"),
        ({"auths": {"r.example": {"registrytoken": "s3cret\r\nX: y"}}}, "auths.r.example"),
        ({"auths": {"https://u:s3cret@r.example": {"auth": 5}}}, "auths.***@r.example"),
        ({"credHelpers": {"r.example": 5}}, "credHelpers.r.example"),
        ({"credHelpers": ["s3cret"]}, None),
        ({"credsStore": 5}, None),
    ],
)
def test_a_malformed_file_is_named_with_its_key_and_no_secret(
    document: object, key: str | None
) -> None:
    with pytest.raises(CredentialsError) as caught:
        parse(document)
    error = caught.value
    assert (error.path, error.key) == (PATH, key)
    assert PATH in error.message
    assert (key or "config.json") in error.message
    assert "s3cre" not in error.message
    assert b64("s3cret") not in error.message
    assert error.__cause__ is None


@pytest.mark.parametrize(
    "data",
    [b"{", b"\xff", b'{"auths": {"auth": "\xff"}, "auth": "\xff"}', b"[" * 100_000, b"auth = x"],
)
def test_what_is_no_json_is_refused(data: bytes) -> None:
    for is_legacy in (False, True):
        with pytest.raises(CredentialsError, match=PATH):
            parse_credential_file(data, path=PATH, is_legacy=is_legacy)


def test_a_file_cut_anywhere_is_refused() -> None:
    whole = json.dumps(
        {"auths": {"r.example": {"auth": b64("alice:s3cret")}}, "credsStore": "pass"}
    ).encode()
    for end in range(1, len(whole)):
        with pytest.raises(CredentialsError) as caught:
            parse_credential_file(whole[:end], path=PATH, is_legacy=False)
        assert "s3cret" not in caught.value.message


# --- whose it is ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("r.example", ("r.example", "")),
        ("R.Example", ("r.example", "")),
        ("r.example/", ("r.example", "")),
        ("r.example:5000", ("r.example:5000", "")),
        ("r.example:443", ("r.example", "")),
        ("https://r.example:443", ("r.example", "")),
        ("http://r.example:80/", ("r.example", "")),
        ("http://r.example:443", ("r.example:443", "")),
        ("https://r.example/v1/", ("r.example", "")),
        ("https://r.example/some/path", ("r.example", "")),
        ("r.example/v2/", ("r.example", "")),
        ("r.example/org/App", ("r.example", "org/App")),
        ("u:p@r.example", ("r.example", "")),
        ("[::1]:5000", ("[::1]:5000", "")),
        ("docker.io", ("docker.io", "")),
        ("index.docker.io", ("docker.io", "")),
        ("registry-1.docker.io", ("docker.io", "")),
        ("https://index.docker.io/v1/", ("docker.io", "")),
        ("https://registry-1.docker.io/v2/", ("docker.io", "")),
        ("docker.io/library", ("docker.io", "library")),
        ("", ("", "")),
    ],
)
def test_a_key_stands_for_a_host_or_a_part_of_it(key: str, place: tuple[str, str]) -> None:
    assert place_of(key) == place


def test_the_most_specific_key_wins() -> None:
    file = of("r.example", "r.example/org", "r.example/org/app", "other.example")
    assert password(file, "r.example", "org/app") == "r.example/org/app"
    assert password(file, "r.example", "org/app/x") == "r.example/org/app"
    assert password(file, "r.example", "org/apple") == "r.example/org"
    assert password(file, "r.example", "organ") == "r.example"
    assert password(file, "r.example") == "r.example"
    assert password(file, "third.example", "org/app") == ""


def test_a_key_for_a_part_is_for_no_other_part() -> None:
    file = of("r.example/org/app")
    assert password(file, "r.example", "org/app") == "r.example/org/app"
    for repository in ("", "org", "org/apps", "app"):
        assert password(file, "r.example", repository) == ""


def test_a_port_is_a_part_of_the_host() -> None:
    file = of("r.example:5000")
    assert password(file, "r.example:5000", "a") == "r.example:5000"
    assert password(file, "r.example", "a") == ""
    assert password(file, "r.example:5001", "a") == ""


def test_a_key_as_the_reference_spells_it_comes_before_others_for_the_host() -> None:
    for keys in (("https://r.example", "r.example"), ("r.example", "https://r.example")):
        assert password(of(*keys), "r.example", "a") == "r.example"


def test_an_empty_entry_does_not_hide_one_that_holds_something() -> None:
    file = parse({"auths": {"r.example/a": {}, "r.example": {"auth": b64("alice:s3cret")}}})
    assert entry_for(file, "r.example", "a") == ("auths.r.example", ALICE)


@pytest.mark.parametrize("name", ["docker.io", "index.docker.io", "registry-1.docker.io"])
@pytest.mark.parametrize("key", ["docker.io", "index.docker.io", HUB_KEY])
def test_all_of_docker_hubs_names_are_one(name: str, key: str) -> None:
    assert password(of("hub.docker.io.example", key), name, "library/redis") == key


# --- helpers --------------------------------------------------------------------------------


def test_a_registrys_own_helper_comes_before_the_store() -> None:
    file = parse({"credHelpers": {"r.example": "ecr-login"}, "credsStore": "pass"})
    assert program_for(file, "r.example") == Program("ecr-login", "r.example")
    assert program_for(file, "other.example") == Program("pass", "other.example")
    assert program_for(file, "r.example:5000") == Program("pass", "r.example:5000")


def test_an_empty_name_says_that_a_registry_has_no_helper() -> None:
    file = parse({"credHelpers": {"r.example": "", "null.example": None}, "credsStore": "pass"})
    assert program_for(file, "r.example") is None
    assert program_for(file, "null.example") is None


def test_a_helper_is_asked_by_the_name_that_the_user_stored() -> None:
    file = parse({"credHelpers": {"https://r.example": "gcloud", "docker.io": "pass"}})
    assert program_for(file, "r.example") == Program("gcloud", "https://r.example")
    assert program_for(file, "registry-1.docker.io") == Program("pass", "docker.io")
    stored = parse({"auths": {"https://r.example/v1/": {}}, "credsStore": "pass"})
    assert program_for(stored, "r.example") == Program("pass", "https://r.example/v1/")


def test_docker_hub_is_asked_for_by_its_key() -> None:
    assert program_for(parse({"credsStore": "pass"}), "docker.io") == Program("pass", HUB_KEY)


# --- anything -------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from(["auth", "username", "password", "identitytoken", "registrytoken"])
ENTRIES = st.dictionaries(st.text(max_size=12), st.dictionaries(FIELDS, st.text() | JSON) | JSON)
DOCUMENTS = st.fixed_dictionaries(
    {}, optional={"auths": ENTRIES | JSON, "credHelpers": ENTRIES | JSON, "credsStore": JSON}
)


@given(
    st.binary(max_size=80) | DOCUMENTS.map(lambda each: json.dumps(each).encode()), st.booleans()
)
def test_any_bytes_are_a_file_or_refused(data: bytes, is_legacy: bool) -> None:
    try:
        file = parse_credential_file(data, path=PATH, is_legacy=is_legacy)
    except CredentialsError as error:
        assert PATH in error.message  # noqa: PT017 - both outcomes are right
        return
    for key, credential in file.auths.items():
        assert basic(credential).authorization.startswith("Basic ")
        entry_for(file, key, "a/b")
        program_for(file, key)


@given(st.binary(max_size=40).map(lambda pair: base64.b64encode(pair).decode()) | st.text())
def test_any_auth_is_a_login_or_refused_without_being_shown(auth: str) -> None:
    try:
        file = parse({"auths": {"r.example": {"auth": auth}}})
    except CredentialsError as error:
        assert error.key == "auths.r.example"  # noqa: PT017 - both outcomes are right
        assert len(auth) < 8 or auth not in error.message  # noqa: PT017 - the same
        return
    assert file.auths["r.example"].is_empty or ":" in base64.b64decode(auth + "===").decode()


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_key_has_a_place(key: str, repository: str) -> None:
    host, _ = place_of(key)
    assert "/" not in host
    entry_for(CredentialFile({key: ALICE}), key, repository)
