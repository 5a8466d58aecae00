"""The real worker with --max-size: what is too large fails alone, and leaves nothing."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from multi_fetch.client import fetch_many
from multi_fetch.errors import MaxSizeError
from multi_fetch.testing.faults import Fault, drop_header
from tests.end_to_end.conftest import LARGE, MULTI_FETCH, SMALL, Sample
from tests.loopback import loopback
from tests.parent import run

if TYPE_CHECKING:
    from pathlib import Path

MOST = len(LARGE) - 1
CHUNKED = Fault(drop_header("Content-Length"), path="*/blobs/*")


@pytest.mark.parametrize("is_told", [True, False])
@pytest.mark.parametrize("answers", ["none", "data", "paths"])
def test_what_is_too_large_fails_alone_and_stays_in_no_store(
    sample: Sample, tmp_path: Path, is_told: bool, answers: str
) -> None:
    flags = ["--max-size", str(MOST)]
    if answers != "none":
        flags += ["--store", str(tmp_path), "--answers", answers]
    with loopback(sample.layout, *([] if is_told else [CHUNKED])) as registry:
        lines = f"{sample.small} mediatype:a/b\n{sample.large} mediatype:a/b\nlatest\n".encode()
        done = run([MULTI_FETCH, *flags, f"{registry.address}/demo/app"], lines)
    assert done.status == 1
    found = done.session.answers
    assert [found[number].code for number in (1, 2, 3)] == ["", "too-large", ""]
    assert "raise --max-size" in done.stderr
    if answers != "none":
        assert not list((tmp_path / "ingest").glob("sha256-*"))
        kept = {path.stat().st_size for path in (tmp_path / "blobs").glob("*/*")}
        assert kept == {len(SMALL), len(sample.latest)}


def test_a_layout_has_no_tag_of_what_was_too_large(sample: Sample, tmp_path: Path) -> None:
    with loopback(sample.layout) as registry:
        done = subprocess.run(
            [MULTI_FETCH, "--into", tmp_path, "--max-size", "3MB", f"{registry.address}/demo/app"],
            input=b"latest children:all\n",
            capture_output=True,
            check=False,
        )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    failed = [each for each in told if "error" in each]
    assert sample.large in [each["object"] for each in failed]
    assert {each["error"]["code"] for each in failed} == {"too-large"}
    assert json.loads((tmp_path / "index.json").read_bytes())["manifests"] == []


def test_the_clients_error_has_the_limit_and_the_size(sample: Sample) -> None:
    with loopback(sample.layout) as registry:
        remote = f"{registry.address}/demo/app"
        (answer,) = fetch_many(remote, [sample.large], max_size=MOST)
    assert isinstance(answer.error, MaxSizeError)
    assert (answer.error.limit, answer.error.size) == (MOST, len(LARGE))
