"""Threads have one heap where the C library is one that would give each its own."""

from __future__ import annotations

import platform
import subprocess
import sys

ASK = """
import sys
from multi_fetch.cli.heap import share_one_heap
sys.exit(0 if share_one_heap() else 1)
"""


def test_all_threads_share_one_heap_under_glibc() -> None:
    """In a process of its own, as there is no way back."""
    done = subprocess.run([sys.executable, "-c", ASK], check=False)
    is_glibc = platform.libc_ver()[0] == "glibc"
    assert done.returncode == (0 if is_glibc else 1)
