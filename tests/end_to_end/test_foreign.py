"""Layers that are not at the registry, as both commands meet them."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest
from msgspec.structs import replace

from multi_fetch.oci.descriptor import Descriptor, Platform
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.faults import Fault, flip_byte, require_basic
from tests.end_to_end.conftest import FETCH_OBJECT, LARGE, MULTI_FETCH, SMALL
from tests.loopback import loopback
from tests.parent import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from multi_fetch.testing.registry import LoopbackRegistry

LOGIN = {"MULTI_FETCH_USERNAME": "reader", "MULTI_FETCH_PASSWORD": "s3cret"}
MANIFEST = b'{"schemaVersion":2,"layers":[]}'
AMD64 = Platform(os="linux", architecture="amd64")
TREE = b"latest children:all\n"


class Places(NamedTuple):
    """A registry that wants a login, and where its layers really are."""

    registry: LoopbackRegistry
    files: LoopbackRegistry

    @property
    def remote(self) -> str:
        return f"{self.registry.address}/demo/app"


@contextmanager
def places(folder: Path, *faults: Fault) -> Iterator[Places]:
    """Starts both: two layers of ``latest`` are elsewhere, and the manifest of ``index``."""
    elsewhere = LayoutBuilder(folder / "elsewhere")
    layers = [elsewhere.add_blob(SMALL), elsewhere.add_blob(LARGE)]
    manifest = elsewhere.add_manifest(MANIFEST, "application/vnd.oci.image.manifest.v1+json")
    with loopback(elsewhere.finish(), *faults) as files:

        def moved(descriptor: Descriptor, endpoint: str = "blobs") -> Descriptor:
            urls = (
                f"http://{files.address}/nothing/here",
                f"http://{files.address}/v2/x/{endpoint}/{descriptor.digest}?sig=s3cret",
            )
            return replace(descriptor, urls=urls)

        builder = LayoutBuilder(folder / "registry")
        image = builder.add_image(builder.add_empty(), [moved(each) for each in layers])
        builder.tag("latest", image)
        builder.tag(
            "index", builder.add_index([replace(moved(manifest, "manifests"), platform=AMD64)])
        )
        login = Fault(require_basic(*LOGIN.values()))
        with loopback(builder.finish(), login) as registry:
            yield Places(registry, files)


@pytest.mark.parametrize("flags", [[], ["--ordered"], ["--jobs", "1"]])
def test_the_layers_come_from_elsewhere_and_nothing_secret_goes_there(
    tmp_path: Path, flags: list[str]
) -> None:
    with places(tmp_path) as there:
        command = [MULTI_FETCH, "--foreign-urls", *flags, there.remote]
        done = run(command, TREE, ordered="--ordered" in flags, env={**os.environ, **LOGIN})
    assert (done.status, done.stderr) == (0, "")
    assert [bytes(done.answers[each].content) for each in (-2, -3)] == [SMALL, LARGE]
    assert all(each.is_verified for each in done.answers.values())
    asked = sorted(each.path.rpartition("/")[2] for each in there.files.requests)
    assert (len(asked), asked.count("here")) == (4, 2)
    assert any("authorization" in dict(each.headers) for each in there.registry.requests)
    for each in there.files.requests:
        assert set(dict(each.headers)) == {"host", "user-agent", "accept", "accept-encoding"}


def test_without_the_flag_nobody_is_asked_and_the_error_names_it(tmp_path: Path) -> None:
    with places(tmp_path) as there:
        done = run([MULTI_FETCH, there.remote], TREE, env={**os.environ, **LOGIN})
    assert done.status == 1
    assert not there.files.requests
    failed = [each for each in done.answers.values() if each.code]
    assert [each.code for each in failed] == ["not-found"] * 2
    assert "--foreign-urls" in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(("flags", "status"), [(["--foreign-urls"], 0), ([], 1)])
def test_a_layout_has_the_layers_from_elsewhere_or_is_entered_without_them(
    tmp_path: Path, flags: list[str], status: int
) -> None:
    with places(tmp_path) as there:
        done = subprocess.run(
            [MULTI_FETCH, "--into", tmp_path / "d", *flags, there.remote],
            input=TREE,
            capture_output=True,
            env={**os.environ, **LOGIN},
            check=False,
        )
    assert done.returncode == status
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["object"], "error" in last) == ("latest", False)
    assert len(json.loads((tmp_path / "d" / "index.json").read_bytes())["manifests"]) == 1
    kept = {path.read_bytes() for path in (tmp_path / "d" / "blobs" / "sha256").iterdir()}
    assert ({SMALL, LARGE} <= kept) is (status == 0)
    assert b"s3cret" not in done.stdout + done.stderr


def test_wrong_bytes_from_elsewhere_are_a_digest_mismatch(tmp_path: Path) -> None:
    with places(tmp_path, Fault(flip_byte(10), path="*/blobs/*")) as there:
        command = [MULTI_FETCH, "--foreign-urls", there.remote]
        done = run(command, TREE, env={**os.environ, **LOGIN})
    codes = sorted(each.code for each in done.answers.values() if each.code)
    assert (done.status, codes) == (1, ["digest-mismatch"] * 2)


def test_fetch_object_follows_an_index_to_a_manifest_elsewhere(tmp_path: Path) -> None:
    with places(tmp_path) as there:
        words = [there.remote, "index", "platform:linux/amd64"]
        allowed, refused, described = (
            subprocess.run(
                [FETCH_OBJECT, *flags, *words, *hints],
                capture_output=True,
                env={**os.environ, **LOGIN},
                check=False,
            )
            for flags, hints in (
                (["--foreign-urls"], []),
                ([], []),
                (["--foreign-urls"], ["content:none"]),
            )
        )
    assert (allowed.returncode, allowed.stdout) == (0, MANIFEST)
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert b"--foreign-urls" in refused.stderr
    assert described.returncode == 0
    assert b'"urls"' in described.stdout
