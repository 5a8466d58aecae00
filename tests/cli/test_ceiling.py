"""--max-size: what it stands for, as a user meets it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import pytest

from multi_fetch.ceiling import DEFAULT_CEILING, NO_CEILING, Ceiling
from multi_fetch.cli import fetch_object
from multi_fetch.cli.ceiling import add_max_size_flag, ceiling
from multi_fetch.limits import MAX_DATA_BYTES
from multi_fetch.testing.builder import LayoutBuilder
from multi_fetch.testing.faults import Fault, drop_header
from tests.loopback import loopback

if TYPE_CHECKING:
    from pathlib import Path

LARGE = bytes(4 * MAX_DATA_BYTES)


def read(*words: str) -> Ceiling:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_max_size_flag(parser)
    return ceiling(parser.parse_args(words))


def test_the_flag_is_for_all_content_and_0_is_no_limit() -> None:
    assert read() == DEFAULT_CEILING
    assert read("--max-size", "1.5MiB") == Ceiling(told=1_572_864, untold=1_572_864)
    assert read("--max-size", "0") == NO_CEILING
    with pytest.raises(argparse.ArgumentError, match="as in 10GB"):
        read("--max-size", "10G")


@pytest.mark.parametrize("is_told", [True, False])
def test_fetch_object_leaves_no_file_of_what_is_too_large(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], is_told: bool
) -> None:
    builder = LayoutBuilder(tmp_path / "layout")
    blob = builder.add_blob(LARGE)
    faults = [] if is_told else [Fault(drop_header("Content-Length"))]
    output = tmp_path / "out" / "layer"
    output.parent.mkdir()
    with loopback(builder.finish(), *faults) as registry:
        words = [f"{registry.address}/demo/app", blob.digest, "--output", str(output)]
        for most, status in ((len(LARGE) - 1, 1), (len(LARGE), 0)):
            assert fetch_object.main([*words, "--max-size", str(most)]) == status
            assert len(list(output.parent.iterdir())) == (not status)
    assert output.read_bytes() == LARGE
    err = capfd.readouterr().err
    assert err.count("too-large") == 1
    assert "raise --max-size" in err
