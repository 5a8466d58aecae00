"""Where files are looked for, in the order of containers/image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from multi_fetch.registry.credential_places import own_places, places

if TYPE_CHECKING:
    import pytest


def test_the_order_is_podmans_files_then_dockers() -> None:
    environment = {
        "HOME": "/h",
        "XDG_RUNTIME_DIR": "/r",
        "XDG_CONFIG_HOME": "/x",
        "DOCKER_CONFIG": "/d",
    }
    assert places(environment) == [
        Path("/r/containers/auth.json"),
        Path("/x/containers/auth.json"),
        Path("/d/config.json"),
        Path("/h/.dockercfg"),
    ]


def test_what_is_not_set_or_empty_has_its_default() -> None:
    expected = [
        Path(f"/run/containers/{os.getuid()}/auth.json"),
        Path("/h/.config/containers/auth.json"),
        Path("/h/.docker/config.json"),
        Path("/h/.dockercfg"),
    ]
    assert places({"HOME": "/h"}) == expected
    empty = dict.fromkeys(
        ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE"), ""
    )
    assert places({"HOME": "/h", **empty}) == expected


def test_a_file_that_is_named_is_the_only_one() -> None:
    assert places({"HOME": "/h", "REGISTRY_AUTH_FILE": "/a/b"}) == [Path("/a/b")]


def test_without_a_home_there_are_places_all_the_same() -> None:
    assert len(places({})) == 4


def test_ones_own_places_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", "/a/b")
    assert own_places() == [Path("/a/b")]
