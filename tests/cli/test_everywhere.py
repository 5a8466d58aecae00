"""The remote ``-``: what is asked of whom is seen end to end; here is what it refuses."""

from __future__ import annotations

import argparse

import pytest

from multi_fetch.cli.credentials import Credentials
from multi_fetch.cli.everywhere import everywhere_problem
from multi_fetch.registry.credentials import Keychain


@pytest.mark.parametrize(
    ("flags", "login", "words"),
    [
        ({}, {}, ""),
        ({"cert_file": "x"}, {}, "--cert-file"),
        ({"key_file": "x"}, {}, "--key-file"),
        ({"insecure": True}, {}, "--insecure"),
        ({"plain_http": True}, {}, "--plain-http"),
        ({}, {"username": "u"}, "MULTI_FETCH_USERNAME"),
        ({}, {"password": "secret"}, "MULTI_FETCH_PASSWORD"),
    ],
)
def test_what_is_for_one_registry_is_not_for_all(
    flags: dict[str, object], login: dict[str, str], words: str
) -> None:
    none = {"cert_file": None, "key_file": None, "insecure": False, "plain_http": False}
    arguments = argparse.Namespace(**(none | flags))
    held = Credentials(
        username=login.get("username", ""),
        password=login.get("password", ""),
        keychain=Keychain([]),
    )
    problem = everywhere_problem(arguments, held)
    assert words in problem
    assert bool(problem) is bool(words)
    assert "secret" not in problem
