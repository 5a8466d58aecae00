"""Threads have one heap where the C library is one that would give each its own."""

from __future__ import annotations

import platform
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

IS_GLIBC = platform.libc_ver()[0] == "glibc"

ASK = """
import sys
from multi_fetch.cli.heap import share_one_heap
sys.exit(0 if share_one_heap() else 1)
"""


def test_all_threads_share_one_heap_under_glibc() -> None:
    """In a process of its own, as there is no way back."""
    done = subprocess.run([sys.executable, "-c", ASK], check=False)
    assert done.returncode == (0 if IS_GLIBC else 1)


# malloc_info(3) has a line for each heap.
COUNT = """
import ctypes
import sys
from multi_fetch.cli.multi_fetch import main
main(sys.argv[1:])
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info(0, ctypes.c_void_p(libc.fdopen(2, b"w")))
libc.fflush(None)
"""


@pytest.mark.skipif(not IS_GLIBC, reason="other C libraries have no heap for each thread")
@pytest.mark.parametrize(
    "place",
    [
        ["oci-archive:{folder}/image.tar"],
        ["oci:{folder}/layout"],
        ["--store", "{folder}/layout", "--offline", "localhost:1/app"],
        ["--into", "{folder}/layout", "--offline", "localhost:1/app"],
    ],
)
def test_threads_that_read_files_share_one_heap(tmp_path: Path, place: list[str]) -> None:
    """So an index of 40 MiB that each of them reads, and refuses, is in memory once."""
    (tmp_path / "image.tar").write_bytes(bytes(10_240))
    folder = tmp_path / "layout"
    folder.mkdir()
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    done = subprocess.run(
        [sys.executable, "-c", COUNT, *[each.format(folder=tmp_path) for each in place]],
        input=b"latest\n" * 16,
        capture_output=True,
        check=False,
    )
    assert done.stderr.count(b"<heap nr=") == 1, done.stderr
